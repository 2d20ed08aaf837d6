"""What the ctypes layer must refuse: memory that must not be written, integers that C cannot hold, arguments of the
wrong type, and handles and weights that changed under it. On the host backend."""

import concurrent.futures
import copy
import ctypes
import inspect
import mmap
import pickle
import tempfile
import threading
import unittest
from unittest import mock

import numpy as np

import nf4
import support
from nf4 import _library

ROWS, COLS, BLOCKSIZE = 8, 64, 64


class Managed(ctypes.Structure):
    """DLManagedTensorVersioned of dlpack.h, flat."""

    _fields_ = [
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p), ("flags", ctypes.c_uint64), ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]  # fmt: skip


class VersionedDlpack:
    """A host array that offers its data by DLPack 1.x, read-only or copied as its flags say."""

    READ_ONLY, COPIED = 1, 2

    def __init__(self, array, flags=0, major=1, device_type=1):
        self.array, self.device_type = array, device_type
        self.managed = Managed(
            major=major, minor=0, flags=flags, data=array.ctypes.data, device_type=device_type,
            ndim=array.ndim, code=2, bits=32, lanes=1, shape=(ctypes.c_int64 * array.ndim)(*array.shape), strides=None,
        )  # fmt: skip

    def __dlpack_device__(self):
        return (self.device_type, 0)

    def __dlpack__(self, *, stream=None, max_version=None):
        assert max_version >= (1, 0)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.managed), b"dltensor_versioned", None)


class Interface:
    """An array of another library, which says of itself what it is told to say."""

    def __init__(self, **interface):
        self.__array_interface__ = dict({"version": 3, "typestr": "<f4", "strides": None}, **interface)


class CudaInterface:
    """An array that says that it is on a GPU."""

    def __init__(self, array):
        self.array = array
        self.__cuda_array_interface__ = dict(array.__array_interface__, version=3)


def locked(array):
    """A copy of `array` that must not be written."""
    array = array.copy()
    array.flags.writeable = False
    return array


class HostTest(unittest.TestCase):
    def setUp(self):
        self.handle = nf4.Handle()
        self.addCleanup(self.handle.close)
        self.w = support.random_matrix(ROWS, COLS)
        self.weight = self.handle.pack(self.w)
        self.x = np.ones((3, COLS), np.float32)
        self.ids = np.array([[0, 1], [1, 0], [3, 2]])  # of 4 experts, of 2 rows of the weight each

    def assert_refused(self, cases):
        for kind, message, call in cases:
            with self.subTest(message=message):
                with self.assertRaisesRegex(kind, f"^{message}") as raised:
                    call()
                self.assertIs(type(raised.exception), kind)


