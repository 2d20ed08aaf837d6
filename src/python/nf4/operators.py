"""torch.ops.nf4: the operations as torch operators, on CUDA and, by the host backend, on the CPU.

    codes, absmax = torch.ops.nf4.pack(w, 64)
    y = torch.ops.nf4.gemm(x, codes, absmax, w.shape)
    y = torch.ops.nf4.gemm_experts(x, codes, absmax, experts.shape, 64, ids, scale=weights)
    x = torch.ops.nf4.gemm_transposed(y, codes, absmax, w.shape)

Importing this module defines them. They have fake implementations, so torch.compile and torch.export trace them, and
gemm and gemm_transposed are differentiable with respect to x and bias. A nested weight gives absmax as uint8, and its
map, absmax2 and offset as well.

gemm_transposed multiplies by W itself, x [..., N] W, where gemm does by its transpose. It has no dense copy of W,
unless libnf4 has no fast way without: in float32, where K is no multiple of 8, and without cuBLASLt. The gradient of
gemm is the same product. It has no dense copy where a kernel decodes W on its way to the tensor cores. Elsewhere it
unpacks all of W, which is faster than some columns after the other, and takes its memory.

gemm_experts multiplies by experts of shape [E, N, K], packed as one: y [T*top_k, N] for ids [T, top_k] of int32 or
int64. x is [T, K], or [T*top_k, K] with a row for each slot. bias is [E, N] of x's type, scale [T, top_k] of float32,
which multiplies the rows of y. A slot whose id is no expert's gets zeros. It has no gradient: backward() raises.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

import torch
from torch import Tensor

from . import _tensors

_NESTED = "Tensor? absmax_map=None, Tensor? absmax2=None, Tensor? absmax_offset=None, int absmax_blocksize=256"

_SCHEMAS = {
    "pack": "(Tensor w, int blocksize=64) -> (Tensor codes, Tensor absmax)",
    "unpack": f"(Tensor codes, Tensor absmax, int[] shape, ScalarType dtype, int blocksize=64, {_NESTED}) -> Tensor",
    "pack_absmax": "(Tensor absmax, Tensor absmax_map, int blocksize=256) "
    "-> (Tensor codes, Tensor absmax2, Tensor offset)",
    "gemm": "(Tensor x, Tensor codes, Tensor absmax, int[] shape, int blocksize=64, Tensor? bias=None, "
    f"{_NESTED}) -> Tensor",
    "gemm_transposed": f"(Tensor x, Tensor codes, Tensor absmax, int[] shape, int blocksize=64, {_NESTED}) -> Tensor",
    "gemm_backward": f"(Tensor grad, Tensor codes, Tensor absmax, int[] shape, int blocksize=64, {_NESTED}) -> Tensor",
    "gemm_experts": "(Tensor x, Tensor codes, Tensor absmax, int[] shape, int blocksize, Tensor ids, "
    "Tensor? bias=None, Tensor? scale=None) -> Tensor",
}

_library = torch.library.Library("nf4", "DEF")


def _check_float(what: str, dtype: torch.dtype) -> None:
    if dtype not in _tensors.DTYPES:
        raise ValueError(f"{what} is {dtype}; expected float32, float16 or bfloat16")


def _check_product(x: Tensor, shape: Sequence[int], side: int) -> None:
    """Of x by W [N, K], whose rows are as long as that side of it."""
    _check_float("x", x.dtype)
    if len(shape) != 2:
        raise ValueError(f"shape is {list(shape)}; expected [N, K]")
    if x.dim() == 0 or x.shape[-1] != shape[side]:
        raise ValueError(f"x is {list(x.shape)}; expected [..., {shape[side]}]")


def _check_gemm(x: Tensor, shape: Sequence[int], bias: Tensor | None) -> None:
    _check_product(x, shape, 1)
    if bias is not None and (bias.dtype != x.dtype or bias.shape != (shape[0],)):
        raise ValueError(f"bias is {bias.dtype} {list(bias.shape)}; expected {x.dtype} [{shape[0]}]")


def _check_gemm_experts(x: Tensor, shape: Sequence[int], ids: Tensor, bias: Tensor | None,
                        scale: Tensor | None) -> None:  # fmt: skip
    _check_float("x", x.dtype)
    if len(shape) != 3:
        raise ValueError(f"shape is {list(shape)}; expected [E, N, K]")
    experts, rows, cols = shape
    if ids.dtype not in _tensors.ID_DTYPES or ids.dim() != 2:
        raise ValueError(f"ids is {ids.dtype} {list(ids.shape)}; expected int32 or int64 [T, top_k]")
    tokens, top_k = ids.shape
    if x.dim() != 2 or x.shape[0] not in (tokens, tokens * top_k) or x.shape[1] != cols:
        raise ValueError(f"x is {list(x.shape)}; expected [{tokens}, {cols}] or [{tokens * top_k}, {cols}]")
    if bias is not None and (bias.dtype != x.dtype or bias.shape != (experts, rows)):
        raise ValueError(f"bias is {bias.dtype} {list(bias.shape)}; expected {x.dtype} [{experts}, {rows}]")
    if scale is not None and (scale.dtype != torch.float32 or scale.shape != ids.shape):
        raise ValueError(f"scale is {scale.dtype} {list(scale.shape)}; expected torch.float32 [{tokens}, {top_k}]")


def _pack(w: Tensor, blocksize: int = 64) -> tuple[Tensor, Tensor]:
    _check_float("w", w.dtype)
    codes = torch.empty((w.numel() + 1) // 2, dtype=torch.uint8, device=w.device)
    return codes, _tensors.pack(w, blocksize, codes)


def _unpack(codes: Tensor, absmax: Tensor, shape: Sequence[int], dtype: torch.dtype, blocksize: int = 64,
            absmax_map: Tensor | None = None, absmax2: Tensor | None = None, absmax_offset: Tensor | None = None,
            absmax_blocksize: int = 256) -> Tensor:  # fmt: skip
    _check_float("dtype", dtype)
    count = torch.Size(shape).numel()
    weight = _tensors.weight(codes, absmax, 1, count, blocksize, absmax_map, absmax2, absmax_offset, absmax_blocksize)
    return _tensors.unpack(weight, shape, dtype, codes.device)


def _pack_absmax(absmax: Tensor, absmax_map: Tensor, blocksize: int = 256) -> tuple[Tensor, Tensor, Tensor]:
    for what, tensor in (("absmax", absmax), ("absmax_map", absmax_map)):
        if tensor.dtype != torch.float32:
            raise ValueError(f"{what} is {tensor.dtype}; expected float32")
    return _tensors.pack_absmax(absmax, absmax_map, blocksize)


def _check_device(x: Tensor, codes: Tensor) -> None:
    if x.get_device() != codes.get_device():
        raise ValueError(f"x is on {x.device}; expected {codes.device}, where the codes are")


def _gemm(x: Tensor, codes: Tensor, absmax: Tensor, shape: Sequence[int], blocksize: int = 64,
          bias: Tensor | None = None, absmax_map: Tensor | None = None, absmax2: Tensor | None = None,
          absmax_offset: Tensor | None = None, absmax_blocksize: int = 256) -> Tensor:  # fmt: skip
    _check_gemm(x, shape, bias)
    _check_device(x, codes)
    weight = _tensors.weight(codes, absmax, *shape, blocksize, absmax_map, absmax2, absmax_offset, absmax_blocksize)
    return _tensors.gemm(x, weight, shape[0], None if bias is None else bias.contiguous())


def _multiply_by_w(can_transpose: Callable[..., bool], x: Tensor, codes: Tensor, absmax: Tensor, shape: Sequence[int],
                   blocksize: int = 64, *nested: Any) -> Tensor:  # fmt: skip
    _check_product(x, shape, 0)
    _check_device(x, codes)
    weight = _tensors.weight(codes, absmax, *shape, blocksize, *nested)
    if can_transpose(x.get_device(), x.dtype, x.shape[:-1].numel(), *_tensors.sizes(weight)):
        return _tensors.gemm_transposed(x, weight)
    return x @ _tensors.unpack(weight, shape, x.dtype, x.device)


def _gemm_transposed(*arguments: Any) -> Tensor:
    return _multiply_by_w(_tensors.can_transpose_without_copy, *arguments)


def _gemm_backward(*arguments: Any) -> Tensor:
    """The gradient of gemm's x: an operator of its own, since a trace cannot tell which way is taken when it runs."""
    return _multiply_by_w(_tensors.can_transpose, *arguments)


