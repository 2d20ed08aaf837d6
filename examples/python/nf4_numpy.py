"""The package nf4 with numpy alone, on the host: packs a layer with nested scales, unpacks it and multiplies by it."""

import numpy as np

import nf4


def main():
    random = np.random.default_rng(1)
    w = random.normal(0, 0.02, (512, 768)).astype(np.float32)
    x = random.normal(0, 1, (4, 768)).astype(np.float32)
    bias = random.normal(0, 0.1, 512).astype(np.float32)

    handle = nf4.Handle()  # nf4.Handle(0) is CUDA device 0; its arrays are those of torch, CuPy or numba
    weight = handle.pack(w, blocksize=64, nested=True)
    y = handle.gemm(x, weight, bias=bias)

    unpacked = handle.unpack(weight)
    exact = x.astype(np.float64) @ unpacked.astype(np.float64).T + bias
    assert np.abs(y - exact).max() < 1e-5, "gemm differs from numpy"
    print(f"{w.nbytes} bytes in fp32, {weight.nbytes} in NF4 with nested scales")
    print(f"gemm within {np.abs(y - exact).max():.1e} of the exact product")
    print(f"mean |W - NF4(W)| / mean |W| = {np.abs(w - unpacked).mean() / np.abs(w).mean():.4f}")

    try:
        handle.pack(w, blocksize=48)
    except nf4.Error as error:
        print(f"{error.name}: {error}")


if __name__ == "__main__":
    main()
