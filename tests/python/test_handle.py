"""The ctypes layer, on the host backend."""

import ctypes
import os
import subprocess
import sys
import unittest

import numpy as np

import nf4
import support

BLOCKSIZE = 64


class Borrowed:
    """An array that offers its data by __cuda_array_interface__ alone, as numba's do. The data lies on the host."""

    def __init__(self, array):
        self.array = array
        self.__cuda_array_interface__ = dict(array.__array_interface__, version=3)


class Dlpack:
    """An array that offers its data by DLPack alone, as those of another library do, of before DLPack 1.0. numpy has no
    bfloat16, so the type code can be changed."""

    def __init__(self, array, code=None):
        self.array = array
        self.code = code

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self):
        capsule = self.array.__dlpack__()
        if self.code is not None:
            get = ctypes.pythonapi.PyCapsule_GetPointer
            get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
            code_offset = 8 + 8 + 4  # data, device, ndim
            ctypes.c_uint8.from_address(get(capsule, b"dltensor") + code_offset).value = self.code
        return capsule


def bf16(array):
    """float32 rounded to bfloat16, as the uint16 of its bits."""
    bits = array.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


class HostTest(unittest.TestCase):
    def setUp(self):
        self.handle = nf4.Handle()
        self.addCleanup(self.handle.close)

    def assert_product(self, y, x, w, unit):
        """Every element within the accuracy that nf4.h states for exact weights."""
        x, w, y = x.astype(np.float64), w.astype(np.float64), y.astype(np.float64)
        exact = x @ w.T
        bound = unit * np.abs(exact) + 2 * (w.shape[1] + 4) * 2.0**-24 * (np.abs(x) @ np.abs(w).T)
        self.assertLessEqual((np.abs(y - exact) / bound).max(), 1)


