"""The handlers of examples/jax, on the CPU and on CUDA. Needs jax, and the library of handlers, which NF4_JAX names.
The tests on CUDA need jax with CUDA, and a libnf4 that was built with it."""

import os
import pathlib
import sys
import unittest

import numpy as np
import support

import nf4

# Before JAX is imported: it would take most of a GPU's memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
try:
    import jax
    import jax.numpy as jnp

    sys.path.insert(1, str(pathlib.Path(__file__).parents[2] / "examples" / "jax"))
    import nf4_jax
except ImportError:
    missing = "no jax"
else:
    missing = "" if os.environ.get("NF4_JAX") else "no NF4_JAX, the library of handlers"
    if not missing:
        nf4_jax.register(os.environ["NF4_JAX"])

TYPES = ("float32", "float16", "bfloat16")
N, K = 5, 65  # blocks and the two codes of a byte straddle rows, and the last byte has one code


def device(platform):
    """JAX's first device of this platform, or None."""
    try:
        return jax.devices(platform)[0]
    except RuntimeError:
        return None


def ternary(n=N, k=K):
    """Weights of -1, 0 and 1 times a power of two, which give exact products with small integers."""
    return 0.5 * (np.arange(n * k) % 3 - 1).reshape(n, k)


class Handlers:
    """The tests of a platform, whose device is JAX's default in them."""

    platform = ""

    def setUp(self):
        if missing:
            self.skipTest(missing)
        on = device(self.platform)
        if on is None:
            self.skipTest(f"jax finds no device of the platform {self.platform}")
        default = jax.default_device(on)
        default.__enter__()
        self.addCleanup(default.__exit__, None, None, None)

    def test_pack(self):
        """The bytes of libnf4's host backend, of every type."""
        w = support.random_matrix(N, K)
        for type_ in TYPES:
            for blocksize in (32, 64):
                with self.subTest(type_, blocksize=blocksize):
                    rounded = jnp.asarray(w, type_)
                    weight = jax.jit(nf4_jax.pack, static_argnums=1)(rounded, blocksize)
                    expected = nf4.Handle().pack(np.asarray(rounded, np.float32), blocksize=blocksize)
                    np.testing.assert_array_equal(weight.codes, expected.codes)
                    np.testing.assert_array_equal(weight.absmax, expected.absmax)
                    self.assertEqual(weight[2:], (N, K, blocksize))

    def test_unpack(self):
        """Bit for bit, to every type and from scales of every type."""
        packed = nf4.Handle().pack(support.random_matrix(N, K))
        for type_ in TYPES:
            with self.subTest(type_):
                scales = jnp.asarray(packed.absmax, type_)
                weight = nf4_jax.Weight(jnp.asarray(packed.codes), scales, N, K)
                w = jax.jit(nf4_jax.unpack, static_argnums=1)(weight, type_)
                exact = support.unpack(packed.codes, np.asarray(scales, np.float32), N, K, 64)
                np.testing.assert_array_equal(w, jnp.asarray(exact).astype(type_))
                self.assertEqual(w.dtype, type_)

    def test_gemm(self):
        """Exact products of every type and shape, with a bias and without."""
        w = ternary()
        for type_ in TYPES:
            for rows in ((), (1,), (40,), (2, 3), (0,)):
                for bias in (None, np.arange(N) - 2.0):
                    with self.subTest(type_, rows=rows, bias=bias):
                        x = (np.arange(np.prod(rows, dtype=int) * K) % 5).reshape(*rows, K)
                        operands = [None if each is None else jnp.asarray(each, type_) for each in (x, w, bias)]
                        y = jax.jit(lambda x, w, bias: nf4_jax.gemm(x, nf4_jax.pack(w), bias))(*operands)
                        np.testing.assert_array_equal(y, x @ w.T + (0 if bias is None else bias))
                        self.assertEqual((y.shape, y.dtype), ((*rows, N), type_))

    def test_order(self):
        """Each product waits for the one before, also in a loop of XLA, which CUDA may run as a graph."""
        n = 64
        permutation = np.eye(n)[np.random.default_rng(1).permutation(n)]
        weight = nf4_jax.pack(jnp.asarray(permutation, jnp.float32))

        @jax.jit
        def steps(x, weight):
            return jax.lax.fori_loop(0, 50, lambda _, x: nf4_jax.gemm(x + 1, weight), x)

        x = np.arange(3.0 * n, dtype=np.float32).reshape(3, n)
        expected = (x + 50) @ np.linalg.matrix_power(permutation, 50).T
        for _ in range(3):
            np.testing.assert_array_equal(steps(jnp.asarray(x), weight), expected)

    def test_refusals(self):
        """What does not fit is an error of JAX, with libnf4's reason."""
        weight = nf4_jax.pack(jnp.asarray(ternary(), jnp.float32))
        codes, absmax = weight.codes, weight.absmax
        x, bias = jnp.ones((2, K)), jnp.ones(N)
        for expected, call in (
            ("codes holds 162 elements, expected 163", lambda: nf4_jax.gemm(x, weight._replace(codes=codes[1:]))),
            ("absmax holds 5 elements, expected 6", lambda: nf4_jax.unpack(weight._replace(absmax=absmax[1:]))),
            ("blocksize is 48", lambda: nf4_jax.pack(jnp.ones((N, K)), 48)),
            ("bias holds 4 elements, expected 5", lambda: nf4_jax.gemm(x, weight, bias[1:])),
            ("bias.dtype is 1, x.dtype is 0", lambda: nf4_jax.gemm(x, weight, bias.astype(jnp.float16))),
            ("absmax has a type that is none of", lambda: nf4_jax.unpack(weight._replace(absmax=jnp.ones(6, int)))),
            ("x has a type that is none of", lambda: nf4_jax.gemm(jnp.ones((2, K), int), weight)),
        ):
            with self.subTest(expected), self.assertRaisesRegex(Exception, expected):
                jax.block_until_ready(call())


class CpuTest(Handlers, unittest.TestCase):
    platform = "cpu"


class CudaTest(Handlers, unittest.TestCase):
    platform = "cuda"


if __name__ == "__main__":
    support.main()
