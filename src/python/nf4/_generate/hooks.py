"""Two methods of transformers' GenerationMixin, by which generate() is told to compile a decoding step."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import weakref
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable

from .._patch import replace_attribute, when_imported

if TYPE_CHECKING:
    from .automatic import Automatic
    from .compiled import Compiled

MODULE = "transformers.generation.utils"
OLDEST = 5, 17  # of transformers; before, nobody tried

# The one says whether a step is compiled, the other makes the cache. A version that has other arguments, or does not
# ask the quantizer, is left as it is.
_CRITERIA, _PREPARE = "_valid_auto_compile_criteria", "_prepare_cache_for_generation"
_ARGUMENTS = {
    _CRITERIA: ("self", "model_kwargs", "generation_config"),
    _PREPARE: ("self", "generation_config", "model_kwargs", "generation_mode", "batch_size", "max_cache_length"),
}
_QUESTION = "is_compileable"


class Hooks:
    """Who is asked by the replaced methods: `automatic`, if there is one, for every model, and what `compiled` has for
    a model, for that one."""

    def __init__(self) -> None:
        self.automatic: Automatic | None = None
        self.compiled: weakref.WeakKeyDictionary[Any, Compiled] = weakref.WeakKeyDictionary()
        self._undo: list[Callable[[], None]] = []

    def update(self) -> None:
        """Replaces the methods while there is anyone to ask, and gives them back. Does not import transformers."""
        if self.automatic is None and not self.compiled:
            while self._undo:
                self._undo.pop()()
        elif not self._undo:
            self._undo.append(when_imported(MODULE, self._replace))

    def _replace(self, module: ModuleType) -> None:
        try:
            problem = unknown(module)
        except Exception as error:  # never in the way of transformers' import
            problem = f"{type(error).__name__}: {error}"
        if problem is not None:
            if self.automatic is not None:
                self.automatic.refuse("any model", problem)
            return
        mixin = module.GenerationMixin
        for name, replacement in ((_CRITERIA, self._criteria), (_PREPARE, self._prepare)):
            self._undo.append(replace_attribute(mixin, name, replacement(getattr(mixin, name))))

    def _criteria(self, original: Callable[..., bool]) -> Callable[..., bool]:
        @functools.wraps(original)
        def criteria(model: Any, model_kwargs: dict[str, Any], generation_config: Any) -> bool:
            compiled = getattr(generation_config, _MARK, False) or (
                self.automatic is not None and self.automatic(model, model_kwargs, generation_config)
            )
            return original(_WithoutQuantizer(model) if compiled else model, model_kwargs, generation_config)

        return criteria

    def _prepare(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def prepare(model: Any, generation_config: Any, model_kwargs: dict[str, Any], generation_mode: Any,
                    batch_size: int, max_cache_length: int) -> Any:  # fmt: skip
            compiled = self.compiled.get(model)
            if compiled is not None and not compiled.wants(model, generation_config, model_kwargs, generation_mode):
                compiled = None
            if compiled is not None:
                generation_config.cache_implementation = "static"
            automatic = None if compiled is not None else self.automatic
            if automatic is not None and not automatic.wants(generation_config, model_kwargs, generation_mode):
                automatic = None
            result = original(model, generation_config, model_kwargs, generation_mode, batch_size, max_cache_length)
            for step in (compiled, automatic):
                if step is not None:
                    step.prepare(model, generation_config, model_kwargs, batch_size)
            return result

        return prepare


hooks = Hooks()

_MARK = "_nf4_compiled"


def mark(generation_config: Any) -> None:
    """Has the call of generate() whose own config this is compile its steps, whatever the quantizer says."""
    setattr(generation_config, _MARK, True)


class _WithoutQuantizer:
    """A model as the criteria see it, but for its quantizer, which has no say then."""

    hf_quantizer = None

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def unknown(module: ModuleType) -> str | None:
    """What of transformers.generation.utils is not as it was where this was tried, or None."""
    version = importlib.metadata.version("transformers")
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        return f"transformers is {version}; expected {'.'.join(map(str, OLDEST))} or newer"
    for name, expected in _ARGUMENTS.items():
        method = inspect.unwrap(getattr(module.GenerationMixin, name, None) or _absent)
        found = tuple(inspect.signature(method).parameters)
        if found != expected:
            return f"transformers {version}: GenerationMixin.{name} takes {found}; expected {expected}"
        if name == _CRITERIA and _QUESTION not in method.__code__.co_names:
            return f"transformers {version}: GenerationMixin.{name} does not ask for {_QUESTION}"
    return None


def _absent() -> None:
    """In the place of a method that is not there."""
