"""torch.ops.nf4 on the CPU, where the host backend answers. Needs torch."""

import unittest
from unittest import mock

import nf4
import support

try:
    import torch
except ImportError:
    torch = None
else:
    import nf4.operators  # noqa: F401
    from nf4 import _tensors

    ops = torch.ops.nf4

N, K = 48, 100
EXPERTS = 5


@unittest.skipIf(torch is None, "no torch")
class OperatorTest(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)
        self.w = torch.randn(N, K)
        self.codes, self.absmax = ops.pack(self.w)
        self.unpacked = ops.unpack(self.codes, self.absmax, [N, K], torch.float32)
        self.x = torch.randn(2, 3, K, requires_grad=True)
        self.bias = torch.randn(N, requires_grad=True)
        self.map = torch.tensor(nf4.dynamic_map())

    def test_values(self):
        expected = support.unpack(self.codes.numpy(), self.absmax.numpy(), N, K, 64)
        self.assertTrue(torch.equal(self.unpacked, torch.from_numpy(expected)))
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)):
            x, bias = self.x.detach().to(dtype), self.bias.detach().to(dtype)
            y = ops.gemm(x, self.codes, self.absmax, [N, K], 64, bias)
            exact = x.double() @ self.unpacked.double().T + bias.double()
            self.assertEqual((y.shape, y.dtype), ((2, 3, N), dtype))
            self.assertLess((y.double() - exact).abs().max() / exact.abs().max(), tolerance)

    def test_status_of_a_call_on_a_device(self):
        """There the stream is torch's, and an error is raised as on the host."""
        seen = []
        with mock.patch.multiple(_tensors, _current_device=lambda: 3, _raw_stream=lambda index: index + 10):
            _tensors.run(3, lambda *arguments: seen.append(arguments) or 0, "x")
            with self.assertRaises(nf4.Error):
                _tensors.run(3, lambda *_: 1)
        self.assertEqual(seen, [("x", 13)])

    def test_nested(self):
        codes, absmax2, offset = ops.pack_absmax(self.absmax, self.map)
        nested = {"absmax_map": self.map, "absmax2": absmax2, "absmax_offset": offset}
        y = ops.gemm(self.x, self.codes, codes, [N, K], **nested)
        w = ops.unpack(self.codes, codes, [N, K], torch.float32, **nested)
        self.assertTrue(torch.allclose(y, self.x @ w.T, atol=1e-4))
        self.assertFalse(torch.equal(w, self.unpacked))

    def test_gemm_transposed(self):
        codes, absmax2, offset = ops.pack_absmax(self.absmax, self.map)
        nested = {"absmax_map": self.map, "absmax2": absmax2, "absmax_offset": offset}
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)):
            for scales, more in ((self.absmax, {}), (codes, nested)):
                w = ops.unpack(self.codes, scales, [N, K], torch.float32, **more)
                for shape in ((2, 3), (4,), (0,), ()):
                    x = torch.randn(*shape, N).to(dtype)
                    y = ops.gemm_transposed(x, self.codes, scales, [N, K], **more)
                    self.assertEqual((y.shape, y.dtype), ((*shape, K), dtype))
                    exact = x.double() @ w.double()
                    if y.numel():
                        self.assertLess((y.double() - exact).abs().max() / exact.abs().max(), tolerance)

    def experts(self, dtype=torch.float32 if torch else None, tokens=6, top_k=2):
        """Arguments of gemm_experts, and what the experts [E, N, K] are unpacked."""
        w = torch.randn(EXPERTS, N, 128)
        codes, absmax = ops.pack(w)
        x, bias = torch.randn(tokens, 128).to(dtype), torch.randn(EXPERTS, N).to(dtype)
        ids = torch.randint(-1, EXPERTS + 1, (tokens, top_k))
        unpacked = ops.unpack(codes, absmax, w.shape, torch.float32)
        return (x, codes, absmax, w.shape, 64, ids, bias, torch.rand(tokens, top_k)), unpacked

    def test_gemm_experts(self):
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)):
            for of_ids in (torch.int32, torch.int64):
                (x, codes, absmax, shape, blocksize, ids, bias, scale), w = self.experts(dtype)
                tokens, top_k = ids.shape
                y = ops.gemm_experts(x, codes, absmax, shape, blocksize, ids.to(of_ids), bias, scale)
                chosen = ids.clamp(0, EXPERTS - 1).reshape(-1)
                exact = torch.einsum("snk,sk->sn", w[chosen].double(), x.double().repeat_interleave(top_k, 0))
                exact = (exact + bias[chosen].double()) * scale.reshape(-1, 1).double()
                exact[((ids < 0) | (ids >= EXPERTS)).reshape(-1)] = 0
                self.assertEqual((y.shape, y.dtype), ((tokens * top_k, N), dtype))
                self.assertLess((y.double() - exact).abs().max() / exact.abs().max(), tolerance)
                each = x.repeat_interleave(top_k, 0)
                row_each = ops.gemm_experts(each, codes, absmax, shape, blocksize, ids, bias, scale)
                self.assertTrue(torch.equal(row_each, y))
                plain = ops.gemm_experts(x.T.contiguous().T, codes, absmax, shape, blocksize, ids.T.contiguous().T)
                self.assertTrue(torch.equal(plain, ops.gemm_experts(x, codes, absmax, shape, blocksize, ids)))

    def test_gemm_experts_empty(self):
        (x, codes, absmax, shape, blocksize, ids, bias, scale), _ = self.experts()
        for tokens, top_k in ((0, 2), (6, 0)):
            y = ops.gemm_experts(x[:tokens], codes, absmax, shape, blocksize, ids[:tokens, :top_k])
            self.assertEqual(y.shape, (0, N))

    def test_gemm_experts_has_no_gradient(self):
        arguments, _ = self.experts()
        y = ops.gemm_experts(arguments[0].requires_grad_(), *arguments[1:])
        with self.assertRaisesRegex(NotImplementedError, "gemm_experts has no gradient"):
            y.sum().backward()

    def test_not_contiguous(self):
        x = torch.randn(K, 5).T
        self.assertFalse(x.is_contiguous())
        y = ops.gemm(x, self.codes, self.absmax, [N, K])
        self.assertTrue(torch.equal(y, ops.gemm(x.contiguous(), self.codes, self.absmax, [N, K])))

    def test_opcheck(self):
        """Schemas, fake implementations, autograd and tracing, by torch's own checks."""
        codes, absmax2, offset = ops.pack_absmax(self.absmax, self.map)
        for name, arguments in (
            ("pack", (self.w, 64)),
            ("unpack", (self.codes, self.absmax, [N, K], torch.bfloat16)),
            ("pack_absmax", (self.absmax, self.map, 256)),
            ("gemm", (self.x, self.codes, self.absmax, [N, K])),
            ("gemm", (self.x, self.codes, self.absmax, [N, K], 64, self.bias)),
            ("gemm", (self.x, self.codes, codes, [N, K], 64, None, self.map, absmax2, offset, 256)),
            ("gemm_transposed", (torch.randn(3, N, requires_grad=True), self.codes, self.absmax, [N, K])),
            ("gemm_transposed", (torch.randn(3, N, dtype=torch.bfloat16, requires_grad=True), self.codes, codes, [N, K], 64,
                                 self.map, absmax2, offset, 256)),
            ("gemm_backward", (torch.randn(3, N, requires_grad=True), self.codes, self.absmax, [N, K])),
            ("gemm_backward", (torch.randn(3, N, dtype=torch.bfloat16, requires_grad=True), self.codes, codes, [N, K],
                               64, self.map, absmax2, offset, 256)),
            ("gemm_experts", self.experts()[0]),
            ("gemm_experts", self.experts()[0][:6]),
        ):
            with self.subTest(name=name):
                torch.library.opcheck(getattr(ops, name).default, arguments)

    def test_gradients(self):
        y = ops.gemm(self.x, self.codes, self.absmax, [N, K], 64, self.bias)
        grad = torch.randn_like(y)
        got = torch.autograd.grad(y, (self.x, self.bias), grad)
        expected = torch.autograd.grad(self.x @ self.unpacked.T + self.bias, (self.x, self.bias), grad)
        for a, b in zip(got, expected):
            self.assertTrue(torch.allclose(a, b, atol=1e-5))

    def test_gradients_unpack_nothing(self):
        """In 16 bits, where a kernel decodes W on its way, and the gradient of a gradient is right."""
        x = torch.randn(5, K).to(torch.bfloat16).requires_grad_()
        exact = x.detach().double().requires_grad_()
        with mock.patch.object(_tensors, "unpack", side_effect=AssertionError("unpacked")):
            (grad,) = torch.autograd.grad(ops.gemm(x, self.codes, self.absmax, [N, K]).square().sum(), x,
                                          create_graph=True)  # fmt: skip
            (second,) = torch.autograd.grad(grad.square().sum(), x)
        y = (exact @ self.unpacked.double().T).square().sum()
        (exact_grad,) = torch.autograd.grad(y, exact, create_graph=True)
        (exact_second,) = torch.autograd.grad(exact_grad.square().sum(), exact)
        for found, expected in ((grad, exact_grad), (second, exact_second)):
            self.assertLess((found.double() - expected).abs().max() / expected.abs().max(), 3e-2)

    def test_gradients_that_unpack(self):
        """Elsewhere W is unpacked for a gradient, but for gemm_transposed only where it would run on the CUDA cores."""
        x, y = torch.randn(5, K, requires_grad=True), torch.randn(5, N)
        cublas, tiled = "gemm_transposed.unpack_cublas", "gemm_transposed.tiled"
        weight = self.codes, self.absmax, [N, K]
        gemm_transposed = _tensors.gemm_transposed
        for dtype, variant, transposed in ((torch.bfloat16, cublas, True), (torch.float16, tiled, False),
                                           (torch.float32, "gemm_transposed.host", False)):  # fmt: skip
            with self.subTest(dtype=dtype, variant=variant), mock.patch.multiple(
                _tensors, _transposed=lambda *_, v=variant: (v, 0), gemm_transposed=mock.Mock(wraps=gemm_transposed)
            ):
                a, b = x.detach().to(dtype).requires_grad_(), y.to(dtype)
                (grad,) = torch.autograd.grad(ops.gemm(a, *weight), a, b)
                self.assertTrue(torch.equal(grad, b @ self.unpacked.to(dtype)))
                _tensors.gemm_transposed.assert_not_called()
                ops.gemm_transposed(b, *weight)
                self.assertEqual(_tensors.gemm_transposed.called, transposed)

    def test_compile(self):
        def layer(x):
            return torch.relu(ops.gemm(x, self.codes, self.absmax, [N, K], 64, self.bias)) + 1

        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        self.assertTrue(torch.equal(compiled(self.x), layer(self.x)))

    def test_compile_experts(self):
        """Traced once for all numbers of tokens."""
        (x, codes, absmax, shape, blocksize, ids, bias, scale), _ = self.experts()

        def layer(x, ids, scale):
            y = ops.gemm_experts(x, codes, absmax, shape, blocksize, ids, bias, scale)
            return y.view(*ids.shape, -1).sum(1)

        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
        for tokens in (6, 3):
            given = x[:tokens], ids[:tokens], scale[:tokens]
            self.assertTrue(torch.equal(compiled(*given), layer(*given)))

    def test_refused(self):
        (x, codes, absmax, shape, blocksize, ids, bias, scale), _ = self.experts()

        def experts(x=x, shape=shape, ids=ids, bias=bias, scale=scale, codes=codes):
            return ops.gemm_experts(x, codes, absmax, shape, blocksize, ids, bias, scale)

        cases = [
            ("x is \\[4, 128\\]; expected \\[6, 128\\] or \\[12, 128\\]", lambda: experts(x=x[:4])),
            ("x is torch.float64", lambda: experts(x=x.double())),
            ("shape is \\[48, 128\\]; expected \\[E, N, K\\]", lambda: experts(shape=[N, 128])),
            ("ids is torch.int64 \\[12\\]; expected int32 or int64", lambda: experts(ids=ids.reshape(-1))),
            ("ids is torch.float32 \\[6, 2\\]; expected int32 or int64", lambda: experts(ids=ids.float())),
            ("bias is torch.float32 \\[48\\]; expected torch.float32 \\[5, 48\\]", lambda: experts(bias=bias[0])),
            ("scale is torch.bfloat16 \\[6, 2\\]; expected torch.float32", lambda: experts(scale=scale.bfloat16())),
            ("codes has 100 elements", lambda: experts(codes=codes[:100])),
            ("an expert has 3 \\* 100 weights", lambda: experts(x=x[:, :100], shape=[EXPERTS, 3, 100], bias=None)),
            ("x is \\[2, 3, 50\\]", lambda: ops.gemm(self.x[..., :50], self.codes, self.absmax, [N, K])),
            ("x is \\[2, 3, 100\\]; expected \\[..., 48\\]",
             lambda: ops.gemm_transposed(self.x, self.codes, self.absmax, [N, K])),
            ("x is torch.float64", lambda: ops.gemm(self.x.double(), self.codes, self.absmax, [N, K])),
            (
                "bias is torch.float32 \\[3\\]",
                lambda: ops.gemm(self.x, self.codes, self.absmax, [N, K], 64, self.bias[:3]),
            ),
            ("codes has 5 elements", lambda: ops.gemm(self.x, self.codes[:5], self.absmax, [N, K])),
            ("codes is not contiguous", lambda: ops.gemm(self.x, self.codes.repeat(2)[::2], self.absmax, [N, K])),
            ("absmax has 1 elements", lambda: ops.unpack(self.codes, self.absmax[:1], [N, K], torch.float32)),
            ("absmax2 is None", lambda: ops.gemm(self.x, self.codes, self.codes, [N, K], absmax_map=self.map)),
            ("absmax is torch.uint8", lambda: ops.gemm(self.x, self.codes, self.codes, [N, K])),
            ("blocksize is 48", lambda: ops.pack(self.w, 48)),
            ("w is torch.int32", lambda: ops.pack(self.w.int())),
            ("dtype is torch.int32", lambda: ops.unpack(self.codes, self.absmax, [N, K], torch.int32)),
        ]
        for message, call in cases:
            with self.subTest(message=message), self.assertRaisesRegex((ValueError, nf4.Error), message):
                call()


if __name__ == "__main__":
    support.main()
