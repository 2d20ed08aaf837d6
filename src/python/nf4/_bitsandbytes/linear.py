"""A short Linear4bit.forward, for the CPU's sake: it spares most of a call's time where there are no gradients."""

from __future__ import annotations

import ctypes
import functools
import logging
import weakref
from typing import Any, Callable

import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from torch.autograd import forward_ad

from .. import _tensors
from .._library import BLOCKSIZES, Error, check, library
from .devices import Devices
from .fallback import REFUSALS

log = logging.getLogger("nf4")

_BLOCKSIZES = frozenset(BLOCKSIZES)

# Types whose memory is that of a tensor: bias and x; and weights, which torch.load makes plain ones.
_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter})
_WEIGHTS = _PLAIN | {Params4bit}

_NoTorchFunction = torch._C.DisableTorchFunctionSubclass  # else a question to a Params4bit takes a microsecond
_len_dispatch_stack = torch._C._len_torch_dispatch_stack
_is_tracing = torch._C._is_tracing
_transform_level = torch._C._functorch.maybe_current_level  # of torch.func: vmap and the like


class Plan:
    """A layer's weight and bias as libnf4 takes them, and what shows whether that still holds. It keeps none of the
    layer's tensors alive: memory that is freed between calls, to be loaded again from elsewhere, would not be free."""

    __slots__ = ("devices", "key", "weight", "rows", "cols", "device", "dtypes", "bias_pointer", "prepared")

    def __reduce__(self) -> tuple:
        return type(None), ()  # addresses: in a copy or a pickle of the module there is none


def _key(parameter: Params4bit, bias: torch.Tensor | None) -> tuple:
    """All that a plan is made of: the plan holds while this stays the same. Asked in every call, since a layer may be
    given other memory at any time: by another parameter, by its quant_state, or by the .data of a tensor.

    Parameters count by their id: another one at the same id has to have the same memory and types to be taken for it,
    and then it gives the same plan."""
    state = parameter.quant_state.__dict__  # not by name: the __getattr__ of some versions makes that slow
    absmax = state["absmax"]
    with _NoTorchFunction():
        codes = parameter.data_ptr()
    bias_pointer = bias_dtype = None
    if bias is not None:
        bias_pointer, bias_dtype = bias.data_ptr(), bias.dtype
    key = (id(parameter), codes, id(bias), bias_pointer, bias_dtype, state["quant_type"], state["shape"],
           state["blocksize"], absmax.data_ptr(), absmax.dtype)  # fmt: skip
    if not state["nested"]:
        return key, None
    offset, second = state["offset"], state["state2"].__dict__
    absmax2, code = second["absmax"], second["code"]
    return key, (second["blocksize"], absmax2.data_ptr(), absmax2.dtype, code.data_ptr(), code.dtype,
                 offset.data_ptr(), offset.dtype)  # fmt: skip


def _plan(layer: Linear4bit, parameter: Params4bit, bias: torch.Tensor | None, devices: Devices) -> Plan | None:
    """The plan of `layer`, whose parameters these are, or None if it is not for us. Raises whatever an unknown kind of
    layer makes it raise."""
    state = parameter.quant_state
    if state.quant_type != "nf4" or state.blocksize not in _BLOCKSIZES or not isinstance(state.shape, tuple):
        return None
    if type(parameter) not in _WEIGHTS or layer.weight is not parameter or layer.bias is not bias:
        return None
    if state.nested and state.state2.blocksize not in _BLOCKSIZES:
        return None
    if getattr(state, "packing_format_for_cpu", False):
        return None
    with _NoTorchFunction():
        codes = parameter.detach()
    plan = Plan()
    plan.devices, plan.key = devices, _key(parameter, bias)
    plan.rows, plan.cols = state.shape
    plan.device = codes.get_device()
    if not devices[plan.device]:
        return None
    plan.dtypes, plan.bias_pointer = _tensors.DTYPES, None
    if bias is not None:
        if type(bias) not in _PLAIN or not _tensors.is_bias(bias, plan.rows, bias.dtype, plan.device):
            return None
        plan.dtypes, plan.bias_pointer = {bias.dtype: _tensors.DTYPES[bias.dtype]}, bias.data_ptr()
    nested = ()
    if state.nested:
        nested = state.state2.code, state.state2.absmax, state.offset, state.state2.blocksize
    plan.weight = _tensors.weight(codes, state.absmax, plan.rows, plan.cols, state.blocksize, *nested)
    plan.prepared = None  # what the extension makes of it
    return plan


