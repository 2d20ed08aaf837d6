"""Checks of arguments that are no arrays. Each error names the argument, its value, and what was expected."""

from __future__ import annotations

import operator
import reprlib
from typing import Any


def _shown(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # Python refuses to write out thousands of digits
        return f"a {type(value).__name__} that is too long to show"


def _within(value: Any, what: str, low: int, high: int) -> int:
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{what} is {_shown(value)}; expected an int")
    if not low <= number <= high:
        raise ValueError(f"{what} is {_shown(number)}; expected {low} to {high}")
    return number


def integer(value: Any, what: str, bits: int = 64) -> int:
    """`value` as an int that a C integer of `bits` holds. ctypes would take the low bits of a larger one."""
    return _within(value, what, -(1 << bits - 1), (1 << bits - 1) - 1)


def stream_pointer(value: Any) -> int | None:
    """A cudaStream_t as an int, or None."""
    return None if value is None else _within(value, "stream", 0, (1 << 64) - 1)


def flag(value: Any, what: str) -> bool:
    if type(value).__name__ not in ("bool", "bool_"):  # Python's and numpy's
        raise TypeError(f"{what} is {_shown(value)}; expected a bool")
    return bool(value)


def text(value: Any, what: str) -> bytes | None:
    """A name as C takes it, or None."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{what} is {_shown(value)}; expected a str")
    if "\0" in value:
        raise ValueError(f"{what} is {_shown(value)}; expected a str without null characters, which end a name in C")
    return value.encode(errors="backslashreplace")


def many(values: Any, what: str, expected: str) -> list[Any]:
    try:
        return list(values)
    except TypeError:
        raise TypeError(f"{what} is {_shown(values)}; expected {expected}") from None
