"""nf4.compile(): generate() of one model with a static cache, a compiled step, and a CUDA graph of it."""

from __future__ import annotations

import importlib
import weakref
from typing import Any

import torch

from .. import plugin
from .._bitsandbytes import GROUPED
from . import steps
from .hooks import MODULE, hooks, mark, unknown
from .obstacles import obstacle


class Compiled:
    """What compile() did to a model; `names` tells. undo(), or the end of a `with`, takes it back."""

    def __init__(self, model: Any, names: list[str]) -> None:
        self.names = names
        self._model = weakref.ref(model)
        self._title = type(model).__name__
        self._layers = steps.KeptLayers()

    def __repr__(self) -> str:
        return f"<generate() of {self._title}: {', '.join(self.names) or 'as it was'}>"

    def undo(self) -> None:
        """generate() of the model as it was before. The memory of the caches is given back."""
        self.names = []
        self._layers = steps.KeptLayers()
        model = self._model()
        if model is not None and hooks.compiled.get(model) is self:
            del hooks.compiled[model]
            hooks.update()

    def __enter__(self) -> Compiled:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()

    def wants(self, model: Any, config: Any, model_kwargs: dict[str, Any], mode: str) -> bool:
        """Whether a call of generate() can be compiled, and asks for nothing else. `config` is the call's own."""
        return (config.cache_implementation in (None, "static") and config.use_cache is not False
                and not config.disable_compile and not config.is_assistant
                and mode in ("greedy_search", "sample") and steps.cache_of(model_kwargs) is None
                and obstacle(model, sharded=True) is None)  # fmt: skip

    def prepare(self, model: Any, config: Any, model_kwargs: dict[str, Any], batch_size: int) -> None:
        """Where such a call has its new static cache: has it compile, on a CPU too."""
        mark(config)
        unsaid = config.compile_config is None
        steps.prepare(self._layers, model, config, model_kwargs, batch_size)
        if unsaid:
            config.compile_config._compile_all_devices = True


def compile(model: Any) -> Compiled:
    """See nf4.compile."""
    import transformers

    if not hasattr(torch.ops.bitsandbytes, "gemm_4bit"):
        raise RuntimeError("this bitsandbytes breaks the graph of a step; expected 0.50 or newer")
    problem = unknown(importlib.import_module(MODULE))
    if problem is not None:
        raise RuntimeError(problem)
    if not isinstance(model, transformers.GenerationMixin) and hasattr(model, "get_base_model"):
        model = model.get_base_model()  # peft's wrapper, whose generate() calls that one's
    if not isinstance(model, transformers.GenerationMixin):
        raise TypeError(f"model is a {type(model).__name__}; expected one of transformers that has generate()")
    if model in hooks.compiled:
        return hooks.compiled[model]
    reason = obstacle(model, sharded=True)
    if reason is not None:
        raise ValueError(f"model cannot be compiled: {reason}")
    hooks.compiled[model] = compiled = Compiled(model, _names(model))
    hooks.update()
    return compiled


def _names(model: Any) -> list[str]:
    """What generate() will do."""
    from transformers import StaticCache

    names = ["static cache", "compiled step"]
    cache = StaticCache(config=model.config, max_cache_len=1)
    slides = any(cache.is_sliding)
    if steps.count_on_device(cache, model.config):
        names[0] += ", its memory kept"
        if steps.has_cuda_graphs(model.device):
            limit = f", below {steps.sliding_window(model.config)} tokens" if slides else ""
            names.append(f"one CUDA graph a step{limit}")
    if GROUPED in plugin.status()["replaced"]:
        names.append("products of the same x in one launch")
    return names
