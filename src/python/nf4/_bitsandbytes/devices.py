"""Which devices libnf4 can use."""

from __future__ import annotations

import logging

from .. import _tensors
from .._library import Error

log = logging.getLogger("nf4")


class Devices(dict):
    """Whether libnf4 can use a device, by its index. One that it cannot use is left to bitsandbytes, with a warning."""

    def __init__(self) -> None:
        super().__init__({-1: False})  # the CPU has kernels of its own in bitsandbytes
        self.reasons: dict[int, str] = {}

    def __missing__(self, index: int) -> bool:
        try:
            _tensors.handle(index)
            self[index] = True
        except Error as error:
            self.reasons[index] = str(error)
            log.warning("bitsandbytes keeps its own kernels on CUDA device %d: %s", index, error)
            self[index] = False
        return self[index]
