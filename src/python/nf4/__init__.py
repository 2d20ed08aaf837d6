"""NF4 weights: pack, unpack, and products that read the 4-bit weights directly.

    handle = nf4.Handle()                 # the host; nf4.Handle(0) is CUDA device 0
    weight = handle.pack(w)               # a numpy array [N, K]
    y = handle.gemm(x, weight)            # x [m, K] times W^T

nf4.enable(), nf4.disable() and nf4.status() switch bitsandbytes over to libnf4 and back; it is on once this package is
installed. nf4.compile() makes generate() of a transformers model fast, nf4.tensor_parallel() spreads one over GPUs.
nf4.checkpoint packs files and tells what is in them. nf4.operators, which needs torch, defines torch.ops.nf4. Both are
imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._array import Bfloat16
from ._handle import Handle, Weight
from ._library import BLOCKSIZES, HOST, Error, codebook, dynamic_map, is_built_with_cuda, packed_size, version

if TYPE_CHECKING:
    from . import checkpoint as checkpoint
    from . import operators as operators

    __version__: str

__all__ = [
    "BLOCKSIZES",
    "Bfloat16",
    "Error",
    "HOST",
    "Handle",
    "Weight",
    "codebook",
    "compile",
    "disable",
    "dynamic_map",
    "enable",
    "is_built_with_cuda",
    "packed_size",
    "status",
    "tensor_parallel",
    "version",
]

_MODULES = ("checkpoint", "operators")


def enable(experts: bool | None = None) -> dict[str, Any]:
    """Lets bitsandbytes use libnf4 for NF4 on CUDA. Returns status(). Does nothing where it is already so.

    `experts` tells whether transformers packs the experts of a model that it loads in 4 bits; None leaves that as it is,
    which at first is what NF4_EXPERTS says in the environment, or no."""
    from . import plugin

    return plugin.enable(experts)


def disable() -> dict[str, Any]:
    """Gives bitsandbytes its own kernels back. Returns status()."""
    from . import plugin

    return plugin.disable()


def status() -> dict[str, Any]:
    """Whether bitsandbytes uses libnf4, and for what: a dict."""
    from . import plugin

    return plugin.status()


def compile(model: Any) -> Any:
    """Has generate() of a transformers model in NF4 use a static cache, whose memory is kept, and a compiled step, in one
    CUDA graph where there is a GPU. Returns what was done: print it; its undo() takes it back."""
    from ._generate import compiled

    return compiled.compile(model)


def tensor_parallel(model: Any, device_mesh: Any = None, **options: Any) -> Any:
    """Has each process of torch.distributed keep its part of a transformers model in NF4, by the model's tp_plan, and
    returns the model. `model` is one that all processes hold; or a folder or name, of which each process then loads its
    part alone, `options` being those of from_pretrained(). `device_mesh` is that of the processes, by default of all."""
    from . import _tensor_parallel

    return _tensor_parallel.tensor_parallel(model, device_mesh, **options)


def _installed_version() -> str:
    """That of the installed package, or of the library where the package was not installed."""
    import importlib.metadata

    try:
        return importlib.metadata.version("nf4")
    except importlib.metadata.PackageNotFoundError:
        return ".".join(map(str, version()))


def __getattr__(name: str) -> Any:
    """What is made when it is first asked for, since it takes time or needs torch."""
    import importlib

    try:
        if name == "__version__":
            return _installed_version()
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
    except (ImportError, OSError) as error:  # what asks whether there is an attribute knows one error alone
        raise AttributeError(f"nf4.{name} cannot be had: {error}") from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "__version__", *_MODULES})
