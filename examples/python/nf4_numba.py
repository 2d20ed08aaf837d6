"""The package nf4 between kernels of numba on a GPU: numba makes x, libnf4 multiplies by a packed layer, and numba
works on the result, all on one stream of numba's.

numba's arrays are taken as they are, by __cuda_array_interface__. Ends with code 77 where there is no numba or no GPU.
"""

import sys

import numpy as np

import nf4

try:
    from numba import cuda
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)


@cuda.jit
def ramp(x):
    """x[row, k] = k % 5 + row"""
    i = cuda.grid(1)
    if i < x.size:
        row, k = i // x.shape[1], i % x.shape[1]
        x[row, k] = k % 5 + row


@cuda.jit
def relu(y):
    i = cuda.grid(1)
    if i < y.size:
        row, n = i // y.shape[1], i % y.shape[1]
        y[row, n] = max(y[row, n], 0)


def main():
    if not cuda.is_available() or not nf4.is_built_with_cuda():
        print("skipped: numba finds no GPU, or this libnf4 was built without CUDA")
        sys.exit(77)

    rows, cols, m = 512, 770, 3
    # -1, 0 and 1 are values of NF4, so products with small integers must come out exactly.
    w = (np.arange(rows * cols) * 7 % 3 - 1).reshape(rows, cols).astype(np.float32)
    packed = nf4.Handle().pack(w)  # on the host; Handle.pack on the GPU takes arrays of numba's for codes and absmax

    stream = cuda.stream()
    weight = nf4.Weight(rows, cols, cuda.to_device(packed.codes, stream), cuda.to_device(packed.absmax, stream))
    x = cuda.device_array((m, cols), np.float32, stream=stream)
    y = cuda.device_array((m, rows), np.float32, stream=stream)
    threads = 256

    handle = nf4.Handle(cuda.get_current_device().id)
    ramp[-(-x.size // threads), threads, stream](x)
    handle.gemm(x, weight, out=y, stream=int(stream))  # a cudaStream_t, as an int
    relu[-(-y.size // threads), threads, stream](y)
    result = y.copy_to_host(stream=stream)
    stream.synchronize()

    exact = np.maximum((np.arange(cols) % 5 + np.arange(m)[:, None]) @ w.T, 0)
    assert np.array_equal(result, exact), "the product differs"
    print(f"relu(x W^T) is exact on {handle.device_info()['name']}; y[0, :4] = {result[0, :4]}")


if __name__ == "__main__":
    main()
