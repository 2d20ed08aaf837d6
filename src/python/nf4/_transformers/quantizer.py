"""What transformers' 4-bit quantizer does differently for a model whose experts are packed.

The quantizer of such a model gets a subclass of its class, with the steps of transformers' loading and saving that know
of experts. So one method alone is replaced in transformers, the one that prepares a model, and a model that was loaded
keeps what it needs.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.core_model_loading import WeightRenaming
from transformers.integrations.bitsandbytes import Bnb4bitDeserialize
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

from . import names, stack, switch
from .conversion import Quantize, additional, in_place_of, is_packed_weight
from .experts import PackedExperts, is_marked, misfit, packed_class


class ExpertsQuantizer(Bnb4BitHfQuantizer):
    """`nf4_records` has the experts of the model."""

    nf4_records: list[names.Record]

    def param_needs_quantization(self, model: Any, param_name: str, **named: Any) -> bool:
        return is_packed_weight(model, param_name) or super().param_needs_quantization(model, param_name, **named)

    def get_quantize_ops(self) -> Any:
        return Quantize(super().get_quantize_ops(), bool(self.quantization_config.bnb_4bit_use_double_quant))

    def update_weight_conversions(self, weight_conversions: Any, *model: Any) -> Any:
        converters = super().update_weight_conversions(weight_conversions, *model)
        known = names.learn(self.nf4_records, converters)
        self.nf4_originals: dict[int, Any] = {}  # by the id of what loads packed matrices in their place
        if not self.pre_quantized:
            return converters
        for place, converter in enumerate(converters):
            if any(converter is used for used in known.values()):
                converters[place] = in_place_of(converter, self)
                self.nf4_originals[id(converters[place])] = converter
        added: dict[tuple[str, ...], Any] = {}  # by what they match: layers have the same
        for record in self.nf4_records:
            for name in record.templates:
                if (record.path, name) not in known:
                    for converter in additional(record, name, self):
                        added.setdefault(tuple(converter.source_patterns), converter)
        self.nf4_originals.update((id(converter), None) for converter in added.values())
        if any("down_projs" in pattern for patterns in added for pattern in patterns):
            converters.insert(0, WeightRenaming(r"\.router\.linear\.", ".router."))  # Unsloth's files of gpt-oss
        return [*added.values(), *converters]

    def _process_model_after_weight_loading(self, model: Any, **named: Any) -> Any:
        for record in self.nf4_records:
            module = model.get_submodule(record.path)
            if not isinstance(module, PackedExperts):
                continue
            module.nf4_templates = dict(record.templates)
            if not any(map(stack.is_stack, module._parameters.values())):
                module.unpack()
                record.reason = "the checkpoint has them dense"
        # Saving goes the way back by transformers' own converters, and packed weights lie in a file as they are.
        originals = self.__dict__.pop("nf4_originals", {})
        conversions = [originals.get(id(item), item) for item in getattr(model, "_weight_conversions", None) or ()]
        model._weight_conversions = [item for item in conversions if item is not None and not _is_quantizers(item)]
        return super()._process_model_after_weight_loading(model, **named)

    def get_state_dict_and_metadata(self, model: Any) -> Any:
        state_dict, metadata = super().get_state_dict_and_metadata(model)
        state_dict = dict(model.state_dict() if state_dict is None else state_dict)
        for path, module in model.named_modules():
            if isinstance(module, PackedExperts):
                _save_matrices(state_dict, path, module)
        return state_dict, metadata

    def _dequantize(self, model: Any, *arguments: Any, **named: Any) -> Any:
        for module in model.modules():
            if isinstance(module, PackedExperts):
                module.unpack()
        return super()._dequantize(model, *arguments, **named)


def _is_quantizers(conversion: Any) -> bool:
    return any(isinstance(operation, Bnb4bitDeserialize) for operation in getattr(conversion, "operations", ()))


def _save_matrices(state_dict: dict[str, Any], path: str, module: Any) -> None:
    """Puts the matrices of each expert in the place of the stacks of `module`."""
    for name, templates in module.nf4_templates.items():
        parameter = module._parameters.get(name)
        if not stack.is_stack(parameter):
            continue
        full = f"{path}.{name}"
        for key in [key for key in state_dict if key == full or key.startswith(f"{full}.")]:
            del state_dict[key]
        for number, parts in enumerate(stack.split(parameter, len(templates))):
            for template, part in zip(templates, parts):
                key = f"{path}.{template.replace('*', str(number))}"
                state_dict.update((key + suffix, value) for suffix, value in part.items())
        bias = names.bias_template(templates[0])
        if bias is not None and module.has_bias:
            for number, value in enumerate(state_dict.pop(f"{full}_bias")):
                state_dict[f"{path}.{bias.replace('*', str(number))}"] = value


def records_of(model: Any, skipped: Any, general: str | None = None) -> list[names.Record]:
    """The experts of a model, with why they cannot be packed: for a `general` reason, since a module that is `skipped`
    holds them, or by what they are."""
    from transformers.integrations.moe import use_experts_implementation
    from transformers.quantizers.quantizers_utils import should_convert_module

    records = []
    for path, module in model.named_modules():
        if not is_marked(module):
            continue
        reason = general
        if reason is None and not should_convert_module(path, skipped):
            reason = "llm_int8_skip_modules, or transformers itself, names it"
        records.append(names.record(path, module, reason or misfit(module, use_experts_implementation)))
    return records


def _general_reason(quantizer: Any, model: Any, device_map: Any, quantize: bool) -> str | None:
    """Why nothing is done about experts at all."""
    config = quantizer.quantization_config
    if type(quantizer) is not Bnb4BitHfQuantizer:
        return f"the quantizer is {type(quantizer).__name__}, which libnf4 does not know"
    if config.bnb_4bit_quant_type != "nf4":
        return f"bnb_4bit_quant_type is {config.bnb_4bit_quant_type}"
    if getattr(model.config, "distributed_config", None) is not None:
        return "the model is spread over devices by a distributed_config"
    for index in _cuda_devices(device_map):
        if not switch.usable(index):
            return f"libnf4 cannot use CUDA device {index}"
    if quantizer.pre_quantized:
        return None
    if not quantize:
        return "nobody asked for it: NF4_EXPERTS=1, or nf4.enable(experts=True)"
    if str(config.bnb_4bit_quant_storage) != "torch.uint8":
        return f"bnb_4bit_quant_storage is {config.bnb_4bit_quant_storage}"
    return None


def _cuda_devices(device_map: Any) -> set[int]:
    """Those of a device map; the current one where it names none yet."""
    if not isinstance(device_map, dict):
        return {torch.cuda.current_device()} if torch.cuda.is_available() else set()
    devices = [torch.device(place) for place in device_map.values() if place != "disk"]
    return {device.index or 0 for device in devices if device.type == "cuda"}


def prepare(quantizer: Any, model: Any, device_map: Any, quantize: bool) -> list[names.Record]:
    """Gives the experts of a model that is about to be loaded, and its quantizer, their subclasses: where the checkpoint
    is packed, and else if `quantize`. Returns the experts, with why they are left as they are."""
    general = _general_reason(quantizer, model, device_map, quantize)
    records = records_of(model, quantizer.modules_to_not_convert, general)
    packed = [record.path for record in records if record.reason is None]
    # A packed checkpoint may hold matrices of experts that cannot be packed as one.
    if packed or (records and general is None and quantizer.pre_quantized):
        quantizer.__class__ = ExpertsQuantizer
        quantizer.nf4_records = records
    for path in packed:
        module = model.get_submodule(path)
        module.__class__ = packed_class(type(module))
    return records
