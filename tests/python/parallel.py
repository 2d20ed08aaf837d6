"""Small models of transformers in NF4 in tensor parallel, in processes of their own, held against the same models whole.

On two GPUs by NCCL where there are two; else on the CPU by gloo, where the plug-in is told that the host is a device of
its own. A case is a function of this module: every process calls it, and what it returns in process 0 is looked at."""

import datetime
import pathlib
import pickle
import tempfile
import warnings

import processes
import torch
import torch.distributed as dist

PROCESSES = 2
ON_GPUS = torch.cuda.is_available() and torch.cuda.device_count() >= PROCESSES
DTYPE = torch.float32  # in which two logits are hardly ever as good as equal, so that tokens can be compared
NEW = 6  # tokens of a call of generate()

# Of a model's logits, relative to their norm: some units in the last place, of two layers and the sums between them.
TOLERANCE = 1e-4 if ON_GPUS else 1e-5

_SIZES = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 128, "initializer_range": 0.2,
    "pad_token_id": 0, "eos_token_id": None, "bos_token_id": None,
}  # fmt: skip

# The config of each architecture, and what it has that others have not.
ARCHITECTURES = {
    "llama, biases": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True}),
    "qwen3": ("Qwen3Config", {"head_dim": 32}),
    "gemma3, tied": ("Gemma3TextConfig", {"head_dim": 32, "sliding_window": 8, "tie_word_embeddings": True}),
    "mistral, blocks of 32": ("MistralConfig", {"intermediate_size": 192}),
    "phi3, fused": ("Phi3Config", {}),
    "gpt_neox": ("GPTNeoXConfig", {}),
}
EXPERTS = {  # gpt-oss: biases, and weights that are transposed, with gate and up in turns; aria: transposed alone
    "qwen3_moe": ("Qwen3MoeConfig", {"moe_intermediate_size": 128, "num_experts": 4, "head_dim": 32,
                                     "num_experts_per_tok": 2}),
    "gpt_oss": ("GptOssConfig", {"intermediate_size": 128, "num_local_experts": 4, "head_dim": 32,
                                 "num_experts_per_tok": 2, "sliding_window": 8}),
    "aria": ("AriaTextConfig", {"intermediate_size": 128, "moe_num_experts": 4, "head_dim": 32}),
}  # fmt: skip


def device():
    return torch.device("cuda", torch.cuda.current_device()) if ON_GPUS else torch.device("cpu")


def dense(name, **options):
    """A model with random weights, biases and norms too."""
    import transformers

    config, own = {**ARCHITECTURES, **EXPERTS}[name]
    sizes = {**_SIZES, **own, **options}
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, config)(**sizes))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.dim() == 1 or parameter_name.endswith("_bias"):
                parameter.normal_(1, 0.2)
    return model


def save(name, folder, **options):
    dense(name, **options).save_pretrained(folder)
    return folder


def quantization(nested=False):
    import transformers

    return transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=DTYPE, bnb_4bit_use_double_quant=nested
    )


def keep_codes(model):
    """Has bitsandbytes leave the order of the codes on a CPU as it is."""
    for module in model.modules():
        module.support_avx512bf16_for_cpu = False
    return model


def load(folder, nested=False):
    """The whole model."""
    import transformers

    return keep_codes(transformers.AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=quantization(nested), device_map={"": device()}, dtype=DTYPE))  # fmt: skip


def prompt():
    return torch.randint(1, 128, (2, 8), generator=torch.Generator().manual_seed(3)).to(device())


def logits(model):
    return model(prompt(), use_cache=False).logits.float()


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


def generate(model, **options):
    return model.generate(prompt(), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, **options)


def outcome(function, *arguments, **named):
    """The text of what it raises, or "nothing"."""
    try:
        function(*arguments, **named)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


# ---- cases


def architecture(folder, name, nested):
    """Distances from the whole model's logits, and whether the tokens are the same."""
    import nf4

    save(name, folder) if dist.get_rank() == 0 else None
    dist.barrier()
    model = load(folder, nested)
    expected, tokens = logits(model), generate(model)
    bytes_before = memory(model)
    assert nf4.tensor_parallel(model) is model
    found = {"sharded": distance(logits(model), expected), "bytes": memory(model) / bytes_before}
    found["tokens"] = torch.equal(generate(model), tokens)
    found["tokens, static cache"] = torch.equal(generate(model, cache_implementation="static"), tokens)
    loaded = nf4.tensor_parallel(folder, quantization_config=quantization(nested), dtype=DTYPE)
    found["loaded"] = distance(logits(keep_codes(loaded)), expected)
    compiled = torch.compile(model.forward, fullgraph=True, backend="aot_eager")
    found["compiled"] = distance(compiled(input_ids=prompt(), use_cache=False).logits.float(), expected)
    torch.compiler.reset()
    return found


