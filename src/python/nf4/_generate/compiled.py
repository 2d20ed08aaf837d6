"""nf4.compile(): generate() of one model with a static cache, a compiled step, and a CUDA graph of it."""

from __future__ import annotations

import importlib
import weakref
from typing import Any

import torch

from .. import plugin
from .._bitsandbytes import GROUPED
from .automatic import without_cuda_graphs
from .hooks import MODULE, hooks, mark, unknown
from .obstacles import obstacle


class Compiled:
    """What compile() did to a model; `names` tells. undo(), or the end of a `with`, takes it back."""

    def __init__(self, model: Any, names: list[str]) -> None:
        self.names = names
        self._model = weakref.ref(model)
        self._title = type(model).__name__
        self._layers = KeptLayers()

    def __repr__(self) -> str:
        return f"<generate() of {self._title}: {', '.join(self.names) or 'as it was'}>"

    def undo(self) -> None:
        """generate() of the model as it was before. The memory of the caches is given back."""
        self.names = []
        self._layers = KeptLayers()
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
                and mode in ("greedy_search", "sample") and _cache(model_kwargs) is None
                and obstacle(model, sharded=True) is None)  # fmt: skip

    def prepare(self, model: Any, config: Any, model_kwargs: dict[str, Any], batch_size: int) -> None:
        """Where such a call has its new static cache: gives it kept memory, and says how a step is compiled."""
        from transformers import CompileConfig, StaticCache

        cache = _cache(model_kwargs)
        fixed = type(cache) is StaticCache and _counts_on_device(cache)
        if fixed:
            kind = (batch_size * (config.num_return_sequences or 1), model.device, model.dtype,
                    torch.is_inference_mode_enabled(), _autocast(model.device))  # fmt: skip
            # Not the cache if need not be: dynamo holds the one for which it compiled until garbage is collected.
            self._layers.lend(cache, kind, cache if config.return_dict_in_generate else config)
        mark(config)
        if config.compile_config is None:
            kept = config.output_attentions or config.output_hidden_states  # the next step would write over them
            graphs = fixed and not kept and model.device.type == "cuda" and _has_cuda_graphs()
            config.compile_config = CompileConfig() if graphs else without_cuda_graphs()
            config.compile_config._compile_all_devices = True


class KeptLayers:
    """The layers of static caches between calls of generate(), whose memory CUDA graphs are bound to. Each call has a
    cache of its own, which borrows layers."""

    def __init__(self) -> None:
        self._free: dict[tuple[Any, ...], list[Any]] = {}  # by the cache's length, and what else they depend on

    def lend(self, cache: Any, kind: tuple[Any, ...], user: Any) -> None:
        """Puts free layers of this `kind`, emptied, in the place of those of `cache`, which is new. Its layers are free
        when nobody holds `user` any more."""
        length = cache.layers[0].max_cache_len
        for key in [key for key in self._free if key[0] != length]:  # generate() never makes a shorter one again
            del self._free[key]
        layers = self._free.pop((length, *kind), None)
        if layers is not None:
            cache.layers = layers
            cache.reset()
        weakref.finalize(user, self._free.__setitem__, (length, *kind), cache.layers).atexit = False


def _cache(model_kwargs: dict[str, Any]) -> Any:
    """The cache among the arguments of a model, or None."""
    from transformers.cache_utils import Cache

    return next((value for value in model_kwargs.values() if isinstance(value, Cache)), None)


def _counts_on_device(cache: Any) -> bool:
    """Whether no layer counts tokens in Python, as those of a sliding window do. A CUDA graph would know one count."""
    from transformers.cache_utils import StaticLayer

    return all(type(layer) is StaticLayer for layer in cache.layers)


def _autocast(device: torch.device) -> torch.dtype | None:
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


def _has_cuda_graphs() -> bool:
    """Whether Inductor can capture in this thread. Before it learned more, only in that which imported this module."""
    from torch._inductor import cudagraph_trees

    try:
        cudagraph_trees.get_obj(cudagraph_trees.local, "tree_manager_containers")
    except AssertionError:
        return False
    return True


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
    if _counts_on_device(StaticCache(config=model.config, max_cache_len=1)):
        names[0] += ", its memory kept"
        if model.device.type == "cuda" and _has_cuda_graphs():
            names.append("one CUDA graph a step")
    if GROUPED in plugin.status()["replaced"]:
        names.append("products of the same x in one launch")
    return names
