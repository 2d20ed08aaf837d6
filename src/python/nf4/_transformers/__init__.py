"""Mixtures of experts of transformers in NF4, through the 4-bit quantizer that it has for bitsandbytes.

    quantizer.py     what that quantizer does differently for a model with packed experts
    conversion.py    steps of its loading: dense weights are packed, packed matrices of a checkpoint become a stack
    names.py         under which names checkpoints hold the matrices
    experts.py       modules of experts whose weights are packed
    stack.py         the packed weights of all experts of a module
    switch.py        whether libnf4 multiplies them

One method of transformers is replaced, the one with which its quantizer prepares a model. Whatever libnf4 does not know
there, or fails at, goes the way it went before.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import re
from typing import Any, Callable

from .._patch import replace_attribute, when_imported
from .._versions import EXPERTS
from . import switch

log = logging.getLogger("nf4")

_QUANTIZER = "transformers.quantizers.quantizer_bnb_4bit"


def is_known_version() -> bool:
    """Whether the installed transformers holds experts in the way that is known here."""
    version = importlib.metadata.version("transformers")
    found, first = ([*map(int, re.findall(r"\d+", text)[:2])] for text in (version, EXPERTS))
    return found >= first


class Experts:
    """The replacement, put in place when it is made. `quantize` tells whether dense experts are packed while a model is
    loaded."""

    def __init__(self, devices: Any, quantize: bool) -> None:
        self.quantize = quantize
        self._last: tuple[str, Any] | None = None  # the class of the last model, and its experts
        self.names: list[str] = []
        switch.devices = devices
        self._undo: list[Callable[[], None]] = []
        self._undo.append(when_imported(_QUANTIZER, self._replace))

    def undo(self) -> None:
        """Models that were loaded keep their packed experts, and transformers multiplies them."""
        switch.devices = None
        while self._undo:
            self._undo.pop()()

    def status(self) -> dict[str, Any]:
        """What nf4.status() says of experts."""
        if self._last is None:
            return {"quantize": self.quantize}
        model, records = self._last
        return {
            "quantize": self.quantize,
            "model": model,
            "packed": [record.path for record in records if record.reason is None],
            "left": {record.path: record.reason for record in records if record.reason is not None},
        }

    def _replace(self, module: Any) -> None:
        if not is_known_version():
            return
        quantizer = getattr(module, "Bnb4BitHfQuantizer", None)
        original = getattr(quantizer, "_process_model_before_weight_loading", None)
        if original is None:
            log.warning("experts stay as transformers has them: it prepares models in a way that is not known here")
            return

        @functools.wraps(original)
        def prepare(quantizer: Any, model: Any, device_map: Any = None, **named: Any) -> Any:
            result = original(quantizer, model, device_map, **named)
            self._prepare(quantizer, model, device_map)
            return result

        self._undo.append(replace_attribute(quantizer, "_process_model_before_weight_loading", prepare))
        self.names.append("transformers: experts")

    def _prepare(self, quantizer: Any, model: Any, device_map: Any) -> None:
        self._last = None
        try:
            from .quantizer import prepare

            records = prepare(quantizer, model, device_map, self.quantize)
        except Exception as error:  # inside of transformers, all may change
            log.warning("experts stay as transformers has them: %s: %s", type(error).__name__, error)
            log.debug("where it happened:", exc_info=True)
            return
        self._last = type(model).__name__, records
        if self.quantize:
            for reason in sorted({record.reason for record in records if record.reason is not None}):
                log.warning("experts that are not packed: %s", reason)
