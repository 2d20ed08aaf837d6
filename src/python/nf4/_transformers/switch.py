"""Whether libnf4 multiplies packed experts. Without it they are unpacked, and transformers multiplies."""

from __future__ import annotations

from typing import Any

devices: Any = None  # those of the plug-in, while it is in place


def usable(index: int) -> bool:
    """The host has a backend of libnf4's, and nobody else's kernels for packed experts."""
    return devices is not None and (index < 0 or devices[index])
