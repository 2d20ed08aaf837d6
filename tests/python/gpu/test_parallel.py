"""Models that are spread over GPUs, on libnf4 and on bitsandbytes alone."""

import concurrent.futures
import multiprocessing

import distributed
import parallel
import pytest
import torch

two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")


@pytest.fixture(scope="module")
def outcomes():
    return distributed.run()


@two_gpus
@pytest.mark.parametrize("name", distributed.SCENARIOS)
def test_training(outcomes, name):
    """Two processes, by NCCL."""
    if name not in outcomes:
        pytest.skip("no peft or no transformers")
    theirs, ours = outcomes[name]
    print(f"\nbitsandbytes {distributed.text(theirs)}\nlibnf4       {distributed.text(ours)}")
    assert isinstance(theirs, list) and distributed.equal(theirs, ours)


def data_parallel(devices, with_libnf4):
    import bitsandbytes  # noqa: F401
    import nf4

    nf4.enable() if with_libnf4 else nf4.disable()
    torch.manual_seed(1)
    model = torch.nn.DataParallel(distributed.blocks(), devices)
    return distributed.train(model, is_language_model=False)


@pytest.mark.parametrize("devices", [[0, 0], pytest.param([0, 1], marks=two_gpus)])
def test_data_parallel(devices):
    """What bitsandbytes can do, libnf4 can. In processes of their own, since bitsandbytes hands a replica the scales of
    the first GPU, and a kernel that cannot read them takes the context with it."""

    def outcome(with_libnf4):
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(data_parallel, devices, with_libnf4).result()

    try:
        theirs = outcome(False)
    except Exception as error:
        if devices[0] == devices[1]:
            raise
        pytest.skip(f"bitsandbytes cannot: {type(error).__name__}: {error}")
    ours = outcome(True)
    print(f"\nbitsandbytes {distributed.text(theirs)}\nlibnf4       {distributed.text(ours)}")
    assert distributed.equal(theirs, ours)


@two_gpus
@pytest.mark.parametrize("nested", [False, True])
def test_device_map(tmp_path, nested):
    """Layers of one model on two GPUs, as on one; accelerate's hooks carry the activations over."""
    transformers = pytest.importorskip("transformers")
    from test_models import dense, load, tokens

    dense().save_pretrained(tmp_path)
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=nested,
    )  # fmt: skip
    places = {"model.embed_tokens": 0, "model.rotary_emb": 0, "model.norm": 1, "lm_head": 1}
    places.update((f"model.layers.{layer}", layer % 2) for layer in range(4))
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=config, device_map=places, dtype=torch.bfloat16
    )
    x = tokens(8)
    with torch.no_grad():
        ours = model(x).logits
        assert model.model.layers[1].mlp.up_proj.__dict__["_nf4_plan"].device == 1
        assert torch.equal(ours.cpu(), load(tmp_path, nested)(x).logits.cpu())
    out = model.generate(x, max_new_tokens=8, min_new_tokens=8, do_sample=False, pad_token_id=0)
    assert out.shape[-1] == 16


@pytest.fixture(scope="module")
def sharded():
    """What test_parallel.py has on the CPU, on two GPUs by NCCL."""
    pytest.importorskip("transformers")
    return parallel.run({**parallel.CASES, "wrong device": (parallel.wrong_device,)})


@two_gpus
@pytest.mark.parametrize("name", parallel.ARCHITECTURES)
def test_tensor_parallel(sharded, name):
    found = sharded[name]
    assert max(found[way] for way in ("sharded", "loaded", "compiled")) < parallel.TOLERANCE, found
    assert found["tokens"] and found["tokens, static cache"] and found["bytes"] == 0.5


@two_gpus
def test_tensor_parallel_compiled(sharded):
    """A CUDA graph of a step, with the sums in it."""
    found = sharded["nf4.compile"]
    assert found["same"] == [True] * 3 and "one CUDA graph a step" in found["names"], found


@two_gpus
def test_tensor_parallel_otherwise(sharded):
    for name in parallel.EXPERTS:  # None where transformers does not mark the class
        found = sharded[name] or {"refused": True}
        assert "refused" in found or found["sharded"] < parallel.TOLERANCE, found
    assert sharded["packed checkpoint"]["loaded"] < parallel.TOLERANCE and sharded["packed checkpoint"]["most"] < 0.65
    assert "k_proj has 1 heads" in sharded["kv heads"]["error"] and sharded["kv heads"]["after"] == 0
    for what in ("shapes", "blocksize"):
        assert all("process 1 of 2 has another model than process 0" in error for error in sharded[what]), sharded[what]


@two_gpus
def test_wrong_device(sharded):
    """Both processes say what is wrong, and none waits."""
    own, other = sharded["wrong device"]
    assert "the model is on cuda:0, and the current device is cuda:1; call torch.cuda.set_device(0)" in own
    assert other.startswith("RuntimeError: process 0 of 2 cannot go on: ValueError: the model is on cuda:0")
