"""What shows that a model is sharded, and which of its hooks are transformers' engine's. Imports nothing."""

from __future__ import annotations

from typing import Any

MODULE = "transformers.distributed.tensor_parallel"
MARK = "_nf4_tensor_parallel"  # the attribute of a sharded model: the number of processes


def is_sharded(model: Any) -> bool:
    return hasattr(model, MARK)


def is_engines(function: Any) -> bool:
    """Whether it is a hook, or the forward of a module, that the engine made."""
    return getattr(function, "__module__", None) == MODULE
