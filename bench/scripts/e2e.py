#!/usr/bin/env python3
"""Whole models of transformers, decoding and prefill: libnf4 and bitsandbytes in turns, in one process, and dense bf16.

    python3 bench/scripts/e2e.py --model qwen --batch 1,8 --mode graph,compiled,prefill --csv bench/results/e2e.csv

The models have their full size and random weights, made as NF4 on the GPU layer by layer, so nothing is downloaded and
no dense copy exists. Needs torch with CUDA, transformers, bitsandbytes, and the package nf4 (docs/guide/huggingface.md).

Modes: graph is one CUDA graph per decoding step with a static cache; compiled is that too, of a step that torch.compile
made one graph of; eager is generate() with a dynamic cache, without its prefill; prefill is one pass over --prompt
tokens; generate is what users run, whole calls of generate() for --tokens new tokens, in the ways of --way. Each result
is the median of --rounds, in which the contenders take turns. A speed-up is the median of the ratios within a round, so
that a clock that drifts, or a CPU that is slow for a while, is the same for both; its range is that of the ratios. The
base is bitsandbytes alone, and in the mode generate the fastest of its ways in that round.

    python3 bench/scripts/e2e.py --model llama8b,qwen --mode generate --batch 1,4,8 --no-dense --csv generate.csv

The ways: default is generate() without a word; static asks for a static cache, and bitsandbytes alone does not compile
for it; compile is nf4.compile(). The first call of each is timed apart (first_s): compiling is in it.
"""

import argparse
import contextlib
import copy
import gc
import os
import statistics
import time
import types

import bitsandbytes as bnb
import bitsandbytes.functional as F
import records
import torch
import transformers
from transformers.initialization import no_init_weights
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

import nf4
from nf4._transformers import stack
from nf4._transformers.experts import is_marked, packed_class, parts, weight_names

CONFIGS = {
    "llama": ("Llama-3.3-70B", lambda: transformers.LlamaConfig(
        hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8,
        vocab_size=128256, max_position_embeddings=131072, rms_norm_eps=1e-5, tie_word_embeddings=False)),
    "qwen": ("Qwen3-32B", lambda: transformers.Qwen3Config(
        hidden_size=5120, intermediate_size=25600, num_hidden_layers=64, num_attention_heads=64, num_key_value_heads=8,
        head_dim=128, vocab_size=151936, max_position_embeddings=40960, tie_word_embeddings=False)),
    "gemma": ("Gemma-3-27B", lambda: transformers.Gemma3TextConfig(
        hidden_size=5376, intermediate_size=21504, num_hidden_layers=62, num_attention_heads=32, num_key_value_heads=16,
        head_dim=128, vocab_size=262208, max_position_embeddings=131072, query_pre_attn_scalar=168, sliding_window=1024,
        tie_word_embeddings=True)),
    "llama8b": ("Llama-3.1-8B", lambda: transformers.LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=128256, max_position_embeddings=131072, rms_norm_eps=1e-5, tie_word_embeddings=False)),
    "qwen3moe": ("Qwen3-30B-A3B", lambda: transformers.Qwen3MoeConfig(
        hidden_size=2048, intermediate_size=6144, moe_intermediate_size=768, num_hidden_layers=48,
        num_attention_heads=32, num_key_value_heads=4, head_dim=128, num_experts=128, num_experts_per_tok=8,
        norm_topk_prob=True, vocab_size=151936, max_position_embeddings=40960, tie_word_embeddings=False)),
    "gptoss": ("gpt-oss-20b", lambda: transformers.GptOssConfig(
        hidden_size=2880, intermediate_size=2880, num_hidden_layers=24, num_attention_heads=64, num_key_value_heads=8,
        head_dim=64, num_local_experts=32, num_experts_per_tok=4, vocab_size=201088, tie_word_embeddings=False)),
}  # fmt: skip

CONTEXT = 128  # tokens in the cache when decoding begins


# ---- models


