"""Mixtures of experts of transformers in NF4, on the host: models with random weights, as small as they can be."""

import contextlib
import copy
import io
import json
import os
import pathlib
import pickle
import tempfile
import threading
import unittest
import warnings
from unittest import mock

import nf4
import support
from nf4 import __main__ as main
from nf4 import checkpoint

try:
    import accelerate  # noqa: F401
    import bitsandbytes.functional as F
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
    from transformers.integrations.moe import use_experts_implementation

    from nf4._transformers import stack, switch
    from nf4._transformers.conversion import Join
    from nf4._transformers.experts import PackedExperts, is_marked, misfit, packed_class
    from nf4._transformers.quantizer import _cuda_devices as cuda_devices
    from nf4._transformers.quantizer import records_of
except ImportError as error:
    missing = str(error)
else:
    missing = None
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()

DECODER = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 128, "head_dim": 16,
           "intermediate_size": 128, "num_key_value_heads": 2, "max_position_embeddings": 64, "num_experts_per_tok": 2,
           "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.2}  # fmt: skip
SIZES = {"moe_intermediate_size": 64, "num_experts": 5}
MODELS = {
    "Qwen3MoeForCausalLM": {**DECODER, **SIZES},
    "MixtralForCausalLM": {**DECODER, "num_local_experts": 5},
    "OlmoeForCausalLM": {**DECODER, **SIZES},
    "GptOssForCausalLM": {**DECODER, "num_local_experts": 5, "layer_types": ["full_attention"] * 2},
    "DeepseekV3ForCausalLM": {
        **DECODER, "num_key_value_heads": 4, "n_routed_experts": 8, "moe_intermediate_size": 64, "n_group": 2,
        "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 64, "kv_lora_rank": 64, "qk_rope_head_dim": 32,
        "qk_nope_head_dim": 32, "v_head_dim": 32, "head_dim": 32,
    },
}  # fmt: skip
QWEN = "Qwen3MoeForCausalLM"
EXPERTS = "model.layers.1.mlp.experts"  # of each of them


def new_model(name, **options):
    torch.manual_seed(1)
    model_class = getattr(transformers, name)
    model = model_class(model_class.config_class(**{**MODELS[name], **options}))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("_bias"):
                parameter.normal_(0, 0.2)
    return model


def load(name, folder, nested=None, **options):
    if nested is not None:
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32,
            bnb_4bit_use_double_quant=nested, llm_int8_skip_modules=options.pop("skip", None),
        )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (
            getattr(transformers, name).from_pretrained(folder, device_map="cpu", dtype=torch.float32, **options).eval()
        )


def logits(model, count=9):
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 3 + count)[None]).logits


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


def tensors(folder):
    found = {}
    for path in pathlib.Path(folder).glob("*.safetensors"):
        found.update(load_file(path))
    return found


def packed_tensors(key, w, nested):
    """What transformers 4 saves of a matrix that is a Linear4bit."""
    codes, state = F.quantize_4bit(w.contiguous(), quant_type="nf4", compress_statistics=nested)
    return {key: codes, **{f"{key}.{part}": value for part, value in state.as_dict(packed=True).items()}}


def is_expert_matrix(key):
    return ".experts." in key and key.endswith(".weight")


def pack_matrices(folder, nested):
    """Makes a checkpoint of transformers 4 of one whose experts are dense."""
    found = {}
    for key, value in tensors(folder).items():
        found.update(packed_tensors(key, value, nested) if is_expert_matrix(key) else {key: value})
    save_file({key: value.contiguous().clone() for key, value in found.items()}, os.path.join(folder, "model.safetensors"),
              {"format": "pt"})  # fmt: skip


def matrices_of_gpt_oss(folder):
    """Gives the experts of gpt-oss the names of Unsloth's files."""
    found = {}
    for key, value in tensors(folder).items():
        head, _, name = key.rpartition(".")
        if not head.endswith("experts"):
            found[key.replace(".router.", ".router.linear.")] = value
        for number, one in enumerate(value if head.endswith("experts") else ()):
            stem, is_bias, _ = name.partition("_bias")
            found[f"{head}.{stem}s.{number}.{'bias' if is_bias else 'weight'}"] = one if is_bias else one.T
    save_file({key: value.contiguous().clone() for key, value in found.items()}, os.path.join(folder, "model.safetensors"),
              {"format": "pt"})  # fmt: skip


def round_trip(w, nested):
    """What bitsandbytes makes of a matrix. Of nested scales the last bits of an offset decide ties: there libnf4."""
    if nested:
        return stack.unpack(stack.pack(w.contiguous()[None], 1, nested=True))[0]
    return F.dequantize_4bit(*F.quantize_4bit(w.contiguous(), quant_type="nf4"))