def memory(model):
    """The bytes of packed weights: of codes, and of scales as if they were not nested."""
    return sum(packed.quant_state.shape.numel() / 2 for packed in model.parameters() if hasattr(packed, "quant_state"))


def compiled_generate(folder):
    """nf4.compile() of a sharded model: whether the tokens are those of the whole one."""
    import nf4

    save("llama, biases", folder) if dist.get_rank() == 0 else None
    dist.barrier()
    model = load(folder)
    tokens = generate(model)
    nf4.tensor_parallel(model)
    with nf4.compile(model) as compiled:
        options = {} if ON_GPUS else {"compile_config": _without_inductor()}
        same = [torch.equal(generate(model, **options), tokens) for _ in range(3)]
        return {"names": compiled.names, "same": same}


def _without_inductor():
    import transformers

    config = transformers.CompileConfig(fullgraph=True, backend="aot_eager", mode="default")
    config._compile_all_devices = True
    return config


def packed_checkpoint(folder):
    """A folder that holds packed weights is cut while it is read. What every process holds at most, in bytes of codes,
    as a part of the whole; and the distance."""
    import nf4
    from nf4._tensor_parallel import loading

    if dist.get_rank() == 0:
        load(save("qwen3", folder + "/dense"), nested=True).save_pretrained(folder + "/packed")
    dist.barrier()
    model = load(folder + "/dense", nested=True)
    expected, whole = logits(model), memory(model)
    held = []
    original = loading.shard_parameter

    def shard(parameter, cut):
        part = original(parameter, cut)
        held.append((part.numel(), parameter.numel()))
        return part

    loading.shard_parameter = shard
    try:
        loaded = nf4.tensor_parallel(folder + "/packed", dtype=DTYPE)
    finally:
        loading.shard_parameter = original
    parts = [part for part, _ in held]
    most = max(sum(parts[:number]) + held[number][1] for number in range(len(held)))
    return {"loaded": distance(logits(keep_codes(loaded)), expected), "most": most / whole,
            "saved": outcome(loaded.save_pretrained, folder + "/again")}  # fmt: skip


def experts(folder, name):
    """Packed experts, by rows and columns of each: cut, and loaded from folders that hold them dense and packed; or why
    they are not; None where this transformers does not mark their class."""
    import nf4
    from nf4._transformers.experts import is_marked

    if not any(map(is_marked, dense(name).modules())):
        return None
    nf4.enable(experts=True)
    save(name, f"{folder}/dense") if dist.get_rank() == 0 else None
    dist.barrier()
    model = load(f"{folder}/dense")
    assert len(nf4.status()["experts"]["packed"]) == 2, nf4.status()["experts"]
    model.save_pretrained(f"{folder}/packed") if dist.get_rank() == 0 else None
    dist.barrier()
    expected, tokens, bytes_before = logits(model), generate(model), memory(model)
    refused = outcome(nf4.tensor_parallel, model)
    if refused != "nothing":
        return {"refused": refused, "sharded": distance(logits(model), expected)}
    found = {"sharded": distance(logits(model), expected), "bytes": memory(model) / bytes_before}
    found["shape"] = [*model.model.layers[0].mlp.experts._parameters["down_proj"].quant_state.shape]
    found["tokens"] = torch.equal(generate(model), tokens)
    found["tokens, static cache"] = torch.equal(generate(model, cache_implementation="static"), tokens)
    compiled = torch.compile(model.forward, fullgraph=True, backend="aot_eager")
    found["compiled"] = distance(compiled(input_ids=prompt(), use_cache=False).logits.float(), expected)
    torch.compiler.reset()
    loaded = nf4.tensor_parallel(f"{folder}/dense", quantization_config=quantization(), dtype=DTYPE)
    found["loaded"] = distance(logits(keep_codes(loaded)), expected)
    loaded = nf4.tensor_parallel(f"{folder}/packed", dtype=DTYPE)
    found["loaded packed"] = distance(logits(keep_codes(loaded)), expected)
    nf4.disable()  # transformers' own products of the same parts
    found["not by libnf4"] = distance(logits(loaded), expected)
    return found


def uneven(folder, name):
    """More processes than divide the blocks: 4 blocks for 3 processes. Or why it is refused."""
    import nf4

    nf4.enable(experts=True)
    save(name, folder, hidden_size=192, num_attention_heads=6, num_key_value_heads=3, intermediate_size=256,
         vocab_size=129) if dist.get_rank() == 0 else None  # fmt: skip
    dist.barrier()
    model = load(folder)
    expected = logits(model)
    refused = outcome(nf4.tensor_parallel, model)
    mlp = model.model.layers[0].mlp
    down = mlp.experts._parameters["down_proj"] if hasattr(mlp, "experts") else mlp.down_proj
    return {"sharded": distance(logits(model), expected), "size": down.quant_state.shape[-1], "refused": refused}


