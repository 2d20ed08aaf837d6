"""What keeps a decoding step of a model from being one graph of torch.compile."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit, Params4bit

from .._tensor_parallel.engine import is_engines, is_sharded

_KNOWN = frozenset({torch.Tensor, torch.nn.Parameter, Params4bit})


def obstacle(model: Any, sharded: bool = False) -> str | None:
    """Why it is not known that a decoding step of `model` is one graph; None if it is. A model in tensor parallel is only
    compiled by who says `sharded`, since all its processes have to do so."""
    from transformers.utils.generic import is_flash_attention_requested

    known = _KNOWN
    if is_sharded(model):
        if not sharded:
            return "it is in tensor parallel: nf4.compile() compiles it, called in each process"
        from torch.distributed.tensor import DTensor

        known = known | {DTensor}

    if not getattr(model, "_can_compile_fullgraph", False):
        return f"transformers does not say of {type(model).__name__} that it can be compiled (_can_compile_fullgraph)"
    if is_flash_attention_requested(model.config):
        return "flash attention breaks the graph"
    in_nf4 = adapted = False
    for name, module in model.named_modules():
        changed = _changed(module)
        if changed is not None:
            return f"{name or 'the model'} {changed}"
        in_nf4 = in_nf4 or isinstance(module, Linear4bit) and module.weight.quant_type == "nf4"
        adapted = adapted or hasattr(module, "adapter_layer_names")  # of peft's layers
    if not in_nf4:
        return "no layer is in NF4"
    devices = set()
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if type(tensor) not in known:
            return f"{name} is a {type(tensor).__name__}"
        if adapted and tensor.requires_grad:
            return f"{name}, an adapter, is in training"
        devices.add(tensor.device)
    if len(devices) > 1:
        return f"it is on several devices: {', '.join(sorted(map(str, devices)))}"
    return None


def _changed(module: torch.nn.Module) -> str | None:
    """What others have done to a module, accelerate for example, that its class does not tell."""
    if module.training:
        return "is in training mode"
    if "forward" in vars(module) and not is_engines(vars(module)["forward"]):
        return "has a forward of its own"
    if module._forward_hooks or module._forward_pre_hooks:
        return "has forward hooks"
    return None


@functools.cache
def inductor_obstacle(device: torch.device) -> str | None:
    """Why torch.compile makes nothing for `device`, or None: it needs a C compiler, Triton, Python's headers."""
    try:
        torch.compile(_add_one)(torch.zeros(1, device=device))
    except Exception as error:
        return f"torch.compile fails on {device}: {type(error).__name__}: {' '.join(str(error).split())}"[:300]
    return None


def _add_one(x: torch.Tensor) -> torch.Tensor:
    return x + 1
