"""vllm-bnb-plugin's own code on the CPU, in vLLM's place stand-ins for the few names that it imports: what it calls is
replaced by the plug-in and right, and the parts of a layer are multiplied together. Needs torch, bitsandbytes and
vllm-bnb-plugin, which is at hand where stacks.sh has put it; vLLM is not needed."""

import importlib
import importlib.util
import sys
import types
import unittest
from unittest import mock

import host_device
import nf4
import support

if not host_device.missing:
    import bitsandbytes
    import torch
    from nf4 import _tensors
    from nf4._bitsandbytes import devices, operators, vllm, vllm_experts

    missing = "" if importlib.util.find_spec("vllm_bnb_plugin") else "no vllm-bnb-plugin"
else:
    missing = host_device.missing

K = 64
PARTS = (32, 16, 16)  # q, k and v


def register_custom_op(op_name, op_func, mutates_args, fake_impl, dispatch_key):
    """vLLM's direct_register_custom_op."""
    register_custom_op.library = torch.library.Library("vllm", "FRAGMENT")
    register_custom_op.library.define(op_name + torch.library.infer_schema(op_func, mutates_args=mutates_args))
    register_custom_op.library.impl(op_name, op_func, dispatch_key=dispatch_key)
    register_custom_op.library._register_fake(op_name, fake_impl)


def load(dispatch_key):
    """vllm-bnb-plugin's module of layers, for whose operator the dispatcher has this key."""
    with mock.patch.dict(sys.modules, stand_ins(dispatch_key)):
        plugin = importlib.import_module("vllm_bnb_plugin.quantization")
        own = {name: module for name, module in sys.modules.items() if name.startswith("vllm_bnb_plugin")}
    sys.modules.update(own)
    return plugin


def stand_ins(dispatch_key):
    """The modules of vLLM that vllm-bnb-plugin imports, by name."""

    class Parameter(torch.nn.Parameter):
        def __new__(cls, data, **_):
            return super().__new__(cls, data, requires_grad=False)

        def __init__(self, data, **attributes):
            self.__dict__.update(attributes)

    class Method:
        def __init__(self, *_):
            pass

    def set_weight_attrs(weight, attributes):
        weight.__dict__.update(attributes)

    def decorator(_):
        return lambda value: value

    names = {
        "": {},
        "logger": {"init_logger": mock.Mock()},
        "platforms": {"current_platform": types.SimpleNamespace(dispatch_key=dispatch_key, is_rocm=lambda: False)},
        "utils": {},
        "utils.torch_utils": {"current_stream": None, "direct_register_custom_op": register_custom_op},
        "model_executor": {},
        "model_executor.parameter": {"ModelWeightParameter": Parameter, "PackedvLLMParameter": Parameter},
        "model_executor.model_loader": {"register_model_loader": decorator},
        "model_executor.layers": {},
        "model_executor.layers.quantization": {
            "QuantizationConfig": Method, "QuantizationMethods": str, "register_quantization_config": decorator,
        },
        "model_executor.layers.linear": {
            "LinearBase": torch.nn.Module, "LinearMethodBase": Method, "UnquantizedLinearMethod": Method,
            "register_weight_loader_v2_supported_method": lambda method: method, "set_weight_attrs": set_weight_attrs,
        },
        "model_executor.layers.fused_moe": dict.fromkeys(
            ("RoutedExperts", "FusedMoEConfig", "FusedMoEMethodBase", "FusedMoEQuantConfig", "SharedExperts"), Method
        ),
    }  # fmt: skip
    modules = {}
    for name, attributes in names.items():
        module = modules[f"vllm.{name}".rstrip(".")] = types.ModuleType(f"vllm.{name}".rstrip("."))
        module.__dict__.update(attributes, __path__=[])
    return modules


def ternary(rows, k=K):
    """Weights whose products with small integers are exact."""
    return (torch.arange(rows * k) * 7 % 3 - 1).reshape(rows, k).float()


def make_x(*rows):
    return (torch.arange(torch.Size(rows).numel() * K) * 5 % 2).reshape(*rows, K).bfloat16()


def make_layer(plugin, parts=PARTS, quant_type="nf4", nested=False):
    """A layer as vllm-bnb-plugin's own loader leaves it, on the CPU; its method, and its weights."""
    method = plugin.BitsAndBytesLinearMethod(plugin.BitsAndBytesConfig(bnb_4bit_quant_type=quant_type))
    layer = torch.nn.Module()
    method.create_weights(layer, K, list(parts), K, sum(parts), torch.bfloat16, weight_loader=None)
    w = ternary(sum(parts))
    packed = [host_device.quantize(part, nested, quant_type) for part in w.split(parts)]
    layer.weight.data.copy_(torch.cat([codes for codes, _ in packed]))
    layer.weight.bnb_quant_state = {i: state for i, (_, state) in enumerate(packed)}
    layer.weight.bnb_shard_offsets = torch.tensor([0, *parts]).cumsum(0) * K // 2
    return layer, method, w


