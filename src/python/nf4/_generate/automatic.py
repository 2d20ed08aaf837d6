"""generate() with a static cache compiles a decoding step of a model in NF4, as it does for dense models.

It would not by itself: it asks the quantizer, and that of bitsandbytes says no for every model. From bitsandbytes 0.50
on a step has no breaks.
"""

from __future__ import annotations

import logging
import weakref
from typing import Any, Callable, Mapping

from . import steps
from .hooks import hooks
from .obstacles import inductor_obstacle, obstacle

log = logging.getLogger("nf4")


class Automatic:
    """Decides for each call of generate(), on `devices` that are usable. `refused` gets the classes of models that stay
    as they are, and why."""

    def __init__(self, devices: Mapping[int, bool], refused: dict[str, str]) -> None:
        self.devices, self.refused = devices, refused
        self._layers: weakref.WeakKeyDictionary[Any, steps.KeptLayers] = weakref.WeakKeyDictionary()

    def install(self) -> Callable[[], None]:
        """Begins to decide. Returns what ends it."""
        hooks.automatic = self
        hooks.update()

        def undo() -> None:
            if hooks.automatic is self:
                hooks.automatic = None
                hooks.update()

        return undo

    def __call__(self, model: Any, model_kwargs: dict[str, Any], generation_config: Any) -> bool:
        """Whether to compile whatever the quantizer says. If so, the call's own config says how."""
        if not self._compiles(model, model_kwargs, generation_config):
            return False
        if generation_config.compile_config is None:
            generation_config.compile_config = steps.without_cuda_graphs()
        return True

    def _compiles(self, model: Any, model_kwargs: dict[str, Any], generation_config: Any) -> bool:
        try:
            if generation_config.disable_compile or not _waits_for_quantizer(model, model_kwargs):
                return False
            reason = self._obstacle(model, generation_config.compile_config)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        if reason is not None:
            self.refuse(type(model).__name__, reason)
        return reason is None

    def wants(self, config: Any, model_kwargs: dict[str, Any], mode: str) -> bool:
        """Whether a call of generate() asks for a static cache that is its own, and for nothing that moves its rows."""
        return (config.cache_implementation == "static" and config.compile_config is None
                and mode in ("greedy_search", "sample") and steps.cache_of(model_kwargs) is None)  # fmt: skip

    def prepare(self, model: Any, config: Any, model_kwargs: dict[str, Any], batch_size: int) -> None:
        """Where such a call has its new static cache, if its steps will be compiled: in one CUDA graph if that works."""
        if self._compiles(model, model_kwargs, config):
            # One cache is kept, so that calls of any batch sizes find the memory that they found before.
            layers = self._layers.setdefault(model, steps.KeptLayers(one=True))
            steps.prepare(layers, model, config, model_kwargs, batch_size)

    def _obstacle(self, model: Any, compile_config: Any) -> str | None:
        reason = obstacle(model)
        if reason is not None:
            return reason
        if not self.devices[model.device.index if model.device.type == "cuda" else -1]:
            return f"libnf4 does not use {model.device}"
        if compile_config is not None and compile_config.backend != "inductor":
            return None
        return inductor_obstacle(model.device)

    def refuse(self, name: str, reason: str) -> None:
        if self.refused.get(name) != reason:
            self.refused[name] = reason
            log.info("generate() does not compile %s: %s", name, reason)


def _waits_for_quantizer(model: Any, model_kwargs: dict[str, Any]) -> bool:
    """Whether the quantizer is bitsandbytes', for 4 bits, and is all that keeps generate() from compiling."""
    from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

    quantizer = getattr(model, "hf_quantizer", None)
    return (isinstance(quantizer, Bnb4BitHfQuantizer) and not quantizer.is_compileable
            and any(getattr(cache, "is_compileable", False) is True for cache in model_kwargs.values()))  # fmt: skip