class OperationTest(HostTest):
    def test_version_and_tables(self):
        self.assertEqual(nf4.version()[0], 1)
        self.assertEqual(nf4.codebook(), support.CODEBOOK.tolist())
        self.assertEqual(np.float32(nf4.dynamic_map()).tolist(), support.golden()["dynamic_map"].tolist())
        self.assertEqual(nf4.packed_size(3, 33, 32), (50, 4))

    def test_device(self):
        info = self.handle.device_info()
        self.assertEqual((info["device"], info["name"], info["compute_capability"]), (nf4.HOST, "host", 0))

    def test_pack_is_bitsandbytes(self):
        golden = support.golden()
        for dtype in ("f32", "f16"):
            for blocksize in nf4.BLOCKSIZES:
                with self.subTest(dtype=dtype, blocksize=blocksize):
                    key = f"{dtype}/{blocksize}"
                    weight = self.handle.pack(golden[f"{key}/w"], blocksize=blocksize)
                    np.testing.assert_array_equal(weight.codes, golden[f"{key}/codes"])
                    np.testing.assert_array_equal(weight.absmax, golden[f"{key}/absmax"])
                    unpacked = self.handle.unpack(weight, dtype={"f32": "float32", "f16": "float16"}[dtype])
                    np.testing.assert_array_equal(unpacked[0], golden[f"{key}/unpacked"])

    def test_nested(self):
        golden = support.golden()
        codes, absmax2, offset, absmax_map = self.handle.pack_absmax(golden["nested/absmax"])
        np.testing.assert_array_equal(absmax_map, golden["nested/map"])
        differing = np.count_nonzero(codes != golden["nested/absmax_codes"])
        self.assertLessEqual(differing, 1)  # bitsandbytes sums the mean in another order
        np.testing.assert_allclose(absmax2, golden["nested/absmax2"], rtol=1e-5)

        weight = self.handle.pack(support.random_matrix(100, 200), nested=True)
        self.assertTrue(weight.nested)
        expected = support.unpack_absmax(weight.absmax, weight.absmax_map, weight.absmax2, weight.absmax_offset)
        absmax = self.handle.unpack_absmax(weight)
        np.testing.assert_array_equal(absmax, expected)
        np.testing.assert_array_equal(
            self.handle.unpack(weight), support.unpack(weight.codes, expected, 100, 200, BLOCKSIZE)
        )

    def test_gemm_transposed(self):
        for rows, cols, lead, nested in ((5, 64, (), False), (33, 100, (1,), True), (64, 128, (2, 3), False)):
            with self.subTest(rows=rows, cols=cols, lead=lead, nested=nested):
                weight = self.handle.pack(support.random_matrix(rows, cols), nested=nested)
                x = np.random.default_rng(2).normal(size=(*lead, rows)).astype(np.float32)
                y = self.handle.gemm_transposed(x, weight)
                self.assertEqual(y.shape, (*lead, cols))
                w = self.handle.unpack(weight)
                self.assert_product(y.reshape(-1, cols), x.reshape(-1, rows), w.T, 2.0**-24)
        with self.assertRaisesRegex(ValueError, r"x has 128 columns; expected weight.rows \(64\)"):
            self.handle.gemm_transposed(np.zeros((2, 128), np.float32), weight)
        square = self.handle.pack(support.random_matrix(64, 64))
        x = np.zeros((2, 64), np.float32)
        with self.assertRaisesRegex(ValueError, "out overlaps x"):
            self.handle.gemm_transposed(x, square, out=x)

    def test_gemm(self):
        for rows, cols, lead, nested in ((5, 64, (), False), (33, 100, (1,), True), (64, 128, (2, 3), False)):
            with self.subTest(rows=rows, cols=cols, lead=lead, nested=nested):
                weight = self.handle.pack(support.random_matrix(rows, cols), nested=nested)
                x = np.random.default_rng(2).normal(size=(*lead, cols)).astype(np.float32)
                bias = np.random.default_rng(3).normal(size=rows).astype(np.float32)
                y = self.handle.gemm(x, weight, bias=bias)
                self.assertEqual(y.shape, (*lead, rows))
                with_bias = np.hstack([self.handle.unpack(weight), bias[:, None]])
                ones = np.ones((*lead, 1), np.float32)
                x = np.concatenate([x, ones], axis=-1).reshape(-1, cols + 1)
                self.assert_product(y.reshape(-1, rows), x, with_bias, 2.0**-24)

    def test_gemm_group(self):
        weights = [
            self.handle.pack(support.random_matrix(rows, 64), nested=nested)
            for rows, nested in ((8, False), (33, False), (5, True), (0, False), (7, False), (9, False), (1, False))
        ]
        biases = [None, np.arange(33, dtype=np.float32), *[None] * 5]
        wide = np.random.default_rng(6).normal(size=(3, 80)).astype(np.float32)
        for x in (wide[:, :64], np.ascontiguousarray(wide[:, :64]).reshape(1, 3, 64)):
            outs = self.handle.gemm_group(x, weights, biases=biases)
            for out, weight, bias in zip(outs, weights, biases):
                np.testing.assert_array_equal(out, self.handle.gemm(x, weight, bias=bias))
        given = [np.full((3, weight.rows + 2), np.nan, np.float32) for weight in weights]
        self.handle.gemm_group(wide[:, :64], weights, outs=[out[:, :-2] for out in given])
        for out, weight in zip(given, weights):
            np.testing.assert_array_equal(out[:, :-2], self.handle.gemm(wide[:, :64], weight))
            self.assertTrue(np.isnan(out[:, -2:]).all())
        self.assertEqual(self.handle.gemm_group(wide, []), [])

    def test_gemm_experts(self):
        """Each slot's row is the product with its expert's matrix alone."""
        experts, rows, cols, tokens, top_k = 5, 12, 128, 7, 2
        random = np.random.default_rng(7)
        weight = self.handle.pack(support.random_matrix(experts * rows, cols))
        nested = self.handle.pack(support.random_matrix(experts * rows, cols), nested=True)
        ids = random.integers(-1, experts + 1, (tokens, top_k))
        scale = random.normal(size=(tokens, top_k)).astype(np.float32)
        bias = random.normal(size=(experts, rows)).astype(np.float32)
        x = random.normal(size=(tokens, cols)).astype(np.float32)
        for w in (weight, nested):
            matrices = self.handle.unpack(w).reshape(experts, rows, cols).astype(np.float64)
            expected = np.zeros((tokens * top_k, rows))
            for slot, expert in enumerate(ids.reshape(-1)):
                if 0 <= expert < experts:
                    expected[slot] = (matrices[expert] @ x[slot // top_k] + bias[expert]) * scale.reshape(-1)[slot]
            y = self.handle.gemm_experts(x, w, experts, ids, scale=scale, bias=bias)
            self.assertEqual((y.shape, y.dtype), (expected.shape, np.float32))
            np.testing.assert_allclose(y, expected, atol=1e-5)
            self.assertFalse(y[(ids < 0).reshape(-1)].any())
            order, ends = self.handle.sort_experts(ids, experts)
            for other in (
                self.handle.gemm_experts(x, w, experts, ids.astype(np.int32), scale=scale, bias=bias),
                self.handle.gemm_experts(np.repeat(x, top_k, 0), w, experts, ids, scale=scale, bias=bias),
                self.handle.gemm_experts(x, w, experts, order=order, ends=ends, scale=scale, bias=bias),
            ):
                np.testing.assert_array_equal(other, y)
        wide = np.full((tokens * top_k, rows + 3), np.nan, np.float32)
        self.handle.gemm_experts(x, weight, experts, ids, out=wide[:, :rows])
        np.testing.assert_array_equal(wide[:, :rows], self.handle.gemm_experts(x, weight, experts, ids))
        self.assertTrue(np.isnan(wide[:, rows:]).all())

    def test_sort_experts(self):
        ids = np.random.default_rng(8).integers(-2, 9, 100)
        keys = np.where((ids >= 0) & (ids < 7), ids, 7)
        for kind in (np.int32, np.int64):
            order, ends = self.handle.sort_experts(ids.astype(kind), 7)
            np.testing.assert_array_equal(order, np.argsort(keys, kind="stable"))
            np.testing.assert_array_equal(ends, np.cumsum(np.bincount(keys, minlength=8)[:7]))
        weight = self.handle.pack(support.random_matrix(7 * 8, 64))
        rows = np.random.default_rng(9).normal(size=(100, 64)).astype(np.float32)
        y = self.handle.gemm_experts(rows, weight, 7, order=order, ends=ends)
        lying_sorted = self.handle.gemm_experts(rows[order], weight, 7, ends=ends)
        np.testing.assert_array_equal(lying_sorted, y[order])

    def test_rows_apart(self):
        weight = self.handle.pack(support.random_matrix(8, 64))
        wide = np.random.default_rng(4).normal(size=(5, 80)).astype(np.float32)
        np.testing.assert_array_equal(
            self.handle.gemm(wide[:, :64], weight), self.handle.gemm(np.ascontiguousarray(wide[:, :64]), weight)
        )
        out = np.full((5, 12), np.nan, np.float32)
        self.handle.gemm(wide[:, :64], weight, out=out[:, :8])
        np.testing.assert_array_equal(out[:, :8], self.handle.gemm(wide[:, :64], weight))
        self.assertTrue(np.isnan(out[:, 8:]).all())

    def test_empty(self):
        weight = self.handle.pack(np.empty((0, 64), np.float32))
        self.assertEqual(self.handle.gemm(np.ones((3, 64), np.float32), weight).shape, (3, 0))
        stack = self.handle.pack(support.random_matrix(6, 64))
        self.assertEqual(self.handle.gemm_experts(np.ones((3, 64), "f4"), stack, 3, np.empty((3, 0), int)).shape, (0, 2))
        self.assertEqual(self.handle.gemm_experts(np.empty((0, 64), "f4"), stack, 3, np.empty((0, 2), int)).shape, (0, 2))
        weight = self.handle.pack(np.empty((4, 0), np.float32))
        np.testing.assert_array_equal(self.handle.gemm(np.empty((2, 0), np.float32), weight), np.zeros((2, 4)))

    def test_quant_storage(self):
        weight = self.handle.pack(support.random_matrix(8, 64))
        for storage in (np.float16, np.float32):
            seen = nf4.Weight(8, 64, weight.codes.view(storage), weight.absmax)
            np.testing.assert_array_equal(self.handle.unpack(seen), self.handle.unpack(weight))

    def test_forced_variant(self):
        weight = self.handle.pack(support.random_matrix(8, 64))
        x = np.ones((1, 64), np.float32)
        forced = self.handle.gemm(x, weight, variant="gemm.host")
        np.testing.assert_array_equal(forced, self.handle.gemm(x, weight))
        with self.assertRaises(nf4.Error) as raised:
            self.handle.gemm(x, weight, variant="gemm.none")
        self.assertEqual(raised.exception.name, "NF4_ERROR_UNKNOWN_VARIANT")


class ArrayTest(HostTest):
    def test_dlpack(self):
        w = support.random_matrix(8, 64)
        weight = self.handle.pack(Dlpack(w))
        np.testing.assert_array_equal(weight.codes, self.handle.pack(w).codes)
        transposed = Dlpack(w.T)
        with self.assertRaisesRegex(ValueError, "w has strides"):
            self.handle.pack(transposed)

    def test_bfloat16(self):
        """numpy has no bfloat16; those who have it offer it by DLPack, where its type code is 4."""
        weight = self.handle.pack(support.random_matrix(8, 64))
        x = bf16(np.random.default_rng(5).normal(size=(3, 64)))
        out = np.empty((3, 8), np.uint16)
        self.handle.gemm(Dlpack(x, code=4), weight, out=Dlpack(out, code=4))
        self.assert_product(from_bf16(out), from_bf16(x), self.handle.unpack(weight), 2.0**-8)
        again = self.handle.gemm(nf4.Bfloat16(x), weight)
        np.testing.assert_array_equal(again.bits, out)
        np.testing.assert_array_equal(again.to_float32(), from_bf16(out))

    def test_cuda_array_interface_is_not_host_memory(self):
        with self.assertRaisesRegex(ValueError, "w is on CUDA device 0; expected the host"):
            self.handle.pack(Borrowed(support.random_matrix(8, 64)))

    def test_weight_keeps_its_arrays(self):
        w = support.random_matrix(64, 64)
        made = self.handle.pack(w)
        expected = self.handle.unpack(made)
        weight = nf4.Weight(64, 64, made.codes.copy(), made.absmax.copy())
        for _ in range(100):
            np.full(64 * 32, 255, np.uint8)
        np.testing.assert_array_equal(self.handle.unpack(weight), expected)


class ErrorTest(HostTest):
    def test_library_message(self):
        with self.assertRaisesRegex(nf4.Error, "blocksize is 48; expected a power of two from 32 to 4096") as raised:
            self.handle.pack(support.random_matrix(8, 64), blocksize=48)
        self.assertEqual(raised.exception.name, "NF4_ERROR_UNSUPPORTED")
        self.assertEqual(raised.exception.status, 3)

    def test_no_such_device(self):
        with self.assertRaises(nf4.Error) as raised:
            nf4.Handle(12345)
        self.assertEqual(raised.exception.name, "NF4_ERROR_NO_DEVICE")

    def test_stream_on_the_host(self):
        with self.assertRaisesRegex(nf4.Error, "stream"):
            self.handle.pack(support.random_matrix(8, 64), stream=1)

    def test_closed(self):
        handle = nf4.Handle()
        handle.close()
        with self.assertRaisesRegex(nf4.Error, "handle"):
            handle.pack(support.random_matrix(8, 64))

    def test_arrays(self):
        weight = self.handle.pack(support.random_matrix(8, 64))
        narrow = self.handle.pack(support.random_matrix(8, 32))
        x = np.ones((2, 64), np.float32)
        codes, absmax = weight.codes, weight.absmax
        cases = [
            (TypeError, "w is a list", lambda: self.handle.pack([1.0])),
            (TypeError, "w is an array of type '<f8'", lambda: self.handle.pack(np.ones((8, 64)))),
            (TypeError, "w is an array of type '>f4'", lambda: self.handle.pack(np.ones((8, 64), ">f4"))),
            (TypeError, "w is uint8", lambda: self.handle.pack(codes)),
            (ValueError, "w is a scalar", lambda: self.handle.pack(np.zeros((), np.float32))),
            (ValueError, "w has strides", lambda: self.handle.pack(np.ones((64, 8), np.float32).T)),
            (ValueError, "w has strides", lambda: self.handle.pack(np.ones((8, 128), np.float32)[:, ::2])),
            (TypeError, "positional argument", lambda: self.handle.gemm_group(x, [weight], [None])),
            (ValueError, "x has 32 columns", lambda: self.handle.gemm(x[:, :32], weight)),
            (ValueError, "out has shape", lambda: self.handle.gemm(x, weight, out=np.empty((2, 9), np.float32))),
            (TypeError, "out is bfloat16; expected float32",
             lambda: self.handle.gemm(x, weight, out=nf4.Bfloat16(np.empty((2, 8), np.uint16)))),
            (TypeError, "out is float16", lambda: self.handle.gemm(x, weight, out=np.empty((2, 8), np.float16))),
            (ValueError, "bias has 7 elements", lambda: self.handle.gemm(x, weight, bias=np.ones(7, np.float32))),
            (TypeError, "bias is float16", lambda: self.handle.gemm(x, weight, bias=np.ones(8, np.float16))),
            (ValueError, r"weights\[1\].cols \(32\)", lambda: self.handle.gemm_group(x, [weight, narrow])),
            (ValueError, "outs has 1 items; expected 2", lambda: self.handle.gemm_group(x, [weight] * 2, outs=[None])),
            (ValueError, r"biases\[0\] has 7 el", lambda: self.handle.gemm_group(x, [weight], biases=[np.ones(7, "f4")])),
            (TypeError, "dtype is float64", lambda: self.handle.unpack(weight, dtype=np.float64)),
            (ValueError, "codes has 255 bytes", lambda: nf4.Weight(8, 64, codes[:255], absmax)),
            (ValueError, "absmax has 7 elements", lambda: nf4.Weight(8, 64, codes, absmax[:7])),
            (ValueError, "absmax_map is None", lambda: nf4.Weight(8, 64, codes, absmax.astype(np.uint8))),
        ]
        for kind, message, call in cases:
            with self.subTest(message=message), self.assertRaisesRegex(kind, message):
                call()

    def test_no_library(self):
        environment = dict(os.environ, NF4_LIBRARY="/nowhere/libnf4.so")
        code = "import nf4\ntry: nf4.version()\nexcept OSError as e: print('OSError', e)"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        self.assertIn("OSError /nowhere/libnf4.so", done.stdout)


if __name__ == "__main__":
    unittest.main()