def random_nf4(rows, cols, device):
    """Codes and quant state of a random matrix whose products keep the size of their input."""
    count = rows * cols
    # The 16 values are not about zero. With a mean, products of many layers end up along one direction, and rounding is
    # then most of a gradient. With -0.39 in place of 0 there is next to none.
    half = torch.arange(16, dtype=torch.uint8, device=device)
    half[7] = 3
    bytes_of = (half[:, None] << 4 | half).flatten()
    codes = bytes_of[torch.randint(0, 256, (count // 2, 1), dtype=torch.int32, device=device)]
    absmax = torch.empty(count // 64, dtype=torch.float32, device=device).uniform_(1, 2).mul_(cols**-0.5)
    code = F.get_4bit_type("nf4", device=device).float()  # models are built with another default dtype
    state = F.QuantState(
        absmax=absmax, shape=torch.Size((rows, cols)), code=code, blocksize=64,
        quant_type="nf4", dtype=torch.bfloat16,
    )  # fmt: skip
    return codes, state


def packed_linear(vocabulary, device):
    """A class in the place of nn.Linear, whose objects are Linear4bit; the output embedding stays dense."""
    dense = torch.nn.Linear

    class Packed(bnb.nn.Linear4bit):
        def __new__(cls, in_features, out_features, bias=True, **_):
            if out_features == vocabulary:
                return dense(in_features, out_features, bias=bias)
            return super().__new__(cls)

        def __init__(self, in_features, out_features, bias=True, **_):
            with torch.device("meta"):
                super().__init__(
                    in_features, out_features, bias=bias, compute_dtype=torch.bfloat16, compress_statistics=False,
                    quant_type="nf4",
                )  # fmt: skip
            codes, state = random_nf4(out_features, in_features, device)
            self.weight = bnb.nn.Params4bit(codes, requires_grad=False, quant_state=state, quant_type="nf4",
                                            bnb_quantized=True, module=self)  # fmt: skip
            self.quant_state = state
            self.compute_type_is_set = True

    return Packed


def experts_of(model):
    return [module for module in model.modules() if is_marked(module)]


def pack_experts(model):
    """Packs the experts of a model, one layer after the other."""
    for module in experts_of(model):
        module.__class__ = packed_class(type(module))
        for name in weight_names(module):
            w = module._parameters[name]
            w = w.transpose(1, 2).contiguous() if module.is_transposed else w
            module._parameters[name] = stack.pack(w, parts(module, name), nested=False)


def build(config, device, packed, packed_experts=False):
    """A model of `config` with random weights on `device`: of linear layers that are packed or dense, and of experts."""
    torch.manual_seed(1)
    dense = torch.nn.Linear
    of_model = transformers.AutoModelForCausalLM._model_mapping[type(config)]
    try:
        if packed:
            torch.nn.Linear = packed_linear(config.vocab_size, device)
        with torch.device(device), no_init_weights():
            model = transformers.AutoModelForCausalLM.from_config(
                config, dtype=torch.bfloat16, attn_implementation="sdpa" if of_model._supports_sdpa else "eager"
            )
    finally:
        torch.nn.Linear = dense
    if config.tie_word_embeddings:
        model.lm_head.weight = model.get_input_embeddings().weight
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                if parameter.dim() > 1:
                    parameter.normal_(0, parameter.shape[-1] ** -0.5)
                else:
                    parameter.fill_(1)
    if packed_experts:
        pack_experts(model)
    if packed:
        model.hf_quantizer = Bnb4BitHfQuantizer(transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16))  # fmt: skip
    return model.eval().requires_grad_(False)


def shortened(config, layers):
    """The config of a model of so many layers, or of all for None."""
    if layers:
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    return config


# ---- contenders


def enable():
    return nf4.enable(experts=True)


@contextlib.contextmanager
def contender(name):
    """nf4, bitsandbytes (as it is by itself) or dense."""
    enable() if name == "nf4" else nf4.disable()
    try:
        yield
    finally:
        enable()


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def milliseconds(device, function, repeat=1):
    synchronize(device)
    start = time.perf_counter()
    for _ in range(repeat):
        function()
    synchronize(device)
    return (time.perf_counter() - start) * 1e3 / repeat


# ---- modes: each gives {contender: function that takes one sample, in ms per step}


def decoding_step(model, batch, arguments):
    """A function that decodes one token, with CONTEXT others before it in a static cache, and one that takes the cache
    back there."""
    cache = transformers.StaticCache(config=model.config, max_cache_len=arguments.cache)
    model(torch.ones(batch, CONTEXT, dtype=torch.long, device=model.device), past_key_values=cache)
    token = torch.ones(batch, 1, dtype=torch.long, device=model.device)

    def step():
        token.copy_(model(token, past_key_values=cache).logits[:, -1:].argmax(-1))

    def rewind():
        for layer in cache.layers:
            layer.cumulative_length.fill_(CONTEXT)

    return step, rewind


def capture(step, **options):
    """A CUDA graph of `step`; `options` are torch.cuda.graph's."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, **options):
        step()
    return graph


def graph_samples(model, batch, names, arguments):
    step, rewind = decoding_step(model, batch, arguments)
    return replays("graph", lambda _: step, rewind, batch, names, arguments)


def compile_step(step):
    """What torch.compile makes of a step in fullgraph and with static shapes. What was compiled is known by the code
    object, so each has one of its own, and needs no guards: they would compile each step of Gemma anew, whose sliding
    caches count tokens in Python."""
    own = types.FunctionType(step.__code__.replace(), step.__globals__, closure=step.__closure__)
    return torch.compile(own, fullgraph=True, dynamic=False,
                         options={"guard_filter_fn": torch.compiler.skip_all_guards_unsafe})  # fmt: skip


def compiled_samples(model, batch, names, arguments):
    """The step is compiled once for each contender, since nf4.enable() adds a pass to Inductor.

    generate() compiles by itself for a static cache, but not a model that was loaded in 4 bits:
    _valid_auto_compile_criteria of transformers 5.17 asks hf_quantizer.is_compileable, which is False for bitsandbytes.
    Its users call torch.compile themselves."""
    step, rewind = decoding_step(model, batch, arguments)

    def compiled(name):
        own = compile_step(step)
        print(f"  {name}: compiled in {milliseconds(model.device, own) / 1e3:.1f} s", flush=True)
        return own

    return replays("compiled", compiled, rewind, batch, names, arguments)


def replays(mode, step_of, rewind, batch, names, arguments):
    """Samples of a CUDA graph of the step that `step_of` makes for each contender."""
    samples = {}
    for name in names:
        with contender(name):
            graph = capture(step_of(name))

        def sample(graph=graph):
            rewind()
            return milliseconds(torch.device("cuda"), graph.replay, arguments.steps)

        samples[name] = sample
        if arguments.breakdown:
            breakdown(f"{mode}, batch {batch}, {name}", graph.replay)
    return samples


def eager_samples(model, batch, names, arguments):
    device = model.device
    prompt = torch.ones(batch, CONTEXT, dtype=torch.long, device=device)

    def generate(tokens):
        model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, min_new_tokens=tokens,
                       do_sample=False, pad_token_id=0)  # fmt: skip

    def sample(name):
        with contender(name):
            first = milliseconds(device, lambda: generate(1))  # the prefill
            return (milliseconds(device, lambda: generate(1 + arguments.steps)) - first) / arguments.steps

    for name in names:
        sample(name)
    return {name: (lambda name=name: sample(name)) for name in names}


def prefill_samples(model, batch, names, arguments):
    prompt = torch.ones(batch, arguments.prompt, dtype=torch.long, device=model.device)

    def sample(name):
        with contender(name):
            return milliseconds(model.device, lambda: model(prompt, use_cache=False, logits_to_keep=1), 2)

    for name in names:
        sample(name)
    return {name: (lambda name=name: sample(name)) for name in names}


WAYS = {  # of generate(): its arguments, and whether nf4.compile() is called before
    "default": ({}, False),
    "static": ({"cache_implementation": "static"}, False),
    "compile": ({}, True),
}


class Generate:
    """A sample of whole calls of generate(), in ms a token. `first_s` is how long the first one took."""

    def __init__(self, model, batch, name, way, arguments):
        self.name, self.tokens = name, arguments.tokens
        options, compiles = WAYS[way]
        model = copy.copy(model)  # of the same layers: what is compiled for one way is not the other's
        prompt = torch.ones(batch, CONTEXT, dtype=torch.long, device=model.device)
        self.device, self.generate = model.device, lambda: model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=self.tokens, min_new_tokens=self.tokens,
            do_sample=False, pad_token_id=0, **options)  # fmt: skip
        if compiles:
            with contender(name):
                print(f"  {nf4.compile(model)}", flush=True)
        self.first_s = self() * self.tokens / 1e3

    def __call__(self):
        with contender(self.name):
            return milliseconds(self.device, self.generate) / self.tokens


def generate_samples(model, batch, names, arguments):
    samples = {}
    for name in names:
        for way in WAYS:
            if name == "nf4":
                wanted = way in arguments.way
            else:  # the base is always there
                wanted = way == "default" or way == "static" and way in arguments.way
            if wanted:
                samples[name if way == "default" else f"{name} {way}"] = Generate(model, batch, name, way, arguments)
    return samples


MODES = {"graph": graph_samples, "compiled": compiled_samples, "eager": eager_samples, "prefill": prefill_samples,
         "generate": generate_samples}  # fmt: skip

KINDS = (  # what a kernel's name says that it is; the first that fits
    ("between GPUs", ("nccl",)),
    ("all else", ("triton_",)),  # torch.compile's own, which it names after what they were fused from
    ("nf4", ("nf4",)),
    ("bitsandbytes", ("4bit", "kDequantize", "kgemm", "kGemm")),
    ("attention", ("flash", "fmha", "attention", "softmax")),
    ("dense products", ("gemm", "gemv", "cublas", "nvjet", "cutlass", "splitK")),
)


def times_by_kind(function):
    """Where the GPU's time of one step goes, in ms."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        function()
        torch.cuda.synchronize()
    times = {}
    for event in profiler.key_averages():
        kind = next((kind for kind, words in KINDS if any(word in event.key for word in words)), "all else")
        times[kind] = times.get(kind, 0) + event.self_device_time_total / 1e3
    return times


def breakdown(title, function):
    times = times_by_kind(function)
    print(f"  {title}: " + ", ".join(f"{kind} {ms:.2f} ms" for kind, ms in sorted(times.items(), key=lambda x: -x[1])))


# ---- checks


def relative(y, exact):
    return ((y.double() - exact).norm() / exact.norm()).item()


def check_layers(model):
    """Relative errors against float64 on each kind of layer, before anything is timed."""
    seen = set()
    for name, layer in model.named_modules():
        if not isinstance(layer, bnb.nn.Linear4bit) or layer.quant_state.shape in seen:
            continue
        seen.add(layer.quant_state.shape)
        state = copy.copy(layer.quant_state)
        state.dtype = torch.float32  # weights rounded to bf16 would favour who multiplies those
        w = F.dequantize_4bit(layer.weight.data, state)
        rows = torch.arange(0, w.shape[0], max(1, w.shape[0] // 512), device=w.device)
        for m in (1, 8):
            x = torch.randn(m, w.shape[1], dtype=torch.bfloat16, device=w.device)
            exact = x.double() @ w[rows].double().T
            errors = {}
            for contender_name in ("nf4", "bitsandbytes"):
                with contender(contender_name):
                    errors[contender_name] = relative(layer(x)[:, rows], exact)
            print(f"  {name.rpartition('.')[2]} {tuple(w.shape)}, M = {m}: error {errors['nf4']:.2e}, "
                  f"bitsandbytes {errors['bitsandbytes']:.2e}")  # fmt: skip
            if errors["nf4"] > 4e-3:  # bf16 alone rounds by 1.7e-3
                raise SystemExit(f"{name}: the products of libnf4 are less exact than they should be")


def check_experts(model):
    """The layers of experts of libnf4 against transformers' own on the same weights, unpacked."""
    for module in experts_of(model)[:1]:
        device = next(module.parameters()).device
        for tokens in (1, 8):
            x = torch.randn(tokens, model.config.hidden_size, dtype=torch.bfloat16, device=device)
            weights, ids = torch.rand(tokens, module.num_experts, device=device).topk(model.config.num_experts_per_tok)
            outputs = {}
            for name in ("nf4", "bitsandbytes"):
                with contender(name):
                    outputs[name] = module(x, ids, weights.to(x.dtype))
            error = relative(outputs["nf4"], outputs["bitsandbytes"].double())
            print(f"  experts, {tokens} tokens: {error:.2e} from transformers' own products of bf16 weights")
            if not error < 2e-2:
                raise SystemExit("the experts of libnf4 are less exact than they should be")


def call_overhead(device):
    """The CPU's time for one call of a layer, so small that the GPU waits for it."""
    layer = bnb.nn.Linear4bit(64, 64, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4").to(device)
    x = torch.randn(1, 1, 64, dtype=torch.bfloat16, device=device)
    with torch.no_grad():
        for name in ("bitsandbytes", "nf4") * 2:
            with contender(name):
                milliseconds(device, lambda: layer(x), 200)
                print(f"  {name}: {1e3 * milliseconds(device, lambda: layer(x), 2000):.1f} us a call")


def check_trained(path, device):
    """How far the sentence embeddings of all-MiniLM-L6-v2, a small trained encoder, are apart, and from dense ones."""
    from safetensors.torch import load_file

    config = transformers.BertConfig(
        hidden_size=384, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=12
    )
    model = transformers.BertModel(config, add_pooling_layer=False).eval().to(device)
    missing, _ = model.load_state_dict(load_file(path), strict=False)
    if missing:
        raise SystemExit(f"{path}: lacks {missing[:3]}; expected all-MiniLM-L6-v2")
    torch.manual_seed(1)
    tokens = torch.randint(1000, 30000, (16, 32), device=device)

    def embed():
        return torch.nn.functional.normalize(model(tokens).last_hidden_state.mean(1).float(), dim=-1)

    dense = embed()
    for name, layer in list(model.named_modules()):
        if isinstance(layer, torch.nn.Linear):
            packed = bnb.nn.Linear4bit(layer.in_features, layer.out_features, compute_dtype=torch.bfloat16,
                                       quant_type="nf4")  # fmt: skip
            packed.load_state_dict(layer.state_dict())
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, packed.to(device))
    outputs = {}
    for name in ("nf4", "bitsandbytes"):
        with contender(name):
            outputs[name] = embed()
    between = {"nf4 to bitsandbytes": (outputs["nf4"], outputs["bitsandbytes"]),
               "nf4 to dense": (outputs["nf4"], dense),
               "bitsandbytes to dense": (outputs["bitsandbytes"], dense)}  # fmt: skip
    for title, (a, b) in between.items():
        print(f"  {title}: least cosine {(a * b).sum(-1).min().item():.5f}")


# ---- the run


def measure(model, title, names, arguments, facts, rows):
    for mode in arguments.mode:
        for batch in [1] if mode == "prefill" else arguments.batch:
            release()
            try:
                samples = MODES[mode](model, batch, names, arguments)
            except (RuntimeError, ValueError) as error:  # one mode that fails leaves the others their results
                print(f"{title} {mode} batch {batch}: FAILED: {error}")
                continue
            times = {name: [] for name in samples}
            for turn in range(arguments.rounds):
                for name in reversed(samples) if turn % 2 else samples:
                    times[name].append(samples[name]())
            tokens = arguments.prompt if mode == "prefill" else batch
            bases = [min(turn) for turn in zip(*(times[name] for name in times if name.startswith("bitsandbytes")))]
            for name, values in times.items():
                ms = statistics.median(values)
                ratios = [base / own for base, own in zip(bases, values)]
                first_s = getattr(samples[name], "first_s", None)
                speedup = f"{statistics.median(ratios):.2f}" if ratios else ""
                ratio_range = f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else ""
                rows.append({
                    "model": title, "mode": mode, "batch": batch, "contender": name, "ms": f"{ms:.3f}",
                    "tokens_per_s": f"{1e3 * tokens / ms:.1f}", "speedup": speedup, "speedup_range": ratio_range,
                    "memory_gb": f"{memory(model.device):.1f}", "spread": f"{max(values) / min(values):.3f}",
                    "first_s": f"{first_s:.1f}" if first_s else "",
                    "first_tokens_per_s": f"{tokens * arguments.tokens / first_s:.1f}" if first_s else "",
                })  # fmt: skip
                print(f"{title:14} {mode:8} batch {batch:3} {name:19} {ms:9.2f} ms {1e3 * tokens / ms:9.1f} tokens/s"
                      + (f" {speedup:>6}x ({ratio_range})" if ratios else "")
                      + (f", first call {first_s:.1f} s" if first_s else ""), flush=True)  # fmt: skip
            records.write(arguments.csv, facts, rows)
            del samples


def release():
    """Frees what the last mode or model left. Compiled code holds the tensors that it was compiled for."""
    torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()


def cpu():
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return f"{names[0] if names else 'unknown'}, {len(os.sched_getaffinity(0))} threads"


def memory(device):
    return torch.cuda.memory_allocated() / 1e9 if device.type == "cuda" else 0.0


def fits(config, device):
    """Whether a dense model of `config` fits, with a tenth to spare."""
    if device.type != "cuda":
        return True
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    need = 2 * sum(parameter.numel() for parameter in model.parameters())
    return need < 0.9 * torch.cuda.get_device_properties(device).total_memory


def parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("--model", type=words, default=list(CONFIGS), help="of " + ", ".join(CONFIGS))
    parser.add_argument("--batch", type=lambda text: list(map(int, text.split(","))), default=[1, 4, 8, 16])
    parser.add_argument("--mode", type=words, default=list(MODES), help="of " + ", ".join(MODES))
    parser.add_argument("--no-dense", action="store_true", help="leave dense bf16 out")
    parser.add_argument("--layers", type=int, help="build so many layers only, to try something")
    parser.add_argument("--cache", type=int, default=192, help="tokens that a static cache has room for; attention "
                        f"reads all of it, and {CONTEXT} are there when decoding begins")  # fmt: skip
    parser.add_argument("--steps", type=int, default=16, help="decoding steps in a sample")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=1024, help="tokens of the prefill")
    parser.add_argument("--way", type=words, default=list(WAYS), help="of generate: of " + ", ".join(WAYS))
    parser.add_argument("--tokens", type=int, default=256, help="new tokens in a call of generate")
    parser.add_argument("--breakdown", action="store_true", help="profile a step of each graph")
    parser.add_argument("--trained", metavar="FILE", help="model.safetensors of all-MiniLM-L6-v2: compare its outputs")
    parser.add_argument("--csv", metavar="FILE")
    arguments = parser.parse_args()
    for what, known in (("model", CONFIGS), ("mode", MODES), ("way", WAYS)):
        for name in getattr(arguments, what):
            if name not in known:
                parser.error(f"unknown {what} {name!r}; expected of {', '.join(known)}")
    if 3 + CONTEXT + arguments.steps > arguments.cache:
        parser.error(f"--cache is {arguments.cache}; expected {3 + CONTEXT + arguments.steps} or more")
    return arguments


@torch.no_grad()
def main():
    arguments = parse()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device")
    device = torch.device("cuda", 0)
    status = enable()
    if not status["enabled"]:
        raise SystemExit(f"nf4 is not in use: {status['reason']}")
    facts = {
        "device": torch.cuda.get_device_name(device), "cpu": cpu(), "torch": torch.__version__,
        "transformers": transformers.__version__, "bitsandbytes": status["bitsandbytes"],
        "libnf4": ".".join(map(str, nf4.version())), "context": CONTEXT, "cache": arguments.cache,
        "steps": arguments.steps, "rounds": arguments.rounds, "tokens": arguments.tokens,
    }  # fmt: skip
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print("CPU time of a call:")
    call_overhead(device)
    if arguments.trained:
        print("all-MiniLM-L6-v2, embeddings of 16 random texts:")
        check_trained(arguments.trained, device)

    rows = []
    for key in arguments.model:
        title, make = CONFIGS[key]
        config = shortened(make(), arguments.layers)
        # Of what is built, and who is measured on it. Experts that are packed are unpacked without libnf4, so a mixture
        # is built once more as bitsandbytes has it, with experts in bf16.
        builds = [({"packed": True}, ["bitsandbytes", "nf4"])]
        if hasattr(config, "num_experts_per_tok"):
            builds = [({"packed": True, "packed_experts": True}, ["nf4"]), ({"packed": True}, ["bitsandbytes"])]
        if not arguments.no_dense and fits(config, device):
            builds.append(({"packed": False}, ["dense"]))
        for options, names in builds:
            start = time.perf_counter()
            model = build(config, device, **options)
            release()
            synchronize(device)
            print(f"{title}: built in {time.perf_counter() - start:.1f} s, {memory(device):.1f} GB")
            if "nf4" in names:
                check_layers(model)
                check_experts(model)
            measure(model, title, names, arguments, facts, rows)
            del model
            release()


if __name__ == "__main__":
    main()
