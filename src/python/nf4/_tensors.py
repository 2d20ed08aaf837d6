"""libnf4 on torch tensors: one handle a device, on CUDA the current stream, on the CPU the host backend.

What operators.py and plugin.py are made of. A call costs microseconds of the CPU for each layer of each token, so what
can be looked up is, and arguments that only a caller of these two could get wrong are checked in the lookup alone.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import byref
from typing import Any, Callable, Sequence

import torch
from torch import Tensor

from ._handle import Handle
from ._library import (
    BF16, F16, F32, I32, I64, OP_GEMM, OP_GEMM_EXPERTS, OP_GEMM_TRANSPOSED, SIZE_MAX, U8, OptionsStruct, ProblemStruct, ProductStruct,
    RoutingStruct, SelectionStruct, WeightStruct, check, library, packed_size,
)  # fmt: skip

DTYPES = {torch.float32: F32, torch.float16: F16, torch.bfloat16: BF16}
ID_DTYPES = {torch.int32: I32, torch.int64: I64}

# From so many rows of x on the library is offered room to unpack W into, and to leave the product to cuBLASLt. Its
# tuning table tells whether that is the faster way: never for fewer rows.
WORKSPACE_ROWS = 17

_current_device = getattr(torch._C, "_cuda_getDevice", None)
_raw_stream = getattr(torch._C, "_cuda_getCurrentRawStream", None)

_handles = {}


class _Pointers(dict):
    """The nf4_handle_t of each device that was asked for, by its index."""

    def __missing__(self, index: int) -> ctypes.c_void_p:
        _handles[index] = Handle(index)
        self[index] = _handles[index].pointer
        return self[index]


_pointers = _Pointers()


def handle(index: int) -> ctypes.c_void_p:
    """The nf4_handle_t of CUDA device `index`, or of the host for -1, which is what Tensor.get_device() says of both.
    Raises nf4.Error where there is none to be had."""
    return _pointers[index]


def compute_capability(index: int) -> int:
    """90 for 9.0; 0 of the host."""
    handle(index)
    return _handles[index].device_info()["compute_capability"]


def current_device() -> int:
    """CUDA's, or the host where there is none."""
    return _current_device() if torch.cuda.is_available() else -1


def run(index: int, function: Callable[..., int], *arguments: Any) -> None:
    """Calls a function of the library whose last argument is the stream, on the current stream of device `index`."""
    if index < 0:
        check(function(*arguments, None))
    elif index != _current_device():
        with torch.cuda.device(index):
            run(index, function, *arguments)
    else:
        status = function(*arguments, _raw_stream(index))
        if status:
            check(status)


# ---- weights


class Mismatch(ValueError):
    """Tensors that do not make a weight."""


def _part(what: str, tensor: Tensor, count: int, device: int, itemsize: int = 1) -> int:
    """The address of a part of a weight. The message of the Mismatch says what is wrong with it."""
    if tensor.get_device() != device:
        raise Mismatch(f"{what} is on {tensor.device}; expected it where the others are")
    if not tensor.is_contiguous():
        raise Mismatch(f"{what} is not contiguous")
    if tensor.numel() * itemsize < count:
        raise Mismatch(
            f"{what} has {tensor.numel()} elements of {tensor.dtype}; expected {-(-count // itemsize)} or more"
        )
    return tensor.data_ptr()


@functools.lru_cache(maxsize=1 << 16)
def struct(*fields: int | None) -> Any:
    """A reference to the nf4_weight_t of these fields, in the order of _FIELDS, of which the last four are for a nested
    one. It is all addresses and sizes, so it cannot go stale."""
    return byref(WeightStruct(**dict(zip(_FIELDS, fields))))


_FIELDS = ("rows", "cols", "blocksize", "codes", "absmax", "absmax_dtype", "absmax_map", "absmax2", "absmax_offset",
           "absmax_blocksize")  # fmt: skip


_packed_size = functools.lru_cache(maxsize=1 << 12)(packed_size)


