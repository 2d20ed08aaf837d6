"""A model loaded by transformers, of which each packed matrix is cut as soon as it is read or packed: no process holds
more than its parts, one whole matrix, and what is not packed until the end, such as the embedding."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import Any, Iterator

import torch
import transformers
from transformers import AutoConfig, core_model_loading
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

from .._patch import replace_attribute
from . import apply
from . import plan as planning
from .agreement import agree
from .cut import shard as shard_parameter
from .plan import Packed, Plan

_SEQUENTIAL = "HF_DEACTIVATE_ASYNC_LOAD"  # else threads read ahead of what is cut


def load(where: Any, mesh: Any, options: dict[str, Any]) -> Any:
    """The model of a checkpoint, by the class that its config names; `options` are for from_pretrained()."""
    if "device_map" in options:
        raise TypeError("device_map cannot be given: each process loads its part to its own device")
    config = options.get("config") or AutoConfig.from_pretrained(where, **_for_config(options))
    architecture = (config.architectures or ["none"])[0]
    loads = getattr(transformers, architecture, None)
    if loads is None:
        raise ValueError(f"{where} has a model of class {architecture}, which transformers has not; load it, and give "
                         "the model to nf4.tensor_parallel()")  # fmt: skip
    device = torch.device(mesh.device_type, torch.cuda.current_device() if mesh.device_type == "cuda" else None)
    if mesh.size() == 1:
        return loads.from_pretrained(where, device_map={"": device}, **options)
    loading = Loading(mesh)

    def make() -> tuple[Any, torch.device, dict[str, str]]:
        with loading.in_place():
            model = loads.from_pretrained(where, device_map={"": device}, **options)
        if loading.plan is None:
            raise ValueError(f"{where} was not loaded in 4 bits: give a quantization_config, or a packed checkpoint")
        planning.device_of(model, mesh)
        planning.check_dense(model, loading.plan, mesh)
        return model, device, apply.description(model, loading.plan, mesh, loading.blocksizes)

    model = agree(mesh, make)
    for packed in loading.plan.packed:
        apply.put_bias(model, packed, loading.plan.rank)
    apply.finish(model, loading.plan, mesh)
    if mesh.device_type == "cuda":
        torch.cuda.empty_cache()  # of matrices that were whole for a while
    return model


def _for_config(options: dict[str, Any]) -> dict[str, Any]:
    names = ("revision", "token", "cache_dir", "local_files_only", "trust_remote_code", "subfolder")
    return {name: options[name] for name in names if name in options}


class Loading:
    """One call of from_pretrained(). `plan` is made when the model has its layers, and nothing is read yet."""

    def __init__(self, mesh: Any) -> None:
        self.mesh = mesh
        self.plan: Plan | None = None
        self.blocksizes: dict[str, int] = {}  # of packed parameters, as they were read
        self._model: Any = None
        self._parts: dict[str, Packed] = {}

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Has transformers keep parts alone of what it loads in this context."""
        with contextlib.ExitStack() as undo:
            before = os.environ.get(_SEQUENTIAL)
            os.environ[_SEQUENTIAL] = "1"
            undo.callback(os.environ.pop if before is None else os.environ.__setitem__, _SEQUENTIAL, before)
            for owner, name, replacement in (
                (Bnb4BitHfQuantizer, "_process_model_before_weight_loading", self._preparing),
                (core_model_loading, "set_param_for_module", self._setting),
            ):
                undo.callback(replace_attribute(owner, name, replacement(getattr(owner, name))))
            yield

    def _preparing(self, original: Any) -> Any:
        @functools.wraps(original)
        def prepare(quantizer: Any, model: Any, *arguments: Any, **named: Any) -> Any:
            result = original(quantizer, model, *arguments, **named)
            self._model, self.plan = model, Plan(model, self.mesh.get_local_rank(), self.mesh.size())
            self._parts = {packed.name: packed for packed in self.plan.packed}
            return result

        return prepare

    def _setting(self, original: Any) -> Any:
        @functools.wraps(original)
        def put(model: Any, name: str, parameter: Any, *more: Any, **named: Any) -> Any:
            packed = self._parts.get(name) if model is self._model else None
            if packed is not None:
                apply.check_state(packed, parameter)
                self.blocksizes[name] = parameter.quant_state.blocksize
                if packed.cut is not None:
                    parameter = shard_parameter(parameter, packed.cut)
            result = original(model, name, parameter, *more, **named)
            if packed is not None and hasattr(model.get_submodule(packed.module), "quant_state"):
                model.get_submodule(packed.module).quant_state = parameter.quant_state
            return result

        return put