def reference(name, folder, nested):
    """A model with dense experts whose values are those of packed ones, by bitsandbytes and matrix by matrix."""
    model = load(name, folder, nested)
    with torch.no_grad():
        for module in model.modules():
            if not hasattr(module, "is_transposed"):
                continue
            for parameter_name in ("gate_up_proj", "down_proj"):
                stacked = getattr(module, parameter_name)
                for expert in range(stacked.shape[0]):
                    w = stacked[expert].T if module.is_transposed else stacked[expert]
                    halves = parameter_name == "gate_up_proj" and not module.is_transposed
                    w = torch.cat([round_trip(part, nested) for part in w.chunk(2 if halves else 1)])
                    stacked[expert] = w.T if module.is_transposed else w
    return model


@unittest.skipIf(missing, missing)
class ExpertsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder, self.out = (os.path.join(folder.name, name) for name in ("model", "out"))
        self.addCleanup(nf4.disable)
        # On some CPUs the first call would put the codes of linear layers into another order, and round their scales.
        order = mock.patch("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
        order.start()
        self.addCleanup(order.stop)

    def enable(self, experts=True):
        yes = {"torch.cuda.is_available": lambda: True, "nf4._library.is_built_with_cuda": lambda: True}
        with mock.patch("torch.cuda.is_available", yes["torch.cuda.is_available"]):
            with mock.patch("nf4._library.is_built_with_cuda", yes["nf4._library.is_built_with_cuda"]):
                return nf4.enable(experts=experts)

    def quantized(self, name=QWEN, nested=False, **options):
        """A model whose experts were packed while it was loaded."""
        new_model(name, **options.pop("config", {})).save_pretrained(self.folder)
        self.enable()
        return load(name, self.folder, nested, **options)

    def assert_packed(self, model, count=None):
        modules = [module for module in model.modules() if isinstance(module, PackedExperts)]
        self.assertEqual(len(modules), len(nf4.status()["experts"]["packed"]) if count is None else count)
        self.assertTrue(modules)
        for module in modules:
            for name in ("gate_up_proj", "down_proj"):
                self.assertTrue(stack.is_stack(module._parameters[name]))

    def count_products(self):
        """A list that grows with each product of packed experts."""
        from nf4._transformers import experts

        calls, product = [], experts._product

        def counted(*arguments):
            calls.append(arguments)
            return product(*arguments)

        patch = mock.patch.object(experts, "_product", counted)
        patch.start()
        self.addCleanup(patch.stop)
        return calls


class ModelTest(ExpertsTest):
    """Quantized at load: the same numbers as transformers' own implementation on the unpacked weights; saved and loaded
    again the same bits; and the files of transformers 4, whose keys and bytes are those that are saved."""

    def check(self, name, nested):
        new_model(name).save_pretrained(self.folder)
        theirs = reference(name, self.folder, nested)
        expected = logits(theirs)

        self.enable()
        model = load(name, self.folder, nested)
        self.assert_packed(model)
        calls = self.count_products()
        ours = logits(model)
        self.assertEqual(len(calls), 2 * len(nf4.status()["experts"]["packed"]))
        self.assertLess(distance(ours, expected), 1e-5)
        prompt = torch.arange(3, 8)[None]
        generated = [each.generate(prompt, max_new_tokens=6, do_sample=False) for each in (model, theirs)]
        self.assertTrue(torch.equal(*generated))

        model.save_pretrained(self.out)
        saved = tensors(self.out)
        theirs.save_pretrained(self.folder)  # whose linear layers are packed; its experts are dense,
        new = tensors(self.folder)
        dense = tensors_of(new_model(name), self.folder + "-dense")
        for key in new:
            if ".experts." in key:
                new[key] = dense[key]  # and before they were rounded
        save_file(new, os.path.join(self.folder, "model.safetensors"), {"format": "pt"})
        if name == "GptOssForCausalLM":
            matrices_of_gpt_oss(self.folder)
        pack_matrices(self.folder, nested)
        in_version_4 = tensors(self.folder)
        self.assert_same_experts(saved, in_version_4, ties=nested)

        nf4.enable(experts=False)
        for folder in (self.out, self.folder):
            again = load(name, folder)
            self.assert_packed(again)
            if folder == self.folder and nested:
                self.assertLess(distance(logits(again), ours), 2e-3)
            else:
                self.assertTrue(torch.equal(logits(again), ours), folder)
            again.save_pretrained(folder + "-2")
            self.assert_same_experts(tensors(folder + "-2"), tensors(folder))

    def assert_same_experts(self, found, expected, ties=False):
        """The keys and bytes of all matrices; with `ties`, an 8-bit scale may be the next one."""
        found, expected = (
            {key: value for key, value in each.items() if ".experts." in key} for each in (found, expected)
        )
        self.assertEqual(sorted(found), sorted(expected))
        for key, value in expected.items():
            if key.endswith("bitsandbytes__nf4"):
                states = [json.loads(bytes(each[key].tolist())) for each in (found, expected)]
                offsets = [state.pop("nested_offset", 0.0) for state in states]
                self.assertAlmostEqual(*offsets, delta=1e-7)
                self.assertEqual(*states)
            elif ties and key.endswith("nested_absmax"):
                self.assertTrue(torch.allclose(found[key], value, rtol=1e-5), key)
            elif ties and key.endswith("absmax"):
                self.assertLessEqual((found[key].int() - value.int()).abs().max(), 1)
            else:
                self.assertTrue(torch.equal(found[key], value), key)


def tensors_of(model, folder):
    model.save_pretrained(folder)
    return tensors(folder)


def _add_tests():
    for name in MODELS:
        for nested in (False, True):

            def test(self, name=name, nested=nested):
                self.check(name, nested)

            setattr(ModelTest, f"test_{name}{'_nested' if nested else ''}", test)


_add_tests()


class LeftTest(ExpertsTest):
    """What is not packed stays as transformers has it, and status() says why."""

    def assert_left(self, model, reason, count=2):
        status = nf4.status()["experts"]
        self.assertEqual(status["packed"], [])
        self.assertEqual(len(status["left"]), count)
        for said in status["left"].values():
            self.assertRegex(said, reason)
        for module in model.modules():
            self.assertNotIsInstance(module, PackedExperts)
        self.assertIs(type(model.hf_quantizer), transformers.quantizers.quantizer_bnb_4bit.Bnb4BitHfQuantizer)

    def test_not_asked(self):
        new_model(QWEN).save_pretrained(self.folder)
        expected = logits(load(QWEN, self.folder, False))
        self.enable(experts=False)
        model = load(QWEN, self.folder, False)
        self.assert_left(model, "NF4_EXPERTS=1")
        self.assertTrue(torch.equal(logits(model), expected))

    def test_skipped(self):
        with self.assertLogs("nf4", "WARNING") as logs:
            model = self.quantized(skip=["model.layers.0.mlp.experts"])
        self.assertRegex(logs.output[0], "experts that are not packed: llm_int8_skip_modules")
        self.assertEqual(nf4.status()["experts"]["packed"], [EXPERTS])
        self.assertRegex(nf4.status()["experts"]["left"]["model.layers.0.mlp.experts"], "llm_int8_skip_modules")
        self.assertNotIsInstance(model.model.layers[0].mlp.experts, PackedExperts)
        expected = logits(model)
        model.save_pretrained(self.out)
        with self.assertLogs("nf4", "WARNING"):
            again = load(QWEN, self.out)
        self.assertEqual(nf4.status()["experts"]["packed"], [EXPERTS])
        self.assertTrue(torch.equal(logits(again), expected))
        again.save_pretrained(self.out + "-2")
        self.assertEqual(sorted(tensors(self.out + "-2")), sorted(tensors(self.out)))

    def test_other_type(self):
        new_model(QWEN).save_pretrained(self.folder)
        self.enable()
        config = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4")
        with self.assertLogs("nf4", "WARNING"):
            model = load(QWEN, self.folder, quantization_config=config)
        self.assert_left(model, "bnb_4bit_quant_type is fp4")

    def test_unusable_device(self):
        """A device that libnf4 refuses keeps its dense experts."""
        new_model(QWEN).save_pretrained(self.folder)
        self.enable()
        with mock.patch("nf4._transformers.quantizer._cuda_devices", lambda device_map: {0}):
            with mock.patch.dict(nf4.plugin._replacements.devices, {0: False}), self.assertLogs("nf4", "WARNING"):
                model = load(QWEN, self.folder, False)
        self.assert_left(model, "libnf4 cannot use CUDA device 0")

    def test_devices_of_a_map(self):
        for device_map, devices in (
            ({"a": "cuda:1", "b": "disk", "c": "cpu", "d": "cuda"}, {0, 1}),
            ({"": "cpu"}, set()),
            ("auto", {2}),
            (None, {2}),
        ):
            with mock.patch.multiple(torch.cuda, is_available=lambda: True, current_device=lambda: 2):
                self.assertEqual(cuda_devices(device_map), devices)
        with mock.patch.object(torch.cuda, "is_available", lambda: False):
            self.assertEqual(cuda_devices("auto"), set())

    def test_failure(self):
        """Whatever goes wrong, the model is loaded as it was before."""
        new_model(QWEN).save_pretrained(self.folder)
        expected = logits(load(QWEN, self.folder, False))
        self.enable()
        self.assert_packed(load(QWEN, self.folder, False))
        with mock.patch("nf4._transformers.quantizer.misfit", side_effect=KeyError("no such thing")):
            with self.assertLogs("nf4", "WARNING") as logs:
                model = load(QWEN, self.folder, False)
        self.assertRegex(logs.output[0], "stay as transformers has them: KeyError: 'no such thing'")
        self.assertEqual(nf4.status()["experts"], {"quantize": True})
        self.assertTrue(torch.equal(logits(model), expected))

    def test_disable(self):
        """A model that is loaded later has dense experts, and one that was loaded before goes on, by transformers."""
        model = self.quantized()
        expected = logits(model)
        nf4.disable()
        calls = self.count_products()
        self.assertLess(distance(logits(model), expected), 1e-5)
        self.assertEqual(calls, [])
        self.assertNotIsInstance(load(QWEN, self.folder, False).model.layers[0].mlp.experts, PackedExperts)
        model.save_pretrained(self.out)
        self.enable(experts=False)
        self.assertTrue(torch.equal(logits(load(QWEN, self.out)), expected))
        self.assertTrue(torch.equal(logits(model), expected))

    def test_older_transformers(self):
        """One whose way is not known is left alone."""
        new_model(QWEN).save_pretrained(self.folder)
        with mock.patch("importlib.metadata.version", lambda package: "5.16.1"):
            self.enable()
        self.assertNotIsInstance(load(QWEN, self.folder, False).model.layers[0].mlp.experts, PackedExperts)
        self.assertNotIn("transformers: experts", nf4.status()["replaced"])


class FileTest(ExpertsTest):
    """Packed files that a model's own experts cannot all be."""

    def packed_file(self, name=QWEN):
        new_model(name).save_pretrained(self.folder)
        load(name, self.folder, False).save_pretrained(self.out)
        pack_matrices(self.out, False)
        self.enable(experts=False)

    def test_incomplete(self):
        """A matrix that lacks is an error, not a model with random weights."""
        self.packed_file()
        found = tensors(self.out)
        for key in [key for key in found if ".1.mlp.experts.3.up_proj" in key]:
            del found[key]
        save_file(found, os.path.join(self.out, "model.safetensors"), {"format": "pt"})
        with self.assertRaisesRegex(Exception, "conversion"):
            load(QWEN, self.out)

    def test_one_dense_layer(self):
        """Experts that the file has dense stay so, beside packed ones, and are saved so."""
        self.packed_file()
        found, dense = tensors(self.out), tensors(self.folder)
        for key in list(found):
            if ".0.mlp.experts." in key:
                del found[key]
        found.update((key, value) for key, value in dense.items() if ".0.mlp.experts." in key)
        save_file(found, os.path.join(self.out, "model.safetensors"), {"format": "pt"})
        model = load(QWEN, self.out)
        self.assertNotIsInstance(model.model.layers[0].mlp.experts, PackedExperts)
        self.assertEqual(nf4.status()["experts"]["left"], {EXPERTS.replace("1", "0"): "the checkpoint has them dense"})
        expected = logits(model)
        model.save_pretrained(self.out + "-2")
        self.assertEqual(sorted(tensors(self.out + "-2")), sorted(found))
        self.assertTrue(torch.equal(logits(load(QWEN, self.out + "-2")), expected))

    def test_dense_experts(self):
        """What transformers 5 writes by itself is loaded as it was, and the same bits."""
        new_model(QWEN).save_pretrained(self.folder)
        load(QWEN, self.folder, False).save_pretrained(self.out)
        expected = logits(load(QWEN, self.out))
        self.enable()
        model = load(QWEN, self.out)
        self.assertTrue(torch.equal(logits(model), expected))
        self.assertEqual(set(nf4.status()["experts"]["left"].values()), {"the checkpoint has them dense"})
        model.save_pretrained(self.out + "-2")
        self.assertEqual(sorted(tensors(self.out + "-2")), sorted(tensors(self.out)))

    def test_packed_but_skipped(self):
        """Packed matrices of experts that are not to be packed are unpacked."""
        self.packed_file()
        expected = logits(load(QWEN, self.out))
        path = pathlib.Path(self.out, "config.json")
        config = json.loads(path.read_text())
        config["quantization_config"]["llm_int8_skip_modules"] = ["mlp.experts", "lm_head"]
        path.write_text(json.dumps(config))
        model = load(QWEN, self.out)
        self.assertNotIsInstance(model.model.layers[0].mlp.experts, PackedExperts)
        self.assertLess(distance(logits(model), expected), 1e-5)


def marked(cls=None, **flags):
    """A module of a class with these flags, and what it computes."""

    @use_experts_implementation(**flags)
    class Experts(torch.nn.Module):
        def __init__(self, config, experts=3, hidden=64, width=64):
            super().__init__()
            self.num_experts, self.act_fn = experts, torch.nn.SiLU()
            up = (experts, width * (2 if flags.get("has_gate", True) else 1), hidden)
            for name, shape in (("gate_up_proj" if flags.get("has_gate", True) else "up_proj", up),
                                ("down_proj", (experts, hidden, width))):  # fmt: skip
                if flags.get("is_transposed"):
                    shape = shape[0], shape[2], shape[1]
                setattr(self, name, torch.nn.Parameter(torch.randn(shape) / 8, requires_grad=False))
                if flags.get("has_bias"):
                    rows = shape[2] if flags.get("is_transposed") else shape[1]
                    setattr(self, f"{name}_bias", torch.nn.Parameter(torch.randn(experts, rows), requires_grad=False))

        def forward(self, hidden_states, top_k_index, top_k_weights):
            """One expert after the other, as the models' own classes do, and for tokens of any sizes."""
            y = torch.zeros_like(hidden_states)
            for expert in range(self.num_experts):
                *token, slot = torch.where(top_k_index == expert)
                token = tuple(token)
                x = self.product("gate_up_proj" if self.has_gate else "up_proj", hidden_states[token], expert)
                x = self.product("down_proj", self._apply_gate(x) if self.has_gate else self.act_fn(x), expert)
                y.index_put_(token, x * top_k_weights[(*token, slot)][:, None], accumulate=True)
            return y

        def product(self, name, x, expert):
            w = getattr(self, name)[expert]
            y = x @ (w if self.is_transposed else w.T)
            return y + getattr(self, f"{name}_bias")[expert] if self.has_bias else y

    return Experts(mock.Mock(_experts_implementation="grouped_mm"), **(cls or {}))


def pack(module, nested=False):
    """What loading makes of it."""
    from nf4._transformers.experts import parts, weight_names

    dense = {name: module._parameters[name] for name in weight_names(module)}
    module.__class__ = packed_class(type(module))
    for name, w in dense.items():
        w = w.data.transpose(1, 2).contiguous() if module.is_transposed else w.data
        module._parameters[name] = stack.pack(w, parts(module, name), nested)
    return module


def routed(tokens=7, experts=3):
    x = torch.randn(tokens, 64)
    index = torch.stack([torch.randperm(experts)[:2] for _ in range(tokens)])
    return x, index, torch.rand(tokens, 2)


class ModuleTest(ExpertsTest):
    def setUp(self):
        super().setUp()
        torch.manual_seed(1)
        self.enable()

    def test_flags(self):
        """Every layout, read from the flags: here all weights are square."""
        for is_transposed in (False, True):
            for has_bias in (False, True):
                for has_gate in (False, True):
                    flags = dict(is_transposed=is_transposed, has_bias=has_bias, has_gate=has_gate)
                    with self.subTest(**flags):
                        module = pack(marked(**flags))
                        arguments = routed()
                        calls = self.count_products()
                        with torch.no_grad():
                            ours = module(*arguments)
                            self.assertEqual(len(calls), 2)
                            module.unpack()
                            theirs = module(*arguments)
                        self.assertNotIsInstance(module, PackedExperts)
                        self.assertLess(distance(ours, theirs), 1e-5)

    def test_own_gate(self):
        module = marked(is_concatenated=False)
        type(module)._apply_gate = lambda self, x: x[..., ::2].clamp(max=1) * (x[..., 1::2] + 1)
        module, arguments = pack(module), routed()
        ours = module(*arguments)
        module.unpack()
        self.assertLess(distance(ours, module(*arguments)), 1e-5)

    def test_what_does_not_fit(self):
        """And what does. Of 64 x 63 elements, one row of the next matrix would lie in the same block."""
        for module, reason in (
            (marked(), None),
            (marked(cls={"width": 63}), None),
            (marked(cls={"width": 31, "hidden": 62}), "has 1922 weights, .* multiple of the blocksize 64"),
            (marked(cls={"width": 32, "hidden": 31}, is_concatenated=False), "its down_proj has 992 weights"),
        ):
            said = misfit(module, use_experts_implementation)
            (self.assertIsNone(said) if reason is None else self.assertRegex(said, reason))
        module = marked()
        module._is_expert_parallel = True
        self.assertRegex(misfit(module, use_experts_implementation), "spread over devices")
        module = marked()
        module.down_proj = torch.nn.Parameter(module.down_proj.to(torch.float8_e4m3fn), requires_grad=False)
        self.assertRegex(misfit(module, use_experts_implementation), "its down_proj is torch.float8_e4m3fn")

    def test_unknown_flag(self):
        """A flag of a later transformers matters where it is not what it is by default."""

        def later(experts_class=None, *, is_transposed=False, has_post_expert_norm=False, is_mirrored=0):
            pass

        module = marked()
        self.assertIsNone(misfit(module, later))
        for name in ("has_post_expert_norm", "is_mirrored"):
            module = marked()
            setattr(module, name, True)
            self.assertRegex(misfit(module, later), f"it has {name}=True, which libnf4 does not know")

    def test_marked(self):
        """By all flags: a class of an earlier transformers, which lacks one, is not known."""
        self.assertTrue(is_marked(marked()))
        for flag in ("is_concatenated", "is_transposed", "has_bias", "has_gate"):
            module = marked()
            delattr(module, flag)
            self.assertFalse(is_marked(module), flag)

    def test_first_reason(self):
        """What holds for all experts is told, also of those that are skipped."""
        model = torch.nn.ModuleDict({"experts": marked()})
        for skipped, general, reason in (
            ([], None, None),
            (["experts"], None, "llm_int8_skip_modules, or transformers itself, names it"),
            (["experts"], "general", "general"),
        ):
            (record,) = records_of(model, skipped, general)
            self.assertEqual(record.reason, reason)

    def test_slots_of_no_expert(self):
        """Expert parallelism gives them an index that is too large. They add nothing."""
        module = pack(marked(has_bias=True))
        x, index, weights = routed()
        expected = module(x, index, weights * torch.tensor([1.0, 0.0]))
        index[:, 1] = 3
        self.assertTrue(torch.allclose(module(x, index, weights), expected, atol=1e-6))

    def test_no_tokens(self):
        module = pack(marked(has_bias=True))
        y = module(torch.zeros(0, 64), torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, 2))
        self.assertEqual(y.shape, (0, 64))

    def test_other_calls(self):
        """By keywords, transformers' own implementation is called as it was."""
        module, (x, index, weights) = pack(marked()), routed()
        expected, calls = module(x, index, weights), self.count_products()
        ours = module(hidden_states=x, top_k_index=index, top_k_weights=weights)
        self.assertEqual(calls, [])
        self.assertLess(distance(ours, expected), 1e-5)

    def test_other_arguments(self):
        """What libnf4 does not multiply goes to the class's own forward: tokens in batches, ids of another type."""
        module, (x, index, weights) = pack(marked()), routed()
        module.config._experts_implementation = "eager"
        expected, calls = module(x, index, weights), self.count_products()
        self.assertLess(distance(module(x[None], index[None], weights[None])[0], expected), 1e-5)
        self.assertLess(distance(module(x, index.short(), weights), expected), 1e-5)
        self.assertEqual(calls, [])

    def test_copies(self):
        for nested in (False, True):
            module, arguments = pack(marked(), nested), routed()
            expected = module(*arguments)
            for made in (copy.deepcopy(module), copy.copy(module)):
                self.assertTrue(torch.equal(made(*arguments), expected))
            self.assertNotEqual(*(each._parameters["down_proj"].data_ptr() for each in (module, copy.deepcopy(module))))

    def test_moves(self):
        """How scales were nested moves with them."""
        state = stack.pack(torch.randn(2, 4, 64), 2, nested=True).quant_state
        state.to("meta")
        for tensor in (state.absmax, state.second.absmax2, state.second.offset, state.second.map):
            self.assertEqual(tensor.device.type, "meta")

    def test_parts(self):
        """Split into matrices and joined again, a stack is the same; what does not fit is named."""
        for nested in (False, True):
            w = stack.pack(torch.randn(3, 4, 64), 2, nested)
            experts = list(stack.split(w, 2))
            self.assertEqual([len(parts) for parts in experts], [2, 2, 2])
            again = stack.join(experts, (3, 4, 64), torch.float32, "w")
            self.assertTrue(torch.equal(again.data, w.data))
            self.assertTrue(torch.equal(again.quant_state.absmax, w.quant_state.absmax))
        with self.assertRaisesRegex(ValueError, r"expert 0 of w is nf4 \[2, 64\]; expected nf4 \[4, 32\]"):
            stack.join(experts, (3, 8, 32), torch.float32, "w")
        del experts[1][1][".absmax"]
        with self.assertRaisesRegex(ValueError, "expert 1 of w lacks .absmax for a matrix"):
            stack.join(experts, (3, 4, 64), torch.float32, "w")
        model, dense = torch.nn.ModuleDict({"experts": marked()}), torch.randn(64, 64)
        with self.assertRaisesRegex(ValueError, r"experts.down_proj has 2 of x.\*.weight; expected 3"):
            Join(None, ["x.*.weight"]).convert(
                {"x.*.weight": [dense] * 2}, full_layer_name="experts.down_proj", model=model
            )

    def test_state(self):
        """The keys are bitsandbytes', which says by one of them what the codes are."""
        keys = {"", ".absmax", ".quant_map", ".quant_state.bitsandbytes__nf4"}
        self.assertEqual(set(pack(marked()).state_dict()),
                         {name + key for name in ("gate_up_proj", "down_proj") for key in keys})  # fmt: skip

    def test_read_and_write(self):
        """A weight reads as the dense one. What is added to its data is packed again."""
        module = pack(marked(is_transposed=True), nested=True)
        w = module.down_proj
        self.assertEqual((w.shape, w.dtype), ((3, 64, 64), torch.float32))
        self.assertEqual([name for name, _ in module.named_parameters()], ["gate_up_proj", "down_proj"])
        added = w + 1
        self.assertIs(type(added), torch.Tensor)
        w.data += 1
        self.assertTrue(stack.is_stack(module._parameters["down_proj"]))
        self.assertLess(distance(module.down_proj, added), 0.1)

    def test_ranges(self):
        """Any range of the stack, unpacked by itself."""
        parameter = stack.pack(torch.randn(3, 10, 64), 1, True)
        whole = stack.unpack(parameter).view(-1)
        for begin, end in ((0, 1920), (0, 64), (65, 66), (640, 1280), (1919, 1920), (5, 5)):
            values, first = stack.unpack_range(parameter, begin, end)
            self.assertTrue(torch.equal(values[begin - first : end - first], whole[begin:end]))


