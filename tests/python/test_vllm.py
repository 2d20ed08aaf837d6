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
    from nf4._bitsandbytes import operators, vllm

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
        """The experts, which the plug-in unpacks in every forward, are unpacked by the library, bit for bit."""
        experts, rows = 4, 32
        method = self.plugin.BitsAndBytesMoEMethod(self.plugin.BitsAndBytesConfig(bnb_4bit_quant_type="nf4"), None)
        layer = torch.nn.Module()
        method.create_weights(layer, experts, K, rows, torch.bfloat16)
        w13, w2 = torch.randn(experts * 2 * rows, K) * 0.02, torch.randn(experts * K, rows) * 0.02
        for parameter, w in ((layer.w13_weight, w13), (layer.w2_weight, w2)):
            codes, state = host_device.quantize(w.bfloat16())
            parameter.data.copy_(codes.reshape(parameter.shape))
            parameter.bnb_quant_state = state
        weights = layer.w13_weight, layer.w2_weight
        expected = [host_device.unpack(weight.reshape(-1, 1), weight.bnb_quant_state) for weight in weights]
        self.calls.names.clear()
        for ours, exact in zip(method._apply_4bit_dequnt(layer), expected):
            self.assertEqual(ours.dtype, torch.bfloat16)
            self.assertTrue(torch.equal(ours.flatten(), exact.bfloat16().flatten()))
        self.assertEqual(self.calls.names, ["nf4_unpack"] * 2)


if __name__ == "__main__":
    support.main()
