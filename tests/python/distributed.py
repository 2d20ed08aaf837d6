"""Training of bitsandbytes' layers in two processes, on its own kernels and on libnf4, held against each other.

    python3 distributed.py [SCENARIO ...]

On two GPUs by NCCL where there are two; else on the CPU by gloo, where the plug-in is told that the host is a device of
its own. Prints the losses, and fails where the two differ by more than rounding, or one raises what the other does not.
Needs torch with torch.distributed and bitsandbytes 0.49 or newer, the scenario of peft also peft and transformers."""

import contextlib
import datetime
import functools
import importlib.util
import json
import pathlib
import sys
import tempfile
import warnings
from unittest import mock

import processes
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import lambda_auto_wrap_policy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

PROCESSES = 2
STEPS = 5
WIDTH, HIDDEN, RANK, BATCH = 64, 192, 8, 8
ON_GPUS = torch.cuda.is_available() and torch.cuda.device_count() >= PROCESSES
DTYPE = torch.bfloat16 if ON_GPUS else torch.float32
TOLERANCE = 0.02 if ON_GPUS else 1e-4  # of a loss, relative


def here():
    """The device of this process; one that is alone takes a GPU if there is any."""
    on_gpu = ON_GPUS or (torch.cuda.is_available() and not dist.is_initialized())
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


# ---- models


def packed(linear):
    """A Linear4bit of the weights of `linear`, stored so that FSDP can put them with others."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    bias = linear.bias is not None
    layer = Linear4bit(linear.in_features, linear.out_features, bias, DTYPE, quant_type="nf4", quant_storage=DTYPE)
    layer.weight = Params4bit(linear.weight.data, False, quant_type="nf4", quant_storage=DTYPE, module=layer)
    layer.bias = linear.bias
    return layer.requires_grad_(False)


class Adapted(nn.Module):
    """A frozen layer in NF4 and a low-rank adapter, which is trained."""

    def __init__(self, cols, rows):
        super().__init__()
        self.base = packed(nn.Linear(cols, rows))
        self.down, self.up = nn.Linear(cols, RANK, bias=False), nn.Linear(RANK, rows, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


class Block(nn.Module):
    def __init__(self, checkpointing=None):
        super().__init__()
        self.wide, self.narrow = Adapted(WIDTH, HIDDEN), Adapted(HIDDEN, WIDTH)
        self.checkpointing = checkpointing  # None, or whether it is the reentrant kind

    def work(self, x):
        return x + self.narrow(torch.tanh(self.wide(x)))

    def forward(self, x):
        if self.checkpointing is None:
            return self.work(x)
        return checkpoint(self.work, x, use_reentrant=self.checkpointing)


def blocks(checkpointing=None):
    return nn.Sequential(*(Block(checkpointing) for _ in range(2))).to(DTYPE).to(here())


def peft_model(checkpointing):
    """A small model of transformers in NF4, with peft's adapters."""
    import peft
    import transformers

    config = transformers.LlamaConfig(hidden_size=WIDTH, intermediate_size=HIDDEN, num_hidden_layers=2, vocab_size=128,
                                      num_attention_heads=4, num_key_value_heads=2)  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    for layer in model.model.layers:
        for part in (layer.self_attn, layer.mlp):
            for name, module in list(part.named_children()):
                if isinstance(module, nn.Linear):
                    setattr(part, name, packed(module))
    model.is_loaded_in_4bit = True
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    adapters = peft.LoraConfig(r=RANK, target_modules="all-linear")
    return peft.get_peft_model(model.to(DTYPE).to(here()), adapters).to(DTYPE)


# ---- ways to spread them


def fsdp1(model, use_orig_params):
    """As accelerate and peft do it: trained layers and blocks by themselves."""

    def wraps(module):
        trained = isinstance(module, nn.Linear) and module.weight.requires_grad
        return trained or type(module).__name__ in ("Block", "LlamaDecoderLayer")

    policy = functools.partial(lambda_auto_wrap_policy, lambda_fn=wraps)
    return FullyShardedDataParallel(model, auto_wrap_policy=policy, use_orig_params=use_orig_params, device_id=here())


def fsdp2(model):
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:  # torch before 2.6
        from torch.distributed._composable.fsdp import fully_shard
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(here().type, (PROCESSES,))
    for block in model:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def ddp(model):
    return DistributedDataParallel(model)


