"""The layers of vLLM, those of several parts (q, k and v, or gate and up) in one launch.

vLLM has bitsandbytes from vllm-bnb-plugin. That holds the codes of all parts of a layer in one weight, multiplies x by
each part with bitsandbytes.matmul_4bit, and copies the results to where they belong in the layer's output: all that is
its torch operator vllm::apply_bnb_4bit. The kernel here has the library write them there.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from typing import Any, Callable

from torch import Tensor

from .fallback import with_fallback
from .operators import Operators

OPERATOR = "apply_bnb_4bit"

_MODULE, _FUNCTION = "vllm_bnb_plugin.quantization.linear", "_apply_bnb_4bit"

# SHA-256 of the function's source: what the operator does in the versions 0.0.1 to 0.0.3. One that reads otherwise may
# do something else, and is left alone.
_KNOWN = frozenset({"369fb312c4f1b2fd686a270e874429bb164899e55ec20b7eb6700069db303960"})


def known() -> Callable[..., None] | None:
    """The function that the operator runs, if it is one that is known and this process has loaded it. It has by the
    time that it imports bitsandbytes, unless somebody imported that before vLLM loaded its plug-ins."""
    function = getattr(sys.modules.get(_MODULE), _FUNCTION, None)
    return function if digest(function) in _KNOWN else None


def digest(*functions: Any) -> str | None:
    """Of their sources, one after the other; None where one has none."""
    try:
        source = "".join(map(inspect.getsource, functions))
    except (OSError, TypeError):
        return None
    return hashlib.sha256(source.encode()).hexdigest()


def kernel(operators: Operators, original: Callable[..., None]) -> Callable[..., None]:
    """The operator's kernel for CUDA. What is not for the library is done by `original`."""

    def apply(x: Tensor, weight: Tensor, offsets: Tensor, out: Tensor) -> None:
        states = [state for _, state in sorted(weight.bnb_quant_state.items())]
        if any(state.quant_type != "nf4" for state in states):
            return NotImplemented
        bounds = offsets.tolist()
        products = [  # without nested scales, which the plug-in itself unpacks when it loads a model
            (weight[begin:end], state.shape, state.absmax, state.blocksize, None, None, None, None)
            for begin, end, state in zip(bounds, bounds[1:], states)
        ]
        group = operators.gemm_4bit_group(x, products, "nf4", out)
        return NotImplemented if group is NotImplemented else None

    return with_fallback(apply, original)