EXPERTS, INNER, TOP_K = 4, 32, 2


def make_experts(plugin, quant_type="nf4", nested=False):
    """A layer of experts as vllm-bnb-plugin's own loader leaves it, on the CPU; its method, and what it multiplies."""
    method = plugin.BitsAndBytesMoEMethod(plugin.BitsAndBytesConfig(bnb_4bit_quant_type=quant_type), None)
    method.moe_quant_config = None
    layer = torch.nn.Module()
    method.create_weights(layer, EXPERTS, K, INNER, torch.bfloat16)
    layer.activation, layer.expert_map, layer.apply_router_weight_on_input = "silu", None, False
    generator = torch.Generator().manual_seed(3)
    dense = []
    for parameter in (layer.w13_weight, layer.w2_weight):
        experts, rows, cols = parameter.experts_shape
        w = torch.randn(experts * rows, cols, generator=generator) * cols**-0.5
        codes, state = host_device.quantize(w.bfloat16(), nested, quant_type)
        parameter.data.copy_(codes.reshape(parameter.shape))
        parameter.bnb_quant_state = state
        if quant_type == "nf4" and not nested:
            dense.append(host_device.unpack(codes.reshape(-1, 1), state).double().view(experts, rows, cols))

    def exact(x, weights, ids):
        """In float64, token by token."""
        y = torch.zeros(x.shape[0], K, dtype=torch.float64)
        for token, (row, own) in enumerate(zip(x.double(), ids)):
            for weight, e in zip(weights[token].double(), own):
                gate, up = (dense[0][e] @ row).chunk(2)
                y[token] += weight * (dense[1][e] @ (torch.nn.functional.silu(gate) * up))
        return y

    return layer, method, exact


def make_routing(tokens):
    generator = torch.Generator().manual_seed(tokens)
    weights, ids = torch.rand(tokens, EXPERTS, generator=generator).topk(TOP_K)
    return torch.randn(tokens, K, generator=generator).bfloat16(), weights, ids


class Calls:
    """The library, and the names of what is called of it."""

    def __init__(self):
        self.library, self.names = _tensors.library(), []

    def __getattr__(self, name):
        function = getattr(self.library, name)

        def call(*arguments):
            self.names.append(name)
            return function(*arguments)

        return call if name.startswith(("nf4_gemm", "nf4_unpack", "nf4_pack")) else function


