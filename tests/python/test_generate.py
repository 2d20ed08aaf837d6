"""generate() of a small Llama in NF4 on the CPU: when a step is compiled, how often, and that the tokens are those of
eager steps. What is compiled is run by torch itself but in one test, which has Inductor work. Needs transformers 5.17
and bitsandbytes 0.50."""

import contextlib
import copy
import importlib
import re
import tempfile
import unittest
from unittest import mock

import nf4
import support

try:
    import bitsandbytes
    import torch
    import transformers
    from torch._inductor import compile_fx
    from transformers import GenerationMixin
    from transformers.cache_utils import StaticCache, StaticLayer

    from nf4._generate import obstacles
    from nf4._generate.automatic import Automatic
    from nf4._generate.compiled import Compiled
    from nf4._generate.steps import KeptLayers
    from nf4._generate.hooks import hooks
except ImportError as error:
    missing = str(error)
else:
    missing = "" if hasattr(torch.ops.bitsandbytes, "gemm_4bit") else "bitsandbytes before 0.50"

NEW = 5  # tokens of a call
graphs = []  # those that were compiled


def run_eagerly(graph, inputs):
    """A backend of torch.compile that counts, and leaves the graph to torch."""
    graphs.append(graph)
    return graph.forward


SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 128, "initializer_range": 0.5,
         "eos_token_id": None, "pad_token_id": 0}  # fmt: skip


def new_model(config=None, **options):
    """A model in NF4, as from_pretrained() makes it; a Llama."""
    torch.manual_seed(1)
    config = config or transformers.LlamaConfig(**SIZES)
    quantization = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32, **options
    )
    with tempfile.TemporaryDirectory() as folder:
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=quantization, device_map="cpu", dtype=torch.float32
        )
    for module in model.modules():
        module.support_avx512bf16_for_cpu = False  # it would have the codes in another order
    return model


def prompt(batch=1, length=7):
    return torch.randint(1, 128, (batch, length), generator=torch.Generator().manual_seed(length))


def generate(model, x, **options):
    return model.generate(x, **{"max_new_tokens": NEW, "do_sample": False, **options})


def counted(**options):
    """How to compile: in one graph, by the backend that counts. transformers does not compile on a CPU by itself."""
    config = transformers.CompileConfig(fullgraph=True, backend=run_eagerly, mode="default", **options)
    config._compile_all_devices = True
    return config


@unittest.skipIf(missing, missing)
class GenerateTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        transformers.utils.logging.disable_progress_bar()
        cls.model = new_model()

    def setUp(self):
        torch.compiler.reset()
        graphs.clear()
        self.before = GenerationMixin._valid_auto_compile_criteria, GenerationMixin._prepare_cache_for_generation
        self.addCleanup(self.assert_as_before)

    def assert_as_before(self):
        """All tests undo what they did."""
        self.assertEqual(
            self.before, (GenerationMixin._valid_auto_compile_criteria, GenerationMixin._prepare_cache_for_generation)
        )
        for name in ("_compiled_call", "_last_compile_config", "_previous_max_cache_length"):  # transformers' own
            vars(self.model).pop(name, None)

    def assert_compiles(self, model, times, **options):
        """The next call of generate(), whose tokens are those of eager steps with a cache that grows."""
        x = options.pop("x", prompt())
        with mock.patch.object(hooks, "compiled", {}):
            expected = generate(model, x, cache_implementation="dynamic")
        before = len(graphs)
        tokens = generate(model, x, compile_config=counted(), **options)
        self.assertTrue(torch.equal(tokens, expected), (tokens, expected))
        self.assertEqual(len(graphs) - before, times)


