"""The experts of vLLM, multiplied as they are packed.

vllm-bnb-plugin unpacks all experts of a layer in every forward, and leaves the products to vLLM. Here its method reads
the experts alone that tokens go to.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Callable

import torch
from torch import Tensor

from .. import _tensors
from .devices import Devices
from .fallback import with_fallback
from .vllm import digest

NAME = "apply"

_MODULE, _CLASS = "vllm_bnb_plugin.quantization.fused_moe", "BitsAndBytesMoEMethod"

# SHA-256 of the source of what is replaced and of what it unpacks by, in the versions 0.0.1 to 0.0.3. A class that reads
# otherwise may do something else, and is left alone.
_KNOWN = frozenset({"65a1a54445708faa31441f9fb102c5c84e451556a6d844f50951f05f708f9c19"})


def known() -> type | None:
    """The class of the method, if it is one that is known and this process has loaded it."""
    cls = getattr(sys.modules.get(_MODULE), _CLASS, None)
    read = digest(*(getattr(cls, name, None) for name in (NAME, "_apply_4bit_dequnt")))
    return cls if read in _KNOWN else None


def replacement(devices: Devices, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The method. What is not for the library is done by `original`."""

    def apply(method: Any, layer: Any, x: Tensor, topk_weights: Tensor, topk_ids: Tensor, *_: Any, **__: Any) -> Tensor:
        up, down = layer.w13_weight, layer.w2_weight
        if not (_is_plain(method, layer) and _fits(x, topk_weights, topk_ids) and devices[x.get_device()]):
            return NotImplemented
        experts, inner, cols = down.experts_shape[0], down.experts_shape[2], x.shape[1]
        if up.experts_shape != (experts, 2 * inner, cols) or down.experts_shape != (experts, cols, inner):
            return NotImplemented
        products = [_weight(parameter, x) for parameter in (up, down)]
        if any(product is None for product in products) or not _is_faster(devices, x, topk_ids, products):
            return NotImplemented
        gate, of_gate = _multiply(x, products[0], topk_ids).chunk(2, dim=1)
        x = torch.nn.functional.silu(gate).mul_(of_gate)
        y = _multiply(x, products[1], topk_ids, topk_weights.float().contiguous())
        return y.view(*topk_ids.shape, y.shape[1]).sum(1)

    return functools.wraps(original)(with_fallback(apply, original))


def _is_plain(method: Any, layer: Any) -> bool:
    """Whether nothing is asked but two products, SiLU and the weighted sum, of experts that are all here."""
    return (str(getattr(layer.activation, "value", layer.activation)) == "silu" and layer.expert_map is None
            and not layer.apply_router_weight_on_input and not method.quant_config.load_in_8bit
            and method.moe_quant_config is None)  # fmt: skip


def _fits(x: Tensor, topk_weights: Tensor, topk_ids: Tensor) -> bool:
    return (x.dim() == topk_ids.dim() == 2 and x.shape[0] == topk_ids.shape[0] > 0 and x.dtype in _tensors.DTYPES
            and topk_ids.dtype in _tensors.ID_DTYPES and topk_weights.shape == topk_ids.shape
            and not torch.is_grad_enabled())  # fmt: skip


def _weight(parameter: Any, x: Tensor) -> Any:
    """The stack of experts [E, N, K] as the library sees it, and E; None if it is not in plain NF4."""
    state = parameter.bnb_quant_state
    if state.quant_type != "nf4" or state.nested or parameter.get_device() != x.get_device():
        return None
    experts, rows, cols = parameter.experts_shape
    codes = parameter.detach().reshape(-1)
    return _tensors.weight(codes, state.absmax, experts * rows, cols, state.blocksize), experts


def _is_faster(devices: Devices, x: Tensor, ids: Tensor, products: Any) -> bool:
    dtype, top_ks = _tensors.DTYPES[x.dtype], (ids.shape[1], 1)  # the second product has a row of x for each slot
    return all(
        devices.is_faster_with_experts(x.get_device(), dtype, ids.numel(), weight, experts, top_k)
        for (weight, experts), top_k in zip(products, top_ks)
    )


def _multiply(x: Tensor, product: Any, ids: Tensor, scale: Tensor | None = None) -> Tensor:
    weight, experts = product
    return _tensors.gemm_experts(x, weight, experts, ids, scale=scale)
