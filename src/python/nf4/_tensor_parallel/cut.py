"""Codes and scales of a part of a packed matrix: rows or columns, cut where blocks begin.

Nothing is quantized again. Where a cut falls inside of blocks of 64, blocks of 32 with the same scale are what was
there before. Nested scales are unpacked to float32: a cut by columns takes them from everywhere, so that their own
blocks of 256 would not be those of the part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable

import torch
from bitsandbytes.nn import Params4bit
from torch import Tensor

from .._library import BLOCKSIZES
from .._transformers import stack

SMALLEST = min(BLOCKSIZES)

ROWS, COLS = 0, 1


@dataclass(frozen=True)
class Cut:
    """What a process has of a matrix [N, K], or of each of a stack of them: `ranges` of rows, or one of columns."""

    dim: int
    ranges: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        return sum(end - begin for begin, end in self.ranges)

    def of(self, tensor: Tensor) -> Tensor:
        """The same part of a bias, or of a stack of them, which has an element for each row; all of it where columns are
        cut."""
        return torch.cat([tensor[..., begin:end] for begin, end in self.ranges], -1) if self.dim == ROWS else tensor

    def starts(self, shape: Iterable[int]) -> list[int]:
        """The elements at which blocks must begin, of the flattened matrix or of each row."""
        *stacked, rows, cols = shape
        bounds = [bound for pair in self.ranges for bound in pair]
        if self.dim == COLS:
            return [*bounds, cols]
        last = rows * cols  # whose block may be shorter, if nothing comes after it
        return [bound * cols for bound in bounds if bound * cols != last or stacked]


def blocksize(largest: int, starts: Iterable[int]) -> int | None:
    """The largest blocksize of no more than `largest`, each of whose blocks is part of one of that size, with which
    blocks begin at all of `starts`; None if there is none."""
    while largest >= SMALLEST and any(start % largest for start in starts):
        largest //= 2
    return largest if largest >= SMALLEST else None


def shard(parameter: Any, cut: Cut) -> Params4bit:
    """The part of a packed parameter, with a copy of its codes and scales."""
    state = parameter.quant_state
    *stacked, rows, cols = state.shape
    size = blocksize(state.blocksize, cut.starts(state.shape))
    if size is None:
        raise ValueError(f"{cut} of {list(state.shape)} is not on blocks of {state.blocksize}")
    codes = stack.plain(parameter).contiguous().view(torch.uint8).view(-1)
    blocks = -(-torch.Size(state.shape).numel() // size)
    absmax = stack.scales(state).repeat_interleave(state.blocksize // size)[:blocks]
    if cut.dim == COLS:
        ((begin, end),) = cut.ranges
        codes = codes.view(-1, cols // 2)[:, begin // 2 : end // 2].flatten().contiguous()
        absmax = absmax.view(-1, cols // size)[:, begin // size : end // size].flatten().contiguous()
        shape = (*stacked, rows, cut.size)
    else:
        matrices = range(torch.Size(stacked).numel())
        flat = [((rows * i + begin) * cols, (rows * i + end) * cols) for i in matrices for begin, end in cut.ranges]
        codes = torch.cat([codes[begin // 2 : (end + 1) // 2] for begin, end in flat])
        absmax = torch.cat([absmax[begin // size : -(-end // size)] for begin, end in flat])
        shape = (*stacked, cut.size, cols)
    part = type(state)(absmax, torch.Size(shape), state.code, size, state.quant_type, state.dtype)
    return Params4bit(
        codes.view(parameter.dtype).view(-1, 1), requires_grad=False, quant_state=part, blocksize=size,
        compress_statistics=False, quant_type=state.quant_type, quant_storage=parameter.dtype, bnb_quantized=True,
        module=getattr(parameter, "module", None),
    )  # fmt: skip
