"""What quantize packs is what transformers packs: for many architectures, the folder that it writes has the packed
layers of a model that transformers quantized itself, and gives the same logits."""

import json
import os
import pathlib
import tempfile
import unittest

import support

try:
    import accelerate  # noqa: F401
    import bitsandbytes  # noqa: F401
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
except ImportError as error:
    missing = str(error)
else:
    missing = None
    transformers.utils.logging.disable_progress_bar()

from nf4 import checkpoint
from nf4.checkpoint import FileError, loader, selection

# Sizes are multiples of 64 and 32, which bitsandbytes' kernels for the CPU need.
SIZES = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 128}
DECODER = {**SIZES, "intermediate_size": 128, "num_key_value_heads": 2, "max_position_embeddings": 64, "head_dim": 16,
           "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
EXPERTS = {**DECODER, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
BERT = {**SIZES, "intermediate_size": 128, "max_position_embeddings": 64, "num_labels": 32}

ARCHITECTURES = {
    "BertForSequenceClassification": BERT,
    "BloomForCausalLM": {"hidden_size": 64, "n_layer": 1, "n_head": 4, "vocab_size": 128},
    "DeepseekV3ForCausalLM": {
        **EXPERTS, "num_hidden_layers": 2, "num_key_value_heads": 4, "n_routed_experts": 32, "n_group": 2,
        "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 64, "kv_lora_rank": 64, "qk_rope_head_dim": 32,
        "qk_nope_head_dim": 16, "v_head_dim": 16, "head_dim": 32,
    },
    "GPT2LMHeadModel": {"n_embd": 64, "n_layer": 1, "n_head": 4, "vocab_size": 128, "n_positions": 64},
    "GPTNeoXForCausalLM": {**SIZES, "intermediate_size": 128},
    "Gemma2ForCausalLM": DECODER,
    "Gemma3ForCausalLM": DECODER,
    "GptOssForCausalLM": {**DECODER, "num_local_experts": 32, "num_experts_per_tok": 2},
    "LlamaForCausalLM": DECODER,
    "LlamaForSequenceClassification": {**DECODER, "num_labels": 32},
    "MistralForCausalLM": DECODER,
    "MixtralForCausalLM": {**DECODER, "num_local_experts": 32},
    "OPTForCausalLM": {**SIZES, "ffn_dim": 128, "word_embed_proj_dim": 64, "max_position_embeddings": 64},
    "Phi3ForCausalLM": DECODER,
    "Qwen2ForCausalLM": DECODER,
    "Qwen3ForCausalLM": DECODER,
    "Qwen3MoeForCausalLM": {**EXPERTS, "num_experts": 32},
    "Starcoder2ForCausalLM": DECODER,
    "T5ForConditionalGeneration": {
        "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 1, "num_heads": 4, "vocab_size": 128,
        "feed_forward_proj": "gated-gelu",
    },
}  # fmt: skip


def new_model(name, dtype="bfloat16", **options):
    torch.manual_seed(1)
    model_class = getattr(transformers, name)
    config = model_class.config_class(**{**ARCHITECTURES[name], **options})
    return model_class(config).to(getattr(torch, dtype))


def load(name, folder, **options):
    options.setdefault("torch_dtype", torch.bfloat16)
    return getattr(transformers, name).from_pretrained(folder, device_map="cpu", **options).eval()


def bnb(nested=False):
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=nested,
    )  # fmt: skip


def logits(model):
    ids = torch.arange(3, 11)[None]
    inputs = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=ids, **inputs).logits


def tensors(folder):
    found = {}
    for path in pathlib.Path(folder).glob("*.safetensors"):
        found.update(load_file(path))
    return found


@unittest.skipIf(missing, missing)
class TransformersTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.model = os.path.join(folder.name, "model")
        self.out = os.path.join(folder.name, "out")
        self.reference = os.path.join(folder.name, "reference")

    def config(self, **changes):
        path = os.path.join(self.model, "config.json")
        config = json.loads(pathlib.Path(path).read_text())
        if changes:
            pathlib.Path(path).write_text(json.dumps({**config, **changes}))
        return config


