"""Which modules transformers holds in 4 bits, by asking its own from_pretrained about the model of a config.

from_pretrained builds the model without memory (on the meta device), lets its bitsandbytes quantizer replace modules,
and works out which key of the checkpoint is which parameter. There it is stopped: no weight is read.
"""

import warnings
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple


class Unanswered(Exception):
    """transformers cannot be asked, or does not know. The message says why."""


@dataclass(frozen=True)
class Linear:
    """A module that transformers replaces by a Linear4bit."""

    module: str  # its name in the model
    transposed: bool  # a Conv1D, whose weight is [in, out] before and [out, in] once it is packed


@dataclass(frozen=True)
class Stack:
    """A tensor of a checkpoint that holds the matrices of all experts, and what they are called one by one."""

    experts: int
    shape: Tuple[int, int]  # of the matrices of one expert, one below the other
    transposed: bool  # [E, K, N] in the checkpoint
    names: Tuple[str, ...]  # of the matrices of an expert, "*" for its number
    bias: Optional[Tuple[str, str]]  # the key of the stack of biases, and what one is called


@dataclass(frozen=True)
class Experts:
    """Weights that transformers holds as one of three sizes, and the plug-in can pack."""

    matrices: List[str] = field(default_factory=list)  # keys, where the checkpoint has them one by one
    stacks: Dict[str, Stack] = field(default_factory=dict)  # by key, where it has them as they are in the model
    unmatched: List[str] = field(default_factory=list)  # parameters of which the checkpoint has neither, or not all
    left: Dict[str, str] = field(default_factory=dict)  # modules that cannot be packed, and why


@dataclass(frozen=True)
class Answer:
    linears: Dict[str, Linear]  # by the key of their weight in the checkpoint
    unmatched: List[str]  # modules whose weight is no tensor of the checkpoint, as it is merged or split there
    experts: Optional[Experts] = None  # None where transformers is too old to hold them so


class _Stopped(Exception):
    def __init__(self, model: Any, names: Iterable[Tuple[str, str]], experts: Optional[Experts] = None) -> None:
        self.model, self.names, self.experts = model, names, experts


def _renamed(model: Any, keys: Iterable[str], transforms: Iterable[Any]) -> Iterator[Tuple[str, str]]:
    """(key, name of its parameter) by transformers 5's rules, except keys that are merged or split on their way."""
    from transformers import core_model_loading as loading

    transforms = list(transforms)
    renamings = [transform for transform in transforms if isinstance(transform, loading.WeightRenaming)]
    converters = [transform for transform in transforms if isinstance(transform, loading.WeightConverter)]
    # What gathers the parts of a quantized weight belongs to the quantizer.
    changing = {
        pattern for converter in converters for pattern in converter.source_patterns
        if not all(hasattr(operation, "hf_quantizer") for operation in converter.operations)
    }  # fmt: skip
    prefix, parameters = model.base_model_prefix, model.state_dict()
    for key in sorted(keys, key=loading.dot_natural_key):  # some of the rules count on this order
        name, pattern = loading.rename_source_key(key, renamings, converters, prefix, parameters)
        if name not in parameters and key in parameters:
            name, pattern = loading.rename_source_key(key, [], [], prefix, parameters)
        if pattern is None or pattern not in changing:
            yield key, name


def _experts(model: Any, keys: Iterable[str], transforms: Iterable[Any], skipped: Any) -> Optional[Experts]:
    """What the plug-in could pack of the experts of `model`."""
    from .._transformers import is_known_version

    if not is_known_version():
        return None
    from transformers import core_model_loading as loading

    from .._transformers.names import bias_template, learn
    from .._transformers.quantizer import records_of

    transforms, found = list(transforms), Experts()
    records = records_of(model, skipped)
    learn(records, [transform for transform in transforms if isinstance(transform, loading.WeightConverter)])
    renamings = [transform for transform in transforms if isinstance(transform, loading.WeightRenaming)]
    parameters: Dict[str, Any] = {}  # (record, name) by the name of a stack or of one of its matrices
    for record in records:
        if record.reason is not None:
            found.left[record.path] = record.reason
            continue
        for name, templates in record.templates.items():
            parameters[f"{record.path}.{name}"] = record, name
            for number in range(record.shapes[name][0]):
                for template in templates:
                    parameters[f"{record.path}.{template.replace('*', str(number))}"] = record, name
    counts: Dict[str, int] = {}
    for key in keys:
        # A key that is renamed and one that is in the model as it is.
        for rules in (renamings, []):
            renamed, _ = loading.rename_source_key(key, rules, [], model.base_model_prefix, parameters)
            if renamed in parameters:
                break
        else:
            continue
        record, name = parameters[renamed]
        full = f"{record.path}.{name}"
        if renamed != full:
            found.matrices.append(key)
            counts[full] = counts.get(full, 0) + 1
            continue
        templates, (experts, rows, cols) = record.templates[name], record.shapes[name]
        place = key[: len(key) - len(name)]
        bias = bias_template(templates[0]) if record.has_bias else None
        found.stacks[key] = Stack(experts, (rows, cols), record.is_transposed,
                                  tuple(place + template for template in templates),
                                  (f"{key}_bias", place + bias) if bias else None)  # fmt: skip
        counts[full] = experts * len(templates)
    for record in records:
        for name, templates in record.templates.items() if record.reason is None else ():
            if counts.get(f"{record.path}.{name}", 0) != record.shapes[name][0] * len(templates):
                found.unmatched.append(f"{record.path}.{name}")
    return found