class AutomaticTest(GenerateTest):
    """What the plug-in does, where the CPU is a device of its."""

    def install(self):
        self.refused = {}
        undo = Automatic({-1: True}, self.refused).install()
        self.addCleanup(undo)
        return undo

    def test_static_cache(self):
        """Compiled once, and once more for the first longer call and the first other batch; not for those after."""
        undo = self.install()
        prompts = ((1, 7, 1), (1, 7, 0), (1, 3, 0), (1, 12, 1), (1, 20, 0), (2, 9, 1), (3, 4, 0), (1, 6, 0), (2, 30, 0))
        for batch, length, times in prompts:
            with self.subTest(batch=batch, length=length):
                self.assert_compiles(self.model, times, x=prompt(batch, length), cache_implementation="static")
        self.assertEqual(self.refused, {})
        torch.compiler.reset()
        self.assert_compiles(self.model, 0)  # a cache that grows
        self.assert_compiles(self.model, 0, cache_implementation="static", disable_compile=True)
        undo()
        self.assert_compiles(self.model, 0, cache_implementation="static")

    def test_without_cuda_graphs(self):
        """If the caller says nothing of how to compile, and the cache is not generate()'s own."""
        self.install()
        config = transformers.GenerationConfig()
        cache = StaticCache(config=self.model.config, max_cache_len=8)
        with mock.patch("nf4._generate.automatic.inductor_obstacle", return_value=None) as tried:
            disabled = transformers.GenerationConfig(disable_compile=True)
            self.assertFalse(hooks.automatic(self.model, {"cache": cache}, disabled))
            self.assertFalse(hooks.automatic(self.model, {"cache": transformers.DynamicCache()}, config))
            tried.assert_not_called()  # it takes seconds
            self.assertTrue(hooks.automatic(self.model, {"cache": cache}, config))
        self.assertEqual(config.compile_config.mode, "default")
        self.assertIsNone(config.compile_config.options)

    def prepared(self, mode="greedy_search", arguments=(), model=None, length=8, **options):
        """How a call of generate() would compile once it has its cache, and that cache."""
        model = model or self.model
        options = {"cache_implementation": "static", "max_length": length, **options}
        config, _ = model._prepare_generation_config(None, **options)
        model_kwargs = dict(arguments)
        with mock.patch("nf4._generate.automatic.inductor_obstacle", return_value=None):
            model._prepare_cache_for_generation(config, model_kwargs, mode, 1, length)
        return config, next(value for value in model_kwargs.values() if isinstance(value, transformers.Cache))

    def test_cuda_graphs(self):
        """Of generate()'s own cache, whose memory is kept from call to call; where a caller keeps nothing of a step."""
        undo = self.install()
        with mock.patch("nf4._generate.steps.has_cuda_graphs", return_value=True):
            config, cache = self.prepared()
            self.assertEqual(config.compile_config.mode, "reduce-overhead")
            self.assertIsNone(config.compile_config._compile_all_devices)
            layer = cache.layers[0]
            del config, cache
            config, cache = self.prepared()
            self.assertIs(cache.layers[0], layer)
            del config, cache
            for options in ({"output_hidden_states": True}, {"output_attentions": True}):
                config, cache = self.prepared(**options)
                self.assertEqual(config.compile_config.mode, "default")
                del config, cache
            mine = StaticCache(config=self.model.config, max_cache_len=8)
            for options in ({"mode": "beam_search"}, {"disable_compile": True}, {"cache_implementation": "dynamic"},
                            {"arguments": {"past_key_values": mine}, "cache_implementation": None}):  # fmt: skip
                with self.subTest(**options):
                    config, cache = self.prepared(**options)
                    self.assertIsNone(config.compile_config)
                    self.assertIsNot(cache.layers and cache.layers[0], layer)
            asked = transformers.CompileConfig(dynamic=True)
            self.assertEqual(self.prepared(compile_config=asked)[0].compile_config.to_dict(), asked.to_dict())
            with mock.patch.object(self.model, "training", True):
                self.assertIsNone(self.prepared()[0].compile_config)
            undo()
            self.assertIsNone(self.prepared()[0].compile_config)
        self.install()
        self.assertEqual(self.prepared()[0].compile_config.mode, "default")  # without a GPU

    def test_sliding_window(self):
        """A cache that is shorter than the window has plain layers, which count tokens on the device."""
        config = transformers.Gemma3TextConfig(**{**SIZES, "num_hidden_layers": 2, "head_dim": 16, "sliding_window": 24,
                                                  "layer_types": ["sliding_attention", "full_attention"]})  # fmt: skip
        model = new_model(config)
        with nf4.compile(model):
            self.assert_compiles(model, 1, x=prompt(1, 8))
        self.install()
        with mock.patch("nf4._generate.steps.has_cuda_graphs", return_value=True):
            for length, mode in ((23, "reduce-overhead"), (24, "default"), (40, "default")):
                config, cache = self.prepared(model=model, length=length)
                self.assertEqual((config.compile_config.mode, any(cache.is_sliding)), (mode, mode == "default"))
        with nf4.compile(model):
            torch.compiler.reset()
            self.assert_compiles(model, 2, x=prompt(1, 30))  # past the window: another number, then any

    def refusal(self, model, **options):
        """Why a call of generate() would not be compiled, or None."""
        config = transformers.GenerationConfig(compile_config=counted(), **options)
        cache = StaticCache(config=model.config, max_cache_len=8)
        self.refused.clear()
        compiles = hooks.automatic(model, {"cache": cache}, config)
        self.assertEqual(compiles, not self.refused)
        return self.refused.get(type(model).__name__)

    def test_who_is_refused(self):
        """What is not known to work, and works again once that is gone."""
        self.install()
        layer = self.model.model.layers[0]

        def meta():
            norm = self.model.model.norm
            return mock.patch.dict(norm._parameters, weight=torch.nn.Parameter(norm.weight.to("meta")))

        def fp4():
            patches = contextlib.ExitStack()
            for module in self.model.modules():
                if isinstance(module, bitsandbytes.nn.Linear4bit):
                    patches.enter_context(mock.patch.object(module.weight, "quant_type", "fp4"))
            return patches

        def tensor_class(tensor):
            class Sharded(torch.Tensor):
                pass

            return tensor.as_subclass(Sharded)

        cases = (
            ("self_attn is in training", lambda: mock.patch.object(layer.self_attn, "training", True)),
            ("mlp has forward hooks", lambda: mock.patch.dict(layer.mlp._forward_hooks, {0: print})),
            ("mlp has forward hooks", lambda: mock.patch.dict(layer.mlp._forward_pre_hooks, {0: print})),
            ("layers.0 has a forward", lambda: mock.patch.object(layer, "forward", layer.forward)),
            ("several devices: cpu, meta", meta),
            ("norm.weight is a Sharded", lambda: mock.patch.dict(
                self.model.model.norm._parameters, weight=tensor_class(self.model.model.norm.weight.data))),
            ("an adapter, is in training", lambda: mock.patch.object(layer, "adapter_layer_names", (), create=True)),
            ("_can_compile_fullgraph", lambda: mock.patch.object(type(self.model), "_can_compile_fullgraph", False)),
            ("libnf4 does not use cpu", lambda: mock.patch.object(hooks.automatic, "devices", {-1: False})),
            ("KeyError", lambda: mock.patch.object(hooks.automatic, "devices", {})),
            ("no layer is in NF4", fp4),
            ("flash attention", lambda: mock.patch.object(
                self.model.config, "_attn_implementation_internal", "flash_attention_2")),
        )  # fmt: skip
        for reason, change in cases:
            with self.subTest(reason):
                with change():
                    self.assertRegex(self.refusal(self.model) or "", reason)
                self.assertIsNone(self.refusal(self.model))

    def test_refusals_are_told(self):
        self.install()
        with mock.patch.object(self.model, "training", True), self.assertLogs("nf4", "INFO") as logs:
            for _ in range(2):
                self.assert_compiles(self.model, 0, cache_implementation="static")
        self.assertEqual(len(logs.output), 1)
        self.assertRegex(logs.output[0], "does not compile LlamaForCausalLM: the model is in training mode")
        self.assertRegex(self.refused["LlamaForCausalLM"], "in training mode")

    def test_a_compiler_that_does_not_work(self):
        """Nothing that worked breaks where torch.compile does. A backend of the caller's need not be Inductor."""
        obstacles.inductor_obstacle.cache_clear()
        self.addCleanup(obstacles.inductor_obstacle.cache_clear)
        with mock.patch.object(compile_fx, "compile_fx", side_effect=RuntimeError("no C compiler\nsee CC")):
            reason = obstacles.inductor_obstacle(torch.device("cpu"))
        self.assertRegex(reason, "torch.compile fails on cpu: .*no C compiler")
        self.install()
        self.assertIsNone(self.refusal(self.model))
        with mock.patch(f"{__name__}.counted", lambda: None):
            self.assertRegex(self.refusal(self.model), "no C compiler")

    def test_whole_plug_in(self):
        """status() tells of it, and disable() takes it away."""
        for name in ("torch.cuda.is_available", "nf4._library.is_built_with_cuda"):
            yes = mock.patch(name, lambda: True)
            yes.start()
            self.addCleanup(yes.stop)
        self.addCleanup(nf4.disable)
        nf4.disable()
        self.assertTrue(any("generate" in name for name in nf4.enable()["replaced"]))
        self.assertNotEqual(GenerationMixin._valid_auto_compile_criteria, self.before[0])
        hooks.automatic.refuse("SomeModel", "a reason")
        self.assertEqual(nf4.status()["uncompiled"], {"SomeModel": "a reason"})
        self.assertEqual(nf4.disable()["uncompiled"], {})
        self.assert_as_before()


