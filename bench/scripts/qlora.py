#!/usr/bin/env python3
"""QLoRA on one GPU: time and peak memory of training steps with libnf4 and with bitsandbytes alone, in one process.

    python3 bench/scripts/qlora.py --model llama8b --layers 6 --tokens 2x1024,4x2048 --csv bench/results/qlora.csv
    python3 bench/scripts/qlora.py --model llama8b --tokens 2x1024 --loss lm --csv bench/results/qlora-8b.csv

The models are those of e2e.py: full size, random weights, made on the GPU. peft puts adapters on all linear layers, and
gradient checkpointing is on. Contenders take turns, --rounds times; a speed-up is the median of the ratios within a
round. above_gb is a step's peak of allocated memory above what is held between steps: activations, logits, gradients,
and whatever else a way to compute takes. Losses: lm is the model's own, whose logits often are what a step's peak holds;
hidden is how far the last hidden state is from a random one, which leaves the layers.

Mode layer is the backward pass of a single layer of each shape, for as many tokens: the gradient of its input.

Before anything is timed, losses and gradients of both must agree. Needs torch with CUDA, transformers, bitsandbytes,
peft, and the package nf4.
"""

import argparse
import copy
import statistics

import bitsandbytes as bnb
import e2e
import peft
import records
import torch
import transformers

import nf4

NAMES = ("bitsandbytes", "nf4")


