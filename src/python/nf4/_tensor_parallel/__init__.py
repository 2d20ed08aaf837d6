"""Models of transformers in NF4 in tensor parallel, by transformers' own engine.

    styles.py      the model's tp_plan
    cut.py         codes and scales of a part of a packed matrix
    plan.py        what each process has of a model, by the model's tp_plan, or why it cannot be cut
    agreement.py   whether all processes are about to do the same
    apply.py       the parts put in place, and transformers' engine told of them
    loading.py     the same while a checkpoint is read, so that no process holds the whole model

The engine is transformers': its plans, its styles, which wrap the forward of each module, and its DTensors for modules
that are not packed. A packed matrix cannot be a DTensor, so it is cut here, and the engine is told to leave it alone, as
it is by transformers' other quantizers. Nothing is changed before every process knows that every process can go on.
"""

from __future__ import annotations

import os
from typing import Any


def tensor_parallel(model: Any, device_mesh: Any = None, **options: Any) -> Any:
    """See nf4.tensor_parallel."""
    from . import apply, loading

    mesh = apply.mesh(device_mesh)
    if isinstance(model, (str, os.PathLike)):
        return loading.load(model, mesh, options)
    if options:
        raise TypeError(f"options {sorted(options)} are for a model that is loaded; expected none with a model")
    return apply.shard(model, mesh)
