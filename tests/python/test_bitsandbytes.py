"""The plug-in in a real bitsandbytes, on the CPU: the replacements are told that the host is a device of theirs, and
held against bitsandbytes' own kernels for the CPU. Needs torch and bitsandbytes 0.49 or newer, whose CPU kernels round
as its CUDA kernels do."""

import copy
import ctypes
import importlib.metadata
import io
import unittest
from unittest import mock

import nf4
import support

try:
    import bitsandbytes
    import bitsandbytes.functional as F
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from nf4 import _replacements, _tensors
except ImportError:
    missing = "no torch or no bitsandbytes"
else:
    version = importlib.metadata.version("bitsandbytes")
    missing = "" if tuple(map(int, version.split(".")[:2])) >= (0, 49) else f"bitsandbytes is {version}"

HOST = -1


class CpuTest(unittest.TestCase):
    def setUp(self):
        if missing:
            self.skipTest(missing)
        torch.manual_seed(1)
        for name in ("torch.cuda.is_available", "nf4._library.is_built_with_cuda"):
            yes = mock.patch(name, lambda: True)
            yes.start()
            self.addCleanup(yes.stop)
        self.devices = _replacements.Devices()
        self.devices[HOST] = True


class OperatorTest(CpuTest):
    def setUp(self):
        super().setUp()
        self.originals = _replacements._original_kernels()
        self.ops = _replacements.Operators(self.originals, self.devices, _replacements.Codes())

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
        self.assertIsNone(self.ops.gemm_4bit_group(x, products, "fp4"))
        self.assertIsNone(self.ops.gemm_4bit_group(x, [plain, (*plain[:3], 48, *plain[4:])], "nf4"))

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
            kernels = _replacements.Operators(originals, devices, _replacements.Codes()).kernels()
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

    def test_storage_too_small(self):
        """bitsandbytes rounds the size down, and its kernel writes past the end."""
        with self.assertRaisesRegex(ValueError, "codes has 1 elements of torch.bfloat16; expected 2 or more"):
            self.ops.quantize_4bit(torch.randn(6), 64, "nf4", torch.bfloat16)


class ForwardTest(CpuTest):
    def setUp(self):
        super().setUp()
        self.original = bitsandbytes.nn.Linear4bit.forward
        self.calls = 0

        def original(*arguments):
            self.calls += 1
            return self.original(*arguments)

        self.forward = _replacements._short_forward(original, self.devices)
        patch = mock.patch.object(bitsandbytes.nn.Linear4bit, "forward", self.forward)
        patch.start()
        self.addCleanup(patch.stop)
        self.x = torch.randn(2, 3, 256)

    def layer(self, nested=False, bias=True):
        layer = bitsandbytes.nn.Linear4bit(
            256, 64, bias=bias, compute_dtype=torch.float32, quant_type="nf4", compress_statistics=nested
        )
        return layer.to("cpu").eval()

    def assert_short(self, layer, x):
        before = self.calls
        with torch.no_grad():
            y = layer(x)
        self.assertEqual(self.calls, before)
        return y

    def assert_original(self, call):
        before = self.calls
        y = call()
        self.assertEqual(self.calls, before + 1)
        return y

    def test_values(self):
        for nested in (False, True):
            for bias in (False, True):
                layer = self.layer(nested, bias)
                y = self.assert_short(layer, self.x)
                w = F.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
                exact = torch.nn.functional.linear(self.x, w, layer.bias)
                self.assertTrue(torch.allclose(y, exact, atol=1e-5))
                plan = layer._nf4_plan
                self.assert_short(layer, self.x)
                self.assertIs(layer._nf4_plan, plan)

    def test_offset_in_bfloat16(self):
        """It is converted, not read as float32."""
        layer = self.layer(nested=True, bias=False)
        state = layer.weight.quant_state
        state.offset = state.offset.bfloat16()
        y = self.assert_short(layer, self.x)
        w = F.dequantize_4bit(layer.weight.data, state)
        self.assertTrue(torch.allclose(y, self.x @ w.T, atol=1e-5))

    def test_moved(self):
        """A plan is of no use once the tensors lie elsewhere."""
        layer = self.layer()
        y = self.assert_short(layer, self.x)

        def move_codes():
            layer.weight.data = layer.weight.data.clone()

        def move_absmax():
            layer.weight.quant_state.absmax = layer.weight.quant_state.absmax.clone()

        def replace_weight():
            layer.weight = copy.deepcopy(layer.weight)

        for change in (move_codes, move_absmax, replace_weight):
            plan = layer._nf4_plan
            change()
            self.assertTrue(torch.equal(self.assert_short(layer, self.x), y))
            self.assertIsNot(layer._nf4_plan, plan)

    def test_copies(self):
        layer = self.layer()
        y = self.assert_short(layer, self.x)
        self.assertIsNone(copy.deepcopy(layer).__dict__["_nf4_plan"])
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        self.assertTrue(torch.equal(self.assert_short(torch.load(file, weights_only=False), self.x), y))
        self.assertNotIn("_nf4_plan", layer.state_dict())

    def test_handed_back(self):
        layer = self.layer().train()  # which keeps bitsandbytes' CPU kernels from rearranging the codes
        self.assert_original(lambda: layer(self.x))  # the bias has gradients
        layer.requires_grad_(False)
        self.assert_short(layer, self.x)
        x = self.x.clone().requires_grad_()
        self.assert_original(lambda: layer(x)).sum().backward()
        self.assertEqual(x.grad.shape, x.shape)
        with torch.no_grad():
            self.assert_original(lambda: layer(torch.nn.Parameter(self.x)))
            self.assert_original(lambda: layer(self.x.to(torch.bfloat16)))
            self.assert_original(lambda: torch.jit.trace(layer, self.x, check_trace=False))
            with FlopCounterMode(display=False):
                self.assert_original(lambda: layer(self.x))
            self.forward.active = False
            self.assert_original(lambda: layer(self.x))

    def test_fp4(self):
        layer = bitsandbytes.nn.Linear4bit(256, 64, compute_dtype=torch.float32, quant_type="fp4").to("cpu").eval()
        with torch.no_grad():
            self.assert_original(lambda: layer(self.x))