class OutputTest(HostTest):
    """Every array that a call writes."""

    def calls(self):
        """{method and output: (the output's shape, its dtype, a call that writes it)}"""
        handle, weight, absmax, y = self.handle, self.weight, self.weight.absmax, np.ones((3, ROWS), np.float32)
        return {
            "pack codes": ((256,), np.uint8, lambda out: handle.pack(self.w, codes=out)),
            "pack absmax": ((8,), np.float32, lambda out: handle.pack(self.w, absmax=out)),
            "pack_absmax codes": ((8,), np.uint8, lambda out: handle.pack_absmax(absmax, codes=out)),
            "pack_absmax absmax2": ((1,), np.float32, lambda out: handle.pack_absmax(absmax, absmax2=out)),
            "pack_absmax offset": ((1,), np.float32, lambda out: handle.pack_absmax(absmax, offset=out)),
            "unpack out": ((8, 64), np.float32, lambda out: handle.unpack(weight, out=out)),
            "unpack_absmax out": ((8,), np.float32, lambda out: handle.unpack_absmax(weight, out=out)),
            "gemm out": ((3, 8), np.float32, lambda out: handle.gemm(self.x, weight, out=out)),
            "gemm_group outs[1]": (
                (3, 8), np.float32, lambda out: handle.gemm_group(self.x, [weight] * 2, outs=[None, out])
            ),
            "gemm_transposed out": ((3, 64), np.float32, lambda out: handle.gemm_transposed(y, weight, out=out)),
            "gemm_experts out": (
                (6, 2), np.float32, lambda out: handle.gemm_experts(self.x, weight, 4, self.ids, out=out)
            ),
            "sort_experts order": ((6,), np.int32, lambda out: handle.sort_experts(self.ids, 4, order=out)),
            "sort_experts ends": ((4,), np.int32, lambda out: handle.sort_experts(self.ids, 4, ends=out)),
        }  # fmt: skip

    def each(self):
        for name, (shape, dtype, call) in self.calls().items():
            yield name.split()[1], np.full(shape, 7, dtype), call

    def test_every_method(self):
        """None that does work is left out above."""
        working = {name for name, method in vars(nf4.Handle).items()
                   if callable(method) and "stream" in inspect.signature(method).parameters}  # fmt: skip
        self.assertEqual({name.split()[0] for name in self.calls()}, working)

    def assert_kept(self, name, array, call, message="is read-only"):
        before = array.tobytes()
        with self.assertRaises(ValueError) as raised:
            call(array)
        self.assertIn(f"{name} {message}", str(raised.exception))
        self.assertEqual(array.tobytes(), before)

    def test_writable(self):
        """The calls write what they are given."""
        for _, out, call in self.each():
            before = out.tobytes()
            call(out)
            self.assertNotEqual(out.tobytes(), before)

    def test_flag_of_numpy(self):
        for name, out, call in self.each():
            self.assert_kept(name, locked(out), call)

    def test_memory_of_bytes(self):
        for name, out, call in self.each():
            data = out.tobytes()
            self.assert_kept(name, np.frombuffer(data, out.dtype).reshape(out.shape), call)
            view = memoryview(data).cast("B")
            self.assert_kept(name, np.frombuffer(view, out.dtype).reshape(out.shape), call)

    def test_map_of_a_file(self):
        """One that was opened for reading: written, it would end the process."""
        for name, out, call in self.each():
            with tempfile.NamedTemporaryFile() as file:
                file.write(out.tobytes())
                file.flush()
                self.assert_kept(name, np.memmap(file.name, out.dtype, "r", shape=out.shape), call)
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
                    array = np.frombuffer(memory, out.dtype).reshape(out.shape)
                    self.assert_kept(name, array, call)
                    del array

    def test_bfloat16(self):
        x, bits = nf4.Bfloat16(np.zeros((3, COLS), np.uint16)), locked(np.full((3, 8), 7, np.uint16))
        self.assert_kept("out", bits, lambda out: self.handle.gemm(x, self.weight, out=nf4.Bfloat16(out)))

    def test_dlpack(self):
        out = np.full((3, 8), 7, np.float32)
        for flags in (VersionedDlpack.READ_ONLY, VersionedDlpack.COPIED):
            before = out.tobytes()
            with self.assertRaisesRegex(ValueError, "out is read-only"):
                self.handle.gemm(self.x, self.weight, out=VersionedDlpack(out, flags))
            self.assertEqual(out.tobytes(), before)
        self.handle.gemm(VersionedDlpack(self.x, VersionedDlpack.READ_ONLY), self.weight, out=VersionedDlpack(out))
        np.testing.assert_array_equal(out, self.handle.gemm(self.x, self.weight))
        pinned = 3  # by CUDA, and the host's all the same
        self.handle.gemm(self.x, self.weight, out=VersionedDlpack(out, device_type=pinned))
        with self.assertRaisesRegex(TypeError, "out is an array of DLPack 2.0; expected 1.x"):
            self.handle.gemm(self.x, self.weight, out=VersionedDlpack(out, major=2))

    def test_cuda_array_interface(self):
        """Its flag is read; that the memory is the host's here, and so refused in any case, comes after."""
        from nf4 import _array

        for array in (self.x, locked(self.x)):
            self.assertEqual(_array.buffer(CudaInterface(array), "x").readonly, not array.flags.writeable)

    def test_inputs_may_be_read_only(self):
        weight = nf4.Weight(ROWS, COLS, locked(self.weight.codes), locked(self.weight.absmax))
        np.testing.assert_array_equal(
            self.handle.gemm(locked(self.x), weight, bias=locked(np.zeros(8, np.float32))),
            self.handle.gemm(self.x, self.weight),
        )

    def test_no_array(self):
        for kind in (bytes, bytearray, memoryview):
            with self.assertRaisesRegex(TypeError, f"out is a {kind.__name__}; expected a numpy array"):
                self.handle.unpack_absmax(self.weight, out=kind(bytes(32)))


