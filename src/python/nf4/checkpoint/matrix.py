"""A matrix of a checkpoint, read a range of elements at a time, as it lies there or transposed."""

import math
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple, Union

import numpy as np

from .._array import Bfloat16
from .reading import Checkpoint
from .safetensors import Tensor

DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # what can be packed
NUMPY: Dict[str, "np.dtype[Any]"] = {
    "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"), "U8": np.dtype("u1"),
}  # fmt: skip


def typed(array: Any, dtype: str) -> Any:
    """`array`, or the bytes of one, as an array that the library takes."""
    array = array if isinstance(array, np.ndarray) else np.frombuffer(array, NUMPY[dtype])
    return Bfloat16(array) if dtype == "BF16" else array


class Cut:
    """A tensor of a checkpoint in pieces, each to be read as if it were a tensor of its own."""

    def __init__(self, checkpoint: Checkpoint, whole: Tensor) -> None:
        self.checkpoint, self.whole = checkpoint, whole

    def piece(self, name: str, shape: Tuple[int, ...], begin: int) -> Tensor:
        """The piece of this shape that begins at element `begin`."""
        itemsize = NUMPY[self.whole.dtype].itemsize
        first = self.whole.begin + begin * itemsize
        return Tensor(name, self.whole.dtype, shape, first, first + math.prod(shape) * itemsize)

    def read(self, tensor: Tensor, begin: int = 0, end: Optional[int] = None) -> bytes:
        """Bytes [begin, end) of a piece."""
        first = tensor.begin - self.whole.begin
        end = tensor.nbytes if end is None else end
        return self.checkpoint.read(self.whole, first + begin, first + end)


Source = Union[Checkpoint, Cut]


@dataclass(frozen=True)
class Matrix:
    checkpoint: Source
    tensor: Tensor
    transposed: bool = False  # against how it lies in the checkpoint

    @property
    def shape(self) -> Tuple[int, ...]:
        return self.tensor.shape[::-1] if self.transposed else self.tensor.shape

    @property
    def itemsize(self) -> int:
        return NUMPY[self.tensor.dtype].itemsize

    def read(self, begin: int, end: int) -> np.ndarray:
        """Elements [begin, end) of the flattened matrix; bfloat16 as the uint16 of its bits."""
        if not self.transposed:
            data = self.checkpoint.read(self.tensor, begin * self.itemsize, end * self.itemsize)
            return np.frombuffer(data, NUMPY[self.tensor.dtype])
        length = self.shape[1]
        first, last = begin // length, -(-end // length)
        return self._columns(first, last).T.reshape(-1)[begin - first * length : end - first * length]

    def _columns(self, first: int, last: int) -> np.ndarray:
        """Columns [first, last) of the tensor."""
        rows, cols = self.tensor.shape
        if (first, last) == (0, cols):
            data = self.checkpoint.read(self.tensor)
        else:
            places = ((row * cols + first, row * cols + last) for row in range(rows))
            data = b"".join(
                self.checkpoint.read(self.tensor, begin * self.itemsize, end * self.itemsize) for begin, end in places
            )
        return np.frombuffer(data, NUMPY[self.tensor.dtype]).reshape(rows, last - first)