class CompiledTest(GenerateTest):
    """nf4.compile(). Nothing else is in place."""

    def compile(self):
        compiled = nf4.compile(self.model)
        self.addCleanup(compiled.undo)
        return compiled

    def test_tokens(self):
        """All of it, by Inductor. Nothing of the model is changed."""
        own = self.model.generation_config.to_dict()
        x = prompt(2)
        expected = generate(self.model, x)
        compiled = self.compile()
        done = "static cache, its memory kept, compiled step"
        self.assertEqual(repr(compiled), f"<generate() of LlamaForCausalLM: {done}>")
        self.assertIs(nf4.compile(self.model), compiled)
        with mock.patch.object(compile_fx, "compile_fx", wraps=compile_fx.compile_fx) as inductor:
            for _ in range(2):
                self.assertTrue(torch.equal(generate(self.model, x), expected))
            self.assertEqual(inductor.call_count, 1)
            compiled.undo()
            self.assertEqual(repr(compiled), "<generate() of LlamaForCausalLM: as it was>")
            torch.compiler.reset()
            self.assertTrue(torch.equal(generate(self.model, x), expected))
            self.assertEqual(inductor.call_count, 1)
        self.assertEqual(self.model.generation_config.to_dict(), own)

    def test_end_of_with(self):
        """Of the model in a wrapper of peft's, too."""
        wrapper = mock.Mock(spec=["get_base_model"], get_base_model=lambda: self.model)
        with nf4.compile(wrapper):
            self.assert_compiles(self.model, 1)
            self.assert_compiles(self.model, 0)
        torch.compiler.reset()
        self.assert_compiles(self.model, 0)
        self.assert_as_before()

    def test_kept_memory(self):
        """Calls write to the same keys and values, one after another, but a cache that is returned stays as it is."""
        compiled = self.compile()
        addresses = []
        update = StaticLayer.update

        def watched(layer, *arguments, **named):
            keys, values = update(layer, *arguments, **named)
            addresses.append(keys.data_ptr())
            return keys, values

        def call(**options):
            addresses.clear()
            with mock.patch.object(StaticLayer, "update", watched):  # of the prefill
                out = generate(self.model, prompt(), max_new_tokens=1, **options)
            (address,) = addresses
            return out, address

        generate(self.model, prompt(), compile_config=counted())
        self.assertEqual(len(compiled._layers._free), 1)  # though dynamo holds the cache that it compiled for
        _, address = call()
        for _ in range(2):
            self.assertEqual(call()[1], address)
        returned, own = call(return_dict_in_generate=True)
        self.assertEqual(own, address)
        cache = getattr(returned, "cache", None) or returned.past_key_values
        keys = cache.layers[0].keys.clone()
        self.assertNotEqual(call()[1], address)
        self.assertTrue(torch.equal(cache.layers[0].keys, keys))

        # What a CUDA graph copies in each step: tokens, positions and a mask, and neither weights nor the cache.
        (graph,) = graphs
        copied = [node.name for node in graph.graph.find_nodes(op="placeholder")
                  if "_dynamo_static_input_type" not in node.meta["tensor_dict"]]  # fmt: skip
        self.assertLessEqual(len(copied), 3, copied)
        self.assertTrue(all(re.search("input_ids|position_ids|attention_mask", name) for name in copied), copied)

    def test_several_sequences(self):
        """Memory is lent by the rows that a cache has: prompts times sequences."""
        compiled = self.compile()
        for batch, sequences in ((1, 3), (2, 2), (4, 1)):
            out = generate(self.model, prompt(batch), do_sample=True, num_return_sequences=sequences,
                           compile_config=counted())  # fmt: skip
            self.assertEqual(len(out), batch * sequences)
        self.assertEqual(sorted(rows for _, rows, *_ in compiled._layers._free), [3, 4])

    def test_what_is_left_alone(self):
        """Calls that ask for something else are not compiled, and give what they gave."""
        self.compile()
        x = prompt()
        others = (
            {"cache_implementation": "dynamic"},
            {"past_key_values": transformers.DynamicCache()},
            {"num_beams": 2},
            {"use_cache": False},
            {"disable_compile": True},
        )
        for options in others:
            with self.subTest(**options):
                with mock.patch.object(hooks, "compiled", {}):
                    expected = generate(self.model, x, **copy.deepcopy(options))
                with mock.patch.object(Compiled, "prepare") as prepare:
                    tokens = generate(self.model, x, compile_config=counted(), **options)
                prepare.assert_not_called()
                self.assertTrue(torch.equal(tokens, expected))
                self.assertEqual(graphs, [])
        self.assert_compiles(copy.deepcopy(self.model), 0)  # a copy is a model of its own
        with mock.patch.object(self.model, "training", True):
            self.assert_compiles(self.model, 0)

    def test_bad_models(self):
        with self.assertRaisesRegex(TypeError, "model is a Linear; expected one of transformers that has generate"):
            nf4.compile(torch.nn.Linear(1, 1))
        with mock.patch.object(self.model, "training", True):
            with self.assertRaisesRegex(ValueError, "cannot be compiled: the model is in training mode"):
                nf4.compile(self.model)
        with mock.patch("importlib.metadata.version", lambda _: "5.16.1"):
            with self.assertRaisesRegex(RuntimeError, "transformers is 5.16.1; expected 5.17 or newer"):
                nf4.compile(self.model)