class OverlapTest(HostTest):
    def refused(self, message, call):
        with self.assertRaises(ValueError) as raised:
            call()
        self.assertEqual(str(raised.exception), f"{message}; expected memory of its own")

    def test_outputs_and_inputs(self):
        handle, weight = self.handle, self.weight
        square = handle.pack(support.random_matrix(64, 64))
        x = np.ones((3, 64), np.float32)
        before = x.copy()
        memory = np.zeros(4096, np.uint8)
        floats = memory.view(np.float32)
        self.refused("out overlaps x", lambda: handle.gemm(x, square, out=x))
        self.refused("out overlaps x", lambda: handle.gemm_transposed(x, square, out=x))
        self.refused("out overlaps bias", lambda: handle.gemm(x[:1], square, bias=x[1], out=x[1:2]))
        self.refused("outs[1] overlaps x", lambda: handle.gemm_group(x, [square] * 2, outs=[None, x]))
        out = np.zeros((3, 64), np.float32)
        self.refused("outs[1] overlaps outs[0]", lambda: handle.gemm_group(x, [square] * 2, outs=[out, out]))
        self.refused("absmax overlaps codes", lambda: handle.pack(self.w, codes=memory[:256], absmax=floats[63:71]))
        self.refused("codes overlaps w", lambda: handle.pack(self.w, codes=self.w.view(np.uint8).reshape(-1)[:256]))
        self.refused(
            "out overlaps weight.absmax", lambda: handle.unpack_absmax(weight, out=weight.absmax)
        )
        self.refused("offset overlaps absmax", lambda: handle.pack_absmax(floats[:8], offset=floats[7:8]))
        self.refused(
            "offset overlaps absmax2", lambda: handle.pack_absmax(floats[:8], absmax2=floats[9:10], offset=floats[9:10])
        )
        self.refused("out overlaps scale", lambda: handle.gemm_experts(
            x, weight, 4, self.ids, scale=floats[11:17], out=floats[:12].reshape(6, 2)))  # fmt: skip
        numbers = np.zeros(16, np.int32)
        self.refused("ends overlaps order", lambda: handle.sort_experts(self.ids, 4, order=numbers[:6], ends=numbers[5:9]))
        self.refused("order overlaps ids", lambda: handle.sort_experts(numbers[:6], 4, order=numbers[2:8]))
        seen = nf4.Weight(ROWS, COLS, memory[:256], floats[64:72])
        self.refused("out overlaps weight.codes", lambda: handle.unpack(seen, out=floats[:512].reshape(8, 64)))
        np.testing.assert_array_equal(x, before)

    def test_rows_between_rows(self):
        """Columns of one array are memory of their own, as long as they are not the same columns."""
        square = self.handle.pack(support.random_matrix(64, 64))
        wide = np.ones((5, 192), np.float32)
        expected = self.handle.gemm(wide[:, :64], square)
        np.testing.assert_array_equal(self.handle.gemm(wide[:, :64], square, out=wide[:, 64:128]), expected)
        outs = [wide[:, 64:128], wide[:, 128:]]
        self.handle.gemm_group(wide[:, :64], [square] * 2, outs=outs)
        np.testing.assert_array_equal(outs, [expected] * 2)
        self.refused("out overlaps x", lambda: self.handle.gemm(wide[:, :64], square, out=wide[:, 63:127]))
        self.refused("out overlaps x", lambda: self.handle.gemm(wide[:, 64:128], square, out=wide[:, 1:65]))

    def test_against_every_byte(self):
        """The answer is that of numpy's exact one, for rows of all distances."""
        from nf4._array import buffer, overlap

        random = np.random.default_rng(11)
        memory = np.zeros(60, np.float32)
        seen = set()
        for _ in range(20000):
            views = []
            for _ in range(2):
                cols, rows = random.integers(1, 6), random.integers(1, 5)
                step = cols + random.integers(0, 6)
                start = random.integers(0, 61 - ((rows - 1) * step + cols))
                view = np.lib.stride_tricks.as_strided(memory[start:], (rows, cols), (4 * step, 4))
                views.append(view)
            expected = np.shares_memory(*views)
            seen.add(expected)
            self.assertEqual(overlap(*(buffer(view, "view") for view in views)), expected)
        self.assertEqual(seen, {True, False})


