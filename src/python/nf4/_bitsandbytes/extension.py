"""Where the extension module is that makes Linear4bit's repeated calls in C, src/python/short_call.c, and why it cannot
be used where that is so. Nothing needs it: without it calls go through ctypes."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import pathlib
import sys
import sysconfig
from typing import Any

import torch

from .. import _library

_NAME = "nf4._short_call"
_FILE = "_short_call.abi3.so"
_API = "__dlpack_c_exchange_api__"


class Unavailable(Exception):
    """The message says why."""


def load() -> Any:
    """The module, which lies beside the library or in the package."""
    if os.environ.get("NF4_DISABLE_EXTENSION", "") not in ("", "0"):
        raise Unavailable("NF4_DISABLE_EXTENSION is set")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise Unavailable("this Python is free-threaded")
    if not hasattr(torch.Tensor, _API):
        raise Unavailable(f"torch {torch.__version__} lacks DLPack's exchange API; 2.10 and newer have it")
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    path = next(filter(pathlib.Path.is_file, _places()), None)
    if path is None:
        raise Unavailable(f"there is no {_FILE}; it is built where Python's headers are")
    spec = importlib.util.spec_from_loader(_NAME, importlib.machinery.ExtensionFileLoader(_NAME, str(path)))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[_NAME] = module
    return module


def _places() -> list[pathlib.Path]:
    library, package = _library.find(), pathlib.Path(_library.__file__).parent
    beside = [pathlib.Path(library).parent] if os.sep in library else []  # else the system finds it, who knows where
    return [folder / _FILE for folder in (*beside, package)]
