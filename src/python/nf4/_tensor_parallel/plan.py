"""What a process has of each packed matrix of a model, by the model's tp_plan; or why a model cannot be cut.

A column-wise layer of the plan has some rows of W, and the row-wise layer after it the same columns. Where both divide
evenly into whole blocks of 32, they do; else they are cut between blocks of 64, and the parts differ by one block.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Iterator

import torch
from bitsandbytes.nn import Linear4bit
from torch import nn
from torch.distributed.tensor import Replicate
from transformers.distributed.tensor_parallel import (
    ALL_PARALLEL_STYLES, ColwiseParallel, MoeExpertsParallel, PackedColwiseParallel, PackedRowwiseParallel,
    RowwiseParallel, TensorParallelLayer, replace_layer_number_by_wildcard,
)  # fmt: skip

from .._transformers import stack
from .._transformers.experts import PackedExperts, weight_names
from . import styles
from .cut import COLS, ROWS, SMALLEST, Cut, blocksize

_UNIT = 64  # bitsandbytes' own blocksize


@dataclass(frozen=True)
class Packed:
    """A packed parameter of the model, and the part of it that this process is to have; None for all of it."""

    module: str
    parameter: str
    shape: tuple[int, ...]
    bias: str  # the parameter of the module that has its bias, if any does
    style: str | None
    cut: Cut | None

    @property
    def name(self) -> str:
        return f"{self.module}.{self.parameter}"


class Plan:
    """For process `rank` of `size`. `packed` has all packed parameters; making one refuses a model by a ValueError, and
    changes nothing."""

    def __init__(self, model: Any, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.styles = styles.of(model)
        self._config = model.config.get_text_config()
        if not self.styles:
            raise ValueError(f"{type(model).__name__} has no tp_plan, so transformers does not know how to shard it")
        self._check_modules(model)
        self.packed = [each for name, module in model.named_modules() for each in self._of(model, name, module)]
        if not any(each.cut for each in self.packed):
            raise ValueError(f"{type(model).__name__} has no layer in NF4 that its tp_plan shards")
        self._check_neighbours(model)

    def style(self, name: str) -> str | None:
        return self.styles.get(replace_layer_number_by_wildcard(name))

    def _check_modules(self, model: Any) -> None:
        for name, module in model.named_modules():
            if hasattr(module, "base_layer"):
                raise ValueError(f"{name} has an adapter; shard a model before it gets adapters, or merge them")
            if hasattr(module, "_hf_hook"):
                raise ValueError(f"{name} has a hook of accelerate, which carries weights between devices; load the "
                                 "model on one device")  # fmt: skip

    def _of(self, model: Any, name: str, module: nn.Module) -> Iterator[Packed]:
        """The packed parameters of a module."""
        if isinstance(module, Linear4bit):
            shape = (module.out_features, module.in_features)
            style, parent = self.style(name), model.get_submodule(name.rpartition(".")[0])
            yield Packed(name, "weight", shape, "bias", style, self._linear_cut(name, shape, style, parent))
        elif isinstance(module, PackedExperts):
            for which in weight_names(module):
                shape = _stack_shape(module, which)
                style = self.style(f"{name}.{which}")
                cut = self._experts_cut(name, which, module, shape, style)
                yield Packed(name, which, shape, f"{which}_bias", style, cut)

    def _linear_cut(self, name: str, shape: tuple[int, int], style: str | None, parent: nn.Module) -> Cut | None:
        if style is None:
            return None
        known = ALL_PARALLEL_STYLES[style]
        rows, cols = shape
        head = getattr(parent, "head_dim", None) or getattr(parent, "head_size", None)  # of an attention
        if isinstance(known, PackedColwiseParallel):
            return self._on_blocks(name, shape, ROWS, self._halves(name, rows, known.split_factor))
        if isinstance(known, ColwiseParallel):
            if isinstance(known.output_layouts, Replicate):  # the parts are put together again, by equal sizes
                return self._on_blocks(name, shape, ROWS, [self._even(name, "rows", rows)])
            if head:
                self._check_heads(name, rows, head)
                return self._on_blocks(name, shape, ROWS, [self._even(name, "rows", rows)])
            return self._on_blocks(name, shape, ROWS, [self._between_blocks(name, "rows", rows)])
        if isinstance(known, RowwiseParallel):
            even = head or isinstance(known.input_layouts, Replicate)
            part = (self._even if even else self._between_blocks)(name, "columns", cols)
            return self._on_blocks(name, shape, COLS, [part])
        if type(known).shard_param is TensorParallelLayer.shard_param:
            return None  # all of it
        raise ValueError(f"the tp_plan has {name} as {style}, which is not known for a layer in NF4")

    def _experts_cut(self, name: str, which: str, module: Any, shape: tuple[int, ...], style: str | None) -> Cut | None:
        if style is None and self.style(name) is None:
            return None
        if not _sums_packed_experts(self.style(name)):
            raise ValueError(f"this transformers does not sum the products of {name} if they are packed; 5.24 does")
        if style is None or not isinstance(ALL_PARALLEL_STYLES[style], _experts_style(which, module)):
            raise ValueError(f"the tp_plan has {name}.{which} as {style}, which is not known for experts in NF4")
        _, rows, cols = shape
        full = f"{name}.{which}"
        if which == "down_proj":
            return self._on_blocks(full, shape, COLS, [self._between_blocks(full, "columns", cols)])
        if not module.has_gate:
            return self._on_blocks(full, shape, ROWS, [self._between_blocks(full, "rows", rows)])
        if module.is_concatenated:
            return self._on_blocks(full, shape, ROWS, self._halves(full, rows, 2))
        begin, end = self._between_blocks(full, "pairs of rows", rows // 2)
        return self._on_blocks(full, shape, ROWS, [(2 * begin, 2 * end)])

    # ---- ranges

    def _even(self, name: str, what: str, count: int) -> tuple[int, int]:
        if count % self.size:
            raise ValueError(f"{name} has {count} {what}; expected a number that {self.size} processes divide evenly")
        part = count // self.size
        return part * self.rank, part * (self.rank + 1)

    def _between_blocks(self, name: str, what: str, count: int) -> tuple[int, int]:
        """Evenly, if that is between blocks; else by whole blocks, which the layer before or after is cut by too."""
        blocks = count // _UNIT
        uneven = count % self.size or count // self.size % SMALLEST
        if uneven and count % _UNIT == 0 and blocks >= self.size:
            return _UNIT * (blocks * self.rank // self.size), _UNIT * (blocks * (self.rank + 1) // self.size)
        return self._even(name, what, count)

    def _halves(self, name: str, rows: int, factor: int) -> list[tuple[int, int]]:
        """The same part of each of the matrices that are packed into one."""
        begin, end = self._between_blocks(name, f"rows in {factor} parts", rows // factor)
        return [(begin + i * (rows // factor), end + i * (rows // factor)) for i in range(factor)]

    def _on_blocks(self, name: str, shape: tuple[int, ...], dim: int, ranges: list[tuple[int, int]]) -> Cut:
        cut = Cut(dim, tuple(ranges))
        if blocksize(_UNIT, cut.starts(shape)) is None:
            what = "rows" if dim == ROWS else "columns"
            text = " and ".join(f"{begin} to {end}" for begin, end in ranges)
            raise ValueError(f"{name} {[*shape]} cannot be cut for {self.size} processes: {what} {text} do not begin and "
                             f"end with blocks of {SMALLEST} weights")  # fmt: skip
        return cut

    def _check_heads(self, name: str, rows: int, head: int) -> None:
        heads = getattr(self._config, "num_attention_heads", None)
        for count, what in ((rows // head, name), (heads, "the model")):
            if count is not None and count % self.size:
                raise ValueError(f"{what} has {count} heads of attention; expected a number that {self.size} processes "
                                 "divide evenly, since a head is not cut")  # fmt: skip

    def _check_neighbours(self, model: Any) -> None:
        """Dense layers are cut by transformers, in its own way where parts are not equal."""
        for each in self.packed:
            if each.cut is None or each.cut.size * self.size == each.shape[-2:][each.cut.dim]:
                continue
            parent = each.module.rpartition(".")[0]
            for name, module in model.get_submodule(parent).named_children():
                if type(module) is nn.Linear and self.style(f"{parent}.{name}"):
                    raise ValueError(f"{each.module} would be cut unevenly, between its blocks; {parent}.{name} is not "
                                     "packed, and has no blocks")  # fmt: skip


def _sums_packed_experts(style: str | None) -> bool:
    """Whether the engine adds what the processes have. In older versions it looks for DTensors first."""
    known = ALL_PARALLEL_STYLES[style] if style is not None else None
    if not isinstance(known, MoeExpertsParallel):
        return False
    return "source" not in inspect.signature(known.transform_output_post_forward).parameters


def _experts_style(which: str, module: Any) -> type:
    """The style of a plan in which a process keeps pairs of gate and up, and the columns of down that they are for. The
    rows of a transposed weight are in its last dimension."""
    by_column, by_row = ColwiseParallel, RowwiseParallel
    if which == "gate_up_proj" and module.is_concatenated:
        by_column, by_row = PackedColwiseParallel, PackedRowwiseParallel
    return by_row if (which == "down_proj") != module.is_transposed else by_column


def _stack_shape(module: Any, name: str) -> tuple[int, ...]:
    """[E, N, K], also of one that is about to be loaded."""
    parameter = module._parameters[name]
    if stack.is_stack(parameter):
        return tuple(parameter.quant_state.shape)
    experts, rows, cols = parameter.shape
    return (experts, cols, rows) if module.is_transposed else (experts, rows, cols)


def check_dense(model: Any, plan: Plan, mesh: Any) -> None:
    """Has transformers look at the modules that are not packed; a ValueError is its refusal."""
    for path, module in model.named_modules():
        if isinstance(module, (Linear4bit, PackedExperts)):
            continue
        for name, _ in module.named_parameters(recurse=False):
            style = plan.style(f"{path}.{name}") or plan.style(path)
            if style is not None:
                ALL_PARALLEL_STYLES[style].validate_param(module, name, mesh, parameter_name=f"{path}.{name}")


def device_of(model: Any, mesh: Any) -> torch.device:
    """Where the model is; a ValueError where that is not one device, and the current one."""
    devices = {tensor.device for tensor in [*model.parameters(), *model.buffers()]}
    if len(devices) != 1:
        raise ValueError(f"the model is on {', '.join(sorted(map(str, devices)))}; expected one device")
    (device,) = devices
    if device.type != mesh.device_type:
        raise ValueError(f"the model is on {device}; expected {mesh.device_type}, as the device mesh")
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        raise ValueError(f"the model is on {device}, and the current device is cuda:{torch.cuda.current_device()}; "
                         f"call torch.cuda.set_device({device.index}) before anything else")  # fmt: skip
    return device
