"""Which matrices of a checkpoint are packed: those that transformers would pack, unless the caller names them."""

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Optional, Pattern

from .._versions import EXPERTS
from . import loader
from .matrix import DTYPES
from .reading import Checkpoint
from .safetensors import FileError, Tensor

# Architectures of which it was tested that transformers packs all matrices except those that _KEPT names.
PLAIN_ARCHITECTURES = (
    "Gemma2ForCausalLM", "Gemma3ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM", "Phi3ForCausalLM",
    "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Starcoder2ForCausalLM",
)  # fmt: skip
_KEPT = re.compile(r"(^|\.)(embed_tokens|lm_head)\.weight$")
_SUFFIX = ".weight"


@dataclass(frozen=True)
class Selection:
    """`transposed` by the names of the matrices to pack; `skipped`, modules that transformers has to leave alone
    (llm_int8_skip_modules), or None if its own choice is right; `mismatched`, names that it nevertheless takes for
    packed, or for not packed, so that it does not load them; `stacks` of the matrices of experts, to be taken apart and
    packed; the names of single `biases` of experts, by those of their stacks."""

    transposed: Dict[str, bool]
    skipped: Optional[List[str]] = None
    mismatched: List[str] = field(default_factory=list)
    stacks: Dict[str, loader.Stack] = field(default_factory=dict)
    biases: Dict[str, str] = field(default_factory=dict)


def read_config(path: str) -> Dict[str, Any]:
    with open(path, "rb") as file:
        text = file.read()
    try:
        config = json.loads(text.decode())  # which may hold Infinity, as transformers writes it
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise FileError(f"{path}: is no JSON object")
    return config


def config_dtype(config: Dict[str, Any]) -> Optional[str]:
    """The type of a model's weights, by its config."""
    parts = [config] + [part for part in config.values() if isinstance(part, dict)]
    for part in parts:
        dtype = part.get("dtype") or part.get("torch_dtype")
        if dtype in DTYPES.values():
            return dtype
    return None


def quantization_config(
    *, nested: bool = False, dtype: str = "bfloat16", skipped: Optional[List[str]] = None
) -> Dict[str, Any]:
    """What config.json of a model needs as its "quantization_config" for transformers to load the packed weights.

    `dtype` is the one to compute in; `skipped` names modules that are not packed, where that is not transformers' own
    choice."""
    return {
        "quant_method": "bitsandbytes",
        "_load_in_4bit": True,
        "_load_in_8bit": False,
        "bnb_4bit_compute_dtype": dtype,
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": nested,
        "llm_int8_enable_fp32_cpu_offload": False,
        "llm_int8_has_fp16_weight": False,
        "llm_int8_skip_modules": skipped,
        "llm_int8_threshold": 6.0,
        "load_in_4bit": True,
        "load_in_8bit": False,
    }


def _expression(name: str, text: Optional[str]) -> Optional[Pattern[str]]:
    try:
        return re.compile(text) if text else None
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{name} is {text!r}; expected a regular expression: {error}") from None


def _matrices(checkpoint: Checkpoint) -> Dict[str, Tensor]:
    return {
        tensor.name: tensor for tensor in checkpoint.tensors.values()
        if len(tensor.shape) == 2 and tensor.count and tensor.dtype in DTYPES
    }  # fmt: skip


