"""Gradients of products in 4 bits, without a dense copy of W: MatMul4Bit.backward in a real bitsandbytes, on the CPU,
whose kernel decodes W on its way too."""

import copy
import unittest
from unittest import mock

import host_device
import nf4
import support

if not host_device.missing:
    import bitsandbytes
    import torch
    from nf4 import _tensors
    from nf4._bitsandbytes import gradient, operators
    from nf4._library import F32
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.checkpoint import checkpoint

    BF16 = torch.bfloat16

ROWS, COLS = 48, 200
DECODING, UNPACKING = "gemm_transposed.scaled_wgmma", "gemm_transposed.unpack_cublas"


class Calls:
    """The library, with the names of the functions that operators call."""

    def __init__(self):
        self.names = []
        self.library = nf4._library.library()

    def __getattr__(self, name):
        self.names.append(name)
        return getattr(self.library, name)

    def take(self):
        """Those that make products or dense copies, since the last call."""
        kinds = ("nf4_gemm", "nf4_gemm_group", "nf4_gemm_transposed", "nf4_unpack")
        names, self.names[:] = [name for name in self.names if name in kinds], []
        return names


class Operators(TorchDispatchMode if not host_device.missing else object):
    """The names of operators that are called meanwhile."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.name())
        return function(*args, **(kwargs or {}))


class GradientTest(host_device.HostTest):
    oldest = (0, 50)

    def setUp(self):
        super().setUp()
        # The host stands for the GPU: the dispatcher sends what is on the CPU to the kernels for CUDA.
        key = mock.patch.object(operators, "_KEY", "CPU")
        key.start()
        self.addCleanup(key.stop)
        self.addCleanup(nf4.disable)
        status = self.enable()
        self.assertIn("MatMul4Bit.backward", status["replaced"])
        self.calls = Calls()
        spy = mock.patch.object(_tensors, "library", lambda: self.calls)
        spy.start()
        self.addCleanup(spy.stop)

    @staticmethod
    def layer(dtype, nested=False, bias=True, quant_type="nf4"):
        layer = host_device.linear(COLS, ROWS, nested, bias, quant_type).requires_grad_(False)
        layer.compute_dtype = dtype
        return layer

    @staticmethod
    def gradient(layer, x, grad):
        x = x.detach().clone().requires_grad_()
        layer(x).backward(grad)
        return x.grad

    def of_bitsandbytes(self, function):
        """What it returns without libnf4."""
        nf4.disable()
        try:
            return function()
        finally:
            self.enable()

    def assert_close(self, found, exact, tolerance):
        self.assertEqual(found.shape, exact.shape)
        self.assertLess((found.double() - exact).abs().max() / exact.abs().max(), tolerance)


class BackwardTest(GradientTest):
    def test_values(self):
        for dtype, tolerance in ((torch.float16, 2e-3), (BF16, 1e-2)):
            for nested in (False, True):
                for shape in ((1,), (40,), (2, 3), ()):
                    with self.subTest(dtype=dtype, nested=nested, shape=shape):
                        layer = self.layer(dtype, nested)
                        x, grad = torch.randn(*shape, COLS).to(dtype), torch.randn(*shape, ROWS).to(dtype)
                        w = host_device.unpack(layer.weight, layer.weight.quant_state)
                        self.calls.take()
                        ours = self.gradient(layer, x, grad)
                        self.assertEqual(self.calls.take(), ["nf4_gemm", "nf4_gemm_transposed"])
                        self.assertEqual(ours.dtype, dtype)
                        self.assert_close(ours, grad.double() @ w.double(), tolerance)
                        theirs = self.of_bitsandbytes(lambda: self.gradient(layer, x, grad))
                        self.assert_close(ours, theirs.double(), tolerance)
                        self.assertEqual(self.calls.take(), [])

    def test_other_ways(self):
        """Where no kernel decodes W on its way, the gradient is bitsandbytes' own, bit for bit, which rounds W to the
        type of its state before that of the gradient."""
        x, grad = torch.randn(5, COLS), torch.randn(5, ROWS)
        for dtype, variant in ((torch.float32, "gemm_transposed.host"), (torch.float32, DECODING), (BF16, UNPACKING),
                               (torch.float16, UNPACKING), (BF16, "gemm_transposed.tiled")):  # fmt: skip
            for nested in (False, True):
                for of_state in (torch.float32, torch.float16, BF16):
                    with self.subTest(dtype=dtype, variant=variant, nested=nested, of_state=of_state):
                        layer = self.layer(dtype, nested)
                        layer.weight.quant_state.dtype = of_state
                        theirs = self.of_bitsandbytes(lambda: self.gradient(layer, x.to(dtype), grad.to(dtype)))
                        self.calls.take()
                        with mock.patch.object(_tensors, "_transposed", lambda *_: (variant, 0)):
                            ours = self.gradient(layer, x.to(dtype), grad.to(dtype))
                        self.assertTrue(torch.equal(ours, theirs))
                        self.assertEqual(self.calls.take(), ["nf4_gemm", "nf4_unpack"])

    def test_rows(self):
        """The selection is asked for as many rows as the gradient has, and for this W."""
        layer = self.layer(BF16)
        asked = []

        def up_to_six(index, dtype, m, rows, cols, blocksize, absmax_dtype):
            asked.append((index, dtype, m, rows, cols, blocksize, absmax_dtype))
            return (DECODING if m <= 6 else UNPACKING), 0

        for shape, expected in (((6,), "nf4_gemm_transposed"), ((2, 3), "nf4_gemm_transposed"), ((7,), "nf4_unpack"),
                                ((2, 4), "nf4_unpack")):  # fmt: skip
            with self.subTest(shape=shape), mock.patch.object(_tensors, "_transposed", up_to_six):
                self.calls.take()
                self.gradient(layer, torch.randn(*shape, COLS).to(BF16), torch.randn(*shape, ROWS).to(BF16))
                self.assertEqual(self.calls.take(), ["nf4_gemm", expected])
        problems = [(host_device.HOST, _tensors.DTYPES[BF16], m, ROWS, COLS, 64, F32) for m in (6, 7, 8)]
        self.assertEqual(list(dict.fromkeys(asked)), problems)

    def test_way_that_is_not_taken(self):
        """An eager call does not go through the operator for nothing."""
        layer = self.layer(BF16)
        x, grad = torch.randn(5, COLS).to(BF16), torch.randn(5, ROWS).to(BF16)
        for variant, taken in ((DECODING, True), (UNPACKING, False)):
            with mock.patch.object(_tensors, "_transposed", lambda *_: (variant, 0)), Operators() as called:
                self.gradient(layer, x, grad)
            self.assertEqual("nf4::gemm_4bit_transposed" in called.names, taken)

    def test_handed_back(self):
        """What is not for libnf4."""
        layer = self.layer(BF16)
        state, codes = layer.weight.quant_state, layer.weight
        good = torch.randn(5, ROWS).to(BF16), codes, state.shape, state.absmax, 64, "nf4", BF16
        ours = operators.Operators({}, self.devices, None).gemm_4bit_transposed
        self.assertEqual(ours(*good).shape, (5, COLS))
        for at, value in ((0, good[0].double()), (0, good[0][:, 1:]), (4, 48), (5, "fp4"), (2, [ROWS])):
            with self.subTest(value=value):
                self.assertIs(ours(*good[:at], value, *good[at + 1 :]), NotImplemented)
        self.assertIs(operators.Operators({}, {-1: False}, None).gemm_4bit_transposed(*good), NotImplemented)

    def test_backward_that_stays(self):
        """Of other types, of a bias, and where x needs no gradient."""
        original = mock.Mock(return_value="original", __name__="backward")
        backward = gradient.with_transposed_product(original, mock.Mock())
        ctx = mock.Mock(is_empty=False, needs_input_grad=(True, False, False, False, False))
        for change in ({"is_empty": True}, {"needs_input_grad": (False, False, False, True, False)},
                       {"needs_input_grad": (False, True, False, False, False)},
                       {"needs_input_grad": (True, False, False, True, False)},
                       {"state": mock.Mock(quant_type="fp4")}):  # fmt: skip
            changed = copy.copy(ctx)
            changed.configure_mock(**{"is_empty": False, "needs_input_grad": ctx.needs_input_grad,
                                      "state": mock.Mock(quant_type="nf4"), **change})  # fmt: skip
            self.assertEqual(backward(changed, "grad"), "original")
            original.assert_called_with(changed, "grad")

    def test_not_contiguous(self):
        layer, x = self.layer(BF16), torch.randn(6, COLS).to(BF16)
        grad = torch.randn(ROWS, 6).to(BF16).T
        self.assertTrue(torch.equal(self.gradient(layer, x, grad), self.gradient(layer, x, grad.contiguous())))
        x.requires_grad_()
        layer(x).sum().backward()  # of one number, repeated
        self.assertEqual(x.grad.shape, x.shape)

    def test_empty(self):
        layer = self.layer(BF16)
        self.assertEqual(self.gradient(layer, torch.randn(0, COLS).to(BF16), torch.randn(0, ROWS).to(BF16)).numel(), 0)

    def test_bias_with_a_gradient(self):
        """Is bitsandbytes' own work."""
        layer = self.layer(BF16)
        layer.bias.requires_grad_()
        x, grad = torch.randn(5, COLS).to(BF16).requires_grad_(), torch.randn(5, ROWS).to(BF16)
        layer(x).backward(grad)
        self.assert_close(layer.bias.grad, grad.double().sum(0), 1e-2)
        self.assertIn("nf4_unpack", self.calls.take())

    def test_second_derivative(self):
        for nested in (False, True):
            layer = self.layer(BF16, nested, bias=False)
            w = host_device.unpack(layer.weight, layer.weight.quant_state).double()
            x = torch.randn(5, COLS).to(BF16).requires_grad_()
            exact_x = x.detach().double().requires_grad_()
            found = []
            for at, y in ((x, layer(x)), (exact_x, exact_x @ w.T)):
                (grad,) = torch.autograd.grad(y.square().sum(), at, create_graph=True)
                found += torch.autograd.grad(grad.square().sum(), at)
            self.assert_close(found[0], found[1], 3e-2)

    def test_away_again(self):
        function = bitsandbytes.autograd._functions.MatMul4Bit
        ours = function.backward
        nf4.disable()
        self.assertIsNot(function.backward, ours)
        self.assertIs(function.backward, ours.__wrapped__)
        layer, x, grad = self.layer(BF16), torch.randn(3, COLS).to(BF16), torch.randn(3, ROWS).to(BF16)
        self.calls.take()
        state = layer.weight.quant_state
        operator = torch.ops.nf4.gemm_4bit_transposed  # which compiled code may still call
        found = operator(grad, layer.weight, state.shape, state.absmax, 64, "nf4", state.dtype)
        self.assertTrue(torch.equal(found, self.gradient(layer, x, grad)))
        self.assertEqual(self.calls.take(), [])