class DeviceTest(HostTest):
    def test_every_input_is_on_the_device(self):
        """An address of a GPU's would be read as the host's."""
        table = CudaInterface(np.zeros(256, np.float32))
        bias = CudaInterface(np.zeros(8, np.float32))
        self.assert_refused([
            (ValueError, "absmax_map is on CUDA device 0; expected the host, the handle's",
             lambda: self.handle.pack_absmax(self.weight.absmax, absmax_map=table)),
            (ValueError, "bias is on CUDA device 0; expected the host, the handle's",
             lambda: self.handle.gemm(self.x, self.weight, bias=bias)),
            (ValueError, "scale is on CUDA device 0; expected the host, the handle's",
             lambda: self.handle.gemm_experts(self.x, self.weight, 4, self.ids, scale=bias)),
            (ValueError, r"biases\[0\] is on CUDA device 0",
             lambda: self.handle.gemm_group(self.x, [self.weight], biases=[bias])),
        ])  # fmt: skip


class ArrayTest(HostTest):
    def test_numpy_scalar(self):
        """It has no memory of its own: what its interface points to is freed by the time that it is read."""
        nested = self.handle.pack(self.w, nested=True)
        with self.assertRaisesRegex(TypeError, "absmax_offset is a numpy scalar of float32; expected an array"):
            nf4.Weight(ROWS, COLS, nested.codes, nested.absmax, absmax_map=nested.absmax_map, absmax2=nested.absmax2,
                       absmax_offset=nested.absmax_offset[0])  # fmt: skip

    def test_interface_without_an_address(self):
        """numpy allows bytes there, as Pillow's images have."""
        image = Interface(data=bytes(4 * 512), shape=(8, 64))
        with self.assertRaisesRegex(TypeError, "w is a Interface that does not tell its address"):
            self.handle.pack(image)

    def test_bits_of_another_type(self):
        """An array of bytes has twice the elements, and so would be read as twice the memory."""
        x = nf4.Bfloat16(np.zeros((3, COLS), np.uint16))
        with self.assertRaises(AttributeError):
            x.bits = np.zeros((3, COLS), np.uint8)
        x.bits.dtype = np.uint8
        with self.assertRaisesRegex(TypeError, "x is a Bfloat16 whose bits are uint8; expected uint16"):
            self.handle.gemm(x, self.weight)

    def test_sizes_beyond_64_bits(self):
        address = (self.x.ctypes.data, False)
        empty = self.handle.pack(np.empty((ROWS, 0), np.float32))
        self.assert_refused([
            (TypeError, r"w is an array of shape \(18446744073709551624, 64\)",
             lambda: self.handle.pack(Interface(data=address, shape=(2**64 + 8, 64)))),
            (TypeError, "x is an array of shape", lambda: self.handle.gemm(
                Interface(data=address, shape=(2**40, 2**24, 0)), empty)),
            (TypeError, "w is an array with strides of", lambda: self.handle.pack(
                Interface(data=address, shape=(8, 64), strides=(4 * (2**64 + 64), 4)))),
        ])  # fmt: skip