SCENARIOS = {
    "fsdp1": lambda: fsdp1(blocks(), use_orig_params=False),
    "fsdp1, original parameters": lambda: fsdp1(blocks(), use_orig_params=True),
    "fsdp1, checkpointing": lambda: fsdp1(blocks(checkpointing=False), use_orig_params=False),
    "fsdp1, reentrant checkpointing": lambda: fsdp1(blocks(checkpointing=True), use_orig_params=False),
    "fsdp2": lambda: fsdp2(blocks()),
    "fsdp2, checkpointing": lambda: fsdp2(blocks(checkpointing=False)),
    "ddp": lambda: ddp(blocks()),
    "ddp, reentrant checkpointing": lambda: ddp(blocks(checkpointing=True)),
    "peft, fsdp1": lambda: fsdp1(peft_model(checkpointing=False), use_orig_params=False),
    "peft, fsdp1, checkpointing": lambda: fsdp1(peft_model(checkpointing=True), use_orig_params=False),
    "peft, ddp": lambda: ddp(peft_model(checkpointing=False)),
}


# ---- training


def losses(name):
    torch.manual_seed(1)
    return train(SCENARIOS[name](), is_language_model=name.startswith("peft"))


def train(model, is_language_model):
    """The loss of each step, and at the end that of the trained model without gradients; means over the processes."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    processes, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
    torch.manual_seed(2 + rank)
    if is_language_model:
        tokens = torch.randint(128, (BATCH, 16), device=here())

        def loss():
            return model(input_ids=tokens, labels=tokens).loss

    else:
        x, wanted = torch.randn(2, BATCH, WIDTH, dtype=DTYPE, device=here(), requires_grad=True)

        def loss():
            return (model(x) - wanted.detach()).float().square().mean()

    curve = []
    for step in range(STEPS + 1):
        with torch.set_grad_enabled(step < STEPS):
            value = loss()
        if step < STEPS:
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
        value = value.detach().float()
        if processes > 1:
            dist.all_reduce(value)
        curve.append(value.item() / processes)
    return curve


@contextlib.contextmanager
def libnf4():
    import nf4
    from nf4 import plugin

    with contextlib.ExitStack() as found:
        if not ON_GPUS:
            for name in ("torch.cuda.is_available", "nf4._library.is_built_with_cuda"):
                found.enter_context(mock.patch(name, lambda: True))
        status = nf4.enable()
    assert status["enabled"], status
    if not ON_GPUS:
        plugin._replacements.devices[-1] = True
    try:
        yield
    finally:
        nf4.disable()


def outcome(name):
    try:
        return losses(name)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def work(rank, names, folder):
    """What each of the processes does: all scenarios, twice each."""
    import bitsandbytes  # noqa: F401  which may enable the plug-in
    import nf4

    nf4.disable()
    if ON_GPUS:
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of others, in each process
    dist.init_process_group("nccl" if ON_GPUS else "gloo", f"file://{folder}/rendezvous", rank=rank,
                            world_size=PROCESSES, timeout=datetime.timedelta(seconds=120))  # fmt: skip
    outcomes = {}
    for name in names:
        theirs = outcome(name)
        with libnf4():
            outcomes[name] = theirs, outcome(name)
    dist.destroy_process_group()
    pathlib.Path(folder, f"{rank}.json").write_text(json.dumps(outcomes))


def possible(name):
    """Whether what the scenario needs is there."""
    if name.startswith("peft"):
        return all(map(importlib.util.find_spec, ("peft", "transformers")))
    if name.startswith("fsdp2"):  # before torch 2.6 it is private, and for CUDA alone
        return ON_GPUS or hasattr(torch.distributed.fsdp, "fully_shard")
    return True


def run(names=None):
    """The outcomes by scenario: bitsandbytes' own and libnf4's, of process 0; each a list of losses, or an error."""
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name in names or SCENARIOS if possible(name)]
        processes.start(work, (names, folder), PROCESSES, ON_GPUS)
        return json.loads(pathlib.Path(folder, "0.json").read_text())


def equal(theirs, ours):
    """Within rounding; or both the same error."""
    if isinstance(theirs, str) or isinstance(ours, str):
        return theirs == ours
    return all(abs(a - b) <= TOLERANCE * abs(a) for a, b in zip(theirs, ours))


def text(result):
    return result if isinstance(result, str) else " ".join(f"{loss:.5f}" for loss in result)


def main(names):
    outcomes = run(names)
    where = "2 GPUs, NCCL" if ON_GPUS else "CPU, gloo"
    print(f"\n{where}, {DTYPE}: the losses of {STEPS} steps, and then one without gradients")
    for name, (theirs, ours) in outcomes.items():
        print(f"{name:32} bitsandbytes {text(theirs)}\n{'':32} libnf4       {text(ours)}")
        if not equal(theirs, ours):
            print(f"{'':32} DIFFERENT")
    return 0 if all(equal(*pair) for pair in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
