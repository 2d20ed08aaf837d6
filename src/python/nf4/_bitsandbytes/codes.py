"""Which code tables are NF4's."""

from __future__ import annotations

import gc
import weakref

import bitsandbytes.functional
import torch

from .._library import codebook


class Codes:
    """gemv_4bit takes the 16 values of a 4-bit type, and not its name. They lie on the GPU, so a tensor is read once.
    The verdict holds while the tensor lives and nothing is written to it."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[weakref.ref[torch.Tensor], int | None, bool]] = {}  # by address
        self.nf4 = codebook()

    def is_nf4(self, code: torch.Tensor) -> bool:
        pointer, written = code.data_ptr(), _writes(code)
        known = self.known.get(pointer)
        if known is not None and known[0]() is code and known[1] == written:
            return known[2]
        if code.is_cuda and torch.cuda.is_current_stream_capturing():
            return False  # reading it would break the capture
        verdict = code.dtype == torch.float32 and code.flatten().tolist() == self.nf4
        self.known[pointer] = weakref.ref(code), written, verdict
        return verdict

    def is_nf4_at(self, pointer: int) -> bool:
        """For callers that have the address alone: the tensor there is then that of a live QuantState, or unknown."""
        known = self.known.get(pointer)
        code = known[0]() if known is not None else None
        if code is None or code.data_ptr() != pointer:
            code = self._find(pointer)
        return code is not None and self.is_nf4(code)

    @staticmethod
    def _find(pointer: int) -> torch.Tensor | None:
        """The code at this address of a live QuantState."""
        for state in gc.get_objects():
            if issubclass(type(state), bitsandbytes.functional.QuantState) and isinstance(state.code, torch.Tensor):
                if state.code.data_ptr() == pointer:
                    return state.code
        return None


def _writes(tensor: torch.Tensor) -> int | None:
    """How often torch has written to the tensor; None for one of inference mode, of which torch does not count that."""
    return None if tensor.is_inference() else tensor._version
