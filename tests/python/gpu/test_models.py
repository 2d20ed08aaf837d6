"""Whole models of transformers on libnf4, against plain bitsandbytes. The weights are random, and the models small."""

import inspect
import json
import threading

import pytest
import torch
from conftest import bitsandbytes_alone

import nf4

transformers = pytest.importorskip("transformers")

STEPS = 12
TRAINING = 600  # steps
BATCH, LENGTH = 2, 64


def dense():
    config = transformers.LlamaConfig(
        hidden_size=512, intermediate_size=1408, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4,
        vocab_size=2048, max_position_embeddings=512, tie_word_embeddings=False, initializer_range=0.05,
    )  # fmt: skip
    torch.manual_seed(1)
    return transformers.LlamaForCausalLM(config).to(torch.bfloat16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    dense().save_pretrained(folder)
    return folder


def load(folder, nested=False):
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=nested,
    )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=config, device_map={"": 0}, dtype=torch.bfloat16
    )


def tokens(count=LENGTH):
    return torch.randint(0, 2048, (BATCH, count), device="cuda", generator=torch.Generator("cuda").manual_seed(2))


def distance(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.mark.parametrize("nested", [False, True])
def test_logits(folder, nested):
    """Nearer to float64 on the same packed weights than bitsandbytes is, or as near."""
    model = load(folder, nested)
    x = tokens(1)
    with torch.no_grad():
        ours = model(x).logits
        with bitsandbytes_alone():
            theirs = model(x).logits
            exact = dense().double().cuda()
            import bitsandbytes.functional as F

            for name, module in model.named_modules():
                if hasattr(module, "quant_state"):
                    weight = F.dequantize_4bit(module.weight.data, module.weight.quant_state)
                    exact.get_submodule(name).weight.copy_(weight)
            reference = exact(x).logits
    assert distance(ours, reference) < 1.2 * distance(theirs, reference)
    assert distance(ours, reference) < 0.05


def compiles_steps():
    """Whether generate() compiles a step for a static cache."""
    return any("generate" in name for name in nf4.status()["replaced"])


@pytest.mark.parametrize("way", ["dynamic", "static", "compile"])
def test_generate(folder, way):
    """The tokens are those of a loop without any cache, but where two logits are as good as equal: products with other
    numbers of rows round differently, and neighbouring values of bf16 lie up to 2^-7 of their size apart."""
    model = load(folder)
    x = tokens(16)
    options = {"cache_implementation": "static"} if way == "static" else {}
    if way == "compile":
        if not compiles_steps():
            pytest.skip("a bitsandbytes, transformers or torch that is too old")
        assert nf4.compile(model).names == [
            "static cache, its memory kept", "compiled step", "one CUDA graph a step",
            "products of the same x in one launch",
        ]  # fmt: skip
    for _ in range(3):  # a CUDA graph is captured by the second call, or within the first
        out = model.generate(x, max_new_tokens=24, min_new_tokens=24, do_sample=False, pad_token_id=0, **options)
        assert out.shape == (BATCH, 40)
        assert_greedy(model, out)
    mode = None if way == "dynamic" else "reduce-overhead"
    config = getattr(model, "_last_compile_config", None)
    assert (config and config.mode) == (mode if compiles_steps() else None), nf4.status()["uncompiled"]


def assert_greedy(model, out):
    with torch.no_grad():
        logits = model(out).logits[:, 15:-1].float()
    chosen = logits.gather(2, out[:, 16:, None])[..., 0]
    largest = logits.amax(dim=2)
    assert (largest - chosen <= 2 * 2**-7 * largest.abs()).all()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a model of bytes that has learned a source text, and prompts from it: what is random has no opinion,
    so its tokens are near ties."""
    text = torch.frombuffer(bytearray(inspect.getsource(transformers.generation.utils), "utf-8"), dtype=torch.uint8)
    text = text.cuda().long()
    config = transformers.LlamaConfig(
        hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=256, max_position_embeddings=512, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(1)
    model = transformers.LlamaForCausalLM(config).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, TRAINING)
    at = torch.arange(256, device="cuda")
    for _ in range(TRAINING):
        x = text[torch.randint(len(text) - 256, (64, 1), device="cuda") + at]
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(x, labels=x).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    assert loss.item() < 1.5, loss.item()  # bits of a byte are 8, nats 5.5
    folder = tmp_path_factory.mktemp("trained")
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder, text[1000:9000].view(8, -1)[:, :64]


def test_tokens_of_a_trained_model(trained):
    """generate() gives the tokens that bitsandbytes alone gives, whatever the way, up to where two are as likely."""
    folder, prompts = trained
    model = load(folder)
    options = {"max_new_tokens": 48, "min_new_tokens": 48, "do_sample": False, "pad_token_id": 0}

    def generate(**more):
        return [model.generate(prompt[None], attention_mask=torch.ones_like(prompt[None]), **options, **more)[0, 64:]
                for prompt in prompts]  # fmt: skip

    with bitsandbytes_alone():
        expected = generate()
    assert len({tuple(tokens.tolist()) for tokens in expected}) == len(prompts)  # it has learned more than one text
    ways = {"default": lambda: generate(), "static": lambda: generate(cache_implementation="static")}
    if compiles_steps():

        def compiled():
            with nf4.compile(model):
                return generate()

        ways["compile"] = compiled
    for run in ways.values():
        for prompt, ours, theirs in zip(prompts, run(), expected):
            differing = (ours != theirs).nonzero()
            if len(differing):
                first = differing[0, 0]
                with torch.no_grad():
                    logits = model(torch.cat([prompt, theirs[:first]])[None]).logits[0, -1].float()
                chosen = logits[[ours[first], theirs[first]]]
                assert (chosen[0] - chosen[1]).abs() <= 2 * 2**-7 * chosen.abs().max()


@pytest.fixture
def experts_folder(tmp_path):
    """Each token has all experts: of some alone rounding would choose now and then, and others than the model compared."""
    config = transformers.Qwen3MoeConfig(
        hidden_size=512, intermediate_size=1024, moe_intermediate_size=256, num_experts=8, num_experts_per_tok=8,
        num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=4, head_dim=64, vocab_size=2048,
        initializer_range=0.05, norm_topk_prob=True,
    )  # fmt: skip
    torch.manual_seed(1)
    transformers.Qwen3MoeForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "dense")
    nf4.enable(experts=True)
    yield tmp_path
    nf4.enable(experts=False)


@pytest.mark.parametrize("nested", [False, True])
def test_experts(experts_folder, nested):
    """Packed experts: as near to transformers' own products of the same weights as bf16 allows, saved and loaded again the
    same bits, and in one compiled graph. One row of x and many."""
    if not hasattr(transformers, "Qwen3MoeConfig") or nf4.status()["experts"] == {}:
        pytest.skip("a transformers without experts")
    model = load(experts_folder / "dense", nested)
    assert len(nf4.status()["experts"]["packed"]) == 3, nf4.status()["experts"]
    for x in (tokens(1), tokens(), torch.cat([tokens()] * 8)):
        with torch.no_grad():
            ours = model(x).logits
            with bitsandbytes_alone():
                theirs = model(x).logits
        assert distance(ours, theirs) < 0.05
    model.save_pretrained(experts_folder / "packed")
    again = transformers.AutoModelForCausalLM.from_pretrained(
        experts_folder / "packed", device_map={"": 0}, dtype=torch.bfloat16
    )
    x = tokens(1)
    with torch.no_grad():
        expected = model(x).logits
        assert torch.equal(again(x).logits, expected)
        step = torch.compile(again.forward, fullgraph=True)
        assert distance(step(input_ids=x, use_cache=False).logits, expected) < 0.05
    out = again.generate(tokens(16), max_new_tokens=8, min_new_tokens=8, do_sample=False, pad_token_id=0)
    assert out.shape == (BATCH, 24)


def test_compile_calls(folder):
    """After nf4.compile(): other batches and lengths, caches that are returned, hidden states, another thread."""
    if not compiles_steps():
        pytest.skip("a bitsandbytes, transformers or torch that is too old")
    model = load(folder)
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    with nf4.compile(model):
        for length in (16, 9, 24, 16):
            for batch in (1, BATCH):
                out = model.generate(tokens(length)[:batch], **options)
                assert out.shape == (batch, length + 8)
        returned = [model.generate(tokens(16), return_dict_in_generate=True, output_hidden_states=way, **options)
                    for way in (False, True, False)]  # fmt: skip
        assert torch.equal(returned[0].sequences, out) and torch.equal(returned[2].sequences, out)
        assert all(step[-1].isfinite().all() for step in returned[1].hidden_states)
        in_thread = []  # where an older torch has no CUDA graphs
        thread = threading.Thread(target=lambda: in_thread.append(model.generate(tokens(16), **options)))
        thread.start()
        thread.join()
        assert in_thread
        for each in (returned[1].sequences, *in_thread):
            assert_greedy(model, each)
    assert torch.equal(model.generate(tokens(16), **options)[:, :17], out[:, :17])


def losses(folder, peft):
    torch.manual_seed(3)
    model = load(folder, nested=True)
    model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    model = peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    x = tokens()
    curve = []
    for _ in range(STEPS):
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(input_ids=x, labels=x).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        curve.append(loss.item())
    return curve


def test_qlora(folder):
    peft = pytest.importorskip("peft")
    ours = losses(folder, peft)
    with bitsandbytes_alone():
        theirs = losses(folder, peft)
    print("\nlosses", [f"{a:.3f}/{b:.3f}" for a, b in zip(ours, theirs)])
    assert theirs[-1] < 0.8 * theirs[0]
    assert ours == pytest.approx(theirs, rel=0.01)


@pytest.mark.parametrize("nested", [False, True])
def test_packed_checkpoint(folder, tmp_path, nested):
    """What python -m nf4 quantize writes on the GPU loads as it is, and is what bitsandbytes makes while it loads."""
    from nf4 import checkpoint

    source, target = folder / "model.safetensors", tmp_path / "model.safetensors"
    checkpoint.quantize(str(source), str(target), nested=nested, device=0)
    host = tmp_path / "host.safetensors"
    checkpoint.quantize(str(source), str(host), nested=nested)
    assert target.read_bytes() == host.read_bytes()
    host.unlink()
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = checkpoint.quantization_config(nested=nested)
    (tmp_path / "config.json").write_text(json.dumps(config))
    packed = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, device_map={"": 0}, dtype=torch.bfloat16)
    x = tokens(8)
    with torch.no_grad():
        theirs = load(folder, nested)(x).logits
        if nested:  # the offset's last bits
            assert distance(packed(x).logits, theirs) < 0.02
        else:
            assert torch.equal(packed(x).logits, theirs)
