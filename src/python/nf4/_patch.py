"""An attribute of somebody else's object, replaced and given back; a module, as soon as it is imported."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any, Callable, Sequence


def replace_attribute(owner: object, name: str, value: object) -> Callable[[], None]:
    """Makes `value` the attribute `name` of `owner` itself. Returns what makes the attribute what it was before; that
    does nothing where somebody has replaced `value` since: theirs stays."""
    before = vars(owner).get(name, _ABSENT)
    setattr(owner, name, value)

    def undo() -> None:
        if vars(owner).get(name) is not value:
            return
        if before is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, before)

    return undo


_ABSENT = object()


def when_imported(name: str, action: Callable[[ModuleType], None]) -> Callable[[], None]:
    """Calls action(module) once the module `name` is imported: at once, where it is. Returns what forgets the action
    that was not called yet."""
    module = sys.modules.get(name)
    if module is not None:
        action(module)
        return lambda: None
    watch = _Watch(name, action)
    sys.meta_path.insert(0, watch)
    return watch.leave


class _Watch(importlib.abc.MetaPathFinder):
    """Finds no module, but has the loader that others find for one of them call `action` after its work."""

    def __init__(self, name: str, action: Callable[[ModuleType], None]) -> None:
        self.name, self.action = name, action

    def leave(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        self.leave()  # before others are asked by the same way
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            _call_after(spec.loader, self.action)
        return spec


def _call_after(loader: Any, action: Callable[[ModuleType], None]) -> None:
    """Has this loader's exec_module call `action` once. The loader stays the module's: others ask it for the source."""
    exec_module = loader.exec_module

    def execute(module: ModuleType) -> None:
        loader.exec_module = exec_module
        exec_module(module)
        action(module)

    loader.exec_module = execute
