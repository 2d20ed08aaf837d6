"""An attribute of somebody else's object, replaced and given back."""

from __future__ import annotations

from typing import Callable


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
