"""Functions of bitsandbytes' C library, for what binds them by name: bitsandbytes 0.45, and Unsloth by ctypes."""

from __future__ import annotations

import functools
from typing import Any, Callable

import torch

from .. import _tensors
from .._library import BLOCKSIZES, F32, check, library
from .codes import Codes
from .devices import Devices
from .fallback import with_fallback

_BLOCKSIZES = frozenset(BLOCKSIZES)


def _value(argument: Any) -> Any:
    """The number in an argument of a C function: an int, None, or an object of ctypes."""
    return getattr(argument, "value", argument)


class Symbols:
    """Stand-ins for functions of bitsandbytes' C library `native`, with their arguments. `functions` has them."""

    def __init__(self, native: Any, devices: Devices, codes: Codes) -> None:
        self.devices, self.codes = devices, codes
        self.active = True
        self.functions: dict[str, Callable[..., Any]] = {}
        for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)):
            for symbol, function in (
                (f"cdequantize_blockwise_{name}_nf4", self._dequantize),
                (f"cquantize_blockwise_{name}_nf4", self._quantize),
                (f"cgemm_4bit_inference_naive_{name}", self._gemv),
            ):
                original = getattr(native, symbol, None)
                if original is not None:
                    ours = functools.partial(function, _tensors.DTYPES[dtype])
                    self.functions[symbol] = with_fallback(ours, original)

    def deactivate(self) -> None:
        """Leaves all calls to the originals. Whoever has bound a function by then keeps it."""
        self.active = False

    def _usable(self, index: int, blocksize: Any) -> bool:
        return self.active and self.devices[index] and _value(blocksize) in _BLOCKSIZES

    def _dequantize(self, dtype, code, A, absmax, out, blocksize, n, stream):
        index, count = _tensors.current_device(), _value(n)
        if not self._usable(index, blocksize):
            return NotImplemented
        weight = _tensors.struct(1, count, _value(blocksize), _value(A), _value(absmax), F32)
        return check(library().nf4_unpack(
            _tensors.handle(index), _value(out), count, dtype, weight, None, _value(stream)))  # fmt: skip

    def _quantize(self, dtype, code, A, absmax, out, blocksize, n):
        index, count = _tensors.current_device(), _value(n)
        if not self._usable(index, blocksize):
            return NotImplemented
        # On the caller's stream; bitsandbytes' own has no argument for it, and runs on the default one.
        return _tensors.run(index, library().nf4_pack, _tensors.handle(index), _value(out), _value(absmax), _value(A),
                            count, dtype, 1, count, _value(blocksize), None)  # fmt: skip

    def _gemv(self, dtype, m, n, k, A, B, absmax, code, out, lda, ldb, ldc, blocksize, stream):
        index, rows, cols = _tensors.current_device(), _value(m), _value(k)
        if not (self._usable(index, blocksize) and _value(n) == 1 and self.codes.is_nf4_at(_value(code))):
            return NotImplemented
        weight = _tensors.struct(rows, cols, _value(blocksize), _value(B), _value(absmax), F32)
        if not self.devices.is_faster(index, dtype, 1, weight):
            return NotImplemented
        return check(library().nf4_gemm(
            _tensors.handle(index), _value(out), rows, _value(A), cols, 1, dtype, weight, None, None,
            _value(stream)))  # fmt: skip
