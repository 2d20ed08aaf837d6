"""The plug-in in a real bitsandbytes, on the CPU: kernels of operators against bitsandbytes' own for the CPU, which
round as its CUDA kernels do from 0.49 on; and all replacements in place and away again."""

import gc
import unittest
from unittest import mock

import host_device
import nf4
import support
from host_device import HOST

if not host_device.missing:
    import bitsandbytes
    import bitsandbytes.functional as F
    import torch
    from nf4 import _bitsandbytes
    from nf4._bitsandbytes import codes, operators


class OperatorTest(host_device.HostTest):
    oldest = (0, 49)

    def setUp(self):
        super().setUp()
        self.originals = operators.original_kernels()
        self.ops = operators.Operators(self.originals, self.devices, codes.Codes())

    def test_originals(self):
        for name in ("gemv_4bit", "gemv_4bit.out", "dequantize_4bit", "dequantize_4bit.out", "quantize_4bit"):
            self.assertEqual(self.originals[name].__module__, "bitsandbytes.backends.cuda.ops")
        self.assertEqual(set(self.ops.kernels()), set(self.originals) & set(self.ops.kernels()))

    def test_against_bitsandbytes(self):
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)):
            for cols in (256, 100):
                with self.subTest(dtype=dtype, cols=cols):
                    self.compare(dtype, cols, tolerance)

    def compare(self, dtype, cols, tolerance):
        shape = [48, cols]
        w = torch.randn(shape, dtype=dtype) * 0.02
        for storage in (torch.uint8, torch.bfloat16):
            packed, state = F.quantize_4bit(w, quant_type="nf4", quant_storage=storage)
            ours, absmax = self.ops.quantize_4bit(w, 64, "nf4", storage)
            self.assertEqual((ours.dtype, ours.shape), (packed.dtype, packed.shape))
            self.assertTrue(torch.equal(ours.view(torch.uint8), packed.view(torch.uint8)))
            self.assertTrue(torch.equal(absmax, state.absmax))
            unpacked = F.dequantize_4bit(packed, state)
            self.assertTrue(torch.equal(self.ops.dequantize_4bit(packed, absmax, 64, "nf4", shape, dtype), unpacked))
            out = torch.full_like(unpacked, torch.nan)
            self.ops.dequantize_4bit_out(packed, absmax, 64, "nf4", shape, dtype, out)
            self.assertTrue(torch.equal(out, unpacked))

        x, bias = torch.randn(2, 3, cols, dtype=dtype), torch.randn(48, dtype=dtype)
        self.assert_close(self.ops.gemm_4bit(x, packed, shape, absmax, 64, "nf4", bias), x, unpacked, bias, tolerance)
        row = x[:1, :1]
        y = self.ops.gemv_4bit(row, packed, shape, absmax, state.code, 64)
        self.assert_close(y, row, unpacked, 0 * bias, tolerance)
        out = torch.full_like(y, torch.nan)
        self.ops.gemv_4bit_out(row, packed, shape, absmax, state.code, 64, out)
        self.assertTrue(torch.equal(out, y))

        _, nested = F.quantize_4bit(w, quant_type="nf4", compress_statistics=True)
        second = nested.state2
        scales = self.ops.dequantize_blockwise(nested.absmax, second.absmax, second.code, 256, torch.float32)
        self.assertTrue(torch.equal(scales, F.dequantize_blockwise(nested.absmax, second)))
        out = torch.full_like(scales, torch.nan)
        self.ops.dequantize_blockwise_out(nested.absmax, second.absmax, second.code, 256, torch.float32, out)
        self.assertTrue(torch.equal(out, scales))
        y = self.ops.gemm_4bit(
            x, packed, shape, second.absmax, 64, "nf4", bias, nested.absmax, second.code, nested.offset
        )
        self.assert_close(y, x, F.dequantize_4bit(packed, nested), bias, tolerance)

        plain = (packed, shape, absmax, 64, bias, None, None, None)
        products = [
            plain,
            (packed, shape, second.absmax, 64, None, nested.absmax, second.code, nested.offset.double()),
            (packed[:8 * cols], [16, cols], absmax, 64, None, None, None, None),
        ]
        for m in (x, torch.randn(40, cols, dtype=dtype)):
            group = self.ops.gemm_4bit_group(m, products, "nf4")
            for ours, product in zip(group, products):
                self.assertTrue(torch.equal(ours, self.ops.gemm_4bit(m, *product[:4], "nf4", *product[4:])))
        self.assertIs(self.ops.gemm_4bit_group(x, products, "fp4"), NotImplemented)
        self.assertIs(self.ops.gemm_4bit_group(x, [plain, (*plain[:3], 48, *plain[4:])], "nf4"), NotImplemented)

    def assert_close(self, y, x, w, bias, tolerance):
        exact = x.double() @ w.double().T + bias.double()
        self.assertEqual(y.shape, exact.shape)
        self.assertLess((y.double() - exact).abs().max() / exact.abs().max(), tolerance)

    def test_handed_back(self):
        """What is not NF4, or not for us, goes to the kernel before, with its arguments."""
        packed, state = F.quantize_4bit(torch.randn(48, 64), quant_type="fp4")
        x = torch.randn(1, 64)
        calls = {
            "gemm_4bit": (x, packed, [48, 64], state.absmax, 64, "fp4", None, None, None, None),
            "gemv_4bit": (x, packed, [48, 64], state.absmax, state.code, 64),
            "gemv_4bit.out": (x, packed, [48, 64], state.absmax, state.code, 64, torch.empty(1, 48)),
            "dequantize_4bit": (packed, state.absmax, 64, "fp4", [48, 64], torch.float32),
            "dequantize_4bit.out": (packed, state.absmax, 64, "fp4", [48, 64], torch.float32, torch.empty(48, 64)),
            "quantize_4bit": (x, 64, "fp4", torch.uint8),
            "dequantize_blockwise": (packed, state.absmax, state.code, 256, torch.float16),
            "dequantize_blockwise.out": (packed, state.absmax, state.code, 256, torch.float16, x),
        }
        originals = {name: mock.Mock(return_value="original") for name in calls}
        for devices in (self.devices, {HOST: False}):
            kernels = operators.Operators(originals, devices, codes.Codes()).kernels()
            self.assertEqual(set(kernels), set(calls))
            for name, arguments in calls.items():
                originals[name].reset_mock()
                kernels[name](*arguments)
                originals[name].assert_called_once_with(*arguments)
            calls = {
                name: tuple("nf4" if argument == "fp4" else argument for argument in arguments)
                if not any(isinstance(argument, torch.Tensor) and argument is state.code for argument in arguments)
                else arguments
                for name, arguments in calls.items()
            }

    def test_products_that_are_limited(self):
        """Where nobody measured, products of more rows go to the kernel before; all of a group do if any does."""
        w, bias = torch.randn(48, 64), torch.randn(48)
        packed, state = F.quantize_4bit(w, quant_type="nf4")
        originals = {name: mock.Mock(return_value="original") for name in ("gemm_4bit", "gemv_4bit", "dequantize_4bit")}
        ops = operators.Operators(originals, self.devices, codes.Codes())
        kernels = ops.kernels()

        def outcomes(rows):
            x = torch.randn(rows, 64)
            product = packed, [48, 64], state.absmax, 64, bias, None, None, None
            group = ops.gemm_4bit_group(x, [product, product], "nf4")
            return (kernels["gemm_4bit"](x, packed, [48, 64], state.absmax, 64, "nf4", bias) == "original",
                    kernels["gemv_4bit"](x[:1], packed, [48, 64], state.absmax, state.code, 64) == "original",
                    group is NotImplemented)  # fmt: skip

        self.devices.limits[HOST] = "not measured"
        with mock.patch.dict(_bitsandbytes.devices._ROWS, {"gemm.host": 3}):
            self.assertEqual(outcomes(3), (False, False, False))
            self.assertEqual(outcomes(4), (True, False, True))
        self.assertEqual(outcomes(1), (True, True, True))
        originals["dequantize_4bit"].reset_mock()
        kernels["dequantize_4bit"](packed, state.absmax, 64, "nf4", [48, 64], torch.float32)
        originals["dequantize_4bit"].assert_not_called()

    def test_devices(self):
        """What is said of them."""
        devices = _bitsandbytes.Devices()
        with mock.patch("nf4._tensors.compute_capability", lambda index: (90, 86)[index]):
            self.assertTrue(devices[0] and devices[1])
        self.assertEqual(list(devices.limits), [1])
        self.assertRegex(devices.limits[1], "compute capability 8.6: .* 32 by gemm.pair_multistage")

    def test_tensors_that_do_not_fit(self):
        """Also what libnf4 would refuse goes to the kernel before: it may know more, or has the better message."""
        w, x = torch.randn(48, 64), torch.randn(1, 64)
        packed, state = F.quantize_4bit(w, quant_type="nf4")
        absmax, code, shape = state.absmax, state.code, [48, 64]
        wide, short, second = absmax.double(), absmax[:-1], packed.repeat(1, 2)[:, :1]
        calls = [
            ("gemm_4bit", (x, packed, shape, wide, 64, "nf4", None, None, None, None)),
            ("gemm_4bit", (x, packed, shape, short, 64, "nf4", None, None, None, None)),
            ("gemm_4bit", (x, second, shape, absmax, 64, "nf4", None, None, None, None)),
            ("gemm_4bit", (x, packed, shape, absmax, 64, "nf4", torch.randn(47), None, None, None)),
            ("gemm_4bit", (x, packed, shape, absmax, 64, "nf4", torch.randn(96)[::2], None, None, None)),
            ("gemm_4bit", (x, packed, shape, absmax, 64, "nf4", None, packed, None, None)),
            ("gemv_4bit", (x, packed, shape, wide, code, 64)),
            ("gemv_4bit.out", (x, packed, shape, wide, code, 64, torch.empty(1, 48))),
            ("dequantize_4bit", (packed, wide, 64, "nf4", shape, torch.float32)),
            ("dequantize_4bit.out", (packed, wide, 64, "nf4", shape, torch.float32, torch.empty(shape))),
        ]
        for name, arguments in calls:
            original = mock.Mock(return_value="original")
            kernels = operators.Operators({name: original}, self.devices, codes.Codes()).kernels()
            with self.subTest(name, arguments=[getattr(a, "shape", a) for a in arguments]):
                self.assertEqual(kernels[name](*arguments), "original")
                original.assert_called_once_with(*arguments)

    def test_storage_too_small(self):
        """bitsandbytes rounds the size down, and its kernel writes past the end: this does not go there."""
        ops = operators.Operators({"quantize_4bit": mock.Mock()}, self.devices, codes.Codes())
        kernel = ops.kernels()["quantize_4bit"]
        with self.assertRaisesRegex(ValueError, "quant_storage is torch.bfloat16; expected .* 6 weights"):
            kernel(torch.randn(6), 64, "nf4", torch.bfloat16)