class TrainingTest(ExpertsTest):
    def test_gradients(self):
        """Those of x, by transformers' implementations on dense weights."""
        torch.manual_seed(1)
        self.enable()
        for flags in ({}, {"is_transposed": True, "has_bias": True}):
            for implementation in ("eager", "grouped_mm", "batched_mm"):
                with self.subTest(implementation=implementation, **flags):
                    module = pack(marked(**flags))
                    module.config._experts_implementation = implementation
                    x, index, weights = routed()
                    dense = copy.deepcopy(module)
                    dense.unpack()
                    gradients, calls = [], self.count_products()
                    for each in (module, dense.requires_grad_(False)):
                        asked = x.clone().requires_grad_()
                        each(asked, index, weights).square().sum().backward()
                        gradients.append(asked.grad)
                    self.assertEqual(calls, [])
                    self.assertLess(distance(*gradients), 1e-6)

    def test_nothing_dense_is_kept(self):
        """While a graph waits for its backward pass, memory holds none of the dense stacks."""
        torch.manual_seed(1)
        self.enable()
        module, (x, index, weights) = pack(marked()), routed()
        made = []
        unpack = stack.unpack

        def watched(parameter):
            made.append(unpack(parameter))
            import weakref

            made[-1], w = weakref.ref(made[-1]), made[-1]
            return w

        with mock.patch.object(stack, "unpack", watched):
            y = module(x.requires_grad_(), index, weights)
        self.assertEqual(len(made), 2)
        self.assertEqual([w() for w in made], [None, None])
        y.sum().backward()
        self.assertIsNotNone(x.grad)

    def test_hooks_of_others(self):
        """Who keeps what autograd saves in a way of his own gets all of it, the dense stacks too."""
        self.enable()
        module, (x, index, weights) = pack(marked()), routed()
        sizes = []

        def save(tensor):
            sizes.append(tensor.untyped_storage().nbytes())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            module(x.requires_grad_(), index, weights)
        for name in ("gate_up_proj", "down_proj"):
            self.assertIn(getattr(module, name).untyped_storage().nbytes(), sizes)

    def losses(self, model, config, checkpointing, steps=3):
        import peft

        torch.manual_seed(3)
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
        model = peft.get_peft_model(model, config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(0, 0.05)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.2)
        x, curve = torch.arange(3, 15)[None], []
        for step in range(steps + 1):
            loss = model(input_ids=x, labels=x).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            curve.append(loss.item())
        return model, curve

    def assert_trains_alike(self, name, config, checkpointing=False):
        """As on a model whose experts are dense and have the same values."""
        new_model(name).save_pretrained(self.folder)
        theirs = self.losses(reference(name, self.folder, False), copy.deepcopy(config), checkpointing)[1]
        self.enable()
        model, ours = self.losses(load(name, self.folder, False), copy.deepcopy(config), checkpointing)
        self.assertLess(theirs[-1], theirs[0])
        for a, b in zip(ours, theirs):
            self.assertAlmostEqual(a, b, delta=1e-4 * b)
        return model

    def test_peft_on_attention(self):
        import peft

        config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
        for checkpointing in (False, True):
            with self.subTest(checkpointing=checkpointing):
                self.assert_packed(self.assert_trains_alike(QWEN, config, checkpointing))
                nf4.disable()

    def test_peft_on_experts(self):
        """Both weights of gpt-oss and of Qwen3; merged, they are packed again."""
        import peft

        for name in (QWEN, "GptOssForCausalLM"):
            with self.subTest(name=name):
                config = peft.LoraConfig(
                    r=2, target_modules=[], target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
                )
                model = self.assert_trains_alike(name, config)
                self.assert_packed(model)
                before, calls = logits(model), self.count_products()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    merged = model.merge_and_unload()
                self.assert_packed(merged)
                self.assertLess(distance(logits(merged), before), 0.3)
                self.assertTrue(calls)
                nf4.disable()

    def test_dequantize(self):
        model = self.quantized()
        expected = logits(model)
        dense = model.dequantize()
        for module in dense.modules():
            self.assertNotIsInstance(module, PackedExperts)
        self.assertLess(distance(logits(dense), expected), 1e-5)
        dense.save_pretrained(self.out)
        self.assertIn(f"{EXPERTS}.4.down_proj.weight", tensors(self.out))