class IntegerTest(HostTest):
    def test_beyond_c(self):
        """ctypes would take the low bits: 2**64 + 8 rows were 8."""
        codes, absmax, handle = self.weight.codes, self.weight.absmax, self.handle
        wide = 2**64 + 64
        self.assert_refused([
            (ValueError, "rows is 1180591620717411303424; expected -9223372036854775808 to 9223372036854775807",
             lambda: nf4.Weight(2**70, COLS, codes, absmax)),
            (ValueError, "cols is 18446744073709551680;", lambda: nf4.Weight(ROWS, wide, codes, absmax)),
            (ValueError, "blocksize is 4294967360; expected -2147483648 to 2147483647",
             lambda: nf4.Weight(ROWS, COLS, codes, absmax, blocksize=2**32 + 64)),
            (ValueError, "absmax_blocksize is 4294967552;",
             lambda: nf4.Weight(ROWS, COLS, codes, absmax, absmax_blocksize=2**32 + 256)),
            (ValueError, "rows is ", lambda: nf4.packed_size(wide, 1)),
            (ValueError, "cols is ", lambda: nf4.packed_size(1, wide)),
            (ValueError, "blocksize is ", lambda: nf4.packed_size(1, 1, 2**32 + 64)),
            (ValueError, "device is 4294967295; expected", lambda: nf4.Handle(2**32 - 1)),
            (ValueError, "blocksize is ", lambda: handle.pack(self.w, blocksize=2**32 + 64)),
            (ValueError, "blocksize is ", lambda: handle.pack_absmax(absmax, blocksize=2**32 + 256)),
            (ValueError, "stream is 18446744073709551616; expected 0 to",
             lambda: handle.unpack(self.weight, stream=2**64)),
            (ValueError, "stream is -1; expected 0 to", lambda: handle.unpack(self.weight, stream=-1)),
            (ValueError, "rows is a int that is too long to show", lambda: nf4.packed_size(10**5000, 1)),
        ])  # fmt: skip

    def test_every_stream(self):
        absmax, handle, weight, x = self.weight.absmax, self.handle, self.weight, self.x
        for call in (
            lambda **keywords: handle.pack(self.w, **keywords),
            lambda **keywords: handle.unpack(weight, **keywords),
            lambda **keywords: handle.pack_absmax(absmax, **keywords),
            lambda **keywords: handle.unpack_absmax(weight, **keywords),
            lambda **keywords: handle.gemm(x, weight, **keywords),
            lambda **keywords: handle.gemm_group(x, [weight], **keywords),
            lambda **keywords: handle.gemm_transposed(x[:, :ROWS], weight, **keywords),
            lambda **keywords: handle.gemm_experts(x, weight, 4, self.ids, **keywords),
            lambda **keywords: handle.sort_experts(self.ids, 4, **keywords),
        ):
            self.assert_refused([
                (ValueError, "stream is 18446744073709551616", lambda: call(stream=2**64)),
                (TypeError, "stream is 'legacy'; expected an int", lambda: call(stream="legacy")),
                (TypeError, "variant is 5; expected a str", lambda: call(variant=5)),
                (TypeError, "config is b'x'; expected a str", lambda: call(config=b"x")),
                (ValueError, "variant is '.*'; expected a str without null", lambda: call(variant="gemm.host\0x")),
            ])  # fmt: skip

    def test_no_integers(self):
        codes, absmax = self.weight.codes, self.weight.absmax
        for value, shown in (("64", "'64'"), (64.0, "64.0"), (None, "None"), (True, "True"), ([64], r"\[64\]")):
            self.assert_refused([
                (TypeError, f"rows is {shown}; expected an int", lambda: nf4.Weight(value, COLS, codes, absmax)),
                (TypeError, f"cols is {shown}; expected an int", lambda: nf4.Weight(ROWS, value, codes, absmax)),
                (TypeError, f"blocksize is {shown}; expected an int",
                 lambda: nf4.Weight(ROWS, COLS, codes, absmax, blocksize=value)),
                (TypeError, f"absmax_blocksize is {shown}; expected an int",
                 lambda: nf4.Weight(ROWS, COLS, codes, absmax, absmax_blocksize=value)),
                (TypeError, f"rows is {shown}; expected an int", lambda: nf4.packed_size(value, 1)),
                (TypeError, f"cols is {shown}; expected an int", lambda: nf4.packed_size(1, value)),
                (TypeError, f"blocksize is {shown}; expected an int", lambda: nf4.packed_size(1, 1, value)),
                (TypeError, f"device is {shown}; expected an int", lambda: nf4.Handle(value)),
                (TypeError, f"blocksize is {shown}; expected an int",
                 lambda: self.handle.pack(self.w, blocksize=value)),
                (TypeError, f"blocksize is {shown}; expected an int",
                 lambda: self.handle.pack_absmax(absmax, blocksize=value)),
            ])  # fmt: skip

    def test_numpy_integers(self):
        weight = nf4.Weight(np.int32(ROWS), np.uint8(COLS), self.weight.codes, self.weight.absmax,
                            blocksize=np.int64(64))  # fmt: skip
        self.assertEqual((weight.shape, type(weight.rows), type(weight.blocksize)), ((8, 64), int, int))
        np.testing.assert_array_equal(self.handle.unpack(weight), self.handle.unpack(self.weight))
        self.assertEqual(nf4.packed_size(np.int16(3), np.int16(33), np.int16(32)), (50, 4))

    def test_negative(self):
        with self.assertRaisesRegex(nf4.Error, "rows is -1"):
            nf4.packed_size(-1, 1)
        with self.assertRaisesRegex(nf4.Error, "device is -2"):
            nf4.Handle(-2)