def _gemm_experts(x: Tensor, codes: Tensor, absmax: Tensor, shape: Sequence[int], blocksize: int, ids: Tensor,
                  bias: Tensor | None = None, scale: Tensor | None = None) -> Tensor:  # fmt: skip
    _check_gemm_experts(x, shape, ids, bias, scale)
    for what, tensor in (("x", x), ("ids", ids), ("bias", bias), ("scale", scale)):
        if tensor is not None and tensor.get_device() != codes.get_device():
            raise ValueError(f"{what} is on {tensor.device}; expected {codes.device}, where the codes are")
    experts, rows, cols = shape
    weight = _tensors.weight(codes, absmax, experts * rows, cols, blocksize)
    bias = None if bias is None else bias.contiguous()
    scale = None if scale is None else scale.contiguous()
    return _tensors.gemm_experts(x, weight, experts, ids, bias, scale)


# ---- what they would return, for tracing


def _fake_pack(w: Tensor, blocksize: int = 64) -> tuple[Tensor, Tensor]:
    codes_bytes, blocks = (w.numel() + 1) // 2, -(-w.numel() // blocksize)
    return w.new_empty(codes_bytes, dtype=torch.uint8), w.new_empty(blocks, dtype=torch.float32)


def _fake_unpack(codes: Tensor, absmax: Tensor, shape: Sequence[int], dtype: torch.dtype, *_: Any, **__: Any) -> Tensor:
    return codes.new_empty(shape, dtype=dtype)