def trainable(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def adapted(model, arguments):
    """The model with adapters whose products are not zero, in training mode."""
    lora = peft.LoraConfig(r=arguments.rank, target_modules="all-linear", exclude_modules=["lm_head"],
                           init_lora_weights=False, task_type="CAUSAL_LM")  # fmt: skip
    model = peft.get_peft_model(model, lora).train()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


class Step:
    """A step of training on the same tokens."""

    def __init__(self, model, batch, length, loss):
        self.model, self.loss = model, loss
        self.tokens = torch.randint(0, model.config.vocab_size, (batch, length), device=model.device)
        if loss == "hidden":
            self.wanted = torch.randn(batch, length, model.config.hidden_size, dtype=model.dtype, device=model.device)
        self.optimizer = torch.optim.SGD(trainable(model), lr=0.0)  # so that all steps are alike

    def forward_and_backward(self):
        if self.loss == "lm":
            loss = self.model(input_ids=self.tokens, labels=self.tokens, use_cache=False).loss
        else:
            layers = self.model.get_base_model().model
            hidden = layers(input_ids=self.tokens, use_cache=False).last_hidden_state
            loss = torch.nn.functional.mse_loss(hidden, self.wanted)
        loss.backward()
        return loss.item()

    def __call__(self):
        self.forward_and_backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def gradients(self):
        """The loss, and the gradients of all adapters in one vector."""
        loss = self.forward_and_backward()
        gradients = torch.cat([parameter.grad.double().flatten() for parameter in trainable(self.model)])
        self.optimizer.zero_grad()
        return loss, gradients


def check_step(step):
    """Both train alike."""
    found = {}
    for name in NAMES:
        with e2e.contender(name):
            found[name] = step.gradients()
    (loss, gradients), (own_loss, own_gradients) = (found[name] for name in NAMES)
    error = e2e.relative(own_gradients, gradients)
    print(f"  losses {own_loss:.5f} and {loss:.5f}, gradients {error:.2e} apart")
    if not (abs(own_loss - loss) < 0.01 * abs(loss) and error < 0.2):  # bf16 adds up over layers
        raise SystemExit("libnf4 does not train as bitsandbytes does")


class Backward:
    """The backward pass of a layer, and what it gives: the gradient of its input."""

    def __init__(self, layer, tokens):
        shape = tokens, layer.in_features
        self.x = torch.randn(shape, dtype=torch.bfloat16, device=layer.weight.device, requires_grad=True)
        self.y = layer(self.x)
        self.grad = torch.randn_like(self.y)

    def __call__(self):
        return torch.autograd.grad(self.y, self.x, self.grad, retain_graph=True)[0]


def check_backward(backward, layer):
    """Both gradients against the product in float64, on some columns."""
    state = copy.copy(layer.quant_state)
    state.dtype = torch.float32  # weights rounded to bf16 would favour who multiplies those
    w = bnb.functional.dequantize_4bit(layer.weight.data, state)
    columns = torch.arange(0, w.shape[1], max(1, w.shape[1] // 256), device=w.device)
    exact = backward.grad.double() @ w[:, columns].double()
    errors = {}
    for name in NAMES:
        with e2e.contender(name):
            errors[name] = e2e.relative(backward()[:, columns], exact)
    print(f"  {tuple(w.shape)}: error {errors['nf4']:.2e}, bitsandbytes {errors['bitsandbytes']:.2e}")
    if errors["nf4"] > 4e-3:  # bf16 alone rounds by 1.7e-3
        raise SystemExit("gradients of libnf4 are less exact than they should be")


def peak_above(device, function):
    """Bytes of memory that `function` takes at a time, above what is allocated before it."""
    e2e.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    function()
    e2e.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def measure(what, function, device, arguments, facts, rows):
    """Rows of both contenders for a function that takes a step."""
    above = {}
    for name in NAMES:
        with e2e.contender(name):
            function()
            above[name] = peak_above(device, function)
    times = {name: [] for name in NAMES}
    for turn in range(arguments.rounds):
        for name in reversed(NAMES) if turn % 2 else NAMES:
            with e2e.contender(name):
                times[name].append(e2e.milliseconds(device, function, arguments.steps))
    for name in NAMES:
        ratios = [base / own for base, own in zip(times["bitsandbytes"], times[name])]
        ms = statistics.median(times[name])
        rows.append({
            **what, "contender": name, "ms": f"{ms:.3f}", "speedup": f"{statistics.median(ratios):.3f}",
            "speedup_range": f"{min(ratios):.3f}-{max(ratios):.3f}", "above_gb": f"{above[name] / 1e9:.3f}",
            "held_gb": f"{e2e.memory(device):.3f}", "spread": f"{max(times[name]) / min(times[name]):.3f}",
        })  # fmt: skip
        print(f"  {' '.join(map(str, what.values())):60} {name:13} {ms:10.2f} ms {statistics.median(ratios):6.3f}x "
              f"{above[name] / 1e9:8.3f} GB above", flush=True)  # fmt: skip
    records.write(arguments.csv, facts, rows)


def measure_layers(title, model, arguments, facts, rows):
    seen = {}
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            seen.setdefault(tuple(module.quant_state.shape), module)
    for shape, layer in seen.items():
        for batch, length in arguments.tokens:
            backward = Backward(layer, batch * length)
            check_backward(backward, layer)
            what = {"model": title, "mode": "layer", "loss": "", "layers": 1, "batch": batch, "length": length,
                    "shape": "x".join(map(str, shape))}  # fmt: skip
            measure(what, backward, model.device, arguments, facts, rows)
            del backward
            e2e.release()


def measure_steps(title, model, arguments, facts, rows):
    model = adapted(model, arguments)
    for loss in arguments.loss:
        for batch, length in arguments.tokens:
            step = Step(model, batch, length, loss)
            check_step(step)
            what = {"model": title, "mode": "step", "loss": loss, "layers": model.config.num_hidden_layers,
                    "batch": batch, "length": length, "shape": ""}  # fmt: skip
            measure(what, step, model.device, arguments, facts, rows)
            del step
            e2e.release()


MODES = {"layer": measure_layers, "step": measure_steps}


def parse():
    def words(known):
        def read(text):
            for word in text.split(","):
                if word not in known:
                    raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(known)}")
            return text.split(",")

        return read

    def tokens(text):
        return [tuple(map(int, each.split("x"))) for each in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=words(e2e.CONFIGS), default=["llama8b"], help="of " + ", ".join(e2e.CONFIGS))
    parser.add_argument("--mode", type=words(MODES), default=list(MODES), help="of " + ", ".join(MODES))
    parser.add_argument("--loss", type=words(("hidden", "lm")), default=["hidden", "lm"], help="of hidden, lm")
    parser.add_argument("--layers", type=int, help="build so many layers only")
    parser.add_argument("--tokens", type=tokens, default=[(2, 1024), (4, 2048)], help="batch x length (2x1024,4x2048)")
    parser.add_argument("--rank", type=int, default=16, help="of the adapters")
    parser.add_argument("--steps", type=int, default=2, help="steps in a sample")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--csv", metavar="FILE")
    return parser.parse_args()


def main():
    arguments = parse()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device")
    device = torch.device("cuda", 0)
    status = e2e.enable()
    if not status["enabled"]:
        raise SystemExit(f"nf4 is not in use: {status['reason']}")
    if "MatMul4Bit.backward" not in status["replaced"]:
        raise SystemExit(f"bitsandbytes is {status['bitsandbytes']}; expected 0.50 or newer")
    facts = {
        "device": torch.cuda.get_device_name(device), "cpu": e2e.cpu(), "torch": torch.__version__,
        "transformers": transformers.__version__, "bitsandbytes": status["bitsandbytes"], "peft": peft.__version__,
        "libnf4": ".".join(map(str, nf4.version())), "rank": arguments.rank, "steps": arguments.steps,
        "rounds": arguments.rounds,
    }  # fmt: skip
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    rows = []
    for key in arguments.model:
        title, make = e2e.CONFIGS[key]
        model = e2e.build(e2e.shortened(make(), arguments.layers), device, packed=True)
        e2e.release()
        print(f"{title}: {model.config.num_hidden_layers} layers, {e2e.memory(device):.1f} GB")
        for mode in arguments.mode:
            MODES[mode](title, model, arguments, facts, rows)
        del model
        e2e.release()


if __name__ == "__main__":
    main()
