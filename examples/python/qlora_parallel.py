"""QLoRA with peft in several processes, one for each GPU, each with other data. Nothing in it knows of the package nf4;
with that installed, forward and backward run on libnf4.

    torchrun --nproc-per-node 2 qlora_parallel.py ddp|fsdp1|fsdp2 MODEL TEXT.txt
"""

import functools
import os
import pathlib
import sys

import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import lambda_auto_wrap_policy
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

STEPS, BATCH, LENGTH = 50, 4, 256
DTYPE = torch.bfloat16


def load(name, device):
    """A frozen model in NF4 with adapters. All is stored as one dtype, so that FSDP can put it together."""
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=DTYPE,
        bnb_4bit_quant_storage=DTYPE,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(name, quantization_config=config, device_map={"": device}, dtype=DTYPE)
    model.requires_grad_(False)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    adapters = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, adapters, autocast_adapter_dtype=False)


def fsdp1(model, layers, device):
    """Decoder layers by themselves, and in them the adapters, which are trained."""

    def wraps(module):
        return module in layers or (isinstance(module, torch.nn.Linear) and module.weight.requires_grad)

    policy = functools.partial(lambda_auto_wrap_policy, lambda_fn=wraps)
    return FullyShardedDataParallel(model, auto_wrap_policy=policy, device_id=device)


def fsdp2(model, layers, device):
    for layer in layers:
        fully_shard(layer)
    return fully_shard(model)


WAYS = {"ddp": lambda model, layers, device: DistributedDataParallel(model), "fsdp1": fsdp1, "fsdp2": fsdp2}


def main(way, name, text):
    rank = int(os.environ["LOCAL_RANK"])
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
    model = load(name, device)
    layers = list(model.get_base_model().get_decoder().layers)
    model = WAYS[way](model, layers, device)

    tokens = AutoTokenizer.from_pretrained(name)(pathlib.Path(text).read_text(), return_tensors="pt")["input_ids"][0]
    if len(tokens) <= LENGTH:
        sys.exit(f"{text} has {len(tokens)} tokens; expected more than {LENGTH}")
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=2e-4)
    torch.manual_seed(rank)  # other data in each process
    for step in range(STEPS):
        starts = torch.randint(len(tokens) - LENGTH, (BATCH,)).tolist()
        batch = torch.stack([tokens[start : start + LENGTH] for start in starts]).to(device)
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 0 and rank == 0:
            print(f"step {step}: loss {loss.item():.3f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in WAYS:
        sys.exit(__doc__)
    main(*sys.argv[1:])
