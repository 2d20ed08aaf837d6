"""Stacks of a checkpoint, which hold the matrices of all experts as one tensor, taken apart."""

from typing import Iterator, Tuple

from .loader import Stack
from .matrix import Cut, Matrix
from .reading import Checkpoint
from .safetensors import Tensor


def expert_matrices(checkpoint: Checkpoint, tensor: Tensor, stack: Stack) -> Iterator[Matrix]:
    """The matrices of each expert of `stack`, which is `tensor`. Those of a transposed stack are one an expert."""
    cut = Cut(checkpoint, tensor)
    rows, cols = stack.shape
    rows //= len(stack.names)
    shape = (cols, rows) if stack.transposed else (rows, cols)
    for number in range(stack.experts):
        for part, name in enumerate(stack.names):
            begin = (number * len(stack.names) + part) * rows * cols
            yield Matrix(cut, cut.piece(name.replace("*", str(number)), shape, begin), stack.transposed)


def expert_biases(checkpoint: Checkpoint, tensor: Tensor, name: str) -> Iterator[Tuple[Cut, Tensor]]:
    """The bias of each expert, where `tensor` [E, N] has them all."""
    cut = Cut(checkpoint, tensor)
    experts, length = tensor.shape
    for number in range(experts):
        yield cut, cut.piece(name.replace("*", str(number)), (length,), number * length)