class RoundTripTest(TransformersTest):
    def check(self, name, nested=False):
        new_model(name).save_pretrained(self.model)
        packed = checkpoint.quantize(self.model, self.out, nested=nested, shard_size="40KB")
        theirs = load(name, self.model, quantization_config=bnb(nested))
        theirs.save_pretrained(self.reference)  # before a product, for which bitsandbytes changes the scales on CPUs

        expected, found = tensors(self.reference), tensors(self.out)
        scales = sorted(key for key in expected if key.endswith(".weight.absmax"))
        self.assertEqual(scales, sorted(f"{key}.absmax" for key in packed))
        of_layers = [{key for key in part if key.startswith(tuple(packed))} for part in (expected, found)]
        self.assertEqual(*of_layers)
        for key in of_layers[0]:
            if key.endswith("bitsandbytes__nf4"):
                states = [json.loads(bytes(part[key].tolist())) for part in (expected, found)]
                offsets = [state.pop("nested_offset", 0.0) for state in states]
                self.assertAlmostEqual(*offsets, delta=1e-7)
                self.assertEqual(*states)
            elif not key.endswith(".nested_absmax"):  # which follow the last bits of the offset
                self.assertTrue(torch.equal(expected[key], found[key]), key)
        quantization_config = json.loads(pathlib.Path(self.out, "config.json").read_text())["quantization_config"]
        of_reference = json.loads(pathlib.Path(self.reference, "config.json").read_text())["quantization_config"]
        self.assertEqual(quantization_config, of_reference)

        ours = load(name, self.out)
        if nested:
            self.assertLess((logits(ours) - logits(theirs)).abs().max(), 0.01 * logits(theirs).abs().max())
        else:
            self.assertTrue(torch.equal(logits(ours), logits(theirs)))

    def test_nested(self):
        self.check("LlamaForCausalLM", nested=True)


def _add_tests():
    for name in ARCHITECTURES:

        def test(self, name=name):
            if not hasattr(transformers, name):
                self.skipTest(f"transformers {transformers.__version__} has no {name}")
            self.check(name)

        setattr(RoundTripTest, f"test_{name}", test)


_add_tests()


