"""NF4 weights: pack, unpack, and products that read the 4-bit weights directly.

    handle = nf4.Handle()                 # the host; nf4.Handle(0) is CUDA device 0
    weight = handle.pack(w)               # a numpy array [N, K]
    y = handle.gemm(x, weight)            # x [m, K] times W^T

nf4.enable(), nf4.disable() and nf4.status() switch bitsandbytes over to libnf4 and back; it is on once this package is
installed. nf4.operators, which needs torch, defines torch.ops.nf4.
"""

from ._array import HOST, Bfloat16
from ._handle import Handle, Weight
from ._library import BLOCKSIZES, Error, codebook, dynamic_map, packed_size, version

__all__ = [
    "BLOCKSIZES",
    "Bfloat16",
    "Error",
    "HOST",
    "Handle",
    "Weight",
    "codebook",
    "disable",
    "dynamic_map",
    "enable",
    "packed_size",
    "status",
    "version",
]


def enable():
    """Lets bitsandbytes use libnf4 for NF4 on CUDA. Returns status(). Does nothing where it is already so."""
    from . import plugin

    return plugin.enable()


def disable():
    """Gives bitsandbytes its own kernels back. Returns status()."""
    from . import plugin

    return plugin.disable()


def status():
    """Whether bitsandbytes uses libnf4, and for what: a dict."""
    from . import plugin

    return plugin.status()