class TypeTest(HostTest):
    def test_types(self):
        handle, weight, x = self.handle, self.weight, self.x
        self.assert_refused([
            (TypeError, "nested is 'no'; expected a bool", lambda: handle.pack(self.w, nested="no")),
            (TypeError, "weight is a ndarray; expected a nf4.Weight", lambda: handle.unpack(self.w)),
            (TypeError, "weight is a NoneType; expected a nf4.Weight", lambda: handle.unpack_absmax(None)),
            (TypeError, "weight is a ndarray; expected a nf4.Weight", lambda: handle.gemm(x, self.w)),
            (TypeError, r"weights\[1\] is a int; expected", lambda: handle.gemm_group(x, [weight, 5])),
            (TypeError, "weights is 5; expected a list of nf4.Weight", lambda: handle.gemm_group(x, 5)),
            (TypeError, "weights is .*Weight.*; expected a list of nf4.Weight", lambda: handle.gemm_group(x, weight)),
            (TypeError, "outs is 5; expected a list of arrays", lambda: handle.gemm_group(x, [weight], outs=5)),
            (TypeError, "biases is 5; expected a list of arrays", lambda: handle.gemm_group(x, [weight], biases=5)),
            (TypeError, "dtype is 5; expected one of float32", lambda: handle.unpack(weight, dtype=5)),
            (TypeError, "bits is a list; expected a numpy array of uint16", lambda: nf4.Bfloat16([1])),
            (TypeError, "bits are float32; expected uint16", lambda: nf4.Bfloat16(x)),
            (TypeError, "codes is a NoneType; expected a numpy array", lambda: nf4.Weight(ROWS, COLS, None, x)),
        ])  # fmt: skip
        self.assertTrue(handle.pack(self.w, nested=np.bool_(True)).nested)

    def test_experts(self):
        handle, weight, x, ids = self.handle, self.weight, self.x, self.ids
        order, ends = handle.sort_experts(ids, 4)
        self.assert_refused([
            (TypeError, "ids is an array of type float32; expected one of int32, int64",
             lambda: handle.gemm_experts(x, weight, 4, ids.astype(np.float32))),
            (TypeError, "ids is an array of type '<i2'; expected one of int32, int64",
             lambda: handle.sort_experts(ids.astype(np.int16), 4)),
            (TypeError, "ends is int64; expected int32", lambda: handle.gemm_experts(x, weight, 4, ends=ends.astype(int))),
            (TypeError, "order is int64; expected int32",
             lambda: handle.gemm_experts(x, weight, 4, order=order.astype(int), ends=ends)),
            (TypeError, "order is int64; expected int32", lambda: handle.sort_experts(ids, 4, order=order.astype(int))),
            (TypeError, "x is an array of type int64; expected one of float32", lambda: handle.gemm(x.astype(int), weight)),
            (TypeError, "scale is float16; expected float32",
             lambda: handle.gemm_experts(x, weight, 4, ids, scale=np.ones(6, np.float16))),
            (TypeError, "experts is '4'; expected an int", lambda: handle.gemm_experts(x, weight, "4", ids)),
            (TypeError, "weight is a ndarray; expected a nf4.Weight", lambda: handle.gemm_experts(x, self.w, 4, ids)),
            (ValueError, r"experts is 3; expected a divisor of weight.rows \(8\)",
             lambda: handle.gemm_experts(x, weight, 3, ids)),
            (ValueError, "experts is 0; expected a divisor", lambda: handle.gemm_experts(x, weight, 0, ids)),
            (ValueError, "experts is -1; expected a divisor", lambda: handle.gemm_experts(x, weight, -1, ids)),
            (ValueError, "ids and ends are both None; expected one", lambda: handle.gemm_experts(x, weight, 4)),
            (ValueError, "ids and ends are both given; expected one",
             lambda: handle.gemm_experts(x, weight, 4, ids, ends=ends)),
            (ValueError, "order is given without ends", lambda: handle.gemm_experts(x, weight, 4, ids, order=order)),
            (ValueError, "ends has 3 elements; expected 4 or more",
             lambda: handle.gemm_experts(x, weight, 4, order=order, ends=ends[:3])),
            (ValueError, "scale has 5 elements; expected 6 or more",
             lambda: handle.gemm_experts(x, weight, 4, ids, scale=np.ones(5, np.float32))),
            (ValueError, "bias has 7 elements; expected 8 or more",
             lambda: handle.gemm_experts(x, weight, 4, ids, bias=np.ones(7, np.float32))),
            (ValueError, r"x has 3 rows; expected a divisor of the slots \(4\)",
             lambda: handle.gemm_experts(x, weight, 4, ids[:2])),
            (ValueError, r"x has 32 columns; expected weight.cols \(64\)",
             lambda: handle.gemm_experts(x[:, :32], weight, 4, ids)),
            (ValueError, r"out has shape \(6, 8\); expected \(6, 2\)",
             lambda: handle.gemm_experts(x, weight, 4, ids, out=np.empty((6, 8), np.float32))),
            (ValueError, "ids is not contiguous", lambda: handle.gemm_experts(x, weight, 4, np.repeat(ids, 2)[::2])),
            (ValueError, "ids is on CUDA device 0; expected the host",
             lambda: handle.gemm_experts(x, weight, 4, CudaInterface(ids))),
            (nf4.Error, "an expert has 1 \\* 32 weights",
             lambda: handle.gemm_experts(x[:, :32], handle.pack(self.w[:, :32].copy()), 8, ids)),
        ])  # fmt: skip
        with self.assertRaisesRegex(nf4.Error, "routing->experts is -1; expected 0 or more"):
            handle.sort_experts(ids, -1)

    def test_nested_on_cuda(self):
        """Refused before anything is launched."""
        fake = mock.Mock(wraps=_library.library())
        self.handle._device = 0
        with mock.patch.object(_library, "_library", fake):
            with self.assertRaisesRegex(ValueError, "nested is True; expected False on CUDA"):
                self.handle.pack(CudaInterface(self.w), nested=True, codes=CudaInterface(self.weight.codes),
                                 absmax=CudaInterface(self.weight.absmax))  # fmt: skip
        fake.nf4_pack.assert_not_called()


