"""Packing of a matrix, a chunk at a time, on the host or on a GPU; and copying of what is not packed."""

from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Tuple

import numpy as np

from .._handle import Handle
from .._library import codebook, packed_size
from . import state
from .matrix import DTYPES, Matrix, Source, typed
from .safetensors import Tensor, Writer

_COPIED = 1 << 25  # bytes at a time

Advance = Callable[[int], None]  # told how many more bytes of the input are done


class HostPacker:
    def __init__(self) -> None:
        self.handle = Handle()

    def pack(self, array: np.ndarray, dtype: str, blocksize: int) -> Tuple[Any, Any]:
        """Codes and absmax of consecutive elements. bfloat16 comes as the uint16 of its bits."""
        weight = self.handle.pack(typed(array.reshape(1, -1), dtype), blocksize=blocksize)
        return weight.codes, weight.absmax


class CudaPacker:
    """Packs on a GPU, in memory of torch."""

    def __init__(self, device: int) -> None:
        try:
            import torch
        except ImportError:
            raise RuntimeError("packing on a GPU takes its memory from torch, which is not installed") from None
        self.torch = torch
        self.device = torch.device("cuda", device)
        self.handle = Handle(device)

    def pack(self, array: np.ndarray, dtype: str, blocksize: int) -> Tuple[Any, Any]:
        torch = self.torch
        with torch.cuda.device(self.device):
            # A copy, since torch warns of memory that cannot be written.
            w = torch.from_numpy(array.view(np.uint8).copy()).to(self.device)
            w = w.view(getattr(torch, DTYPES[dtype])).view(1, -1)
            codes_bytes, blocks = packed_size(1, w.numel(), blocksize)
            codes = torch.empty(codes_bytes, dtype=torch.uint8, device=self.device)
            absmax = torch.empty(blocks, dtype=torch.float32, device=self.device)
            stream = torch.cuda.current_stream().cuda_stream
            self.handle.pack(w, blocksize=blocksize, codes=codes, absmax=absmax, stream=stream)
            return codes.cpu().numpy(), absmax.cpu().numpy()


def new_packer(device: Optional[int]) -> Any:
    return HostPacker() if device is None else CudaPacker(device)


@dataclass(frozen=True)
class Copied:
    """A tensor that is written as it is."""

    checkpoint: Source
    tensor: Tensor

    @property
    def tensors(self) -> List[Tensor]:
        return [self.tensor]

    def write(self, writer: Writer, packer: Any, advance: Advance) -> None:
        for begin in range(0, self.tensor.nbytes, _COPIED):
            data = self.checkpoint.read(self.tensor, begin, min(begin + _COPIED, self.tensor.nbytes))
            writer.write(self.tensor.name, data, begin)
            advance(len(data))


@dataclass(frozen=True)
class Packed:
    """A matrix that is written as a packed layer."""

    matrix: Matrix
    blocksize: int
    nested: bool

    @property
    def name(self) -> str:
        return self.matrix.tensor.name

    @property
    def tensors(self) -> List[Tensor]:
        matrix = self.matrix
        return state.packed_tensors(self.name, matrix.tensor.dtype, matrix.shape, self.blocksize, self.nested)

    def write(self, writer: Writer, packer: Any, advance: Advance) -> None:
        matrix, name, blocksize = self.matrix, self.name, self.blocksize
        dtype, count = matrix.tensor.dtype, matrix.tensor.count
        absmax = np.empty(-(-count // blocksize), np.float32)
        for begin in range(0, count, state.CHUNK):
            end = min(begin + state.CHUNK, count)
            codes, scales = packer.pack(matrix.read(begin, end), dtype, blocksize)
            absmax[begin // blocksize : -(-end // blocksize)] = scales
            writer.write(name, codes, begin // 2)
            advance((end - begin) * matrix.itemsize)
        offset = 0.0
        if self.nested:
            # On the host in any case: they are few, and the sum is the same everywhere.
            codes, absmax2, offsets, absmax_map = Handle().pack_absmax(absmax, blocksize=state.NESTED_BLOCKSIZE)
            writer.write(f"{name}.absmax", codes)
            writer.write(f"{name}.nested_absmax", absmax2)
            writer.write(f"{name}.nested_quant_map", absmax_map)
            offset = offsets[0]
        else:
            writer.write(f"{name}.absmax", absmax)
        writer.write(f"{name}.quant_map", np.array(codebook(), np.float32))
        writer.write(state.state_key(name), state.state_text(dtype, matrix.shape, blocksize, self.nested, offset))
