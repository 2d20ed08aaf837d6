"""What goes to bitsandbytes' own code, and when."""

from __future__ import annotations

import functools
from typing import Any, Callable

from .._library import Error
from .._tensors import Mismatch

# Statuses of nf4.h for what the library does not take: NF4_ERROR_INVALID_ARGUMENT, NF4_ERROR_MISALIGNED and
# NF4_ERROR_UNSUPPORTED. Nothing was done then. Any other is a failure, of CUDA for example, which bitsandbytes' kernels
# would meet too, and not all of them report it: they may end the process.
REFUSALS = frozenset({1, 2, 3})


def with_fallback(ours: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """`ours`, and `original`, with the same arguments, where ours returns NotImplemented, finds that the tensors do not
    make a weight, or is refused by the library."""

    @functools.wraps(ours)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            result = ours(*arguments, **named)
        except Mismatch:
            result = NotImplemented
        except Error as error:
            if error.status not in REFUSALS:
                raise
            result = NotImplemented
        return original(*arguments, **named) if result is NotImplemented else result

    return call