class HandleTest(HostTest):
    def test_copies(self):
        """Each is a handle of its own; the old copy freed the other's."""
        for make in (copy.copy, copy.deepcopy, lambda handle: pickle.loads(pickle.dumps(handle))):
            made = make(self.handle)
            self.assertEqual(made.device, nf4.HOST)
            self.assertNotEqual(made.pointer.value, self.handle.pointer.value)
            made.close()
            np.testing.assert_array_equal(self.handle.pack(self.w).codes, self.weight.codes)
        closed = nf4.Handle()
        closed.close()
        with self.assertRaisesRegex(nf4.Error, "the handle is closed"):
            copy.copy(closed)

    def test_device_cannot_be_set(self):
        with self.assertRaises(AttributeError):
            self.handle.device = 0

    def test_closed(self):
        handle = nf4.Handle()
        handle.close()
        handle.close()
        for call in (
            lambda: handle.pack(self.w), lambda: handle.unpack(self.weight), lambda: handle.device_info(),
            lambda: handle.pack_absmax(self.weight.absmax), lambda: handle.unpack_absmax(self.weight),
            lambda: handle.gemm(self.x, self.weight), lambda: handle.gemm_group(self.x, [self.weight]),
            lambda: handle.gemm_transposed(self.x[:, :ROWS], self.weight),
            lambda: handle.gemm_experts(self.x, self.weight, 4, self.ids), lambda: handle.sort_experts(self.ids, 4),
            lambda: handle.pointer,
        ):  # fmt: skip
            with self.assertRaisesRegex(nf4.Error, "the handle is closed; expected one that is open") as raised:
                call()
            self.assertEqual(raised.exception.name, "NF4_ERROR_INVALID_ARGUMENT")
        with nf4.Handle() as handle:
            pass
        with self.assertRaisesRegex(nf4.Error, "closed"):
            handle.device_info()

    def test_close_while_in_use(self):
        """The handle is freed after the last call that uses it."""
        library = _library.library()
        entered, go, order = threading.Event(), threading.Event(), []

        def info(handle, struct):
            entered.set()
            go.wait(10)
            order.append("call")
            return library.nf4_device_info(handle, struct)

        def destroy(handle):
            order.append("destroy")
            return library.nf4_destroy(handle)

        fake = mock.Mock(wraps=library, nf4_device_info=info, nf4_destroy=destroy)
        handle = nf4.Handle()
        with mock.patch.object(_library, "_library", fake), concurrent.futures.ThreadPoolExecutor() as pool:
            done = pool.submit(handle.device_info)
            entered.wait(10)
            handle.close()
            self.assertEqual(order, [])
            go.set()
            self.assertEqual(done.result()["name"], "host")
            del done
        self.assertEqual(order, ["call", "destroy"])

    def test_every_handle_is_destroyed_once(self):
        made, destroyed = [], []
        library = _library.library()

        def create(pointer, device):
            status = library.nf4_create(pointer, device)
            made.append(pointer._obj.value)
            return status

        def destroy(handle):
            destroyed.append(handle.value)
            return library.nf4_destroy(handle)

        with mock.patch.object(_library, "_library", mock.Mock(wraps=library, nf4_create=create, nf4_destroy=destroy)):
            handle = nf4.Handle()
            copy.copy(handle).close()
            handle.close()
            handle.close()
            nf4.Handle()
            with nf4.Handle(), self.assertRaises(ValueError):
                nf4.Handle(2**40)
        self.assertEqual(len(made), 4)
        self.assertEqual(sorted(made), sorted(destroyed))

    def test_repr(self):
        handle = nf4.Handle()
        self.assertEqual(repr(handle), "<nf4.Handle device -1, host>")
        handle.close()
        self.assertEqual(repr(handle), "<nf4.Handle device -1, closed>")