class CheckpointTest(ExpertsTest):
    """python3 -m nf4 quantize --experts: what is packed at load, without transformers doing it."""

    def check(self, name, active):
        new_model(name).save_pretrained(self.folder)
        self.enable()
        model = load(name, self.folder, False)
        expected = logits(model)
        model.save_pretrained(self.out + "-2")
        if not active:
            nf4.disable()
        packed = checkpoint.quantize(self.folder, self.out, experts=True)
        self.assertEqual(len(packed), len([key for key in tensors(self.out) if key.endswith(".absmax")]))
        found, saved = tensors(self.out), tensors(self.out + "-2")
        self.assertEqual(sorted(found), sorted(saved))
        for key, value in saved.items():
            self.assertTrue(torch.equal(found[key], value), key)
        self.enable(experts=False)
        again = load(name, self.out)
        self.assert_packed(again)
        self.assertTrue(torch.equal(logits(again), expected))

    def test_matrices(self):
        """Whether or not the plug-in has its own way of loading in place at the time."""
        self.check("MixtralForCausalLM", active=True)

    def test_matrices_without_the_plugin(self):
        self.check(QWEN, active=False)

    def test_stacks(self):
        self.check("GptOssForCausalLM", active=True)

    def test_stacks_of_gate_and_up(self):
        """As transformers holds them, if it is told to save them so."""
        new_model(QWEN).save_pretrained(self.folder, save_original_format=False)
        self.assertIn(f"{EXPERTS}.gate_up_proj", tensors(self.folder))
        checkpoint.quantize(self.folder, self.out, experts=True)
        self.enable()
        expected = logits(load(QWEN, self.folder, False))
        self.assertTrue(torch.equal(logits(load(QWEN, self.out)), expected))

    def test_stacks_without_the_plugin(self):
        self.check("GptOssForCausalLM", active=False)

    def test_default_type(self):
        """The type that torch has by default is not that of a model whose config tells none."""
        new_model(QWEN).save_pretrained(self.folder)
        path = pathlib.Path(self.folder, "config.json")
        config = json.loads(path.read_text())
        del config["dtype"]
        path.write_text(json.dumps(config))
        self.addCleanup(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float64)
        self.assertIn(f"{EXPERTS}.4.down_proj.weight", checkpoint.quantize(self.folder, self.out, experts=True))

    def test_command(self):
        """inspect shows the matrices of all experts of a layer as one."""
        new_model(QWEN).save_pretrained(self.folder)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            main.main(["quantize", self.folder, self.out, "--experts", "--nested", "--exclude", r"layers\.0\.mlp"])
            main.main(["inspect", self.out, "--original", self.folder])
        lines = [line.split() for line in out.getvalue().splitlines() if "experts" in line]
        *layers, last = lines
        self.assertEqual(
            [line[0] for line in layers], [f"{EXPERTS}.*.{name}_proj.weight" for name in ("down", "gate", "up")]
        )
        for line in layers:
            self.assertEqual(line[1:6], ["nf4", "5x64x64", "float32", "64", "yes"])
            self.assertLess(float(line[-1]), 0.12)
        self.assertEqual(" ".join(last), "error: ||NF4(W) - W|| / ||W||, of experts the largest")

    def test_refused(self):
        new_model(QWEN).save_pretrained(self.folder)
        found = tensors(self.folder)
        del found[f"{EXPERTS}.2.up_proj.weight"]
        save_file(found, os.path.join(self.folder, "model.safetensors"), {"format": "pt"})
        with self.assertRaisesRegex(checkpoint.FileError, f"has not the weights of experts, '{EXPERTS}.gate_up_proj'"):
            checkpoint.quantize(self.folder, self.out, experts=True)
        new_model(QWEN, moe_intermediate_size=33, hidden_size=72).save_pretrained(self.folder)
        with self.assertRaisesRegex(
            checkpoint.FileError, "'model.layers.0.mlp.experts' cannot be packed: .* 2376 weights"
        ):
            checkpoint.quantize(self.folder, self.out, experts=True)
        transformers.LlamaForCausalLM(transformers.LlamaConfig(**DECODER)).save_pretrained(self.folder)
        with self.assertRaisesRegex(checkpoint.FileError, "has not the weights of experts that"):
            checkpoint.quantize(self.folder, self.out, experts=True)