REFUSED = {  # by what is wrong: options of a llama
    "kv heads": {"num_key_value_heads": 1},
    "columns": {"intermediate_size": 96},
    "odd": {"intermediate_size": 129},
}


def refused(folder, what):
    """The errors, of a model and of its folder, and how far the model is from what it was."""
    import nf4

    save("llama, biases", folder, **REFUSED[what]) if dist.get_rank() == 0 else None
    dist.barrier()
    model = load(folder)
    expected = logits(model)
    error = outcome(nf4.tensor_parallel, model)
    loading = outcome(nf4.tensor_parallel, folder, quantization_config=quantization(), dtype=DTYPE)
    return {"error": error, "loading": loading, "after": distance(logits(model), expected)}


def disagreement(folder, what):
    """The errors of both processes, where one has another model."""
    import nf4

    rank = dist.get_rank()
    if rank == 0:  # by which alone transformers saves
        save("llama, biases", f"{folder}/0")
        save("llama, biases", f"{folder}/1", **({"intermediate_size": 512} if what == "shapes" else {}))
    dist.barrier()
    model = load(f"{folder}/{rank}")
    layer = model.model.layers[0].mlp.down_proj
    if rank and what == "blocksize":
        state = layer.weight.quant_state
        state.blocksize, state.absmax = 32, state.absmax.repeat_interleave(2)
    if rank and what == "adapter":
        layer.base_layer = torch.nn.Identity()
    if rank and what == "other device":
        layer.bias = torch.nn.Parameter(layer.bias.to("meta"))
    errors = [None] * dist.get_world_size()
    dist.all_gather_object(errors, outcome(nf4.tensor_parallel, model))
    return errors


def bad_calls(folder):
    """The errors of calls that no model can be for."""
    import transformers

    import nf4

    save("llama, biases", folder) if dist.get_rank() == 0 else None
    dist.barrier()
    sharded = nf4.tensor_parallel(load(folder))
    without_plan = load(folder)
    without_plan._tp_plan = {}
    return {
        "dense": outcome(nf4.tensor_parallel, transformers.AutoModelForCausalLM.from_pretrained(folder).to(device())),
        "dense folder": outcome(nf4.tensor_parallel, folder, dtype=DTYPE),
        "no plan": outcome(nf4.tensor_parallel, without_plan),
        "twice": outcome(nf4.tensor_parallel, sharded),
        "a layer": outcome(nf4.tensor_parallel, torch.nn.Linear(2, 2)),
        "options": outcome(nf4.tensor_parallel, sharded, dtype=DTYPE),
        "device_map": outcome(nf4.tensor_parallel, folder, device_map="auto"),
        "saved": outcome(sharded.save_pretrained, folder),
    }


def wrong_device(folder):
    """The errors of both processes, where the model of the first is not on the current device. For GPUs."""
    import nf4

    rank = dist.get_rank()
    save("qwen3", folder) if rank == 0 else None
    dist.barrier()
    model = load(folder)
    torch.cuda.set_device(1)
    error = outcome(nf4.tensor_parallel, model)
    torch.cuda.set_device(rank)
    errors = [None] * dist.get_world_size()
    dist.all_gather_object(errors, error)
    return errors


# ---- processes


def work(rank, count, cases, folder):
    import nf4

    nf4.disable()
    if ON_GPUS:
        torch.cuda.set_device(rank)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    import transformers

    from distributed import libnf4

    transformers.utils.logging.disable_progress_bar()
    dist.init_process_group("nccl" if ON_GPUS else "gloo", f"file://{folder}/rendezvous", rank=rank, world_size=count,
                            timeout=datetime.timedelta(seconds=300), device_id=device() if ON_GPUS else None)  # fmt: skip
    found = {}
    for number, (name, (case, *arguments)) in enumerate(cases.items()):
        with libnf4(), torch.no_grad():
            found[name] = case(f"{folder}/{number}", *arguments)
        dist.barrier()
    torch.compiler.reset()  # NCCL waits for CUDA graphs that hold its operations
    dist.destroy_process_group()
    if rank == 0:
        pathlib.Path(folder, "found").write_bytes(pickle.dumps(found))


def run(cases, count=PROCESSES):
    """What each of `cases`, tuples of a function and its arguments by name, returns in process 0 of `count`."""
    with tempfile.TemporaryDirectory() as folder:
        processes.start(work, (count, cases, folder), count, ON_GPUS)
        return pickle.loads(pathlib.Path(folder, "found").read_bytes())


CASES = {
    **{name: (architecture, name, number % 2 == 1) for number, name in enumerate(ARCHITECTURES)},
    "nf4.compile": (compiled_generate,),
    "packed checkpoint": (packed_checkpoint,),
    **{name: (experts, name) for name in EXPERTS},
    **{what: (refused, what) for what in REFUSED},
    **{what: (disagreement, what) for what in ("shapes", "blocksize", "adapter", "other device")},
    "bad calls": (bad_calls,),
}