class KeptLayersTest(GenerateTest):
    def cache(self, length=8, batch=1):
        """A new cache, which has borrowed layers; and whether they are others than those before."""
        cache = StaticCache(config=self.model.config, max_cache_len=length)
        new = cache.layers[0]
        self.kept.lend(cache, (batch,), cache)
        states = torch.ones(batch, 2, 3, 16)
        cache.update(states, states, 0)
        return cache, cache.layers[0] is new

    def setUp(self):
        super().setUp()
        self.kept = KeptLayers()

    def test_free_again(self):
        cache, new = self.cache()
        self.assertTrue(new)
        layer = cache.layers[0]
        del cache
        cache, new = self.cache()
        self.assertFalse(new)
        self.assertIs(cache.layers[0], layer)
        self.assertEqual(cache.get_seq_length(), 3)  # emptied before they were lent
        self.assertEqual(cache.layers[0].keys.sum().item(), 2 * 3 * 16)

    def test_in_use(self):
        first, _ = self.cache()
        second, new = self.cache()
        self.assertTrue(new)
        del first, second
        self.assertEqual(len(self.kept._free), 1)  # of one kind once

    def test_other_kinds(self):
        for batch in (1, 2):
            self.assertTrue(self.cache(batch=batch)[1])
        for batch in (2, 1):
            self.assertFalse(self.cache(batch=batch)[1])
        self.assertTrue(self.cache(9)[1])  # and those of another length are of no more use
        self.assertEqual(list(self.kept._free), [(9, 1)])

    def test_one_kind(self):
        """What is kept is one cache at most, whatever batches come."""
        self.kept = KeptLayers(one=True)
        for batch in (1, 2, 1):
            self.assertTrue(self.cache(batch=batch)[1])
            self.assertEqual(list(self.kept._free), [(8, batch)])
        self.assertFalse(self.cache(batch=1)[1])