class CompileTest(ExpertsTest):
    def test_one_graph(self):
        """A compiled step has the products of the experts in it, without a break."""
        torch.manual_seed(1)
        self.enable()
        module, arguments = pack(marked(has_bias=True)), routed()
        seen = []

        def backend(graph, _):
            seen.extend(str(node.target) for node in graph.graph.nodes)
            return graph.forward

        lock = threading.Lock()

        def usable(index):
            with lock:  # what is asked about the device is no part of a graph
                return True

        with torch.no_grad(), mock.patch.object(switch, "usable", usable):
            expected = module(*arguments)
            ours = torch.compile(module, backend=backend, fullgraph=True)(*arguments)
        self.assertTrue(torch.equal(ours, expected))
        self.assertEqual(sum("gemm_experts" in target for target in seen), 2)


class PickleTest(ExpertsTest):
    def test_pickle(self):
        self.enable()
        model = self.quantized()
        experts = model.model.layers[0].mlp.experts
        made = pickle.loads(pickle.dumps(experts))
        self.assertIs(type(made), type(experts))
        arguments = torch.randn(3, 64), torch.tensor([[0, 1], [2, 4], [3, 0]]), torch.rand(3, 2)
        with torch.no_grad():
            self.assertTrue(torch.equal(made(*arguments), experts(*arguments)))


if __name__ == "__main__":
    support.main()
