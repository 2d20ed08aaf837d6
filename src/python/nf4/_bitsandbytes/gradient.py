"""The gradient of a product's x, grad W, by a kernel that decodes W on its way, where bitsandbytes unpacks all of W.

MatMul4Bit's backward asks nf4::gemm_4bit_transposed for it, an operator, so that torch.compile has it in its graphs
too. Where libnf4 is not to do the work, or would be no faster, the operator does what bitsandbytes does, bit for bit.
Its own gradient, which a second derivative takes, is gemm_4bit.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Sequence

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit
from torch import Tensor

from . import operators
from .fallback import with_fallback

_library = torch.library.Library("nf4", "FRAGMENT")
_library.define(
    "gemm_4bit_transposed(Tensor A, Tensor B, int[] shapeB, Tensor absmax, int blocksize, str quant_type, "
    "ScalarType dtype, Tensor? absmax_8bit=None, Tensor? absmax_code=None, Tensor? absmax_offset=None) -> Tensor"
)


def _unpacked(A: Tensor, B: Tensor, shapeB: Sequence[int], absmax: Tensor, blocksize: int, quant_type: str,
              dtype: torch.dtype, absmax_8bit: Tensor | None = None, absmax_code: Tensor | None = None,
              absmax_offset: Tensor | None = None) -> Tensor:  # fmt: skip
    """As bitsandbytes has it, which rounds W to `dtype` first."""
    second = None
    if absmax_8bit is not None:
        second = QuantState(absmax, code=absmax_code, blocksize=256, dtype=torch.float32)
        absmax = absmax_8bit
    state = QuantState(absmax, shapeB, None, blocksize, quant_type, dtype, absmax_offset, second)
    return A @ dequantize_4bit(B, state).to(A.dtype)


def _fake(A: Tensor, B: Tensor, shapeB: Sequence[int], *_: Any, **__: Any) -> Tensor:
    return A.new_empty((*A.shape[:-1], shapeB[1]))


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    _, B, ctx.shape, absmax, ctx.blocksize, ctx.quant_type, _, *nested = inputs
    ctx.save_for_backward(B, absmax, *nested)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    B, absmax, *nested = ctx.saved_tensors
    grad = torch.ops.bitsandbytes.gemm_4bit(grad, B, ctx.shape, absmax, ctx.blocksize, ctx.quant_type, None, *nested)
    return grad, None, None, None, None, None, None, None, None, None


_library.impl("gemm_4bit_transposed", torch._disable_dynamo(_unpacked), "CompositeExplicitAutograd")
torch.library.register_fake("nf4::gemm_4bit_transposed", _fake, lib=_library)
torch.library.register_autograd("nf4::gemm_4bit_transposed", _backward, setup_context=_save, lib=_library)


def with_transposed_product(original: Callable[..., Any], kernels: operators.Operators) -> Callable[..., Any]:
    """MatMul4Bit.backward, whose gradient of x is the operator's; all else is `original`'s. The operator's fallback takes
    longer than `original`. So an eager call asks first. A trace, which may be for any number of rows, asks of a single
    one: whether this device decodes such a W at all."""

    @torch.compiler.assume_constant_result
    def is_for_a_graph(*problem: Any) -> bool:
        return kernels.is_transposed_faster_for(*problem)

    @functools.wraps(original)
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        if ctx.is_empty or not ctx.needs_input_grad[0] or ctx.needs_input_grad[3] or ctx.state.quant_type != "nf4":
            return original(ctx, grad_output)
        state = ctx.state
        rows, cols = state.shape
        if torch.compiler.is_compiling():
            device, dtype = grad_output.get_device(), grad_output.dtype
            if not is_for_a_graph(device, dtype, 1, rows, cols, state.blocksize, state.nested):
                return original(ctx, grad_output)
        elif type(grad_output) is Tensor:
            if not kernels.is_transposed_faster(grad_output, state.shape, state.blocksize, state.nested):
                return original(ctx, grad_output)
        absmax, nested = state.absmax, ()
        if state.nested:
            absmax, nested = state.state2.absmax, (state.absmax, state.state2.code, state.offset)
        grad = torch.ops.nf4.gemm_4bit_transposed(
            grad_output, ctx.tensors[1], state.shape, absmax, state.blocksize, state.quant_type, state.dtype, *nested
        )
        return grad, None, None, None, None

    return backward


def install(multiply: Callable[..., Any]) -> Callable[[], None]:
    """Makes `multiply` what the operator does on CUDA, unless it returns NotImplemented. Returns what takes that
    away."""
    return operators.register({"gemm_4bit_transposed": with_fallback(multiply, _unpacked)}, "nf4")
