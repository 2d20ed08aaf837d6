"""Experts of transformers that hold their weights in NF4.

transformers marks classes of experts by use_experts_implementation: flags say how their weights lie, and the forward of
all is the same two products with the class's own _apply_gate between them. A module whose weights are to be packed gets
a subclass of its class, so whoever asks for the class still finds it. In that subclass

    forward                 is libnf4's where there are no gradients, and transformers' own on unpacked weights elsewhere
    .gate_up_proj, ...      read as the dense weights, for all who compute with them: transformers' implementations, and
                            peft's LoRA on parameters; what is assigned to the .data of one is packed again
    parameters and state    are the packed ones
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import Any, Callable, Iterator

import torch
from torch import Tensor

from .. import _tensors
from .._bitsandbytes.fallback import REFUSALS
from .._library import Error
from . import stack, switch

_DTYPES = frozenset({torch.float32, torch.float16, torch.bfloat16})

# Of use_experts_implementation: what it takes beside flags, and the flags that are known here.
_ARGUMENTS = frozenset({"experts_class", "experts_interface"})
_FLAGS = frozenset({"is_concatenated", "is_transposed", "has_bias", "has_gate"})


def is_marked(module: torch.nn.Module) -> bool:
    """Whether use_experts_implementation made the class of `module`."""
    flags = all(isinstance(getattr(module, flag, None), bool) for flag in _FLAGS)
    return flags and hasattr(type(module), "_apply_gate") and isinstance(getattr(module, "num_experts", None), int)


def weight_names(module: Any) -> tuple[str, str]:
    return ("gate_up_proj" if module.has_gate else "up_proj", "down_proj")


def misfit(module: Any, use_experts_implementation: Callable[..., Any]) -> str | None:
    """Why the weights of a marked module cannot be packed, or None."""
    for name, flag in inspect.signature(use_experts_implementation).parameters.items():
        if name not in _FLAGS | _ARGUMENTS and getattr(module, name, flag.default) != flag.default:
            return f"it has {name}={getattr(module, name)}, which libnf4 does not know"
    if getattr(module, "_is_expert_parallel", False):
        return "its experts are spread over devices"
    for name in weight_names(module):
        weight = module._parameters.get(name)
        if weight is None or weight.dim() != 3:
            return f"it has no {name} of three sizes"
        if weight.dtype not in _DTYPES:
            return f"its {name} is {weight.dtype}"
        _, rows, cols = stack_shape(module, name)
        size = rows // parts(module, name) * cols
        if size % stack.BLOCKSIZE:
            return f"a matrix of its {name} has {size} weights, which is no multiple of the blocksize {stack.BLOCKSIZE}"
    return None


def parts(module: Any, name: str) -> int:
    """Into how many matrices a checkpoint divides the weight of one expert."""
    return 2 if name == "gate_up_proj" and module.is_concatenated and not module.has_bias else 1


def stack_shape(module: Any, name: str) -> tuple[int, int, int]:
    """E, N and K of a dense weight of the module."""
    experts, rows, cols = module._parameters[name].shape
    return (experts, cols, rows) if module.is_transposed else (experts, rows, cols)


@torch.compiler.assume_constant_result
def _usable(index: int) -> bool:
    return switch.usable(index)


def _product(x: Tensor, parameter: Any, ids: Tensor, bias: Tensor | None, scale: Tensor | None = None) -> Tensor:
    state = parameter.quant_state
    return torch.ops.nf4.gemm_experts(
        x, stack.plain(parameter), state.absmax, state.shape, state.blocksize, ids, bias, scale
    )


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _saves_otherwise() -> bool:
    """Whether somebody has a hook for what autograd saves, as activation checkpointing has, which keeps nothing. Of
    several hooks autograd asks the last one alone. A torch that cannot tell is left alone too."""
    try:
        return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
    except (AttributeError, TypeError):
        return True


class Unpacked(Tensor):
    """The dense weights of a module, as others see them. Writing their .data packs them again."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    owner: tuple[Any, str]

    @property  # type: ignore[override]
    def data(self) -> Tensor:
        return Tensor.data.__get__(self)

    @data.setter
    def data(self, value: Tensor) -> None:
        module, name = self.owner
        module.pack(name, value)