def _fake_pack_absmax(absmax: Tensor, absmax_map: Tensor, blocksize: int = 256) -> tuple[Tensor, Tensor, Tensor]:
    count = absmax.numel()
    return absmax.new_empty(count, dtype=torch.uint8), absmax.new_empty(-(-count // blocksize)), absmax.new_empty(())


def _fake_gemm(x: Tensor, codes: Tensor, absmax: Tensor, shape: Sequence[int], blocksize: int = 64,
               bias: Tensor | None = None, *_: Any, **__: Any) -> Tensor:  # fmt: skip
    _check_gemm(x, shape, bias)
    return x.new_empty((*x.shape[:-1], shape[0]))


def _fake_gemm_transposed(x: Tensor, codes: Tensor, absmax: Tensor, shape: Sequence[int], *_: Any, **__: Any) -> Tensor:
    _check_product(x, shape, 0)
    return x.new_empty((*x.shape[:-1], shape[1]))


def _fake_gemm_experts(x: Tensor, codes: Tensor, absmax: Tensor, shape: Sequence[int], blocksize: int, ids: Tensor,
                       bias: Tensor | None = None, scale: Tensor | None = None) -> Tensor:  # fmt: skip
    _check_gemm_experts(x, shape, ids, bias, scale)
    return x.new_empty((ids.numel(), shape[1]))


# ---- gradients


def _save_weight(ctx: Any, codes: Tensor, absmax: Tensor, shape: Sequence[int], blocksize: int, absmax_map: Tensor | None,
                 absmax2: Tensor | None, absmax_offset: Tensor | None, absmax_blocksize: int) -> None:  # fmt: skip
    ctx.save_for_backward(codes, absmax, absmax_map, absmax2, absmax_offset)
    ctx.shape, ctx.blocksize, ctx.absmax_blocksize = shape, blocksize, absmax_blocksize


def _save_gemm(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, codes, absmax, shape, blocksize, bias, *nested = inputs
    _save_weight(ctx, codes, absmax, shape, blocksize, *nested)
    ctx.has_bias = bias is not None


def _backward_gemm(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_x = grad_bias = None
    if ctx.needs_input_grad[0]:
        codes, absmax, *nested = ctx.saved_tensors
        multiply = torch.ops.nf4.gemm_backward
        grad_x = multiply(grad, codes, absmax, ctx.shape, ctx.blocksize, *nested, ctx.absmax_blocksize)
    if ctx.has_bias and ctx.needs_input_grad[5]:  # a caller that left the bias out has no such entry
        grad_bias = grad.reshape(-1, ctx.shape[0]).sum(0)
    return grad_x, None, None, None, None, grad_bias, None, None, None, None


def _save_gemm_transposed(ctx: Any, inputs: tuple, output: Tensor) -> None:
    _save_weight(ctx, *inputs[1:])


def _backward_gemm_transposed(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_x = None
    if ctx.needs_input_grad[0]:
        codes, absmax, *nested = ctx.saved_tensors
        grad_x = torch.ops.nf4.gemm(grad, codes, absmax, ctx.shape, ctx.blocksize, None, *nested, ctx.absmax_blocksize)
    return grad_x, None, None, None, None, None, None, None, None


def _no_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    raise NotImplementedError(
        "torch.ops.nf4.gemm_experts has no gradient; multiply by torch.ops.nf4.unpack of the experts, or call it under "
        "torch.no_grad()"
    )


def _define() -> None:
    kernels = {"pack": _pack, "unpack": _unpack, "pack_absmax": _pack_absmax, "gemm": _gemm,
               "gemm_transposed": _gemm_transposed, "gemm_backward": _gemm_backward,
               "gemm_experts": _gemm_experts}  # fmt: skip
    fakes = {"pack": _fake_pack, "unpack": _fake_unpack, "pack_absmax": _fake_pack_absmax, "gemm": _fake_gemm,
             "gemm_transposed": _fake_gemm_transposed, "gemm_backward": _fake_gemm_transposed,
             "gemm_experts": _fake_gemm_experts}  # fmt: skip
    for name, schema in _SCHEMAS.items():
        _library.define(name + schema)
        kernel = torch._disable_dynamo(kernels[name])
        for key in ("CPU", "CUDA"):
            _library.impl(name, kernel, key)
        torch.library.register_fake(f"nf4::{name}", fakes[name], lib=_library)
    for name, backward, save in (("gemm", _backward_gemm, _save_gemm),
                                 ("gemm_transposed", _backward_gemm_transposed, _save_gemm_transposed),
                                 ("gemm_backward", _backward_gemm_transposed, _save_gemm_transposed)):  # fmt: skip
        torch.library.register_autograd(f"nf4::{name}", backward, setup_context=save, lib=_library)
    torch.library.register_autograd("nf4::gemm_experts", _no_gradient, lib=_library)


_define()
