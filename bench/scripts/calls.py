#!/usr/bin/env python3
"""What a call of a Linear4bit costs the CPU, from layer(x) to its return: bitsandbytes alone, libnf4 with its calls in
Python and in C, in turns, in one process.

    python3 bench/scripts/calls.py --csv calls.csv

It is CPU time of the calling thread. The layer is so small that little but the call is left; on CUDA nobody waits for
the product. Each result is the median of --rounds, with the least and the largest. Needs torch, bitsandbytes and the
package nf4; on the CPU libnf4's host backend answers, and bitsandbytes' own kernel for it.
"""

import argparse
import contextlib
import os
import statistics
import time

import bitsandbytes as bnb
import records
import torch

import nf4
from nf4._bitsandbytes import Replacements

SIZE = 64


@contextlib.contextmanager
def contender(name, device):
    """bitsandbytes, or "Python" or "C": the parts of the plug-in, which itself puts them in place for CUDA alone."""
    nf4.disable()
    if name == "bitsandbytes":
        yield
        return
    os.environ["NF4_DISABLE_EXTENSION"] = str(int(name == "Python"))
    replacements = Replacements()
    try:
        if name == "C" and replacements.short_call != "C":
            raise SystemExit(f"calls are not made in C: {replacements.short_call}")
        if device.type == "cpu":
            replacements.devices[nf4.HOST] = True
        yield
    finally:
        replacements.undo()


def make_layer(device, dtype, nested, bias):
    """In training mode, in which bitsandbytes keeps the weights in its own format on the CPU too."""
    layer = bnb.nn.Linear4bit(SIZE, SIZE, bias, dtype, nested, "nf4").to(device).to(dtype).requires_grad_(False)
    return layer.train()


def microseconds(layer, x, calls):
    """CPU time of this thread, from the first call to the return of the last one."""
    synchronize = torch.cuda.synchronize if x.is_cuda else lambda: None
    synchronize()
    start = time.thread_time()
    for _ in range(calls):
        layer(x)
    taken = time.thread_time() - start
    synchronize()
    return 1e6 * taken / calls


def cpu_name():
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        return next((line.partition(": ")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return "unknown"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=1, help="rows of x")
    parser.add_argument("--calls", type=int, default=500, help="calls in a sample: fewer than CUDA lets be in flight")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--csv", metavar="FILE")
    return parser.parse_args()


@torch.no_grad()
def main():
    arguments = parse()
    device, dtype = arguments.device, torch.bfloat16
    names = ("bitsandbytes", "Python", "C")
    facts = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu", "cpu": cpu_name(),
        "torch": torch.__version__, "bitsandbytes": bnb.__version__, "libnf4": ".".join(map(str, nf4.version())),
    }  # fmt: skip
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    rows = []
    x = torch.randn(arguments.batch, 1, SIZE, dtype=dtype, device=device)
    for nested, bias in ((False, False), (True, False), (False, True)):
        layer = make_layer(device, dtype, nested, bias)
        times = {name: [] for name in names}
        for turn in range(arguments.rounds):
            for name in reversed(names) if turn % 2 else names:
                with contender(name, device):
                    microseconds(layer, x, 50)
                    times[name].append(microseconds(layer, x, arguments.calls))
        for name, values in times.items():
            rows.append({
                "contender": name, "nested": nested, "bias": bias, "batch": arguments.batch,
                "us": f"{statistics.median(values):.2f}", "least": f"{min(values):.2f}",
                "largest": f"{max(values):.2f}",
            })  # fmt: skip
            print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    records.write(arguments.csv, facts, rows)


if __name__ == "__main__":
    main()
