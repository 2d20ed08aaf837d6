"""Lets bitsandbytes use libnf4 for NF4 on CUDA.

bitsandbytes calls autoload() at the end of its import, by the entry point group "bitsandbytes.backends". What is
replaced, as far as a version has it:

    the kernels of its torch operators      from 0.46 on; their fake implementations stay, so torch.compile traces them
    Linear4bit.forward                      a short way for products without gradients, for the CPU's sake
    MatMul4Bit.backward                     from 0.50 on: the gradient of x, where a kernel decodes W on its way
    C functions, bound by name              what bitsandbytes 0.45 calls, and what Unsloth binds by ctypes
    an operator of vllm-bnb-plugin          what vLLM multiplies by
    how transformers loads experts          packed matrices become a stack; dense ones are packed, if that is asked for
    transformers' generate()                compiles a step where the cache is static, as it does for dense models

Whatever is not NF4 on CUDA goes on to what was there before. So does everything on a device that libnf4 cannot use.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import re
import threading
from typing import Any

from . import _library
from ._versions import TRIED

log = logging.getLogger("nf4")

_lock = threading.RLock()
_replacements: Any = None  # what enable() put in place, with how to undo it
_NOT_CALLED = "nf4.enable() was not called, and bitsandbytes has not been imported"
_reason: str | None = _NOT_CALLED
_announced = False
_warned = False

_HOST_ONLY = (
    "this nf4 was built without CUDA, for the host alone. Where the CUDA toolkit (nvcc) is, install it again: "
    "pip install --force-reinstall --no-deps --config-settings=cmake.define.NF4_CUDA=ON . at the root of the sources"
)


def _opted_out() -> bool:
    return os.environ.get("NF4_DISABLE", "") not in ("", "0")


def _obstacle() -> str | None:
    """Why this process cannot use libnf4 in bitsandbytes, or None. Does not initialize CUDA."""
    if _opted_out():
        return "NF4_DISABLE is set"
    try:
        import torch
    except ImportError as error:
        return f"torch cannot be imported: {error}"
    if torch.version.hip is not None:
        return "this torch is built for ROCm"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    try:
        _library.library()
    except (OSError, AttributeError) as error:
        return f"libnf4 cannot be loaded: {error}"
    return _HOST_ONLY if _built_with_cuda() is False else None


def _built_with_cuda() -> bool | None:
    """None where the library cannot tell. Whoever uses it will be told why."""
    try:
        return _library.is_built_with_cuda()
    except (OSError, AttributeError, _library.Error):
        return None


def autoload() -> None:
    """The entry point. Never raises, since that would abort the import of bitsandbytes."""
    global _reason
    try:
        _enable()
    except Exception as error:
        _reason = f"{type(error).__name__}: {error}"
        log.warning("bitsandbytes keeps its own kernels: %s", _reason, exc_info=log.isEnabledFor(logging.DEBUG))


def _experts_asked() -> bool:
    return os.environ.get("NF4_EXPERTS", "") not in ("", "0")


def enable(experts: bool | None = None) -> dict[str, Any]:
    """See nf4.enable. Unlike autoload, it raises what goes wrong."""
    try:
        import bitsandbytes  # noqa: F401  which may have called autoload
    except ImportError as error:
        raise RuntimeError(f"bitsandbytes cannot be imported: {error}") from error
    _enable()
    with _lock:
        if _replacements is not None and experts is not None:
            _replacements.experts.quantize = experts
    return status()


def _enable() -> None:
    global _replacements, _reason, _announced, _warned
    with _lock:
        if _replacements is not None:
            return
        _reason = _obstacle()
        if _reason is not None:
            # torch finds a GPU there, so whoever installed nf4 did not mean the host.
            warn = _reason == _HOST_ONLY and not _warned
            _warned = _warned or warn
            log.log(logging.WARNING if warn else logging.DEBUG, "bitsandbytes keeps its own kernels: %s", _reason)
            return
        from ._bitsandbytes import Replacements

        _replacements = Replacements(_experts_asked())
        if not _announced:
            _announced = True
            log.info(
                "bitsandbytes %s uses libnf4 for NF4 on CUDA (nf4.status() tells for what, NF4_DISABLE=1 opts out)",
                _version("bitsandbytes"),
            )


def disable() -> dict[str, Any]:
    """See nf4.disable."""
    global _replacements, _reason
    with _lock:
        if _replacements is not None:
            _replacements.undo()
            _replacements = None
            _reason = "nf4.disable() was called"
    return status()


def status() -> dict[str, Any]:
    """See nf4.status: `enabled`; `reason`, why not; `cuda`, whether libnf4 was built with it, None where it cannot
    tell; `replaced`, what is; `short_call`, "C", or why Linear4bit.forward makes its calls in Python;
    `unusable_devices`, those that libnf4 refused, and why; `limited_devices`, those on which some products stay
    bitsandbytes' own, and which; `experts`, whether transformers quantizes the experts of a model that it loads, and of
    the last one `packed`, the modules whose experts are in NF4, and `left`, the others and why; `uncompiled`, the
    classes of models in NF4 that generate() did not compile, and why; versions; `tried`, the oldest and the newest
    version that was, by package; `untried`, those of the installed packages that are older or newer, which are used all
    the same."""
    versions = {package: _version(package) for package in (*TRIED, "nf4")}
    with _lock:
        enabled = _replacements is not None
        cuda = _built_with_cuda()
        return {
            "enabled": enabled,
            "reason": _HOST_ONLY if cuda is False and _reason == _NOT_CALLED else _reason,
            "cuda": cuda,
            "replaced": list(_replacements.names) if enabled else [],
            "short_call": _replacements.short_call if enabled else None,
            "unusable_devices": dict(_replacements.devices.reasons) if enabled else {},
            "limited_devices": dict(_replacements.devices.limits) if enabled else {},
            "experts": _replacements.experts.status() if enabled else {},
            "uncompiled": dict(_replacements.uncompiled) if enabled else {},
            **versions,
            "tried": dict(TRIED),
            "untried": {package: versions[package] for package in TRIED if _is_untried(package, versions[package])},
        }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_untried(package: str, version: str | None) -> bool:
    oldest, newest = map(_release, TRIED[package])
    return version is not None and not oldest <= _release(version) <= newest


def _release(version: str) -> tuple[int, ...]:
    """(2, 4, 1) for "2.4.1+cu121"."""
    return tuple(map(int, re.findall(r"\d+", version.partition("+")[0])))