class SymbolTest(CpuTest):
    def setUp(self):
        super().setUp()
        here = mock.patch.object(_tensors, "current_device", lambda: HOST)
        here.start()
        self.addCleanup(here.stop)
        self.native = mock.Mock(
            spec=["cdequantize_blockwise_fp32_nf4", "cquantize_blockwise_fp32_nf4", "cgemm_4bit_inference_naive_fp32"]
        )
        self.functions = _replacements.Symbols(self.native, self.devices, _replacements.Codes()).functions
        self.w = torch.randn(48, 256)
        self.packed, self.state = F.quantize_4bit(self.w, quant_type="nf4")

    @staticmethod
    def pointer(tensor):
        return ctypes.c_void_p(tensor.data_ptr())

    def test_names(self):
        self.assertEqual(set(self.functions), set(self.native._mock_methods))

    def test_dequantize(self):
        out = torch.full((48, 256), torch.nan)
        self.functions["cdequantize_blockwise_fp32_nf4"](
            None, self.pointer(self.packed), self.pointer(self.state.absmax), self.pointer(out), ctypes.c_int(64),
            ctypes.c_int(out.numel()), ctypes.c_void_p(0),
        )  # fmt: skip
        self.assertTrue(torch.equal(out, F.dequantize_4bit(self.packed, self.state)))

    def test_quantize(self):
        codes, absmax = torch.empty_like(self.packed), torch.empty_like(self.state.absmax)
        self.functions["cquantize_blockwise_fp32_nf4"](
            None, self.pointer(self.w), self.pointer(absmax), self.pointer(codes), ctypes.c_int(64),
            ctypes.c_int(self.w.numel()),
        )  # fmt: skip
        self.assertTrue(torch.equal(codes, self.packed))
        self.assertTrue(torch.equal(absmax, self.state.absmax))

    def gemv(self, packed, state):
        """As Unsloth calls it."""
        x, y = torch.randn(256), torch.full((48,), torch.nan)
        number = ctypes.c_int32
        self.functions["cgemm_4bit_inference_naive_fp32"](
            number(48), number(1), number(256), self.pointer(x), self.pointer(packed), self.pointer(state.absmax),
            self.pointer(state.code), self.pointer(y), number(48), number(128), number(48), number(64),
            ctypes.c_void_p(0),
        )  # fmt: skip
        return y, x

    def test_gemv(self):
        for _ in range(2):
            y, x = self.gemv(self.packed, self.state)
            self.assertTrue(torch.allclose(y, F.dequantize_4bit(self.packed, self.state) @ x, atol=1e-4))
        self.native.cgemm_4bit_inference_naive_fp32.assert_not_called()

    def test_gemv_fp4(self):
        """The same function, told by the table of values alone; also where that lies at an address that was NF4's."""
        self.gemv(self.packed, self.state)
        fp4, state = F.quantize_4bit(self.w, quant_type="fp4")
        y, _ = self.gemv(fp4, state)
        self.assertTrue(y.isnan().all())
        memory = torch.empty(16)
        memory.copy_(self.state.code)
        self.state.code = memory[:]
        self.gemv(self.packed, self.state)
        self.assertEqual(self.native.cgemm_4bit_inference_naive_fp32.call_count, 1)
        self.state.code = self.state.code.clone()
        memory.copy_(state.code)
        state.code = memory[:]
        self.gemv(fp4, state)
        self.assertEqual(self.native.cgemm_4bit_inference_naive_fp32.call_count, 2)

    def test_gemv_of_unknown_code(self):
        """An address that belongs to no live QuantState."""
        state = mock.Mock(absmax=self.state.absmax, code=self.state.code.clone())
        self.gemv(self.packed, state)
        self.native.cgemm_4bit_inference_naive_fp32.assert_called_once()


class WholeTest(CpuTest):
    """All of them in place and away again."""

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

    def test_failure_undoes_what_was_done(self):
        forward = bitsandbytes.nn.Linear4bit.forward
        with mock.patch.object(_replacements, "Symbols", side_effect=AttributeError("none")):
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