def _stopping(model_class: Any) -> Any:
    """A `model_class` whose from_pretrained raises _Stopped once it knows the model and the names."""

    def load_pretrained_model(model: Any, state_dict: Any, _: Any, load_config: Any, *__: Any, **___: Any) -> None:
        transforms = load_config.weight_mapping or []
        skipped = load_config.hf_quantizer.modules_to_not_convert
        raise _Stopped(model, _renamed(model, state_dict, transforms), _experts(model, state_dict, transforms, skipped))

    def key_renaming_mapping(self: Any, *arguments: Any, **options: Any) -> None:
        raise _Stopped(self, model_class._get_key_renaming_mapping(self, *arguments, **options).items())

    if hasattr(model_class, "_get_key_renaming_mapping"):  # transformers 4
        members: Dict[str, Any] = {"_get_key_renaming_mapping": key_renaming_mapping}
    else:
        members = {"_load_pretrained_model": staticmethod(load_pretrained_model)}
    return type(model_class.__name__, (model_class,), {"__module__": model_class.__module__, **members})


def _answer(stopped: _Stopped) -> Answer:
    from bitsandbytes.nn import Linear4bit
    from transformers.pytorch_utils import Conv1D

    modules: Dict[str, Linear] = {}
    for name, module in stopped.model.named_modules():
        if isinstance(module, Linear4bit):
            source: Any = module.source_cls
            modules[f"{name}.weight"] = Linear(name, issubclass(source, Conv1D))
    linears = {key: modules[name] for key, name in stopped.names if name in modules}
    matched = {linear.module for linear in linears.values()}
    return Answer(
        linears, [linear.module for linear in modules.values() if linear.module not in matched], stopped.experts
    )


def _ask(config: Dict[str, Any], keys: Iterable[str]) -> Answer:
    import torch
    import transformers

    model_type, architectures = str(config.get("model_type")), config.get("architectures") or []
    if model_type not in transformers.CONFIG_MAPPING:
        raise Unanswered(f"transformers {transformers.__version__} does not know model_type {model_type!r}")
    model_class = getattr(transformers, str(architectures[0]), None) if architectures else None
    if not isinstance(model_class, type) or not issubclass(model_class, transformers.PreTrainedModel):
        raise Unanswered(f"transformers {transformers.__version__} does not know the architectures {architectures!r}")
    state_dict = {key: torch.empty(0, dtype=torch.bfloat16, device="meta") for key in keys}
    try:
        _stopping(model_class).from_pretrained(
            None, config=transformers.CONFIG_MAPPING[model_type].from_dict(config), state_dict=state_dict
        )
    except _Stopped as stopped:
        return _answer(stopped)
    raise Unanswered(f"transformers {transformers.__version__} works in a way that is not known here")


def ask(config: Dict[str, Any], keys: Iterable[str]) -> Answer:
    """What transformers makes of a checkpoint with these keys and this config.json, which has a quantization_config."""
    try:
        from transformers.utils import logging  # first, since it is what is missing most often

        import accelerate  # noqa: F401
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise Unanswered(f"transformers, accelerate and bitsandbytes cannot be imported: {error}") from None
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _ask(config, keys)
    except Unanswered:
        raise
    except Exception as error:  # a config can be wrong in every way, and so can a version of transformers
        said = (str(error).strip().splitlines() or [""])[0]
        raise Unanswered(f"transformers says: {type(error).__name__}: {said}") from error
    finally:
        logging.set_verbosity(verbosity)