class SelectionTest(TransformersTest):
    def test_plain_architectures(self):
        """The rule for where transformers is not installed gives what transformers packs."""
        for name in selection.PLAIN_ARCHITECTURES:
            with self.subTest(name=name):
                config = new_model(name).config.to_dict()
                keys = list(new_model(name).state_dict())
                answer = loader.ask({**config, "architectures": [name],
                                     "quantization_config": checkpoint.quantization_config()}, keys)  # fmt: skip
                self.assertEqual(answer.unmatched, [])
                rule = [key for key in keys if key.endswith(".weight") and not selection._KEPT.search(key)
                        and "norm" not in key]  # fmt: skip
                self.assertEqual(sorted(answer.linears), sorted(rule))
                self.assertFalse(any(linear.transposed for linear in answer.linears.values()))

    def test_names_without_prefix(self):
        """The oldest GPT-2 checkpoints have names of the model without its head."""
        model = new_model("GPT2LMHeadModel")
        model.save_pretrained(self.model)
        path = os.path.join(self.model, "model.safetensors")
        save_file({name.replace("transformer.", "", 1): value for name, value in load_file(path).items()}, path,
                  {"format": "pt"})  # fmt: skip
        self.assertIn("h.0.attn.c_attn.weight", checkpoint.quantize(self.model, self.out))
        theirs = load("GPT2LMHeadModel", self.model, quantization_config=bnb())
        self.assertTrue(torch.equal(logits(load("GPT2LMHeadModel", self.out)), logits(theirs)))

    def test_lone_file(self):
        """The config is the one beside it, or the one that is named."""
        new_model("GPT2LMHeadModel").save_pretrained(self.model)
        source = os.path.join(self.model, "model.safetensors")
        os.mkdir(self.out)
        first, second = (os.path.join(self.out, f"{name}.safetensors") for name in ("first", "second"))
        packed = checkpoint.quantize(source, first)
        moved = os.path.join(self.out, "config.json.of.gpt2")
        os.rename(os.path.join(self.model, "config.json"), moved)
        self.assertEqual(checkpoint.quantize(source, second, config=moved), packed)
        self.assertEqual(pathlib.Path(first).read_bytes(), pathlib.Path(second).read_bytes())

    def test_exclude(self):
        """What is left as it is, is named in the config so that transformers leaves it too."""
        new_model("LlamaForCausalLM", num_hidden_layers=11).save_pretrained(self.model)
        packed = checkpoint.quantize(self.model, self.out, exclude=r"layers\.1\.mlp|o_proj")
        self.assertNotIn("model.layers.1.mlp.up_proj.weight", packed)
        self.assertIn("model.layers.10.mlp.up_proj.weight", packed)
        skipped = json.loads(pathlib.Path(self.out, "config.json").read_text())["quantization_config"]
        self.assertIn("model.layers.1.mlp.up_proj", skipped["llm_int8_skip_modules"])
        config = bnb()
        config.llm_int8_skip_modules = skipped["llm_int8_skip_modules"]
        theirs = load("LlamaForCausalLM", self.model, quantization_config=config)
        self.assertTrue(torch.equal(logits(load("LlamaForCausalLM", self.out)), logits(theirs)))

    def test_include(self):
        """Also what transformers would leave is packed, and loaded; a Conv1D is transposed as it has to be."""
        for name, include in (("LlamaForCausalLM", "up_proj|lm_head"), ("GPT2LMHeadModel", "c_fc|c_attn")):
            with self.subTest(name=name):
                new_model(name).save_pretrained(self.model)
                out = f"{self.out}-{name}"
                job = checkpoint.Quantization(self.model, out, include=include)
                job.run()
                self.assertEqual((len(job.packed), job.mismatched), (2, []))
                config = bnb()
                config.llm_int8_skip_modules = job.quantization_config["llm_int8_skip_modules"]
                theirs = load(name, self.model, quantization_config=config)
                self.assertTrue(torch.equal(logits(load(name, out)), logits(theirs)))

    def test_include_of_what_is_not_loaded(self):
        """It is obeyed, and said."""
        new_model("LlamaForCausalLM").save_pretrained(self.model)
        job = checkpoint.Quantization(self.model, self.out, include="embed_tokens|up_proj")
        self.assertEqual(len(job.packed), 2)
        self.assertEqual(job.mismatched, ["model.embed_tokens.weight"])

    def test_refused(self):
        new_model("LlamaForCausalLM").save_pretrained(self.model)
        self.config(architectures=["NoSuchModel"])
        with self.assertRaisesRegex(FileError, r"config.json: .*does not know the architectures \['NoSuchModel'\]"):
            checkpoint.quantize(self.model, self.out)
        self.config(architectures=["LlamaForCausalLM"], model_type="no_such_type")
        checkpoint.quantize(self.model, self.out)  # by the rule
        self.config(architectures=["NoSuchModel"])
        with self.assertRaisesRegex(FileError, "does not know model_type 'no_such_type'"):
            checkpoint.quantize(self.model, self.out + "2")
        self.config(model_type="gpt2", architectures=["GPT2LMHeadModel"], activation_function="no such")
        with self.assertRaisesRegex(FileError, "config.json: .*transformers says: "):
            checkpoint.quantize(self.model, self.out + "2")

    def test_missing_layer(self):
        """A model whose layers are not in the checkpoint, as a shard alone is, is not packed as if it were whole."""
        new_model("LlamaForCausalLM").save_pretrained(self.model)
        path = os.path.join(self.model, "model.safetensors")
        kept = load_file(path)
        del kept["model.layers.0.mlp.up_proj.weight"]
        save_file(kept, path, {"format": "pt"})
        with self.assertRaisesRegex(FileError, "packs 1 layers whose .*'model.layers.0.mlp.up_proj'"):
            checkpoint.quantize(self.model, self.out)
        self.assertEqual(len(checkpoint.quantize(self.model, self.out, exclude="up_proj")), 6)

    def test_settings_stay(self):
        """Asking leaves transformers as it was."""
        before = transformers.logging.get_verbosity(), torch.get_default_dtype()
        new_model("LlamaForCausalLM").save_pretrained(self.model)
        checkpoint.quantize(self.model, self.out)
        self.assertEqual((transformers.logging.get_verbosity(), torch.get_default_dtype()), before)


if __name__ == "__main__":
    support.main()