class WholeTest(host_device.HostTest):
    """All of them in place and away again."""

    oldest = (0, 46)

    def kernels(self):
        """How many the dispatcher knows for CUDA, those that are overridden too."""
        return torch._C._dispatch_dump("bitsandbytes::gemv_4bit").count("CUDA")

    def test_round_trip(self):
        import bitsandbytes.backends.cuda.ops  # noqa: F401  which bitsandbytes imports where there is a GPU

        forward, native = bitsandbytes.nn.Linear4bit.forward, bitsandbytes.functional.lib
        symbol = native.cdequantize_blockwise_bf16_nf4
        kernels = self.kernels()
        for _ in range(3):
            status = nf4.enable()
            self.assertTrue(status["enabled"])
            self.assertIn("gemv_4bit", status["replaced"])
            self.assertEqual(self.kernels(), kernels + 1)
            self.assertIsNot(bitsandbytes.nn.Linear4bit.forward, forward)
            self.assertIsNot(native.cdequantize_blockwise_bf16_nf4, symbol)
            nf4.disable()
            self.assertEqual(self.kernels(), kernels)
            self.assertIs(bitsandbytes.nn.Linear4bit.forward, forward)
            self.assertIs(native.cdequantize_blockwise_bf16_nf4, symbol)
            gc.collect()
            self.assertIn("bitsandbytes/gemv_4bit/CUDA", torch.library._impls)

    def test_what_others_put_on_top_stays(self):
        import bitsandbytes.backends.cuda.ops  # noqa: F401

        native, name = bitsandbytes.functional.lib, "cdequantize_blockwise_bf16_nf4"
        kernels, symbol = self.kernels(), getattr(native, name)
        self.addCleanup(nf4.disable)
        nf4.enable()
        theirs = torch.library.Library("bitsandbytes", "IMPL")
        torch.library._impls.discard("bitsandbytes/gemv_4bit/CUDA")
        theirs.impl("gemv_4bit", lambda *_: None, "CUDA")
        ours = getattr(native, name)
        setattr(native, name, "theirs")
        nf4.disable()
        self.assertEqual(self.kernels(), kernels + 1)
        self.assertEqual(getattr(native, name), "theirs")
        delattr(native, name)
        self.assertIs(getattr(native, name), symbol)
        theirs._destroy()
        self.assertEqual(self.kernels(), kernels)
        self.assertIsNot(ours, symbol)

    def test_what_was_there_before_comes_back(self):
        native, name = bitsandbytes.functional.lib, "cdequantize_blockwise_bf16_nf4"
        setattr(native, name, before := lambda *_: None)
        self.addCleanup(lambda: vars(native).pop(name, None))
        nf4.enable()
        self.assertIsNot(getattr(native, name), before)
        nf4.disable()
        self.assertIs(getattr(native, name), before)

    def test_failure_undoes_what_was_done(self):
        forward = bitsandbytes.nn.Linear4bit.forward
        with mock.patch.object(_bitsandbytes.symbols, "Symbols", side_effect=AttributeError("none")):
            with self.assertRaisesRegex(AttributeError, "none"):
                nf4.enable()
        self.assertFalse(nf4.status()["enabled"])
        self.assertIs(bitsandbytes.nn.Linear4bit.forward, forward)

    def test_traced(self):
        """The fake implementations stay, so dynamo still traces the operator without running it."""
        nf4.enable()
        self.addCleanup(nf4.disable)
        from torch._subclasses import FakeTensorMode

        with mock.patch("torch.cuda.is_available", lambda: False), FakeTensorMode():  # no context of CUDA
            y = torch.ops.bitsandbytes.dequantize_4bit.default(
                torch.empty(512, 1, dtype=torch.uint8, device="cuda"), torch.empty(16, device="cuda"), 64, "nf4",
                [16, 64], torch.bfloat16,
            )  # fmt: skip
        self.assertEqual((y.shape, y.dtype), ((16, 64), torch.bfloat16))


if __name__ == "__main__":
    support.main()