class PackedExperts(torch.nn.Module):
    """What the subclass of a marked class adds to it."""

    nf4_class: type  # the marked class
    nf4_templates: dict[str, tuple[str, ...]]  # the matrices of a weight within the module, "*" for the expert

    # Of the marked class.
    has_bias: bool
    has_gate: bool
    is_transposed: bool
    act_fn: Any
    _apply_gate: Any

    def forward(self, *arguments: Any, **named: Any) -> Tensor:
        # A parametrized weight, as peft makes it for the time of a call, is not among the parameters.
        up, down = (self._parameters.get(name) for name in weight_names(self))
        is_call = len(arguments) == 3 and not named and stack.is_stack(up) and stack.is_stack(down)
        if is_call and self._is_for_libnf4(*arguments):
            if torch.compiler.is_compiling():
                return self._multiply(up, down, *arguments)
            try:
                return self._multiply(up, down, *arguments)
            except Error as error:
                if error.status not in REFUSALS:
                    raise
        if torch.compiler.is_compiling():
            return super().forward(*arguments, **named)
        with self._unpacked_once() as cache, self._saving_packed(cache):
            return super().forward(*arguments, **named)

    def _is_for_libnf4(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> bool:
        if torch.is_grad_enabled():
            tensors = [hidden_states, top_k_weights, *self._parameters.values()]
            if any(tensor.requires_grad for tensor in tensors if tensor is not None):
                return False
        index = hidden_states.get_device()
        return (hidden_states.dim() == top_k_index.dim() == 2 and hidden_states.dtype in _DTYPES
                and top_k_index.dtype in _tensors.ID_DTYPES and top_k_weights.shape == top_k_index.shape
                and not getattr(self, "_is_expert_parallel", False) and _usable(index))  # fmt: skip

    def _multiply(self, up: Any, down: Any, hidden_states: Tensor, top_k_index: Tensor,
                  top_k_weights: Tensor) -> Tensor:  # fmt: skip
        first, second = weight_names(self)
        x = _product(hidden_states, up, top_k_index, self._bias(first, hidden_states.dtype))
        x = self._apply_gate(x) if self.has_gate else self.act_fn(x)
        bias = self._bias(second, hidden_states.dtype)
        y = _product(x.to(hidden_states.dtype), down, top_k_index, bias, top_k_weights.float())
        return y.view(*top_k_index.shape, y.shape[-1]).sum(1)

    def _bias(self, name: str, dtype: torch.dtype) -> Tensor | None:
        bias = self._parameters[f"{name}_bias"] if self.has_bias else None
        return None if bias is None else bias.to(dtype)

    # ---- the dense weights, for whoever reads them

    def _dense(self, name: str) -> Tensor:
        parameter: Any = self._parameters.get(name)
        if not stack.is_stack(parameter):
            if parameter is None:
                raise AttributeError(f"{type(self).__name__} has no {name} now")
            return parameter
        cache = self.__dict__.get("_unpacked")
        if cache is not None and name in cache:
            return cache[name]
        w = stack.unpack(parameter)
        w = w.transpose(1, 2) if self.is_transposed else w
        if cache is not None:
            cache[name] = w
        elif not torch.compiler.is_compiling():
            w = w.as_subclass(Unpacked)
            w.owner = self, name
        return w

    @contextlib.contextmanager
    def _unpacked_once(self) -> Iterator[dict[str, Tensor]]:
        """Unpacks each weight that is read once, for the time of a forward."""
        cache: dict[str, Tensor] = {}
        self.__dict__["_unpacked"] = cache
        try:
            yield cache
        finally:
            self.__dict__.pop("_unpacked", None)
            cache.clear()  # the hooks that autograd keeps refer to it

    def _saving_packed(self, cache: dict[str, Tensor]) -> Any:
        """Within it, what autograd saves of a dense weight, or of a part of it, is where it is: it is unpacked again for
        its gradient. Else a model would keep the dense weights of all its layers for the backward pass."""
        if not torch.is_grad_enabled() or _saves_otherwise():
            return contextlib.nullcontext()
        parameters = dict(self._parameters)

        def save(tensor: Tensor) -> Any:
            for name, dense in cache.items():
                if tensor.device == dense.device and _storage(tensor) == _storage(dense):
                    return name, tensor.size(), tensor.stride(), tensor.storage_offset()
            return tensor

        def load(saved: Any) -> Tensor:
            if isinstance(saved, Tensor):
                return saved
            name, size, stride, offset = saved
            parameter = parameters[name]
            span = 1 + sum((length - 1) * step for length, step in zip(size, stride)) if size.numel() else 0
            values, begin = stack.unpack_range(parameter, offset, offset + span)
            return values.as_strided(size, stride, offset - begin)

        return torch.autograd.graph.saved_tensors_hooks(save, load)

    def pack(self, name: str, w: Tensor) -> None:
        """Gives the weight `name` new values, of the class's own layout."""
        before: Any = self._parameters[name]
        w = w.transpose(1, 2).contiguous() if self.is_transposed else w
        nested = before.quant_state.second is not None
        self._parameters[name] = stack.pack(w.to(before.quant_state.dtype), parts(self, name), nested)

    # A parametrization takes the place of a parameter, and makes a parameter or buffer of the dense weight when it is
    # removed. The packed one waits for that.

    def __delattr__(self, name: str) -> None:
        if stack.is_stack(self._parameters.get(name)):
            self.__dict__.setdefault("_shelf", {})[name] = self._parameters[name]
        super().__delattr__(name)

    def register_parameter(self, name: str, param: Any) -> None:
        if not self._restore(name):
            super().register_parameter(name, param)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        if not self._restore(name):
            super().register_buffer(name, tensor, persistent)

    def _restore(self, name: str) -> bool:
        parameter = self.__dict__.get("_shelf", {}).pop(name, None)
        if parameter is not None:
            self._parameters[name] = parameter
        return parameter is not None

    # ---- state

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        parameter: Any
        for name, parameter in self._parameters.items():
            if stack.is_stack(parameter):
                for key, value in parameter.quant_state.as_dict(packed=True).items():
                    destination[f"{prefix}{name}.{key}"] = value if keep_vars else value.detach()

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _new, (type(self).nf4_class,), self.__dict__

    def unpack(self) -> None:
        """Makes the module what it was, with its weights unpacked."""
        for name in weight_names(self):
            parameter: Any = self._parameters[name]
            if stack.is_stack(parameter):
                w = stack.unpack(parameter)
                self._parameters[name] = torch.nn.Parameter(w.transpose(1, 2).contiguous() if self.is_transposed else w)
        self.__class__ = type(self).nf4_class


@functools.lru_cache(maxsize=None)
def packed_class(cls: type) -> type:
    """The subclass of a marked class whose instances hold packed weights."""
    members: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "nf4_class": cls}
    for name in ("gate_up_proj", "up_proj", "down_proj"):
        members[name] = property(functools.partial(PackedExperts._dense, name=name))
    return type(cls.__name__, (PackedExperts, cls), members)


def _new(cls: type) -> Any:
    """An instance to be filled, for copies and pickles."""
    made: Any = packed_class(cls)
    return made.__new__(made)
