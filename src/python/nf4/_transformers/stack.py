"""The weights of all experts as one packed parameter: made of a dense stack or of matrices, and given back as either.

A stack [E, N, K] lies in memory as one weight of E * N rows, expert after expert. What a checkpoint holds of an expert
are its parts: one matrix, or gate and up, which follow each other in its rows. Parts begin and end at blocks, so codes
and scales of one are slices of the stack's, and neither splitting nor joining quantizes anything again.

Nested scales are unpacked to float32, since each part of a checkpoint has an offset of its own, and a weight has one.
What it takes to give the same 8-bit scales back is kept: a hundredth of the stack's bytes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Iterator, Sequence

import torch
from bitsandbytes.functional import QuantState
from bitsandbytes.nn import Params4bit
from torch import Tensor

import nf4.operators  # noqa: F401  which defines torch.ops.nf4

from .. import _tensors
from .._library import codebook, dynamic_map

BLOCKSIZE = 64  # bitsandbytes' own, and transformers asks for no other
NESTED_BLOCKSIZE = 256


@dataclass
class Nested:
    """How the scales of each part were nested, [parts of all experts, ...]."""

    absmax2: Tensor
    offset: Tensor
    map: Tensor

    def to(self, device: Any) -> Nested:
        return Nested(self.absmax2.to(device), self.offset.to(device), self.map.to(device))


class StackState(QuantState):
    """The QuantState of a stack. Its shape is [E, N, K], and its scales are in float32."""

    second: Nested | None = None  # how they were nested

    def to(self, device: Any) -> None:
        super().to(device)
        if self.second is not None:
            self.second = self.second.to(device)


class Part(dict):
    """A matrix of a checkpoint, packed: its tensors, by what follows its name in their keys."""


def is_stack(parameter: Any) -> bool:
    return isinstance(getattr(parameter, "quant_state", None), StackState)


@functools.lru_cache(maxsize=64)
def _constant(values: Any, device: torch.device) -> Tensor:
    return torch.tensor(values(), dtype=torch.float32, device=device)


def _parameter(codes: Tensor, absmax: Tensor, shape: Sequence[int], dtype: torch.dtype, blocksize: int,
               second: Nested | None) -> Params4bit:  # fmt: skip
    code = _constant(codebook, codes.device)
    state = StackState(absmax, torch.Size(shape), code, blocksize, "nf4", dtype)
    state.second = second
    return Params4bit(codes.reshape(-1, 1), requires_grad=False, quant_state=state, blocksize=blocksize,
                      compress_statistics=second is not None, quant_type="nf4", bnb_quantized=True)  # fmt: skip


def _unnest(absmax: Tensor, nested_map: Tensor, absmax2: Tensor, offset: Tensor, blocksize: int) -> Tensor:
    out = torch.empty(absmax.shape, dtype=torch.float32, device=absmax.device)
    return _tensors.unpack_absmax(absmax, nested_map, absmax2, offset.float(), blocksize, out)


def pack(w: Tensor, parts: int, nested: bool) -> Params4bit:
    """Packs w [E, N, K]: codes and scales of each of its `parts` are those of the part packed by itself."""
    codes, absmax = torch.ops.nf4.pack(w, BLOCKSIZE)
    second = None
    if nested:
        absmax = absmax.view(w.shape[0] * parts, -1)
        nested_map = _constant(dynamic_map, w.device)
        eights, absmax2, offset = zip(
            *(torch.ops.nf4.pack_absmax(scales, nested_map, NESTED_BLOCKSIZE) for scales in absmax)
        )
        second = Nested(torch.stack(absmax2), torch.stack(offset), nested_map)
        for i, scales in enumerate(eights):
            absmax[i] = _unnest(scales, nested_map, absmax2[i], offset[i], NESTED_BLOCKSIZE)
        absmax = absmax.view(-1)
    return _parameter(codes, absmax, w.shape, w.dtype, BLOCKSIZE, second)


def plain(parameter: Params4bit) -> Tensor:
    """Its codes as an ordinary tensor: operators on a Params4bit take a detour through Python."""
    with torch._C.DisableTorchFunctionSubclass():
        return parameter.detach()


def unpack(parameter: Params4bit) -> Tensor:
    """The dense stack [E, N, K]."""
    state = parameter.quant_state
    return torch.ops.nf4.unpack(plain(parameter), state.absmax, state.shape, state.dtype, state.blocksize)


def unpack_range(parameter: Params4bit, begin: int, end: int) -> tuple[Tensor, int]:
    """Elements [begin, end) of the dense stack and those that share a block with them, and the number of the first."""
    state = parameter.quant_state
    first, last = begin // state.blocksize, -(-end // state.blocksize)
    start, count = first * state.blocksize, (last - first) * state.blocksize
    codes = plain(parameter).view(-1)[start // 2 : (start + count) // 2]
    return torch.ops.nf4.unpack(codes, state.absmax[first:last], [count], state.dtype, state.blocksize), start


def split(parameter: Params4bit, parts: int) -> Iterator[list[Part]]:
    """The parts of each expert, as bitsandbytes saves matrices: nested as they came."""
    state = parameter.quant_state
    experts, rows, cols = state.shape
    count = experts * parts
    codes, absmax, second = plain(parameter).view(count, -1), state.absmax.view(count, -1), state.second
    made = []
    for i in range(count):
        scales, offset, state2 = absmax[i], None, None
        if second is not None:
            scales, offset = _nest(absmax[i], second, i), second.offset[i]
            state2 = QuantState(second.absmax2[i], code=second.map, blocksize=NESTED_BLOCKSIZE, dtype=torch.float32)
        # A map of its own: transformers refuses to save tensors that share memory.
        part_state = QuantState(scales, torch.Size((rows // parts, cols)), state.code.clone(), state.blocksize, "nf4",
                                state.dtype, offset, state2)  # fmt: skip
        made.append(Part({"": codes[i].view(-1, 1)}))
        made[-1].update((f".{key}", value) for key, value in part_state.as_dict(packed=True).items())
        if len(made) == parts:
            yield made
            made = []


def _nest(absmax: Tensor, second: Nested, part: int) -> Tensor:
    """The 8-bit scales that stand for these: each is one of the 256 that can be in its block, which ascend."""
    absmax2 = second.absmax2[part]
    eights = torch.arange(256, dtype=torch.uint8, device=absmax.device).repeat(absmax2.numel())
    values = _unnest(eights, second.map, absmax2, second.offset[part], NESTED_BLOCKSIZE).view(-1, 256)
    padded = torch.nn.functional.pad(absmax, (0, -absmax.numel() % NESTED_BLOCKSIZE)).view(-1, NESTED_BLOCKSIZE)
    found = torch.searchsorted(values, padded).clamp_(max=255)
    return found.to(torch.uint8).view(-1)[: absmax.numel()]


def _matrix(part: Part, shape: Sequence[int], name: str) -> tuple[Tensor, QuantState]:
    """The codes of a matrix that a checkpoint holds packed, and their state."""
    for key in ("", ".absmax", ".quant_map", ".quant_state.bitsandbytes__nf4"):
        if key not in part:
            raise ValueError(f"{name} lacks {key or 'codes'} for a matrix")
    stats = {key[1:]: value for key, value in part.items() if key}
    state = QuantState.from_dict(stats, part[""].device)
    if state.quant_type != "nf4" or tuple(state.shape) != tuple(shape):
        raise ValueError(f"{name} is {state.quant_type} {list(state.shape)}; expected nf4 {list(shape)}")
    return part[""].view(torch.uint8).view(-1), state


def scales(state: QuantState) -> Tensor:
    """The scales of each block, in float32."""
    if not state.nested:
        return state.absmax
    second = state.state2
    return _unnest(state.absmax, second.code, second.absmax, state.offset, second.blocksize)


def join(experts: Sequence[Sequence[Part]], shape: Sequence[int], dtype: torch.dtype, name: str) -> Params4bit:
    """The stack [E, N, K] of the parts of each expert."""
    matrices = list(_matrices(experts, shape, name))
    states = [state for _, state in matrices]
    blocksizes = {state.blocksize for state in states}
    if len(blocksizes) > 1:
        raise ValueError(f"{name} has matrices of blocksizes {sorted(blocksizes)}; expected one")
    second = None
    if all(state.nested and state.state2.blocksize == NESTED_BLOCKSIZE for state in states):
        second = Nested(torch.stack([state.state2.absmax for state in states]),
                        torch.stack([state.offset for state in states]), states[0].state2.code)  # fmt: skip
    codes = torch.cat([codes for codes, _ in matrices])
    return _parameter(codes, torch.cat([scales(state) for state in states]), shape, dtype, blocksizes.pop(), second)


def join_dense(experts: Sequence[Sequence[Part]], shape: Sequence[int], dtype: torch.dtype, name: str) -> Tensor:
    """The same as a dense stack, for parts that cannot be packed as one."""
    dense = [
        torch.ops.nf4.unpack(codes, scales(state), state.shape, dtype, state.blocksize)
        for codes, state in _matrices(experts, shape, name)
    ]
    return torch.cat(dense).view(*shape)


def _matrices(
    experts: Sequence[Sequence[Part]], shape: Sequence[int], name: str
) -> Iterator[tuple[Tensor, QuantState]]:
    for number, parts in enumerate(experts):
        for part in parts:
            yield _matrix(part, (shape[1] // len(parts), shape[2]), f"expert {number} of {name}")
