"""Models that are spread over two GPUs, on libnf4 and on bitsandbytes alone."""

import concurrent.futures
import multiprocessing

import distributed
import pytest
import torch

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")


@pytest.fixture(scope="module")
def outcomes():
    return distributed.run()


@pytest.mark.parametrize("name", distributed.SCENARIOS)
def test_training(outcomes, name):
    """Two processes, by NCCL."""
    if name not in outcomes:
        pytest.skip("no peft or no transformers")
    theirs, ours = outcomes[name]
    print(f"\nbitsandbytes {distributed.text(theirs)}\nlibnf4       {distributed.text(ours)}")
    assert isinstance(theirs, list) and distributed.equal(theirs, ours)


def data_parallel(with_libnf4):
    import bitsandbytes  # noqa: F401
    import nf4

    nf4.enable() if with_libnf4 else nf4.disable()
    torch.manual_seed(1)
    return distributed.train(torch.nn.DataParallel(distributed.blocks()), is_language_model=False)


def test_data_parallel():
    """In processes of their own, since bitsandbytes hands a replica the scales of another GPU."""

    def outcome(with_libnf4):
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            try:
                return pool.submit(data_parallel, with_libnf4).result()
            except Exception as error:
                return f"{type(error).__name__}: {error}"

    theirs, ours = outcome(False), outcome(True)
    print(f"\nbitsandbytes {distributed.text(theirs)}\nlibnf4       {distributed.text(ours)}")
    assert distributed.equal(theirs, ours)


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