class _Selector:
    def __init__(self, checkpoint: Checkpoint, config: Optional[Dict[str, Any]], config_path: Optional[str]) -> None:
        self.checkpoint, self.config, self.config_path = checkpoint, config, config_path
        self.matrices = _matrices(checkpoint)

    def ask(self, skipped: Optional[List[str]]) -> loader.Answer:
        if self.config is None:
            raise loader.Unanswered("there is no config.json")
        config = dict(self.config, quantization_config=quantization_config(skipped=skipped))
        return loader.ask(config, self.checkpoint.tensors)

    def usual(self, excluded: Callable[[str], bool]) -> Selection:
        """What transformers packs of this model, except what is excluded."""
        try:
            answer = self.ask(None)
        except loader.Unanswered as problem:
            answer = self._plain(problem)
        chosen = {key: linear for key, linear in answer.linears.items() if not excluded(key)}
        unmatched = [module for module in answer.unmatched if not excluded(module + _SUFFIX)]
        if unmatched:
            raise FileError(
                f"{self.checkpoint.path}: transformers packs {len(unmatched)} layers whose weights are not here as "
                f"matrices of their own, {unmatched[0]!r} the first: they are merged, split or missing; "
                f"say by exclude which to leave as they are, or by include which matrices to pack"
            )
        for key in chosen:
            if key not in self.matrices:
                tensor = self.checkpoint.tensors[key]
                raise FileError(
                    f"{self.checkpoint.path}: {key!r} is {tensor.dtype} {list(tensor.shape)}; "
                    f"expected a matrix of {', '.join(DTYPES)}"
                )
        transposed = {key: linear.transposed for key, linear in chosen.items()}
        if len(chosen) == len(answer.linears) and not answer.unmatched:
            return Selection(transposed)
        return self._fitted(transposed)

    def _plain(self, problem: loader.Unanswered) -> loader.Answer:
        if (self.config or {}).get("architectures") not in [[name] for name in PLAIN_ARCHITECTURES]:
            raise FileError(
                f"{self.config_path}: does not tell which matrices transformers packs ({problem}); "
                f"say by include which to pack"
            )
        linears = {
            name: loader.Linear(name[: -len(_SUFFIX)], transposed=False) for name in self.matrices
            if name.endswith(_SUFFIX) and not _KEPT.search(name)
        }  # fmt: skip
        return loader.Answer(linears, [])

    def named(self, names: List[str]) -> Selection:
        """These matrices, whatever transformers packs."""
        return self._fitted(dict.fromkeys(names, False))

    def with_experts(self, selection: Selection, excluded: Callable[[str], bool]) -> Selection:
        """The selection, and the weights of experts."""
        try:
            found = self.ask(selection.skipped).experts
        except loader.Unanswered as problem:
            raise FileError(
                f"{self.config_path}: does not tell which weights are those of experts: {problem}"
            ) from None
        if found is None:
            raise FileError(f"{self.config_path}: experts need transformers {EXPERTS} or newer; before 5.0 they are "
                            "matrices, and packed like all others without being asked for")  # fmt: skip
        for path, reason in found.left.items():
            raise FileError(f"{self.checkpoint.path}: the experts {path!r} cannot be packed: {reason}")
        if found.unmatched or not (found.matrices or found.stacks):
            which = f", {found.unmatched[0]!r} the first," if found.unmatched else ""
            raise FileError(f"{self.checkpoint.path}: has not the weights of experts{which} that transformers would load "
                            "as matrices, or stacks, of their own")  # fmt: skip
        stacks = {key: stack for key, stack in found.stacks.items() if not excluded(key)}
        for key, stack in stacks.items():
            tensor, shape = self.checkpoint.tensors[key], stack.shape[::-1] if stack.transposed else stack.shape
            if tensor.dtype not in DTYPES or tensor.shape != (stack.experts, *shape):
                raise FileError(f"{self.checkpoint.path}: {key!r} is {tensor.dtype} {list(tensor.shape)}; expected "
                                f"{', '.join(DTYPES)} {[stack.experts, *shape]}")  # fmt: skip
        matrices = [key for key in found.matrices if not excluded(key)]
        for key in matrices:
            if key not in self.matrices:
                tensor = self.checkpoint.tensors[key]
                raise FileError(f"{self.checkpoint.path}: {key!r} is {tensor.dtype} {list(tensor.shape)}; expected a "
                                f"matrix of {', '.join(DTYPES)}")  # fmt: skip
        biases = dict(
            stack.bias for stack in stacks.values() if stack.bias and stack.bias[0] in self.checkpoint.tensors
        )
        return replace(selection, transposed={**selection.transposed, **dict.fromkeys(matrices, False)}, stacks=stacks,
                       biases=biases)  # fmt: skip

    def _fitted(self, transposed: Dict[str, bool]) -> Selection:
        """A choice of the caller's, with the modules that transformers has to skip so as to load it."""
        try:
            everything = self.ask([])
            linears = everything.linears
            skipped = sorted(linear.module for key, linear in linears.items() if key not in transposed)
            skipped += everything.unmatched
            loaded = self.ask(skipped)
        except loader.Unanswered:
            left = [name for name in self.matrices if name.endswith(_SUFFIX) and name not in transposed]
            return Selection(transposed, sorted(name[: -len(_SUFFIX)] for name in left))
        transposed = {name: linears[name].transposed if name in linears else False for name in transposed}
        return Selection(transposed, skipped, sorted(set(loaded.linears) ^ set(transposed)) + loaded.unmatched)


def select(
    checkpoint: Checkpoint, config: Optional[Dict[str, Any]], config_path: Optional[str], include: Optional[str],
    exclude: Optional[str], experts: bool = False,
) -> Selection:  # fmt: skip
    """The matrices to pack. `include` and `exclude` are regular expressions of names: those that match `include`, or
    without it those that transformers packs for the model of `config`, except those that match `exclude`. With `experts`
    also those of experts, except those that match `exclude`."""
    wanted, unwanted = _expression("include", include), _expression("exclude", exclude)
    selector = _Selector(checkpoint, config, config_path)

    def excluded(name: str) -> bool:
        return unwanted is not None and unwanted.search(name) is not None

    if wanted is not None:
        names = [name for name in selector.matrices if wanted.search(name) and not excluded(name)]
        selection = selector.named(names) if names else Selection({})
    elif config is None:
        raise FileError(
            f"{checkpoint.path}: has no config.json beside it, which would tell which matrices transformers packs; "
            f"name one by config, or say by include which matrices to pack"
        )
    else:
        selection = selector.usual(excluded)
    if experts:
        selection = selector.with_experts(selection, excluded)
    if not selection.transposed and not selection.stacks:
        raise FileError(f"{checkpoint.path}: no matrix of {', '.join(DTYPES)} to pack: include is {include!r}, "
                        f"exclude is {exclude!r}")  # fmt: skip
    return selection
