"""The plan of a model: transformers' own, and one for gpt-oss, whose layers transformers leaves whole.

transformers' engine cannot cut experts whose row-wise product has a bias: each process would add it, before their sum.
Packed experts add it in one process, so the rest of the plan is as transformers has it for its other models with sinks
in the attention, and with transposed experts."""

from __future__ import annotations

from typing import Any

from .._transformers.experts import PackedExperts, is_marked

_LAYERS = {  # by the type of the model: of each of its layers
    "gpt_oss": {
        "self_attn.q_proj": "colwise",
        "self_attn.k_proj": "colwise",
        "self_attn.v_proj": "colwise",
        "self_attn.o_proj": "rowwise",
        "self_attn.sinks": "colwise",
        "self_attn": "local_params",
        "mlp.experts.gate_up_proj": "rowwise",  # of the transposed weight, where pairs of gate and up are side by side
        "mlp.experts.down_proj": "colwise",
        "mlp.experts": "moe_tp_experts",
    }
}


def of(model: Any) -> dict[str, str]:
    """The styles of the model's modules and parameters, by names with "*" for the layer. What somebody has set goes
    first."""
    plan = dict(getattr(model, "tp_plan", None) or {})
    layers = _LAYERS.get(model.config.get_text_config().model_type)
    prefix = "layers.*." if model.base_model is model else f"{model.base_model_prefix}.layers.*."
    if layers is None or not _is_packed(model) or any(name.startswith(prefix) for name in plan):
        return plan
    return plan | {prefix + name: style for name, style in layers.items()}


def _is_packed(model: Any) -> bool:
    experts = [module for module in model.modules() if is_marked(module)]
    return bool(experts) and all(isinstance(module, PackedExperts) for module in experts)