class GraphTest(GradientTest):
    def test_checkpointing(self):
        layer, x, grad = self.layer(BF16, True), torch.randn(2, 3, COLS).to(BF16), torch.randn(2, 3, ROWS).to(BF16)
        expected = self.gradient(layer, x, grad)
        for reentrant in (False, True):
            self.calls.take()
            found = self.gradient(lambda x, r=reentrant: checkpoint(layer, x, use_reentrant=r), x, grad)
            self.assertTrue(torch.equal(found, expected))
            again = ["nf4_gemm"] if reentrant else []  # the other way knows that nothing is needed of the forward pass
            self.assertEqual(self.calls.take(), ["nf4_gemm", *again, "nf4_gemm_transposed"])

    @staticmethod
    def traced(function, *arguments):
        """function(*arguments), where a graph is made, for which torch asks CUDA for the state of its random numbers."""
        with mock.patch("torch.cuda.is_available", lambda: False):
            return function(*arguments)

    def test_compiled(self):
        layer = torch.nn.Sequential(self.layer(BF16, True), torch.nn.GELU())
        x, grad = torch.randn(2, 3, COLS).to(BF16), torch.randn(2, 3, ROWS).to(BF16)
        expected = self.gradient(layer, x, grad)
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        self.calls.take()
        found = self.traced(self.gradient, compiled, x, grad)
        self.assertEqual(self.calls.take(), ["nf4_gemm", "nf4_gemm_transposed"])
        self.assert_close(found, expected.double(), 1e-2)
        with mock.patch.object(_tensors, "_transposed", lambda *_: (UNPACKING, 0)):  # the same graph
            found = self.gradient(compiled, x, grad)
            self.assertEqual(self.calls.take(), ["nf4_gemm", "nf4_unpack"])
            self.assertTrue(torch.equal(found, self.gradient(layer, x, grad)))

    def test_graph_of_a_device_that_unpacks(self):
        """It is bitsandbytes' own: the operator is in a graph only where a device decodes such a W."""
        from functorch.compile import make_boxed_func
        from torch._dynamo.backends.common import aot_autograd

        layer = self.layer(BF16)
        x, grad = torch.randn(5, COLS).to(BF16), torch.randn(5, ROWS).to(BF16)
        theirs = self.of_bitsandbytes(lambda: self.gradient(layer, x, grad))
        for variant, taken in ((DECODING, True), (UNPACKING, False)):
            operators_of = set()

            def record(graph, _, found=operators_of):
                found.update(str(node.target) for node in graph.graph.nodes)
                return make_boxed_func(graph.forward)

            torch.compiler.reset()
            with self.subTest(variant=variant), mock.patch.object(_tensors, "_transposed", lambda *_: (variant, 0)):
                compiled = torch.compile(layer, backend=aot_autograd(fw_compiler=record), fullgraph=True)
                found = self.traced(self.gradient, compiled, x, grad)
                self.assertEqual("nf4.gemm_4bit_transposed.default" in operators_of, taken)
                if not taken:
                    self.assertTrue(torch.equal(found, theirs))

    def test_opcheck(self):
        for nested in (False, True):
            layer = self.layer(BF16, nested)
            state = layer.weight.quant_state
            with torch._C.DisableTorchFunctionSubclass():
                codes = layer.weight.detach().as_subclass(torch.Tensor)
            arguments = (torch.randn(3, ROWS).to(BF16).requires_grad_(), codes, state.shape)
            if nested:
                arguments += (state.state2.absmax, 64, "nf4", BF16, state.absmax, state.state2.code, state.offset)
            else:
                arguments += (state.absmax, 64, "nf4", BF16)
            self.traced(torch.library.opcheck, torch.ops.nf4.gemm_4bit_transposed.default, arguments)

    def test_qlora(self):
        """Some steps train as bitsandbytes alone does, and the backward pass unpacks nothing."""
        try:
            import peft
            import transformers
        except ImportError as error:
            self.skipTest(str(error))
        config = transformers.LlamaConfig(
            vocab_size=64, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=False,
        )  # fmt: skip
        torch.manual_seed(2)
        dense = transformers.LlamaForCausalLM(config).to(BF16)
        tokens = torch.arange(3, 35).view(2, 16)

        def losses(checkpointing):
            torch.manual_seed(3)
            model = copy.deepcopy(dense)
            for name, module in list(model.model.named_modules()):
                if isinstance(module, torch.nn.Linear):
                    rows, cols = module.weight.shape
                    codes, state = host_device.quantize(module.weight.data.float(), True)
                    packed = bitsandbytes.nn.Linear4bit(cols, rows, False, BF16, True, "nf4")
                    packed.weight = bitsandbytes.nn.Params4bit(
                        codes, requires_grad=False, quant_state=state, quant_type="nf4", bnb_quantized=True,
                        module=packed,
                    )  # fmt: skip
                    packed.compute_type_is_set = True
                    model.model.set_submodule(name, packed)
            lora = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
            model = peft.get_peft_model(model, lora).train()
            if checkpointing:
                model.enable_input_require_grads()
                model.gradient_checkpointing_enable({"use_reentrant": False})
            optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
            found = []
            for _ in range(4):
                loss = model(input_ids=tokens, labels=tokens).loss
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                found.append(loss.item())
            return found

        for checkpointing in (False, True):
            with self.subTest(checkpointing=checkpointing):
                self.calls.take()
                ours = losses(checkpointing)
                calls = self.calls.take()
                self.assertGreater(calls.count("nf4_gemm_transposed"), 4 * 8)
                self.assertNotIn("nf4_unpack", calls)
                theirs = self.of_bitsandbytes(lambda: losses(checkpointing))
                self.assertLess(theirs[-1], 0.98 * theirs[0])
                for a, b in zip(ours, theirs):
                    self.assertAlmostEqual(a, b, delta=0.01 * b)


if __name__ == "__main__":
    support.main()
