"""Kernels of bitsandbytes' torch operators for CUDA."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import warnings
from typing import Any, Callable, Iterable, Sequence

import torch
from torch import Tensor

from .. import _tensors
from .._library import BLOCKSIZES, F32, U8
from .codes import Codes
from .devices import Devices
from .fallback import with_fallback

_BLOCKSIZES = frozenset(BLOCKSIZES)

_KEY = "CUDA"  # the dispatcher's

# Around all that asks a Params4bit, in an eager call or as an argument that compiled code hands to an operator: each
# question would take a microsecond by the way of its __torch_function__.
_NoTorchFunction = torch._C.DisableTorchFunctionSubclass


class Operators:
    """Kernels of bitsandbytes' operators for CUDA. Each returns NotImplemented for what is not for libnf4, and then
    kernels() has the one of `originals`, those before by the same names, do it."""

    def __init__(self, originals: dict[str, Callable[..., Any]], devices: Devices, codes: Codes) -> None:
        self.originals, self.devices, self.codes = originals, devices, codes
        self.zeros: dict[torch.device, Tensor] = {}

    def kernels(self) -> dict[str, Callable[..., Any]]:
        ours = {
            "gemm_4bit": self.gemm_4bit,
            "gemv_4bit": self.gemv_4bit,
            "gemv_4bit.out": self.gemv_4bit_out,
            "dequantize_4bit": self.dequantize_4bit,
            "dequantize_4bit.out": self.dequantize_4bit_out,
            "quantize_4bit": self.quantize_4bit,
            "dequantize_blockwise": self.dequantize_blockwise,
            "dequantize_blockwise.out": self.dequantize_blockwise_out,
        }
        originals = self.originals
        return {name: with_fallback(kernel, originals[name]) for name, kernel in ours.items() if name in originals}

    def _usable(self, tensor: Tensor, blocksize: int, dtype: torch.dtype) -> bool:
        return (dtype in _tensors.DTYPES and blocksize in _BLOCKSIZES and tensor.numel() > 0
                and self.devices[tensor.get_device()])  # fmt: skip

    def gemm_4bit(self, A: Tensor, B: Tensor, shapeB: Sequence[int], absmax: Tensor, blocksize: int, quant_type: str,
                  bias: Tensor | None = None, absmax_8bit: Tensor | None = None, absmax_code: Tensor | None = None,
                  absmax_offset: Tensor | None = None) -> Tensor:  # fmt: skip
        with _NoTorchFunction():
            if not self._is_our_gemm(A, B, shapeB, blocksize, quant_type, bias):
                return NotImplemented
            absmax_offset = None if absmax_offset is None else absmax_offset.float()  # lives as long as the call
            weight = _weight(B, shapeB, absmax, blocksize, absmax_8bit, absmax_code, absmax_offset)
            return _tensors.gemm(A, weight, shapeB[0], bias) if self._is_faster(A, weight) else NotImplemented

    def _is_our_gemm(self, A: Tensor, B: Tensor, shapeB: Sequence[int], blocksize: int, quant_type: str,
                     bias: Tensor | None) -> bool:  # fmt: skip
        return (quant_type == "nf4" and self._usable(A, blocksize, A.dtype) and len(shapeB) == 2
                and A.shape[-1] == shapeB[1] and A.get_device() == B.get_device()
                and (bias is None or _tensors.is_bias(bias, shapeB[0], A.dtype, A.get_device())))  # fmt: skip

    def _is_faster(self, A: Tensor, weight: Any) -> bool:
        rows = A.numel() // A.shape[-1] if A.shape[-1] else 0
        return self.devices.is_faster(A.get_device(), _tensors.DTYPES[A.dtype], rows, weight)

    def gemm_4bit_group(self, A: Tensor, products: Iterable[tuple], quant_type: str,
                        out: Tensor | None = None) -> list[Tensor]:  # fmt: skip
        """The products of A, each of B, its shape, absmax, blocksize, bias, absmax_8bit, absmax_code and absmax_offset,
        as gemm_4bit takes them; NotImplemented if any is to be left to bitsandbytes. With `out`, a matrix, they are
        written to columns of it that follow one another."""
        with _NoTorchFunction():
            weights, biases, keep = [], [], []
            for B, shape, absmax, blocksize, bias, absmax_8bit, absmax_code, absmax_offset in products:
                if not self._is_our_gemm(A, B, shape, blocksize, quant_type, bias):
                    return NotImplemented
                absmax_offset = None if absmax_offset is None else absmax_offset.float()
                keep.append(absmax_offset)  # lives as long as the call
                weights.append(_weight(B, shape, absmax, blocksize, absmax_8bit, absmax_code, absmax_offset))
                biases.append(bias)
                if not self._is_faster(A, weights[-1]):
                    return NotImplemented
            return _tensors.gemm_group(A, weights, biases, out)

    def gemm_4bit_transposed(self, A: Tensor, B: Tensor, shapeB: Sequence[int], absmax: Tensor, blocksize: int,
                             quant_type: str, dtype: torch.dtype, absmax_8bit: Tensor | None = None,
                             absmax_code: Tensor | None = None,
                             absmax_offset: Tensor | None = None) -> Tensor:  # fmt: skip
        """A [..., N] W, of the W [N, K] that gemm_4bit multiplies by the transpose of. `dtype` is what bitsandbytes
        would unpack W to."""
        with _NoTorchFunction():
            if not (quant_type == "nf4" and self.is_transposed_faster(A, shapeB, blocksize, absmax_8bit is not None)
                    and A.shape[-1] == shapeB[0] and A.get_device() == B.get_device()):  # fmt: skip
                return NotImplemented
            absmax_offset = None if absmax_offset is None else absmax_offset.float()  # lives as long as the call
            weight = _weight(B, shapeB, absmax, blocksize, absmax_8bit, absmax_code, absmax_offset)
            return _tensors.gemm_transposed(A, weight)

    def is_transposed_faster(self, A: Tensor, shapeB: Sequence[int], blocksize: int, nested: bool) -> bool:
        """Whether gemm_4bit_transposed() of such a W is faster than bitsandbytes, and so what it would do."""
        return (A.numel() > 0 and len(shapeB) == 2
                and self.is_transposed_faster_for(A.get_device(), A.dtype, A.shape[:-1].numel(), *shapeB, blocksize,
                                                  nested))  # fmt: skip

    def is_transposed_faster_for(self, index: int, dtype: torch.dtype, m: int, rows: int, cols: int, blocksize: int,
                                 nested: bool) -> bool:  # fmt: skip
        """The same of m rows, without a tensor."""
        return (blocksize in _BLOCKSIZES and dtype in _tensors.DTYPES and self.devices[index]
                and _tensors.can_transpose(index, dtype, m, rows, cols, blocksize, U8 if nested else F32))  # fmt: skip

    def gemv_4bit(self, A: Tensor, B: Tensor, shapeB: Sequence[int], absmax: Tensor, code: Tensor,
                  blocksize: int) -> Tensor:  # fmt: skip
        if not self._is_our_gemv(A, B, shapeB, code, blocksize):
            return NotImplemented
        weight = _weight(B, shapeB, absmax, blocksize)
        return _tensors.gemm(A, weight, shapeB[0]) if self._is_faster(A, weight) else NotImplemented

    def gemv_4bit_out(self, A: Tensor, B: Tensor, shapeB: Sequence[int], absmax: Tensor, code: Tensor, blocksize: int,
                      out: Tensor) -> None:  # fmt: skip
        y = self.gemv_4bit(A, B, shapeB, absmax, code, blocksize)
        return y if y is NotImplemented else _copy(out, y)

    def _is_our_gemv(self, A: Tensor, B: Tensor, shapeB: Sequence[int], code: Tensor, blocksize: int) -> bool:
        return (self._usable(A, blocksize, A.dtype) and len(shapeB) == 2 and A.shape[-1] == shapeB[1]
                and A.get_device() == B.get_device() and self.codes.is_nf4(code))  # fmt: skip

    def dequantize_4bit(self, A: Tensor, absmax: Tensor, blocksize: int, quant_type: str, shape: Sequence[int],
                        dtype: torch.dtype) -> Tensor:  # fmt: skip
        if quant_type != "nf4" or not self._usable(A, blocksize, dtype):
            return NotImplemented
        count = torch.Size(shape).numel()
        weight = _tensors.weight(A, absmax, 1, count, blocksize)
        return _tensors.unpack(weight, shape, dtype, A.device)

    def dequantize_4bit_out(self, A: Tensor, absmax: Tensor, blocksize: int, quant_type: str, shape: Sequence[int],
                            dtype: torch.dtype, out: Tensor) -> None:  # fmt: skip
        if not (quant_type == "nf4" and self._usable(A, blocksize, dtype)
                and _fits(out, torch.Size(shape), dtype, A.get_device())):  # fmt: skip
            return NotImplemented
        weight = _tensors.weight(A, absmax, 1, out.numel(), blocksize)
        _tensors.unpack(weight, shape, dtype, A.device, out)

    def quantize_4bit(self, A: Tensor, blocksize: int, quant_type: str,
                      quant_storage: torch.dtype) -> tuple[Tensor, Tensor]:  # fmt: skip
        if quant_type != "nf4" or not self._usable(A, blocksize, A.dtype):
            return NotImplemented
        # The shape that its fake implementation says; too small for some counts, and bitsandbytes writes past the end.
        codes = torch.empty(((A.numel() + 1) // (quant_storage.itemsize * 2), 1), device=A.device, dtype=quant_storage)
        if codes.numel() * codes.element_size() * 2 < A.numel():
            raise ValueError(f"quant_storage is {quant_storage}; expected torch.uint8 or another type that {A.numel()} "
                             "weights of 4 bits fill")  # fmt: skip
        return codes, _tensors.pack(A, blocksize, codes)

    # Nested scales: bitsandbytes unpacks them by itself, and adds the offset later.

    def dequantize_blockwise(self, A: Tensor, absmax: Tensor, code: Tensor, blocksize: int,
                             dtype: torch.dtype) -> Tensor:  # fmt: skip
        if not self._is_our_blockwise(A, absmax, code, blocksize, dtype):
            return NotImplemented
        out = torch.empty(A.shape, dtype=dtype, device=A.device)
        return _tensors.unpack_absmax(A, code, absmax, self._zero(A.device), blocksize, out)

    def dequantize_blockwise_out(self, A: Tensor, absmax: Tensor, code: Tensor, blocksize: int, dtype: torch.dtype,
                                 out: Tensor) -> None:  # fmt: skip
        if not (self._is_our_blockwise(A, absmax, code, blocksize, dtype)
                and _fits(out, A.shape, dtype, A.get_device())):  # fmt: skip
            return NotImplemented
        _tensors.unpack_absmax(A, code, absmax, self._zero(A.device), blocksize, out)

    def _is_our_blockwise(self, A: Tensor, absmax: Tensor, code: Tensor, blocksize: int, dtype: torch.dtype) -> bool:
        return (dtype == torch.float32 and self._usable(A, blocksize, dtype) and A.dtype == torch.uint8
                and absmax.dtype == code.dtype == torch.float32 and code.numel() == 256 and A.is_contiguous()
                and self._zero(A.device) is not None)  # fmt: skip

    def _zero(self, device: torch.device) -> Tensor | None:
        """An offset of zero in the memory of `device`."""
        zero = self.zeros.get(device)
        if zero is None:
            if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
                return None  # it would be written by the graph, and be gone with it
            zero = self.zeros[device] = torch.zeros((), device=device)
            if device.type == "cuda":
                torch.cuda.current_stream(device).synchronize()  # other streams read it too
        return zero


def _fits(out: Tensor, shape: torch.Size, dtype: torch.dtype, device: int) -> bool:
    return out.dtype == dtype and out.shape == shape and out.is_contiguous() and out.get_device() == device


def _copy(out: Tensor, y: Tensor) -> None:
    out.copy_(y)


def _weight(B: Tensor, shape: Sequence[int], absmax: Tensor, blocksize: int, absmax_8bit: Tensor | None = None,
            absmax_code: Tensor | None = None, absmax_offset: Tensor | None = None) -> Any:  # fmt: skip
    """The weight of gemm_4bit's arguments; nested, its absmax is the second level's."""
    if absmax_8bit is None:
        return _tensors.weight(B, absmax, shape[0], shape[1], blocksize)
    return _tensors.weight(B, absmax_8bit, shape[0], shape[1], blocksize, absmax_code, absmax, absmax_offset)


def original_kernels() -> dict[str, Callable[..., Any]]:
    """The kernels that bitsandbytes registered for CUDA, by name. The dispatcher does not give them away in every
    version of torch, so their module is run once more, beside itself, with a register_kernel that collects them."""
    spec = importlib.util.find_spec("bitsandbytes.backends.cuda.ops")
    if spec is None:
        return {}
    kernels = {}

    def collect(name, *_):
        def decorate(function):
            kernels[name.partition("::")[2]] = function
            return function

        return decorate

    operators = importlib.import_module("bitsandbytes._ops")
    register_kernel, operators.register_kernel = operators.register_kernel, collect
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    finally:
        operators.register_kernel = register_kernel
    return kernels


def register(kernels: dict[str, Callable[..., Any]], namespace: str = "bitsandbytes") -> Callable[[], None]:
    """Puts `kernels` in front of those that the operators have for CUDA. Returns what takes them away again, and leaves
    what others have put in front of them since."""
    made = torch.library.Library(namespace, "IMPL")
    override = {"allow_override": True} if "allow_override" in inspect.signature(made.impl).parameters else {}
    taken = torch.library._impls  # by whom it does not say; torch before 2.7 refuses all that is in it
    before = taken.intersection(f"{namespace}/{name}/{_KEY}" for name in kernels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of each kernel that takes another's place
        if not override:
            taken -= before
        for name, kernel in kernels.items():
            made.impl(name, torch._disable_dynamo(kernel), _KEY, **override)

    def undo() -> None:
        made._destroy()  # which takes them off the list,
        made._op_impls.clear()  # and would again when it is collected
        taken.update(before)

    return undo