def weight(codes: Tensor, absmax: Tensor, rows: int, cols: int, blocksize: int, absmax_map: Tensor | None = None,
           absmax2: Tensor | None = None, absmax_offset: Tensor | None = None,
           absmax_blocksize: int = 256) -> Any:  # fmt: skip
    """A reference to the nf4_weight_t of these tensors, which must live as long as it is used. Mismatch or nf4.Error
    says what is wrong with them."""
    device = codes.get_device()
    codes_bytes, blocks = _packed_size(rows, cols, blocksize)
    codes_pointer = _part("codes", codes, codes_bytes, device, codes.element_size())
    if absmax_map is None:
        dtype = DTYPES.get(absmax.dtype)
        if dtype is None:
            raise Mismatch(f"absmax is {absmax.dtype}; expected float32, float16 or bfloat16, or a map with it")
        absmax_pointer = _part("absmax", absmax, blocks, device)
        return struct(rows, cols, blocksize, codes_pointer, absmax_pointer, dtype)
    if absmax.dtype != torch.uint8:
        raise Mismatch(f"absmax is {absmax.dtype}; expected uint8, since it has a map")
    for what, tensor in (("absmax_map", absmax_map), ("absmax2", absmax2), ("absmax_offset", absmax_offset)):
        if tensor is None or tensor.dtype != torch.float32:
            raise Mismatch(f"{what} is {None if tensor is None else tensor.dtype}; expected float32")
    return struct(
        rows, cols, blocksize, codes_pointer,
        _part("absmax", absmax, blocks, device), U8,
        _part("absmax_map", absmax_map, 256, device),
        _part("absmax2", absmax2, -(-blocks // absmax_blocksize), device),
        _part("absmax_offset", absmax_offset, 1, device),
        absmax_blocksize,
    )  # fmt: skip


# ---- operations


def is_bias(bias: Tensor, rows: int, dtype: torch.dtype, index: int) -> bool:
    """Whether gemm() can add `bias` to a product of `rows` columns and `dtype`, on device `index`."""
    return bias.dtype == dtype and bias.get_device() == index and bias.shape == (rows,) and bias.is_contiguous()


def gemm(x: Tensor, weight: Any, rows: int, bias: Tensor | None = None) -> Tensor:
    """x [..., K] W^T + bias, for the W [rows, K] that `weight` refers to, which the caller knows to fit x and bias."""
    pointer = None if bias is None else bias.data_ptr()
    return multiply(x, x.get_device(), x.shape, DTYPES[x.dtype], weight, rows, pointer)


def multiply(x: Tensor, index: int, shape: torch.Size, dtype: int, weight: Any, rows: int,
             bias: int | None) -> Tensor:  # fmt: skip
    """gemm() for a caller that knows the device, the shape and the nf4_dtype_t of x, and the address of the bias."""
    if index >= 0 and index != _current_device():
        with torch.cuda.device(index):
            return multiply(x, index, shape, dtype, weight, rows, bias)
    if not x.is_contiguous():
        x = x.contiguous()
    sizes = [*shape]
    cols = sizes[-1]
    m = x.numel() // cols if cols else shape[:-1].numel()
    sizes[-1] = rows
    out = x.new_empty(*sizes)  # one by one: torch takes 0.8 us longer to read a tuple
    options = workspace = None
    if m >= WORKSPACE_ROWS and index >= 0:
        options, workspace = _with_workspace(x, m, [weight])
    status = library().nf4_gemm(  # not by run(), which would take 0.4 us more to hand the arguments on
        _pointers[index], out.data_ptr(), rows, x.data_ptr(), cols, m, dtype, weight, bias, options,
        None if index < 0 else _raw_stream(index),
    )  # fmt: skip
    if status:
        check(status)
    return out


def gemm_group(x: Tensor, weights: Sequence[Any], biases: Sequence[Tensor | None],
               out: Tensor | None = None) -> list[Tensor]:  # fmt: skip
    """What gemm() gives for each of `weights`, launched together where that can be. With `out`, a matrix of a row for
    each of x, they are columns of it that follow one another."""
    index = x.get_device()
    if index >= 0 and index != _current_device():
        with torch.cuda.device(index):
            return gemm_group(x, weights, biases, out)
    x = x.contiguous()
    sizes = [*x.shape]
    cols = sizes[-1]
    m = x.numel() // cols if cols else x.shape[:-1].numel()
    if out is None:
        outs = [x.new_empty(*sizes[:-1], weight._obj.rows) for weight in weights]
    else:
        outs = list(_columns(out, x, m, [weight._obj.rows for weight in weights]))
    products = [
        ProductStruct(y=y.data_ptr(), ldy=weight._obj.rows if out is None else out.stride(0),
                      weight=ctypes.pointer(weight._obj), bias=None if bias is None else bias.data_ptr())
        for y, weight, bias in zip(outs, weights, biases)
    ]  # fmt: skip
    options = workspace = None
    if m >= WORKSPACE_ROWS and index >= 0:
        options, workspace = _with_workspace(x, m, weights)
    run(index, library().nf4_gemm_group, handle(index), (ProductStruct * len(products))(*products), len(products),
        x.data_ptr(), cols, m, DTYPES[x.dtype], options)  # fmt: skip
    return outs


def _columns(out: Tensor, x: Tensor, m: int, rows: Sequence[int]) -> Sequence[Tensor]:
    """The columns of `out` for products of m rows by weights of so many `rows` each."""
    if out.dtype != x.dtype or out.get_device() != x.get_device():
        raise Mismatch(f"out is {out.dtype} on {out.device}; expected {x.dtype} on {x.device}, as x")
    if out.shape != (m, sum(rows)) or out.stride(1) != 1:
        raise Mismatch(f"out is {[*out.shape]} with strides {out.stride()}; expected [{m}, {sum(rows)}], row by row")
    return out.split(rows, dim=1)


def gemm_experts(x: Tensor, weight: Any, experts: int, ids: Tensor, bias: Tensor | None = None,
                 scale: Tensor | None = None) -> Tensor:  # fmt: skip
    """For each of the slots `ids`, a row of x times that expert's part of the W that `weight` refers to, plus its bias,
    times its scale, which the caller knows to fit: x has a row for each slot, or for each row of ids."""
    index, slots = x.get_device(), ids.numel()
    x, ids = x.contiguous(), ids.contiguous()
    fields = weight._obj
    rows, cols = fields.rows // experts if experts else 0, fields.cols
    out = x.new_empty(slots, rows)
    routing = RoutingStruct(
        experts=experts, slots=slots, top_k=max(slots // max(x.shape[0], 1), 1), ids=ids.data_ptr(),
        ids_dtype=ID_DTYPES[ids.dtype], scale=None if scale is None else scale.data_ptr(),
    )  # fmt: skip
    options = workspace = None
    if index >= 0 and slots and rows:
        problem = slots, rows, *sizes(weight)[1:], experts, routing.top_k
        options, workspace = _options(x.device, selection(index, DTYPES[x.dtype], *problem)[1])
    run(index, library().nf4_gemm_experts, handle(index), out.data_ptr(), rows, x.data_ptr(), cols, DTYPES[x.dtype],
        weight, None if bias is None else bias.data_ptr(), byref(routing), options)  # fmt: skip
    return out


def gemm_transposed(x: Tensor, weight: Any) -> Tensor:
    """x [..., rows] W, for the W [rows, cols] that `weight` refers to, which the caller knows to fit x."""
    index, fields = x.get_device(), weight._obj
    x = x.contiguous()
    rows, cols = fields.rows, fields.cols
    m = x.shape[:-1].numel()
    out = x.new_empty(*x.shape[:-1], cols)
    options = workspace = None
    if index >= 0 and out.numel():
        options, workspace = _options(x.device, _transposed(index, DTYPES[x.dtype], m, *sizes(weight))[1])
    run(index, library().nf4_gemm_transposed, handle(index), out.data_ptr(), cols, x.data_ptr(), rows, m,
        DTYPES[x.dtype], weight, options)  # fmt: skip
    return out


def can_transpose(index: int, dtype: torch.dtype, m: int, *weight: int) -> bool:
    """Whether gemm_transposed() of m rows, by a weight of these sizes(), is faster than a product with W unpacked: where
    its kernel decodes W on its way, and not where that product would be one in float32, of which torch's settings say how
    it is made."""
    return dtype in _OF_TENSOR_CORES and _transposed(index, DTYPES[dtype], m, *weight)[0] in _DECODING


def can_transpose_without_copy(index: int, dtype: torch.dtype, m: int, *weight: int) -> bool:
    """The same for a caller who would rather spare the memory of W than time: whether it is on tensor cores at all."""
    return dtype in _OF_TENSOR_CORES and _transposed(index, DTYPES[dtype], m, *weight)[0] != _WITHOUT_TENSOR_CORES


_OF_TENSOR_CORES = frozenset({torch.float16, torch.bfloat16})
_DECODING = frozenset({"gemm_transposed.scaled_wgmma", "gemm_transposed.host"})
_WITHOUT_TENSOR_CORES = "gemm_transposed.tiled"


def _transposed(index: int, dtype: int, m: int, *weight: int) -> tuple[str, int]:
    return selection(index, dtype, m, *weight, op=OP_GEMM_TRANSPOSED)


def _with_workspace(x: Tensor, m: int, weights: Sequence[Any]) -> tuple[Any, Tensor | None]:
    """Options with the workspace that the fastest product of x, of m rows, by any of `weights` would use, and its
    memory; None and None if it would use none."""
    return _options(x.device, workspace_size(x.get_device(), DTYPES[x.dtype], m, weights))


def _options(device: torch.device, size: int) -> tuple[Any, Tensor | None]:
    """Options with a workspace of `size` bytes, and its memory; None and None for none."""
    if size == 0:
        return None, None
    workspace = torch.empty(size, dtype=torch.uint8, device=device)  # torch's allocations are aligned to 512
    return byref(OptionsStruct(workspace=workspace.data_ptr(), workspace_size=size)), workspace


def workspace_size(index: int, dtype: int, m: int, weights: Sequence[Any]) -> int:
    """The bytes of workspace that the fastest product of m rows by any of `weights` would use on device `index`."""
    if m < WORKSPACE_ROWS or index < 0:
        return 0
    return max((selection(index, dtype, m, *sizes(weight))[1] for weight in weights), default=0)


def sizes(weight: Any) -> tuple[int, int, int, int]:
    """What selection() asks of a weight: rows, columns, blocksize and nf4_dtype_t of absmax."""
    fields = weight._obj
    return fields.rows, fields.cols, fields.blocksize, fields.absmax_dtype


@functools.lru_cache(maxsize=1 << 12)
def selection(index: int, dtype: int, m: int, n: int, k: int, blocksize: int, absmax_dtype: int, experts: int = 0,
              top_k: int = 0, op: int | None = None) -> tuple[str, int]:  # fmt: skip
    """The variant of the fastest product of this size on device `index`, and the bytes of workspace that it uses. Unless
    `op` says what it is, it is one with experts if it has any, or nf4_gemm's."""
    if op is None:
        op = OP_GEMM_EXPERTS if experts else OP_GEMM
    problem = ProblemStruct(
        op=op, dtype=dtype, m=m, n=n, k=k, blocksize=blocksize,
        absmax_dtype=absmax_dtype, experts=experts, top_k=top_k,
    )  # fmt: skip
    chosen = SelectionStruct()
    check(library().nf4_select(handle(index), byref(problem), byref(OptionsStruct(workspace_size=SIZE_MAX)),
                               byref(chosen)))  # fmt: skip
    return chosen.variant.decode(), chosen.workspace_size


def unpack(weight: Any, shape: Sequence[int], dtype: torch.dtype, device: torch.device,
           out: Tensor | None = None) -> Tensor:  # fmt: skip
    """The matrix that `weight` refers to, in `out`, which is contiguous, or in a new tensor."""
    if out is None:
        out = torch.empty(shape, dtype=dtype, device=device)
    index = out.get_device()
    run(index, library().nf4_unpack, handle(index), out.data_ptr(), weight._obj.cols, DTYPES[dtype], weight, None)
    return out


def pack(w: Tensor, blocksize: int, codes: Tensor) -> Tensor:
    """Packs `w`, of any shape, into the memory of `codes`. Returns absmax."""
    w = w.contiguous()
    count = w.numel()
    codes_bytes, blocks = _packed_size(1, count, blocksize)
    index = w.get_device()
    _part("codes", codes, codes_bytes, index, codes.element_size())
    absmax = torch.empty(blocks, dtype=torch.float32, device=w.device)
    run(index, library().nf4_pack, handle(index), codes.data_ptr(), absmax.data_ptr(), w.data_ptr(), count,
        DTYPES[w.dtype], 1, count, blocksize, None)  # fmt: skip
    return absmax


def pack_absmax(absmax: Tensor, absmax_map: Tensor, blocksize: int) -> tuple[Tensor, Tensor, Tensor]:
    """Nested quantization of `absmax`. Returns codes, absmax2 and offset."""
    absmax = absmax.contiguous()
    index, count = absmax.get_device(), absmax.numel()
    map_pointer = _part("absmax_map", absmax_map, 256, index)
    codes = torch.empty(count, dtype=torch.uint8, device=absmax.device)
    absmax2 = torch.empty(-(-count // blocksize), dtype=torch.float32, device=absmax.device)
    offset = torch.empty((), dtype=torch.float32, device=absmax.device)
    run(index, library().nf4_pack_absmax, handle(index), codes.data_ptr(), absmax2.data_ptr(), offset.data_ptr(),
        absmax.data_ptr(), count, map_pointer, blocksize, None)  # fmt: skip
    return codes, absmax2, offset


def unpack_absmax(codes: Tensor, absmax_map: Tensor, absmax2: Tensor, offset: Tensor, blocksize: int,
                  out: Tensor) -> Tensor:  # fmt: skip
    """The scales that nested `codes` stand for, in float32, in `out`, which is contiguous."""
    index, count = codes.get_device(), codes.numel()
    smallest = 32  # so that a weight of as many blocks as there are codes is small
    weight = struct(
        1, smallest * count, smallest, None,
        _part("codes", codes, count, index), U8,
        _part("absmax_map", absmax_map, 256, index),
        _part("absmax2", absmax2, -(-count // blocksize), index),
        _part("offset", offset, 1, index),
        blocksize,
    )  # fmt: skip
    run(index, library().nf4_unpack_absmax, handle(index), out.data_ptr(), weight, None)
    return out
