"""Something to do once somebody imports a module, or now if somebody has."""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from typing import Any, Callable


class _Finder(MetaPathFinder):
    """Finds one module as the finders after it would, and lets `action` follow its execution."""

    def __init__(self, name: str, action: Callable[[Any], None]) -> None:
        self.name, self.action = name, action

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.name:
            return None
        remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            self.action(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def remove(finder: Any) -> None:
    if finder in sys.meta_path:
        sys.meta_path.remove(finder)


def after_import(name: str, action: Callable[[Any], None]) -> Callable[[], None]:
    """Calls action(module) after the import of `name`. Returns what makes it not happen any more."""
    module = sys.modules.get(name)
    if module is not None:
        action(module)
        return lambda: None
    finder = _Finder(name, action)
    sys.meta_path.insert(0, finder)
    return lambda: remove(finder)
