"""Which devices libnf4 can use, and for which products."""

from __future__ import annotations

import logging
from typing import Any

from .. import _tensors
from .._library import Error

log = logging.getLogger("nf4")

_MEASURED = frozenset({90})  # compute capabilities on which libnf4 was measured beside bitsandbytes' own kernels

# On all others: the rows of x up to which a variant is faster than they, by budget, and by what an H200 does that runs
# as 8.6 (docs/lab/2026-11-29-pair-multistage.md). A variant that is not here is slower somewhere, or nobody knows.
_ROWS = {"gemm.fma": 4, "gemm.pair_direct": 32, "gemm.pair": 16, "gemm.pair_tma": 16, "gemm.pair_multistage": 32,
         "gemm.scaled_mma": 1024}  # fmt: skip

# The same of experts: slots an expert, in the mean, for which a variant reads W once, where others unpack all of it.
_SLOTS = {"gemm_experts.pair": 32}


class Devices(dict):
    """Whether libnf4 can use a device, by its index. One that it cannot use is left to bitsandbytes, with a warning.

    `reasons` has what keeps a device from being used, `limits` what is said of those where not all products are."""

    def __init__(self) -> None:
        super().__init__({-1: False})  # the CPU has kernels of its own in bitsandbytes
        self.reasons: dict[int, str] = {}
        self.limits: dict[int, str] = {}

    def __missing__(self, index: int) -> bool:
        try:
            capability = _tensors.compute_capability(index)
            self[index] = True
        except Error as error:
            self.reasons[index] = str(error)
            log.warning("bitsandbytes keeps its own kernels on CUDA device %d: %s", index, error)
            self[index] = False
            return False
        if capability not in _MEASURED:
            self.limits[index] = (
                f"libnf4 was not measured on compute capability {capability // 10}.{capability % 10}: products of more "
                f"rows of x than {', '.join(f'{rows} by {name}' for name, rows in _ROWS.items())} are bitsandbytes' own"
            )
        return self[index]

    def is_faster(self, index: int, dtype: int, m: int, weight: Any) -> bool:
        """Whether a product of m rows by `weight`, on a device that can be used, is libnf4's."""
        if index not in self.limits:
            return True
        variant, _ = _tensors.selection(index, dtype, m, *_tensors.sizes(weight))
        return m <= _ROWS.get(variant, 0)

    def is_faster_with_experts(self, index: int, dtype: int, slots: int, weight: Any, experts: int, top_k: int) -> bool:
        """The same for a product of so many slots by the experts that `weight` holds."""
        if index not in self.limits:
            return True
        rows, *sizes = _tensors.sizes(weight)
        variant, _ = _tensors.selection(index, dtype, slots, rows // experts, *sizes, experts, top_k)
        return slots <= _SLOTS.get(variant, 0) * experts
