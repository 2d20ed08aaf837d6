"""bitsandbytes on the CPU, where the parts of the plug-in are told that the host is a device of theirs."""

import importlib.metadata
import os
import unittest
from unittest import mock

import nf4

try:
    import bitsandbytes
    import torch

    import nf4.operators
    from nf4._bitsandbytes import Devices
except ImportError:
    missing = "no torch or no bitsandbytes"
else:
    missing = ""

HOST = -1


def bitsandbytes_version():
    return tuple(map(int, importlib.metadata.version("bitsandbytes").split(".")[:2]))


class HostTest(unittest.TestCase):
    """Needs torch and bitsandbytes, of `oldest` or newer."""

    oldest = (0, 45)

    def setUp(self):
        reason = missing
        if not missing and bitsandbytes_version() < self.oldest:
            reason = "bitsandbytes before {}.{}".format(*self.oldest)
        if reason:
            self.skipTest(reason)
        torch.manual_seed(1)
        for name in ("torch.cuda.is_available", "nf4._library.is_built_with_cuda"):
            yes = mock.patch(name, lambda: True)
            yes.start()
            self.addCleanup(yes.stop)
        self.devices = Devices()
        self.devices[HOST] = True

    @staticmethod
    def enable():
        """The whole plug-in."""
        status = nf4.enable()
        nf4.plugin._replacements.devices[HOST] = True
        return status


def require_extension(test, status):
    """Skips a test of the calls in C where they are made in Python, and fails it where there is no reason for that:
    NF4_HAVE_SHORT_CALL is set by the build that runs the tests."""
    if status["short_call"] == "C":
        return
    if os.environ.get("NF4_HAVE_SHORT_CALL") == "1" and hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
        test.fail(status["short_call"])
    test.skipTest(status["short_call"])


def code_of(quant_type):
    if quant_type == "nf4":
        return torch.tensor(nf4.codebook())
    return bitsandbytes.functional.get_4bit_type(quant_type, device="cpu")


def quantize(w, nested=False, quant_type="nf4"):
    """What bitsandbytes makes of a matrix, done by libnf4: some versions have no kernels for the CPU. Codes of another
    type than NF4 are NF4's all the same."""
    ops = torch.ops.nf4
    codes, absmax = ops.pack(w)
    offset = second = None
    if nested:
        code = torch.tensor(nf4.dynamic_map())
        absmax, absmax2, offset = ops.pack_absmax(absmax, code)
        second = bitsandbytes.functional.QuantState(absmax2, code=code, blocksize=256, dtype=torch.float32)
    code = code_of(quant_type)
    state = bitsandbytes.functional.QuantState(absmax, w.shape, code, 64, quant_type, w.dtype, offset, second)
    return codes.reshape(-1, 1), state


def unpack(codes, state):
    """The matrix that they mean, from where they are by now."""
    nested = ()
    if state.nested:
        nested = state.state2.code, state.state2.absmax, state.offset.float(), state.state2.blocksize
    return torch.ops.nf4.unpack(codes.detach(), state.absmax, state.shape, torch.float32, state.blocksize, *nested)


def linear(cols, rows, nested=False, bias=True, quant_type="nf4"):
    """A Linear4bit in float32, in training mode, in which kernels for the CPU leave the codes as they are."""
    layer = bitsandbytes.nn.Linear4bit(cols, rows, bias, torch.float32, nested, quant_type)
    codes, state = quantize(layer.weight.data, nested, quant_type)
    layer.weight = bitsandbytes.nn.Params4bit(codes, requires_grad=False, quant_state=state, quant_type=quant_type,
                                              bnb_quantized=True, module=layer)  # fmt: skip
    layer.quant_state = state
    layer.compute_type_is_set = True
    return layer.train()
