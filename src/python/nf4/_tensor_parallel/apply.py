"""The parts put in place of the whole, and transformers' engine told of them."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator

import torch
import torch.distributed as dist
from bitsandbytes.nn import Linear4bit
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.distributed.tensor_parallel import apply_tensor_parallelism

from .._transformers import stack
from . import plan as planning
from .agreement import agree
from .cut import ROWS
from .cut import shard as shard_parameter
from .engine import MARK, is_engines, is_sharded
from .plan import Packed, Plan

def mesh(device_mesh: Any) -> Any:
    """The mesh of one dimension along which a model is cut: all processes, where none is given."""
    if not dist.is_available() or not dist.is_initialized():
        raise RuntimeError("torch.distributed is not initialized; start the script by torchrun, and call "
                           "torch.distributed.init_process_group() first")  # fmt: skip
    if device_mesh is None:
        from torch.distributed.device_mesh import init_device_mesh

        return init_device_mesh("cuda" if "nccl" in dist.get_backend() else "cpu", (dist.get_world_size(),))
    if device_mesh.ndim == 1:
        return device_mesh
    names = device_mesh.mesh_dim_names or ()
    if "tp" not in names:
        raise ValueError(f"device_mesh has the dimensions {names}; expected one, or one that is called tp")
    return device_mesh["tp"]


def shard(model: Any, mesh: Any) -> Any:
    """Has each process keep its part of `model`, which all of them hold."""
    if not isinstance(model, PreTrainedModel):
        raise TypeError(f"model is a {type(model).__name__}; expected one of transformers, or where one is to be loaded")
    if is_sharded(model):
        raise ValueError(f"the model is sharded already, over {getattr(model, MARK)} processes")

    def make() -> tuple[Plan, torch.device, dict[str, str]]:
        device = planning.device_of(model, mesh)
        plan = Plan(model, mesh.get_local_rank(), mesh.size())
        planning.check_dense(model, plan, mesh)
        blocksizes = {}
        for packed in plan.packed:
            parameter = model.get_submodule(packed.module)._parameters[packed.parameter]
            check_state(packed, parameter)
            blocksizes[packed.name] = parameter.quant_state.blocksize
        return plan, device, description(model, plan, mesh, blocksizes)

    if mesh.size() == 1:
        return model
    plan = agree(mesh, make)
    for packed in plan.packed:
        put(model, packed)
        put_bias(model, packed, plan.rank)
    finish(model, plan, mesh)
    return model


def description(model: Any, plan: Plan, mesh: Any, blocksizes: dict[str, int]) -> dict[str, str]:
    """What has to be the same in all processes, by name. `blocksizes` are those of packed parameters as they were before
    they were cut, which they may be by now."""
    made = {"the class": type(model).__name__, "the device mesh": str(mesh.mesh.tolist())}
    whole = {packed.name: packed for packed in plan.packed}
    for name, tensor in model.named_parameters():
        made[name] = f"{tensor.dtype} {[*tensor.shape]}"
        if name in whole:
            style = f"cut as {whole[name].style}" if whole[name].cut else "whole"
            made[name] = f"{[*whole[name].shape]} in blocks of {blocksizes[name]}, {style}"
    return made


def check_state(packed: Packed, parameter: Any) -> None:
    state = getattr(parameter, "quant_state", None)
    if state is None:
        raise ValueError(f"{packed.name} is not packed yet: move the model to its device first")
    if state.quant_type != "nf4" or tuple(state.shape) != packed.shape:
        raise ValueError(f"{packed.name} is {state.quant_type} {[*state.shape]}; expected nf4 {[*packed.shape]}")
    if getattr(state, "packing_format_for_cpu", False):
        raise ValueError(f"bitsandbytes has {packed.name} in its order for the CPU; shard a model before its first call")


def put(model: Any, packed: Packed) -> None:
    """The part of one packed parameter in the place of the whole."""
    if packed.cut is None:
        return
    module = model.get_submodule(packed.module)
    part = shard_parameter(module._parameters[packed.parameter], packed.cut)
    module._parameters[packed.parameter] = part
    if isinstance(module, Linear4bit):
        module.quant_state = part.quant_state


def put_bias(model: Any, packed: Packed, rank: int) -> None:
    """transformers adds the bias of a row-wise layer once, after the sum: each process has all of it. Experts add theirs
    before the sum: process 0 has it, and the others have zeros."""
    module = model.get_submodule(packed.module)
    bias = module._parameters.get(packed.bias)
    if bias is None or packed.cut is None:
        return
    part = packed.cut.of(bias.detach())
    if packed.cut.dim != ROWS and not isinstance(module, Linear4bit) and rank != 0:
        part = torch.zeros_like(part)
    module._parameters[packed.bias] = nn.Parameter(part, requires_grad=bias.requires_grad)


def finish(model: Any, plan: Plan, mesh: Any) -> None:
    """Has transformers cut what is not packed, and wrap the forward of the modules of its plan."""
    if plan.styles != model.tp_plan:
        model.tp_plan = plan.styles  # which transformers asks for the heads of a static cache
    _untie(model, plan)
    with _aside(model, plan):
        # Newer versions take the plan with the layers' numbers, older ones read it off the model.
        expand = getattr(model, "_expand_parallel_plan", None)
        apply_tensor_parallelism(model, mesh, *([] if expand is None else [expand(model.tp_plan)]))
    for packed in plan.packed:
        if isinstance(model.get_submodule(packed.module), Linear4bit) and packed.style is not None:
            model.get_submodule(packed.module)._hf_quantized_needs_local_tp = True
    _free_whole(model, mesh)
    _hook_gradients(model, mesh)
    model._tp_size = mesh.size()
    setattr(model, MARK, mesh.size())
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None:
        quantizer.is_serializable = _is_not_serializable  # a part would be saved as the whole


def _hook_gradients(model: Any, mesh: Any) -> None:
    """Some versions sum the gradients of a norm of heads in a hook of the module, of which torch.compile makes no graph;
    newer ones in one of the parameter, as here."""

    def sum_gradient(parameter: torch.Tensor) -> None:
        dist.all_reduce(parameter.grad, group=mesh.get_group())

    for module in model.modules():
        ours = [key for key, hook in module._backward_hooks.items() if is_engines(hook)]
        for key in ours:
            del module._backward_hooks[key]
        for parameter in module.parameters(recurse=False) if ours else ():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(sum_gradient)


def _is_not_serializable(*_: object, **__: object) -> bool:
    return False


@contextlib.contextmanager
def _aside(model: Any, plan: Plan) -> Iterator[None]:
    """Packed parameters, and the biases of their layers, out of the engine's sight."""
    taken = []
    for packed in plan.packed:
        module = model.get_submodule(packed.module)
        for name in (packed.parameter, packed.bias):
            if name in module._parameters:
                taken.append((module._parameters, name, module._parameters[name]))
                module._parameters[name] = None
    try:
        yield
    finally:
        for parameters, name, parameter in taken:
            parameters[name] = parameter


def _untie(model: Any, plan: Plan) -> None:
    """Gives modules that share a weight, an embedding and a head, one each of the same memory: the engine cuts them
    apart."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is None or stack.is_stack(parameter) or isinstance(module, Linear4bit):
                continue
            if id(parameter) in seen and (plan.style(path) or plan.style(f"{path}.{name}")):
                module._parameters[name] = nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
            seen.add(id(parameter))


def _free_whole(model: Any, mesh: Any) -> None:
    """The engine's parts are views of the whole. Modules that shared a weight share the copy of a part."""
    copies: dict[tuple[Any, ...], torch.Tensor] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if not isinstance(parameter, DTensor):
                continue
            local = parameter.to_local().detach()
            key = local.data_ptr(), local.shape, local.stride()
            copies.setdefault(key, local.clone())
            part = DTensor.from_local(copies[key], mesh, parameter.placements, run_check=False, shape=parameter.shape,
                                      stride=parameter.stride())  # fmt: skip
            module._parameters[name] = nn.Parameter(part, requires_grad=parameter.requires_grad)
