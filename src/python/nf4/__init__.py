"""NF4 weights: pack, unpack, and products that read the 4-bit weights directly.

    handle = nf4.Handle()                 # the host; nf4.Handle(0) is CUDA device 0
    weight = handle.pack(w)               # a numpy array [N, K]
    y = handle.gemm(x, weight)            # x [m, K] times W^T
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
    "dynamic_map",
    "packed_size",
    "version",
]