class HooksTest(GenerateTest):
    """Where transformers is not as it was, or not yet imported."""

    def test_unknown_transformers(self):
        """Both methods stay, and status() says why."""
        refused = {}
        for change in ({"_valid_auto_compile_criteria": lambda self, model_kwargs, generation_config: False},
                       {"_prepare_cache_for_generation": lambda self, generation_config: None},
                       {"_prepare_cache_for_generation": None}, {"_valid_auto_compile_criteria": print}):  # fmt: skip
            refused.clear()
            (name,) = change
            with self.subTest(**change), mock.patch.multiple(GenerationMixin, **change):
                self.addCleanup(Automatic({}, refused).install())
                self.assertIs(getattr(GenerationMixin, name), change[name])
                self.assertRegex(refused["any model"], f"GenerationMixin.{name}|signature")
                hooks.automatic = None
                hooks.update()

    def test_what_others_replaced_since(self):
        """Stays, and goes on to what was there before."""
        undo = Automatic({-1: True}, {}).install()
        ours = GenerationMixin._valid_auto_compile_criteria

        def theirs(model, model_kwargs, generation_config):
            return ours(model, model_kwargs, generation_config)

        def compiles():
            cache = StaticCache(config=self.model.config, max_cache_len=8)
            config = transformers.GenerationConfig(compile_config=counted())
            return self.model._valid_auto_compile_criteria({"cache": cache, "past_key_values": cache}, config)

        with mock.patch.object(GenerationMixin, "_valid_auto_compile_criteria", theirs):
            self.assertTrue(compiles())
            undo()
            self.assertIs(GenerationMixin._valid_auto_compile_criteria, theirs)
            self.assertFalse(compiles())
        GenerationMixin._valid_auto_compile_criteria = self.before[0]


if __name__ == "__main__":
    support.main()