class VllmTest(host_device.HostTest):
    oldest = (0, 48)

    @classmethod
    def setUpClass(cls):
        if not missing:
            cls.plugin = load("CPU")
            cls.linear = sys.modules["vllm_bnb_plugin.quantization.linear"]

    def setUp(self):
        super().setUp()
        if missing:
            self.skipTest(missing)
        # The host stands for the GPU: the dispatcher sends what is on the CPU to the kernels for CUDA.
        key = mock.patch.object(operators, "_KEY", "CPU")
        key.start()
        self.addCleanup(key.stop)
        self.addCleanup(nf4.disable)
        status = self.enable()
        self.assertTrue(status["enabled"], status)
        self.replaced = status["replaced"]
        self.calls = Calls()
        spy = mock.patch.object(_tensors, "library", lambda: self.calls)
        spy.start()
        self.addCleanup(spy.stop)

    def layer(self, *arguments, **named):
        made = make_layer(self.plugin, *arguments, **named)
        self.calls.names.clear()
        return made

    def test_known(self):
        """The installed version has the function that is replaced. If this fails, read what has become of it."""
        self.assertIs(vllm.known(), self.linear._apply_bnb_4bit)
        self.assertIn("vLLM: parts of a layer", self.replaced)

    def test_parts(self):
        """One call, which writes every part to its columns."""
        for parts in (PARTS, (48, 48), (24,), (16, 8, 8, 8, 8)):
            layer, method, w = self.layer(parts)
            bias = torch.arange(sum(parts)).bfloat16() % 4
            for x in (make_x(1), make_x(3), make_x(40), make_x(2, 3), make_x(8)[::2]):
                with self.subTest(parts=parts, x=x.shape):
                    self.calls.names.clear()
                    y = method.apply(layer, x, bias)
                    self.assertEqual(self.calls.names, ["nf4_gemm_group"])
                    self.assertEqual(y.dtype, torch.bfloat16)
                    self.assertTrue(torch.equal(y.float(), x.float() @ w.T + bias.float()))

    def test_one_by_one(self):
        """What the plug-in's own function calls is replaced too: a product for each part."""
        layer, _, w = self.layer()
        x, out = make_x(3), torch.full((3, sum(PARTS)), torch.nan).bfloat16()
        self.linear._apply_bnb_4bit(x, layer.weight, layer.weight.bnb_shard_offsets, out)
        self.assertEqual(self.calls.names, ["nf4_gemm"] * len(PARTS))
        self.assertTrue(torch.equal(out.float(), x.float() @ w.T))

    def test_left_alone(self):
        """What is not for the library goes to the plug-in's own function, with its arguments as they came."""
        x, empty = make_x(3), make_x(0)
        layer, _, _ = self.layer()
        nested, fp4 = self.layer(nested=True)[0], self.layer(quant_type="fp4")[0]
        one_fp4 = self.layer()[0]
        one_fp4.weight.bnb_quant_state[1].quant_type = "fp4"
        too_many = self.layer()[0]
        too_many.weight.bnb_shard_offsets = torch.tensor([0, 1, 2, 3])
        original = mock.Mock(return_value="original")
        ours = operators.Operators({}, self.devices, mock.Mock())
        kernel = vllm.kernel(ours, original)
        out = torch.full((3, sum(PARTS)), torch.nan).bfloat16()
        for what, (layer_, x_, out_) in {
            "nested": (nested, x, out),
            "FP4": (fp4, x, out),
            "a part in FP4": (one_fp4, x, out),
            "codes that are too few": (too_many, x, out),
            "no rows": (layer, empty, out[:0]),
            "another type of x": (layer, x.double(), out),
            "another type of out": (layer, x, out.float()),
            "another type of out, of one part": (self.layer((sum(PARTS),))[0], x, out.float()),
            "columns of x that do not fit": (layer, x[:, 1:], out),
            "rows of out that do not fit": (layer, x, out[:2]),
            "columns of out that do not fit": (layer, x, out[:, 1:]),
            "out column by column": (layer, x, out.T.contiguous().T),
        }.items():
            with self.subTest(what):
                arguments = x_, layer_.weight, layer_.weight.bnb_shard_offsets, out_
                original.reset_mock()
                self.assertEqual(kernel(*arguments), "original")
                self.assertEqual([id(each) for each in original.call_args.args], [id(each) for each in arguments])
                self.assertTrue(torch.all(out.isnan()))
        original.reset_mock()
        self.assertIsNone(kernel(x, layer.weight, layer.weight.bnb_shard_offsets, out))
        original.assert_not_called()
        self.devices[host_device.HOST] = False
        self.assertEqual(kernel(x, layer.weight, layer.weight.bnb_shard_offsets, out), "original")

    def test_disable(self):
        """nf4.disable() gives vLLM its own function back, and nf4.enable() takes it again."""
        layer, method, w = self.layer()
        x = make_x(3)
        nf4.disable()
        with mock.patch.object(bitsandbytes, "matmul_4bit", wraps=bitsandbytes.matmul_4bit) as matmul_4bit:
            y = method.apply(layer, x)
        self.assertEqual((matmul_4bit.call_count, self.calls.names), (len(PARTS), []))
        self.assertLess((y.float() - x.float() @ w.T).abs().max(), 0.5)
        self.enable()
        self.assertTrue(torch.equal(method.apply(layer, x).float(), x.float() @ w.T))
        self.assertEqual(self.calls.names, ["nf4_gemm_group"])

    def test_unknown(self):
        """A function that reads otherwise, or that is not loaded, is not replaced."""

        def _apply_bnb_4bit(x, weight, offsets, out):
            out.zero_()

        nf4.disable()
        for changes in (
            mock.patch.object(self.linear, "_apply_bnb_4bit", _apply_bnb_4bit),
            mock.patch.object(self.linear, "_apply_bnb_4bit", len),
            mock.patch.dict(sys.modules, {self.linear.__name__: None}),
        ):
            with changes:
                self.assertIsNone(vllm.known())
                self.assertNotIn("vLLM: parts of a layer", self.enable()["replaced"])
                nf4.disable()

    def test_failure(self):
        """Should torch refuse the kernel, all else is replaced."""
        nf4.disable()
        register = operators.register

        def refuse(kernels, namespace="bitsandbytes"):
            if namespace == "vllm":
                raise RuntimeError("no such operator")
            return register(kernels, namespace)

        with mock.patch.object(operators, "register", refuse), self.assertLogs("nf4", "WARNING") as logs:
            status = self.enable()
        self.assertRegex(logs.output[0], "one by one: RuntimeError: no such operator")
        self.assertTrue(status["enabled"])
        self.assertNotIn("vLLM: parts of a layer", status["replaced"])

    def test_experts(self):
        """Two products, straight from the ids."""
        self.assertIn("vLLM: experts", self.replaced)
        for tokens in (1, 3, 40):
            layer, method, exact = make_experts(self.plugin)
            x, weights, ids = make_routing(tokens)
            for ids_ in (ids, ids.int()):
                self.calls.names.clear()
                with torch.no_grad():
                    y = method.apply(layer, x, weights, ids_, None, None)
                self.assertEqual(self.calls.names, ["nf4_gemm_experts"] * 2)
                self.assertEqual((y.dtype, y.shape), (torch.bfloat16, (tokens, K)))
                expected = exact(x, weights, ids)
                self.assertLess((y.double() - expected).norm(), 2e-2 * expected.norm())

    def test_experts_left_alone(self):
        """What the library does not do goes to the plug-in's own method, with its arguments as they came."""
        layer, method, _ = make_experts(self.plugin)
        original = mock.Mock(return_value="original", __name__="apply")
        replaced = vllm_experts.replacement(self.devices, original)
        arguments = [*make_routing(3), None, None]

        def assert_original(what, layer=layer, method=method, arguments=arguments):
            with self.subTest(what), torch.no_grad():
                original.reset_mock()
                self.calls.names.clear()
                self.assertEqual(replaced(method, layer, *arguments), "original")
                passed = original.call_args.args
                self.assertEqual([id(each) for each in passed], [id(each) for each in (method, layer, *arguments)])
                self.assertEqual(self.calls.names, [])

        for what, options in {"FP4": {"quant_type": "fp4"}, "nested": {"nested": True}}.items():
            assert_original(what, make_experts(self.plugin, **options)[0])
        for what, attributes in {
            "another activation": {"activation": "gelu"},
            "experts elsewhere": {"expert_map": torch.arange(4)},
            "weighted before": {"apply_router_weight_on_input": True},
        }.items():
            with mock.patch.multiple(layer, **attributes):
                assert_original(what)
        with mock.patch.object(method, "moe_quant_config", "some"):
            assert_original("another config")
        with mock.patch.object(method.quant_config, "load_in_8bit", True):
            assert_original("8 bits")
        x, weights, ids = arguments[:3]
        for what, changed in {
            "no tokens": (x[:0], weights[:0], ids[:0]),
            "another type of x": (x.double(), weights, ids),
            "another type of ids": (x, weights, ids.short()),
            "columns of x that do not fit": (x[:, 1:], weights, ids),
            "rows of x that do not fit": (x[:2], weights, ids),
        }.items():
            assert_original(what, arguments=[*changed, None, None])
        original.reset_mock()
        replaced(method, layer, *arguments)
        original.assert_called_once()  # with gradients
        with mock.patch.object(self.devices, "limits", {host_device.HOST: "not measured"}):
            assert_original("a variant that is not known to be faster")
            with mock.patch.object(devices, "_SLOTS", {"gemm_experts.host": 1}):
                assert_original("more slots than it is faster for")  # 6, by 4 experts
            with mock.patch.object(devices, "_SLOTS", {"gemm_experts.host": 2}), torch.no_grad():
                self.assertNotEqual(type(replaced(method, layer, *arguments)), str)
        self.devices[host_device.HOST] = False
        assert_original("a device that is not used")

    def test_experts_unknown(self):
        """A method that reads otherwise is not replaced, and nf4.disable() gives a known one back."""
        cls = self.plugin.BitsAndBytesMoEMethod
        nf4.disable()
        before = cls.apply
        with mock.patch.object(cls, "apply", lambda *_: None):
            self.assertNotIn("vLLM: experts", self.enable()["replaced"])
            nf4.disable()
        self.enable()
        self.assertIsNot(cls.apply, before)
        nf4.disable()
        self.assertIs(cls.apply, before)

    def test_unpacked_experts(self):
        """Where all experts are unpacked, the library does it, bit for bit."""
        layer, method, _ = make_experts(self.plugin)
        weights = layer.w13_weight, layer.w2_weight
        expected = [host_device.unpack(weight.reshape(-1, 1), weight.bnb_quant_state) for weight in weights]
        self.calls.names.clear()
        for ours, exact in zip(method._apply_4bit_dequnt(layer), expected):
            self.assertEqual(ours.dtype, torch.bfloat16)
            self.assertTrue(torch.equal(ours.flatten(), exact.bfloat16().flatten()))
        self.assertEqual(self.calls.names, ["nf4_unpack"] * 2)


if __name__ == "__main__":
    support.main()
