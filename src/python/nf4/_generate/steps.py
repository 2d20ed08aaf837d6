"""How the steps of a call of generate() with a static cache are compiled: in one CUDA graph where that works.

Inductor's CUDA graphs hold for one cache, and generate() makes a new one in each call: so the memory of the last ones is
kept, and lent to new ones. They hold until the next step, so not where a caller collects hidden states; and, in older
versions of torch, in one thread.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch


def prepare(layers: KeptLayers, model: Any, config: Any, model_kwargs: dict[str, Any], batch_size: int) -> None:
    """Where a call of generate() has its new static cache: gives it kept memory, and has the call's own `config` say how
    a step is compiled, unless it does already."""
    from transformers import CompileConfig, StaticCache

    cache = cache_of(model_kwargs)
    fixed = type(cache) is StaticCache and count_on_device(cache, model.config)
    if fixed:
        kind = (batch_size * (config.num_return_sequences or 1), model.device, model.dtype,
                torch.is_inference_mode_enabled(), _autocast(model.device))  # fmt: skip
        # Not the cache if need not be: dynamo holds the one for which it compiled until garbage is collected.
        layers.lend(cache, kind, cache if config.return_dict_in_generate else config)
    if config.compile_config is None:
        kept = config.output_attentions or config.output_hidden_states  # the next step would write over them
        graphs = fixed and not kept and has_cuda_graphs(model.device)
        config.compile_config = CompileConfig() if graphs else without_cuda_graphs()


def without_cuda_graphs() -> Any:
    from transformers import CompileConfig

    return CompileConfig(mode="default")


class KeptLayers:
    """The layers of static caches between calls of generate(), whose memory CUDA graphs are bound to. Each call has a
    cache of its own, which borrows layers. Of each kind there are some, or with `one` of the last kind alone."""

    def __init__(self, one: bool = False) -> None:
        self._one = one
        self._free: dict[tuple[Any, ...], list[Any]] = {}  # by the cache's length, and what else they depend on

    def lend(self, cache: Any, kind: tuple[Any, ...], user: Any) -> None:
        """Puts free layers of this `kind`, emptied, in the place of those of `cache`, which is new. Its layers are free
        when nobody holds `user` any more."""
        length = cache.layers[0].max_cache_len
        for key in list(self._free):
            if key[0] != length or self._one and key[1:] != kind:  # generate() never makes a shorter one again
                del self._free[key]
        layers = self._free.pop((length, *kind), None)
        if layers is not None:
            cache.layers = layers
            cache.reset()
        weakref.finalize(user, self._free.__setitem__, (length, *kind), cache.layers).atexit = False


def cache_of(model_kwargs: dict[str, Any]) -> Any:
    """The cache among the arguments of a model, or None."""
    from transformers.cache_utils import Cache

    return next((value for value in model_kwargs.values() if isinstance(value, Cache)), None)


def count_on_device(cache: Any, config: Any) -> bool:
    """Whether the layers of `cache`, which is new, count tokens on the device. Layers of a sliding window count in
    Python, of which a CUDA graph would know one number. Where the cache is shorter than the window they are the same as
    plain ones, which take their place."""
    from transformers.cache_utils import StaticLayer, StaticSlidingWindowLayer

    window = sliding_window(config) or 0
    cache.layers = [
        StaticLayer(layer.max_cache_len)
        if type(layer) is StaticSlidingWindowLayer and layer.max_cache_len < window
        else layer
        for layer in cache.layers
    ]
    return all(type(layer) is StaticLayer for layer in cache.layers)


def sliding_window(config: Any) -> int | None:
    """Of a model's layers, in tokens."""
    return getattr(config.get_text_config(decoder=True), "sliding_window", None)


def _autocast(device: torch.device) -> torch.dtype | None:
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


def has_cuda_graphs(device: torch.device) -> bool:
    """Whether Inductor can capture in this thread. Before it learned more, only in that which imported its module."""
    if device.type != "cuda":
        return False
    from torch._inductor import cudagraph_trees

    try:
        cudagraph_trees.get_obj(cudagraph_trees.local, "tree_manager_containers")
    except AssertionError:
        return False
    return True
