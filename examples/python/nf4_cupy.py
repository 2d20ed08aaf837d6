"""The package nf4 with CuPy on a GPU: packs a layer and multiplies by it, on CuPy's current stream.

CuPy's arrays are taken as they are, by DLPack. Ends with code 77 where there is no CuPy or no GPU.
"""

import sys

import numpy as np

import nf4

try:
    import cupy
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)


def pack(handle, w, blocksize=64):
    """The Weight of w [rows, cols]. The library allocates nothing on a GPU: its outputs are arrays of CuPy."""
    codes_bytes, blocks = nf4.packed_size(*w.shape, blocksize)
    codes, absmax = cupy.empty(codes_bytes, cupy.uint8), cupy.empty(blocks, cupy.float32)
    stream = cupy.cuda.get_current_stream().ptr
    return handle.pack(w, blocksize=blocksize, codes=codes, absmax=absmax, stream=stream)


def unpack(handle, weight, dtype):
    w = cupy.empty(weight.shape, dtype)
    return handle.unpack(weight, out=w, stream=cupy.cuda.get_current_stream().ptr)


def gemm(handle, x, weight, bias=None):
    """x [..., cols] W^T + bias."""
    y = cupy.empty((*x.shape[:-1], weight.rows), x.dtype)
    return handle.gemm(x, weight, bias=bias, out=y, stream=cupy.cuda.get_current_stream().ptr)


def main():
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:  # there is no driver
        devices = 0
    if not devices or not nf4.is_built_with_cuda():
        print("skipped: CuPy finds no GPU, or this libnf4 was built without CUDA")
        sys.exit(77)

    random = np.random.default_rng(1)
    w = random.normal(0, 0.02, (512, 768)).astype(np.float32)
    x = random.normal(0, 1, (4, 768)).astype(np.float16)
    bias = random.normal(0, 0.1, 512).astype(np.float16)

    handle = nf4.Handle(cupy.cuda.Device().id)
    with cupy.cuda.Stream(non_blocking=True):
        weight = pack(handle, cupy.asarray(w))
        y = gemm(handle, cupy.asarray(x) * 2, weight, cupy.asarray(bias))  # x is made by a kernel of CuPy's
        y, unpacked = cupy.asnumpy(y), cupy.asnumpy(unpack(handle, weight, np.float32))

    exact = 2 * x.astype(np.float64) @ unpacked.astype(np.float64).T + bias
    difference = np.abs(y - exact).max() / np.abs(exact).max()
    print(f"{w.nbytes} bytes in fp32, {weight.nbytes} in NF4, on {handle.device_info()['name']}")
    print(f"x W^T + bias in fp16 within {difference:.1e} of the exact product")
    assert difference < 2e-3


if __name__ == "__main__":
    main()
