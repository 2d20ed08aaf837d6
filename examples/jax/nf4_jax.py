"""libnf4 in JAX: pack, unpack and gemm as functions that jax.jit compiles, on the CPU and on CUDA.

    python3 nf4_jax.py path/to/libnf4_jax.so

nf4_ffi.cpp is the library. Needs jax 0.5 or newer. On CUDA the work is ordered on XLA's own stream.
"""

import ctypes
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


def register(library):
    """Makes the handlers of the library at this path known to XLA: once, before the first call."""
    handlers = ctypes.CDLL(library)
    for operation in ("pack", "unpack", "gemm"):
        for platform, suffix in (("cpu", "host"), ("CUDA", "cuda")):
            handler = jax.ffi.pycapsule(getattr(handlers, f"nf4_{operation}_{suffix}"))
            jax.ffi.register_ffi_target(f"nf4_{operation}", handler, platform=platform)


class Weight(NamedTuple):
    """A matrix [rows, cols] in NF4, in the bytes of bitsandbytes: what pack() makes, or the arrays of a checkpoint. To
    JAX it is a tree of two arrays; its sizes are part of what is compiled."""

    codes: jax.Array  # uint8 [ceil(rows * cols / 2)]
    absmax: jax.Array  # one for each block, in float32, float16 or bfloat16
    rows: int
    cols: int
    blocksize: int = 64


jax.tree_util.register_pytree_node(
    Weight,
    lambda w: ((w.codes, w.absmax), (w.rows, w.cols, w.blocksize)),
    lambda sizes, arrays: Weight(*arrays, *sizes),
)


def _call(operation, results, operands, blocksize):
    return jax.ffi.ffi_call(f"nf4_{operation}", results)(*operands, blocksize=np.int32(blocksize))


def pack(w, blocksize=64):
    """The Weight of w [rows, cols], which is in float32, float16 or bfloat16."""
    rows, cols = w.shape
    codes = jax.ShapeDtypeStruct((-(-rows * cols // 2),), jnp.uint8)
    absmax = jax.ShapeDtypeStruct((-(-rows * cols // blocksize),), jnp.float32)
    return Weight(*_call("pack", (codes, absmax), (w,), blocksize), rows, cols, blocksize)


def unpack(weight, dtype=jnp.float32):
    """The matrix that `weight` means."""
    w = jax.ShapeDtypeStruct((weight.rows, weight.cols), dtype)
    return _call("unpack", w, (weight.codes, weight.absmax), weight.blocksize)


def gemm(x, weight, bias=None):
    """x [..., cols] W^T + bias [rows], all of the type of x. For many rows of x, x @ unpack(weight, x.dtype).T may be
    faster on a GPU."""
    y = jax.ShapeDtypeStruct((*x.shape[:-1], weight.rows), x.dtype)
    bias = jnp.zeros(0, x.dtype) if bias is None else bias
    return _call("gemm", y, (x, weight.codes, weight.absmax, bias), weight.blocksize)


@jax.jit
def layer(x, weight, bias):
    return jax.nn.gelu(gemm(x, weight, bias))


def main():
    register(sys.argv[1])
    random = np.random.default_rng(1)
    w = jnp.asarray(random.normal(0, 0.02, (512, 256)), jnp.bfloat16)
    x = jnp.asarray(random.normal(0, 1, (2, 3, 256)), jnp.bfloat16)
    bias = jnp.asarray(random.normal(0, 0.1, 512), jnp.bfloat16)

    weight = jax.jit(pack)(w)
    y = layer(x, weight, bias)
    dense = jax.nn.gelu(x.astype(jnp.float32) @ unpack(weight).T + bias)
    difference = jnp.abs(y - dense).max()
    print(f"{w.nbytes} bytes in bf16, {weight.codes.nbytes + weight.absmax.nbytes} in NF4, on {y.device}")
    print(f"gelu(x W^T + bias) within {difference:.1e} of the product in float32")
    assert difference < 0.01


if __name__ == "__main__":
    main()
