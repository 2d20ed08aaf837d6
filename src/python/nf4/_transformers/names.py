"""Under which names checkpoints hold the matrices of experts, one by one.

transformers merges the matrices of a checkpoint while it loads, by converters that its conversion mapping has for a
model: these name them. For a model whose checkpoints hold the stacks themselves, they are what its family writes, and
for gpt-oss, whose gate and up are interleaved, what Unsloth's 4-bit files have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterable, Sequence

from .experts import parts, stack_shape, weight_names


@dataclass
class Record:
    """Experts of a model, by what is needed of them once their converters are known."""

    path: str  # of the module
    shapes: dict[str, tuple[int, int, int]]  # E, N, K by the name of the weight
    parts: dict[str, int]
    has_bias: bool
    is_transposed: bool
    reason: str | None  # why its weights are not packed
    templates: dict[str, tuple[str, ...]] = field(default_factory=dict)  # within the module, "*" for the expert


def record(path: str, module: Any, reason: str | None) -> Record:
    names = [name for name in weight_names(module) if getattr(module._parameters.get(name), "ndim", 0) == 3]
    made = Record(path, {name: stack_shape(module, name) for name in names}, {name: parts(module, name) for name in names},
                  module.has_bias, module.is_transposed, reason)  # fmt: skip
    made.templates = {name: _default(made, name) for name in names}
    return made


def _default(record: Record, name: str) -> tuple[str, ...]:
    if record.parts.get("gate_up_proj") == 1:
        return (f"{name}s.*.weight",)
    return ("*.gate_proj.weight", "*.up_proj.weight") if name == "gate_up_proj" else (f"*.{name}.weight",)


def bias_template(template: str) -> str | None:
    """The key of a matrix' bias; None where the model's biases stay a stack."""
    head, _, _ = template.partition("s.*.")
    return f"{head}s.*.bias" if head != template else None


def _literal(pattern: str) -> str:
    return pattern.replace(r"\.", ".").lstrip("^").rstrip("$")


def merged(converter: Any) -> tuple[str, tuple[str, ...]] | None:
    """The target and the sources of a converter that stacks matrices of experts, one or two side by side."""
    from transformers.core_model_loading import Concatenate, MergeModulelist

    from .conversion import Join

    operations = list(getattr(converter, "operations", ()))
    steps = [type(operation) for operation in operations]
    if steps == [Join]:  # which took the place of such a one
        sources, dims, expected = tuple(map(_literal, operations[0].sources)), [0], [Join]
    else:
        sources = tuple(map(_literal, converter.source_patterns))
        dims = [operation.dim for operation in operations if hasattr(operation, "dim")]
        expected = [MergeModulelist] if len(sources) == 1 else [MergeModulelist, Concatenate]
    if steps != expected or dims != [0, 1][: len(steps)] or len(converter.target_patterns) != 1:
        return None
    if not all(source.endswith(".weight") and source.count("*") == 1 for source in sources):
        return None
    return _literal(converter.target_patterns[0]), sources


def _in_scope(converter: Any, name: str) -> bool:
    scope = getattr(converter, "scope_prefix", None)
    if not scope:
        return True
    base = getattr(converter, "base_model_prefix", None)
    return name.startswith((f"{scope}.", f"{base}.{scope}."))


def learn(records: Iterable[Record], converters: Sequence[Any]) -> dict[tuple[str, str], Any]:
    """Takes the templates of the records from the converters that make their weights. Returns these, by path and name."""
    found = {}
    for item in records:
        for name in item.templates if not item.is_transposed else ():
            for converter in converters:
                templates = _templates(item, name, converter)
                if templates is not None:
                    item.templates[name] = templates
                    found[item.path, name] = converter
                    break
    return found


def _templates(item: Record, name: str, converter: Any) -> tuple[str, ...] | None:
    """The names, within the module, of the matrices of which `converter` makes its weight `name`."""
    known = merged(converter)
    full = f"{item.path}.{name}"
    if known is None or not full.endswith(known[0]) or not _in_scope(converter, full):
        return None
    target, sources = known
    keys = [full[: len(full) - len(target)] + source for source in sources]
    if len(keys) != item.parts[name] or not all(key.startswith(f"{item.path}.") for key in keys):
        return None
    return tuple(key[len(item.path) + 1 :] for key in keys)
