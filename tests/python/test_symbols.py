"""The plug-in's stand-ins for functions of bitsandbytes' C library, on the CPU."""

import ctypes
from unittest import mock

import host_device
import support
from host_device import HOST, quantize, unpack

if not host_device.missing:
    import torch
    from nf4 import _tensors
    from nf4._bitsandbytes import codes, symbols


class SymbolTest(host_device.HostTest):
    def setUp(self):
        super().setUp()
        here = mock.patch.object(_tensors, "current_device", lambda: HOST)
        here.start()
        self.addCleanup(here.stop)
        self.native = mock.Mock(
            spec=["cdequantize_blockwise_fp32_nf4", "cquantize_blockwise_fp32_nf4", "cgemm_4bit_inference_naive_fp32"]
        )
        self.symbols = symbols.Symbols(self.native, self.devices, codes.Codes())
        self.functions = self.symbols.functions
        self.w = torch.randn(48, 256)
        self.packed, self.state = quantize(self.w)

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
        self.assertTrue(torch.equal(out, unpack(self.packed, self.state)))

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
            self.assertTrue(torch.allclose(y, unpack(self.packed, self.state) @ x, atol=1e-4))
        self.native.cgemm_4bit_inference_naive_fp32.assert_not_called()

    def test_gemv_that_is_limited(self):
        """On a device that nobody measured."""
        self.devices.limits[HOST] = "not measured"
        self.gemv(self.packed, self.state)
        self.native.cgemm_4bit_inference_naive_fp32.assert_called_once()

    def test_gemv_fp4(self):
        """The same function, told by the table of values alone; also where that lies at an address that was NF4's."""
        self.gemv(self.packed, self.state)
        fp4, state = quantize(self.w, quant_type="fp4")
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

    def test_code_that_is_written_to(self):
        """A table that is read once may be another later."""
        self.gemv(self.packed, self.state)
        self.state.code.copy_(quantize(self.w, quant_type="fp4")[1].code)
        self.gemv(self.packed, self.state)
        self.native.cgemm_4bit_inference_naive_fp32.assert_called_once()

    def test_refused(self):
        """What libnf4 does not take, an odd address for one, goes to bitsandbytes' own."""
        memory = torch.zeros(4 * 48 + 1, dtype=torch.uint8)
        odd = ctypes.c_void_p(memory.data_ptr() + 1)
        number = ctypes.c_int
        packed, absmax = self.pointer(self.packed), self.pointer(self.state.absmax)
        arguments = (None, packed, absmax, odd, number(64), number(48), None)
        self.functions["cdequantize_blockwise_fp32_nf4"](*arguments)
        self.native.cdequantize_blockwise_fp32_nf4.assert_called_once_with(*arguments)

    def test_bound_before(self):
        """Who has bound a function, as Unsloth does, gets bitsandbytes' own of it once the plug-in is disabled."""
        self.symbols.deactivate()
        y, _ = self.gemv(self.packed, self.state)
        self.assertTrue(y.isnan().all())
        self.native.cgemm_4bit_inference_naive_fp32.assert_called_once()


if __name__ == "__main__":
    support.main()
