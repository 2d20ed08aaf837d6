"""libnf4 from Python with ctypes and numpy alone: packs a matrix, unpacks it and multiplies by it, as numpy would.

    NF4_LIBRARY=/path/to/libnf4.so python3 nf4_ctypes.py      (without it, the library that the system finds)
"""

import ctypes
import ctypes.util
import os

import numpy as np

F32 = 0
HOST_DEVICE = -1


class Weight(ctypes.Structure):
    """nf4_weight_t"""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("rows", ctypes.c_int64),
        ("cols", ctypes.c_int64),
        ("codes", ctypes.c_void_p),
        ("absmax", ctypes.c_void_p),
        ("blocksize", ctypes.c_int32),
        ("absmax_dtype", ctypes.c_int32),
        ("absmax_map", ctypes.c_void_p),
        ("absmax2", ctypes.c_void_p),
        ("absmax_offset", ctypes.c_void_p),
        ("absmax_blocksize", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
    ]


def load():
    path = os.environ.get("NF4_LIBRARY") or ctypes.util.find_library("nf4")
    if not path:
        raise SystemExit("no libnf4 found: install it, or set NF4_LIBRARY")
    nf4 = ctypes.CDLL(path)
    p, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    # Without argtypes, ctypes would pass 64-bit sizes and pointers as 32-bit ints.
    nf4.nf4_create.argtypes = [ctypes.POINTER(p), i32]
    nf4.nf4_destroy.argtypes = [p]
    nf4.nf4_codebook.argtypes = [p]
    nf4.nf4_pack.argtypes = [p, p, p, p, i64, i32, i64, i64, i32, p, p]
    nf4.nf4_unpack.argtypes = [p, p, i64, i32, ctypes.POINTER(Weight), p, p]
    nf4.nf4_gemv.argtypes = [p, p, p, i32, ctypes.POINTER(Weight), p, p, p]
    nf4.nf4_last_error_message.restype = ctypes.c_char_p
    return nf4


nf4 = load()


def check(status):
    if status:
        raise RuntimeError(nf4.nf4_last_error_message().decode())


def pointer(array):
    return array.ctypes.data


def dequantize(codes, absmax, codebook, blocksize):
    """What the format says, in numpy: byte i holds element 2i in its high nibble and 2i+1 in its low one."""
    nibbles = np.stack([codes >> 4, codes & 15], axis=1).reshape(-1)
    return codebook[nibbles] * np.repeat(absmax, blocksize)


def main():
    rows, cols, blocksize = 512, 768, 64
    random = np.random.default_rng(1)
    w = random.normal(0, 0.02, (rows, cols)).astype(np.float32)
    x = random.normal(0, 1, cols).astype(np.float32)

    handle = ctypes.c_void_p()
    check(nf4.nf4_create(ctypes.byref(handle), HOST_DEVICE))

    codes = np.empty(w.size // 2, np.uint8)
    absmax = np.empty(w.size // blocksize, np.float32)
    out = pointer(codes), pointer(absmax)
    check(nf4.nf4_pack(handle, *out, pointer(w), cols, F32, rows, cols, blocksize, None, None))

    weight = Weight(
        struct_size=ctypes.sizeof(Weight), rows=rows, cols=cols, codes=pointer(codes), absmax=pointer(absmax),
        blocksize=blocksize, absmax_dtype=F32, absmax_blocksize=256,
    )  # fmt: skip
    unpacked = np.empty_like(w)
    check(nf4.nf4_unpack(handle, pointer(unpacked), cols, F32, ctypes.byref(weight), None, None))

    y = np.empty(rows, np.float32)
    check(nf4.nf4_gemv(handle, pointer(y), pointer(x), F32, ctypes.byref(weight), None, None, None))
    check(nf4.nf4_destroy(handle))

    codebook = np.empty(16, np.float32)
    check(nf4.nf4_codebook(pointer(codebook)))
    expected = dequantize(codes, absmax, codebook, blocksize).reshape(rows, cols)
    assert np.array_equal(unpacked, expected), "unpack differs from numpy"
    exact = expected.astype(np.float64) @ x
    assert np.allclose(y, exact, rtol=0, atol=1e-5 * np.abs(expected).dot(np.abs(x)).max()), "gemv differs from numpy"

    print(f"{w.nbytes} bytes in fp32, {codes.nbytes + absmax.nbytes} in NF4")
    print(f"unpack is numpy's result bit for bit; gemv within {np.abs(y - exact).max():.1e} of the exact product")
    print(f"mean |W - NF4(W)| / mean |W| = {np.abs(w - unpacked).mean() / np.abs(w).mean():.4f}")


if __name__ == "__main__":
    main()