def short_forward(original: Callable[..., Any], devices: Devices, extension: Any = None) -> Callable[..., Any]:
    """A Linear4bit.forward that goes straight to the library where that is all there is to it: a plain tensor on a
    usable device, no gradients, nothing that watches operators. Everything else is `original`'s, and so is every error:
    what keeps a product from being made, of whatever kind, is the original's to work with or to report.

    With the `extension` (extension.py) a layer's further calls are made in C."""
    is_compiling, is_grad_enabled = torch.compiler.is_compiling, torch.is_grad_enabled
    limits = devices.limits

    def product(layer: Linear4bit, x: torch.Tensor) -> torch.Tensor | None:
        """layer(x), or None if that is not for us."""
        if type(x) is not torch.Tensor:
            return None
        if _len_dispatch_stack() or _is_tracing() or _transform_level() is not None or forward_ad._current_level >= 0:
            return None
        own = layer.__dict__
        parameters = own["_parameters"]
        parameter, bias = parameters["weight"], parameters["bias"]
        if "weight" in own or "bias" in own or not own["compute_type_is_set"]:
            return None
        if is_grad_enabled() and _requires_grad(x, parameter, bias):
            return None
        plan = own.get("_nf4_plan")
        if plan is None or plan.devices is not devices or plan.key != _key(parameter, bias):
            plan = own["_nf4_plan"] = _plan(layer, parameter, bias, devices)
            if plan is None:
                return None
            if in_c is not None:
                plan.prepared = in_c.prepare(parameter, bias, _tensors.handle(plan.device).value)
        index, shape, dtype = x.get_device(), x.shape, x.dtype
        if (index != plan.device or shape[-1] != plan.cols or dtype not in plan.dtypes
                or own["compute_dtype"] is not dtype and own["compute_dtype"] is not None):  # fmt: skip
            return None
        if index in limits and not devices.is_faster(index, plan.dtypes[dtype], x.numel() // plan.cols, plan.weight):
            return None
        return _tensors.multiply(x, index, shape, plan.dtypes[dtype], plan.weight, plan.rows, plan.bias_pointer)

    in_c = None if extension is None else _in_c(extension, product, devices)
    make = product if in_c is None else in_c.product

    @functools.wraps(original)
    def forward(self: Linear4bit, x: torch.Tensor, *more: Any, **named: Any) -> Any:
        if is_compiling() or more or named or not active:
            return original(self, x, *more, **named)
        try:
            y = make(self, x)
            if y is not None:
                return y
        except Error as error:
            if error.status not in REFUSALS:
                raise
        except Exception as error:
            log.debug("bitsandbytes' own forward is taken: %s: %s", type(error).__name__, error)
        return original(self, x)

    active = _switches[forward] = [True]
    return forward


def _in_c(extension: Any, product: Callable[..., Any], devices: Devices) -> Any:
    """What makes the products of layers that have a plan, and leaves all others to `product`."""

    def is_plain(index: int, dtype: int, m: int, weight: Any) -> bool:
        return devices.is_faster(index, dtype, m, weight) and not _tensors.workspace_size(index, dtype, m, [weight])

    guards = torch._C._dynamo.guards  # whose functions spare half of an allocation's time
    return extension.ShortCall(
        product=product, tensor=torch.Tensor, dtypes=tuple(_tensors.DTYPES),
        empty_strided_cpu=guards._empty_strided_cpu, empty_strided_cuda=guards._empty_strided_cuda,
        dispatch_modes=_len_dispatch_stack, is_tracing=_is_tracing, transform_level=_transform_level,
        forward_ad=vars(forward_ad), is_grad_enabled=torch.is_grad_enabled, requires_grad=_requires_grad,
        is_plain=is_plain, devices=devices, limits=devices.limits, current_device=_tensors._current_device,
        current_stream=_tensors._raw_stream, check=check, exchange_api=torch.Tensor.__dlpack_c_exchange_api__,
        gemm=ctypes.cast(library().nf4_gemm, ctypes.c_void_p).value, workspace_rows=_tensors.WORKSPACE_ROWS,
    )  # fmt: skip


# What turns each short forward off, when emptied. Not attributes: functools.wraps would give them to others' patches.
_switches: weakref.WeakKeyDictionary[Callable[..., Any], list[bool]] = weakref.WeakKeyDictionary()


def deactivate(forward: Callable[..., Any]) -> None:
    """Makes a short forward leave all to the original, for those who keep it, as accelerate keeps what it wraps."""
    _switches[forward].clear()


def without_inactive(forward: Callable[..., Any]) -> Callable[..., Any]:
    """`forward`, or the original of a short one that was deactivated and left behind."""
    while not _switches.get(forward, True):
        forward = forward.__wrapped__
    return forward


def _requires_grad(*tensors: torch.Tensor | None) -> bool:
    with _NoTorchFunction():
        return any(tensor is not None and tensor.requires_grad for tensor in tensors)