class WeightTest(HostTest):
    def test_nothing_can_be_set(self):
        """What says how much memory there is would be another than what was checked."""
        names = [name for name, member in vars(nf4.Weight).items() if isinstance(member, property)]
        self.assertLessEqual({"rows", "cols", "blocksize", "absmax_blocksize", "codes", "absmax", "struct"}, set(names))
        for name in names:
            with self.subTest(name=name), self.assertRaises(AttributeError):
                setattr(self.weight, name, getattr(self.weight, name))

    def test_struct_is_a_copy(self):
        self.weight.struct.rows = 1 << 20
        self.assertEqual((self.weight.rows, self.weight.struct.rows), (ROWS, ROWS))
        self.assertEqual(self.weight.struct.codes, self.weight.codes.ctypes.data)

    def test_arrays_cannot_be_resized(self):
        for array in (self.weight.codes, self.weight.absmax):
            with self.assertRaises(ValueError):
                array.resize(1 << 16)

    def test_copies(self):
        nested = self.handle.pack(self.w, nested=True)
        for weight in (self.weight, nested):
            expected = self.handle.unpack(weight)
            shared = copy.copy(weight)
            self.assertIs(shared.codes, weight.codes)
            for made in (copy.deepcopy(weight), pickle.loads(pickle.dumps(weight))):
                self.assertFalse(np.shares_memory(made.codes, weight.codes))
                self.assertEqual(made.struct.codes, made.codes.ctypes.data)
                self.assertEqual((made.shape, made.nested, made.nbytes), (weight.shape, weight.nested, weight.nbytes))
                weight.codes[:] ^= 0xFF
                np.testing.assert_array_equal(self.handle.unpack(made), expected)
                weight.codes[:] ^= 0xFF

    def test_repr(self):
        self.assertEqual(repr(self.weight), "<nf4.Weight 8x64, blocksize 64, on the host>")
        nested = self.handle.pack(self.w, blocksize=128, nested=True)
        self.assertEqual(repr(nested), "<nf4.Weight 8x64, blocksize 128, nested, on the host>")
        self.assertEqual(repr(nf4.Bfloat16(np.zeros(1, np.uint16))), "nf4.Bfloat16(array([0], dtype=uint16))")


class MessageTest(HostTest):
    def test_not_utf8(self):
        """Names of files may hold any bytes, and a message is cut where it may be in the middle of a character."""
        for message, shown in ((b"/tmp/\xff\xfe: no", "/tmp/\ufffd\ufffd: no"), ("ü".encode()[:1], "\ufffd")):
            fake = mock.Mock(wraps=_library.library(), nf4_last_error_message=lambda message=message: message)
            with mock.patch.object(_library, "_library", fake), self.assertRaises(nf4.Error) as raised:
                nf4.packed_size(-1, 1)
            self.assertEqual(str(raised.exception), shown)

    def test_name_of_a_device(self):
        def info(handle, reference):
            reference._obj.name = "ü".encode()[:1]
            return 0

        with mock.patch.object(_library, "_library", mock.Mock(wraps=_library.library(), nf4_device_info=info)):
            self.assertEqual(self.handle.device_info()["name"], "\ufffd")

    def test_a_long_variant(self):
        """The real library, which cuts its message within the name."""
        for prefix in ("", "x"):
            with self.assertRaises(nf4.Error) as raised:
                self.handle.unpack(self.weight, variant=prefix + "ü" * 2000)
            self.assertEqual(raised.exception.name, "NF4_ERROR_UNKNOWN_VARIANT")
        with self.assertRaisesRegex(nf4.Error, r"\\udcff"):
            self.handle.unpack(self.weight, variant="\udcff")

    def test_pickled(self):
        """As a worker process hands it to its parent."""
        error = pickle.loads(pickle.dumps(nf4.Error(3, "blocksize is 48")))
        self.assertEqual((type(error), error.status, error.name, str(error)),
                         (nf4.Error, 3, "NF4_ERROR_UNSUPPORTED", "blocksize is 48"))  # fmt: skip


if __name__ == "__main__":
    support.main()
