"""What plugin.py puts in the place of parts of bitsandbytes, and takes away again.

    operators.py   the kernels of its torch operators, for CUDA
    linear.py      Linear4bit.forward; extension.py finds what makes its calls in C
    symbols.py     functions of its C library, bound by name
    gradient.py    the backward pass of its products, MatMul4Bit.backward
    inductor.py    a pass of torch.compile that groups products of the same x
    vllm.py        the operator of vllm-bnb-plugin that multiplies by the parts of a layer; vllm_experts.py its experts

    ../_transformers/   how transformers loads, saves and multiplies mixtures of experts
    ../_generate/       when transformers' generate() compiles a step

Two rules hold for all of them. Whatever is not for libnf4, or is refused by it, goes to what was there before, with its
arguments as they came (fallback.py). And each is taken away without what others have put on top of it since (../_patch.py).
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from typing import Callable

import bitsandbytes
import bitsandbytes.autograd._functions
import bitsandbytes.functional
import torch

from .._patch import replace_attribute
from . import extension, gradient, linear, operators, symbols, vllm, vllm_experts
from .codes import Codes
from .devices import Devices

log = logging.getLogger("nf4")

GROUPED = "torch.compile: products of the same x"  # in Replacements.names


class Replacements:
    """Everything, put in place when it is made, or nothing if that raises. `names` tells what, `short_call` in which
    language Linear4bit.forward makes its calls, and why in Python, and `uncompiled` which classes of models generate()
    does not compile, and why."""

    def __init__(self, quantize_experts: bool = False) -> None:
        self._names: list[str] = []
        self.short_call = "C"
        self.devices = Devices()
        self.uncompiled: dict[str, str] = {}
        self._undo: list[Callable[[], None]] = []
        codes = Codes()
        try:
            kernels = self._replace_operators(codes)
            self._replace_forward()
            self._replace_symbols(codes)
            self._replace_backward(kernels)
            self._group_products(kernels)
            self._replace_vllm(kernels)
            self._replace_vllm_experts()
            self._replace_loading_of_experts(quantize_experts)
            self._compile_generate()
        except BaseException:
            self.undo()
            raise

    @property
    def names(self) -> list[str]:
        return self._names + self.experts.names

    def undo(self) -> None:
        while self._undo:
            self._undo.pop()()

    def _replace_operators(self, codes: Codes) -> operators.Operators | None:
        if importlib.util.find_spec("bitsandbytes._ops") is None:
            return None  # before 0.46
        ours = operators.Operators(operators.original_kernels(), self.devices, codes)
        kernels = ours.kernels()
        self._undo.append(operators.register(kernels))
        self._names += kernels
        return ours

    def _replace_forward(self) -> None:
        layer = bitsandbytes.nn.Linear4bit
        layer.forward = linear.without_inactive(layer.forward)
        try:
            forward = linear.short_forward(layer.forward, self.devices, extension.load())
        except Exception as error:  # whatever it is, ctypes does the same
            self.short_call = f"Python: {error}"
            forward = linear.short_forward(layer.forward, self.devices)
        self._undo.append(functools.partial(linear.deactivate, forward))
        self._undo.append(replace_attribute(layer, "forward", forward))
        self._names.append("Linear4bit.forward")

    def _replace_symbols(self, codes: Codes) -> None:
        native = bitsandbytes.functional.lib
        ours = symbols.Symbols(native, self.devices, codes)
        self._undo.append(ours.deactivate)
        for name, function in ours.functions.items():
            self._undo.append(replace_attribute(native, name, function))
        self._names += ours.functions

    def _replace_backward(self, kernels: operators.Operators | None) -> None:
        if not _has_gemm(kernels):
            return
        function = bitsandbytes.autograd._functions.MatMul4Bit
        backward = staticmethod(gradient.with_transposed_product(function.backward, kernels))
        self._undo.append(gradient.install(kernels.gemm_4bit_transposed))
        self._undo.append(replace_attribute(function, "backward", backward))
        self._names.append("MatMul4Bit.backward")

    def _group_products(self, kernels: operators.Operators | None) -> None:
        if not _has_gemm(kernels):
            return
        try:
            from . import inductor

            self._undo.append(inductor.install(kernels.gemm_4bit_group))
        except ImportError:
            return  # a torch whose Inductor has no such passes
        except Exception as error:  # inside of torch, all may change: without the pass all else still works
            log.warning("torch.compile does not group products of the same x: %s: %s", type(error).__name__, error)
            return
        self._names.append(GROUPED)

    def _replace_vllm(self, kernels: operators.Operators | None) -> None:
        original = vllm.known()
        if kernels is None or original is None:
            return
        try:
            self._undo.append(operators.register({vllm.OPERATOR: vllm.kernel(kernels, original)}, "vllm"))
        except Exception as error:  # without it all else still works
            log.warning("vLLM multiplies by the parts of a layer one by one: %s: %s", type(error).__name__, error)
            return
        self._names.append("vLLM: parts of a layer")

    def _replace_vllm_experts(self) -> None:
        cls = vllm_experts.known()
        if cls is None:
            return
        method = vllm_experts.replacement(self.devices, getattr(cls, vllm_experts.NAME))
        self._undo.append(replace_attribute(cls, vllm_experts.NAME, method))
        self._names.append("vLLM: experts")

    def _replace_loading_of_experts(self, quantize: bool) -> None:
        from .._transformers import Experts  # which takes from this package

        self.experts = Experts(self.devices, quantize)
        self._undo.append(self.experts.undo)

    def _compile_generate(self) -> None:
        if GROUPED not in self._names or importlib.util.find_spec("transformers") is None:
            return
        from .._generate import automatic

        ours = automatic.Automatic(self.devices, self.uncompiled)
        self._undo.append(ours.install())
        self._names.append("generate: a compiled step where the cache is static")


def _has_gemm(kernels: operators.Operators | None) -> bool:
    """Whether this bitsandbytes has the operator gemm_4bit: from 0.50 on."""
    return kernels is not None and hasattr(torch.ops.bitsandbytes, "gemm_4bit")
