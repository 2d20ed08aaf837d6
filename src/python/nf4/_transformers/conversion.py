"""Steps of transformers' loading: dense weights are packed, and packed matrices of a checkpoint become a stack."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import Tensor
from transformers.core_model_loading import ConversionOps, MergeModulelist, WeightConverter

from . import stack
from .experts import PackedExperts, parts, weight_names
from .names import Record, bias_template

# What follows the name of a matrix in the keys of a packed one. The name alone is the last, since the first transformers
# take the first pattern that begins a key.
_SUFFIXES = (".quant_state.bitsandbytes__nf4", ".nested_quant_map", ".nested_absmax", ".quant_map", ".absmax", "")


def find(model: Any, full_name: str) -> tuple[Any, str]:
    path, _, name = full_name.rpartition(".")
    return model.get_submodule(path), name


def is_packed_weight(model: Any, full_name: str) -> bool:
    """Whether the parameter is, or is to be, a packed stack."""
    module, name = find(model, full_name)
    return isinstance(module, PackedExperts) and name in weight_names(module)


class Quantize(ConversionOps):
    """Packs the weights of experts, and leaves all else to `others`, the quantizer's own step."""

    def __init__(self, others: Any, nested: bool) -> None:
        self.others, self.nested = others, nested

    def convert(self, input_dict: dict[str, Any], *arguments: Any, model: Any = None, **named: Any) -> dict[str, Any]:
        ours = {name: value for name, value in input_dict.items() if is_packed_weight(model, name)}
        if not ours:
            return self.others.convert(input_dict, *arguments, model=model, **named)
        return {name: self._packed(model, name, value) for name, value in ours.items()}

    def _packed(self, model: Any, full_name: str, value: Any) -> Any:
        w = value[0] if isinstance(value, list) else value
        module, name = find(model, full_name)
        w = w.transpose(1, 2).contiguous() if module.is_transposed else w
        module._is_hf_initialized = True
        return stack.pack(w, parts(module, name), self.nested)


class Join(ConversionOps):
    """Makes the stack of the matrices that a checkpoint holds of each expert: packed, or dense as they lie there."""

    def __init__(self, hf_quantizer: Any, sources: Sequence[str]) -> None:
        self.hf_quantizer = hf_quantizer  # by which transformers knows that nothing is to be cast before
        self.sources = tuple(sources)

    def __deepcopy__(self, memo: Any) -> Join:
        return self  # transformers copies a converter for each weight, and nothing here changes

    @torch.no_grad()
    def convert(self, input_dict: dict[str, Any], *_: Any, full_layer_name: str = "", model: Any = None,
                **__: Any) -> dict[str, Any]:  # fmt: skip
        module, name = find(model, full_layer_name)
        old = module._parameters[name]
        shape = tuple(old.shape[i] for i in (0, 2, 1)) if module.is_transposed else tuple(old.shape)
        columns = {key: _list(value) for key, value in input_dict.items()}
        for key, values in columns.items():
            if len(values) != shape[0]:
                raise ValueError(f"{full_layer_name} has {len(values)} of {key}; expected {shape[0]}")
        module._is_hf_initialized = True
        if set(columns) <= set(self.sources):
            dense = torch.cat([torch.stack(columns[source]) for source in self.sources], dim=1)
            return {full_layer_name: _as_held(module, dense.to(old.dtype))}
        experts = [[_part(columns, source, number) for source in self.sources] for number in range(shape[0])]
        if isinstance(module, PackedExperts):
            return {full_layer_name: stack.join(experts, shape, old.dtype, full_layer_name)}
        return {full_layer_name: _as_held(module, stack.join_dense(experts, shape, old.dtype, full_layer_name))}


def _list(value: Any) -> list[Tensor]:
    return value if isinstance(value, list) else [value]


def _part(columns: dict[str, list[Tensor]], source: str, number: int) -> stack.Part:
    return stack.Part({suffix: columns[source + suffix][number] for suffix in _SUFFIXES if source + suffix in columns})


def _as_held(module: Any, dense: Tensor) -> Tensor:
    return dense.transpose(1, 2).contiguous() if module.is_transposed else dense


def in_place_of(converter: Any, hf_quantizer: Any) -> WeightConverter:
    """What loads packed matrices too, in the place of a converter of transformers' that stacks dense ones."""
    sources, target = converter._original_source_patterns, converter._original_target_patterns
    made = _joining(hf_quantizer, sources, target)
    made.scope_prefix, made.base_model_prefix = converter.scope_prefix, converter.base_model_prefix
    return made


def additional(record: Record, name: str, hf_quantizer: Any) -> list[WeightConverter]:
    """What loads the weight `name` of `record`, and of all modules that are called alike, from matrices, where
    transformers has no converter for that."""
    place = ".".join(record.path.split(".")[-2:])
    sources = [f"{place}.{template}" for template in record.templates[name]]
    made = [_joining(hf_quantizer, sources, [f"{place}.{name}"])]
    bias = bias_template(sources[0]) if record.has_bias else None
    if bias is not None:
        made.append(WeightConverter(bias, f"{place}.{name}_bias", [MergeModulelist(dim=0)]))
    return made


def _joining(hf_quantizer: Any, sources: Sequence[str], target: Sequence[str]) -> WeightConverter:
    patterns = [source + suffix for suffix in _SUFFIXES for source in sources]
    return WeightConverter(patterns, list(target), [Join(hf_quantizer, sources)])
