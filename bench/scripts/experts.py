#!/usr/bin/env python3
"""Both products of a layer of routed experts: libnf4 on NF4 weights, dense bf16, and what others do with NF4 weights.

    python3 bench/scripts/experts.py --tokens 1,8,32,256,2048 --csv experts.csv

Contenders, in turns in one process: libnf4 (torch.ops.nf4.gemm_experts, straight from the ids); torch's grouped_mm in
bf16 on rows that are sorted already; in bf16 too, the experts of each slot gathered and torch.bmm, where that fits;
and grouped_mm of the stack as bitsandbytes, or libnf4, unpacks it. No sort, gate or sum over experts is in any but
libnf4's, which sorts where there are many tokens.

Routing is uniform. Weights are cold: a CUDA graph goes through enough layers, each routed by itself, that no cache holds
one until it comes again. A result is the median of --rounds, in which contenders take turns, in microseconds a layer.
Before that the products are held against float64. Needs torch with CUDA, bitsandbytes, and the package nf4.
"""

import argparse
import statistics

import bitsandbytes.functional as F
import records
import torch

import nf4
import nf4.operators  # noqa: F401  which defines torch.ops.nf4

LAYERS = {  # hidden size, intermediate size, experts, experts of a token, whether there is a bias
    "qwen3moe": ("Qwen3-30B-A3B", 2048, 768, 128, 8, False),
    "gptoss": ("gpt-oss-20b", 2880, 2880, 32, 4, True),
    "mixtral": ("Mixtral-8x7B", 4096, 14336, 8, 2, False),
}
COLD_BYTES = 512 << 20  # of weights that are read between two readings of one
GATHERED_BYTES = 8 << 30  # the most that weights of slots may take
BLOCKSIZE = 64


class Product:
    """E matrices [N, K], packed, with x and the ids of a call; `dense` are they in bf16, if asked for."""

    def __init__(self, experts, rows, cols, x, ids, bias, scale, with_dense):
        device = x.device
        self.shape, self.x, self.ids, self.scale = (experts, rows, cols), x, ids, scale
        count = experts * rows * cols
        self.codes = torch.randint(0, 256, (count // 2,), dtype=torch.uint8, device=device)
        self.absmax = torch.empty(count // BLOCKSIZE, device=device).uniform_(1, 2).mul_(cols**-0.5)
        self.bias = torch.randn(experts, rows, dtype=x.dtype, device=device) if bias else None
        self.dense = self.unpack() if with_dense else None

        self.top_k = ids.numel() // x.shape[0]
        order = ids.view(-1).argsort(stable=True)
        self.sorted_x = x[order // self.top_k]
        self.ends = torch.histc(ids.float(), experts, 0, experts - 1).cumsum(0).to(torch.int32)
        self.order = order

    def unpack(self):
        return torch.ops.nf4.unpack(self.codes, self.absmax, self.shape, torch.bfloat16, BLOCKSIZE)

    def unpack_by_bitsandbytes(self):
        state = F.QuantState(self.absmax, torch.Size(self.shape), nf4_code(self.codes.device), BLOCKSIZE, "nf4",
                             torch.bfloat16)  # fmt: skip
        return F.dequantize_4bit(self.codes.view(-1, 1), state)

    # ---- what is timed

    def libnf4(self):
        return torch.ops.nf4.gemm_experts(self.x, self.codes, self.absmax, self.shape, BLOCKSIZE, self.ids, self.bias,
                                          self.scale)  # fmt: skip

    def grouped_mm(self, w=None):
        w = self.dense if w is None else w
        return torch.nn.functional.grouped_mm(self.sorted_x, w.transpose(1, 2), offs=self.ends)

    def bmm(self):
        x = self.x.repeat_interleave(self.top_k, 0)
        return torch.bmm(self.dense[self.ids.view(-1)], x.unsqueeze(-1))

    def bitsandbytes(self):
        return self.grouped_mm(self.unpack_by_bitsandbytes())

    def unpacked(self):
        return self.grouped_mm(self.unpack())

    def check(self):
        """Relative errors against float64, of libnf4 and of grouped_mm."""
        slots = torch.randperm(self.ids.numel(), device=self.x.device)[:64]
        expert = self.ids.view(-1)[slots]
        w = torch.ops.nf4.unpack(self.codes, self.absmax, self.shape, torch.float32, BLOCKSIZE)
        x = self.x[slots // self.top_k].double()
        exact = torch.stack([w[e].double() @ row for e, row in zip(expert.tolist(), x)])
        with_bias = exact if self.bias is None else exact + self.bias[expert].double()
        if self.scale is not None:
            with_bias = with_bias * self.scale.view(-1)[slots, None].double()
        inverse = torch.empty_like(self.order)
        inverse[self.order] = torch.arange(self.order.numel(), device=self.x.device)
        ours, theirs = self.libnf4()[slots], self.grouped_mm()[inverse[slots]]
        return relative(ours, with_bias), relative(theirs, exact)


def nf4_code(device, made={}):
    if device not in made:
        made[device] = F.get_4bit_type("nf4", device=device).float()
    return made[device]


def relative(y, exact):
    return ((y.double() - exact).norm() / exact.norm()).item()


def make_layer(hidden, inner, experts, top_k, bias, tokens, device, with_dense):
    ids = torch.rand(tokens, experts, device=device).topk(top_k).indices
    weights = torch.rand(tokens, top_k, device=device)
    x = torch.randn(tokens, hidden, dtype=torch.bfloat16, device=device)
    h = torch.randn(tokens * top_k, inner, dtype=torch.bfloat16, device=device)
    return (Product(experts, 2 * inner, hidden, x, ids, bias, None, with_dense),
            Product(experts, hidden, inner, h, ids, bias, weights, with_dense))  # fmt: skip


def graph_of(layers, way):
    def run():
        for layer in layers:
            for product in layer:
                getattr(product, way)()

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


def microseconds(graph):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    graph.replay()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e3


def measure(title, sizes, tokens, rounds, rows):
    hidden, inner, experts, top_k, bias = sizes
    device = torch.device("cuda", 0)
    hit = experts * (1 - (1 - top_k / experts) ** tokens)  # expected
    packed = hit * 3 * hidden * inner * (0.5 + 4 / BLOCKSIZE)
    dense_bytes = 2 * experts * 3 * hidden * inner
    count = max(2, min(16, round(COLD_BYTES / packed), int(60e9 / dense_bytes)))
    layers = [make_layer(hidden, inner, experts, top_k, bias, tokens, device, True) for _ in range(count)]
    errors = [product.check() for product in layers[0]]
    for ours, theirs in errors:
        if not ours < max(4e-3, 1.2 * theirs):
            raise SystemExit(f"{title}, {tokens} tokens: error {ours:.2e}; grouped_mm of unpacked weights has {theirs:.2e}")

    ways = ["libnf4", "grouped_mm", "bitsandbytes", "unpacked"]
    if 2 * tokens * top_k * 2 * inner * hidden < GATHERED_BYTES:
        ways.append("bmm")
    graphs = {way: graph_of(layers, way) for way in ways}
    times = {way: [] for way in ways}
    for turn in range(rounds):
        for way in reversed(ways) if turn % 2 else ways:
            microseconds(graphs[way])  # clocks, and all that the ways before left in caches
            times[way].append(microseconds(graphs[way]) / count)
    base = statistics.median(times["grouped_mm"])
    for way in ways:
        us = statistics.median(times[way])
        rows.append({"layer": title, "tokens": tokens, "experts_hit": f"{hit:.0f}", "contender": way, "us": f"{us:.1f}",
                     "least": f"{min(times[way]):.1f}", "most": f"{max(times[way]):.1f}",
                     "of_grouped_mm": f"{base / us:.2f}"})  # fmt: skip
    print(f"{title:14} T = {tokens:5}: " + ", ".join(f"{way} {statistics.median(times[way]):.1f}" for way in ways)
          + f"; libnf4 {base / statistics.median(times['libnf4']):.2f} x grouped_mm; errors "
          + ", ".join(f"{ours:.1e} ({theirs:.1e})" for ours, theirs in errors), flush=True)  # fmt: skip


def parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layer", type=lambda text: text.split(","), default=list(LAYERS), help="of " + ", ".join(LAYERS))
    parser.add_argument("--tokens", type=lambda text: list(map(int, text.split(","))), default=[1, 8, 32, 256, 2048])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--csv", metavar="FILE")
    arguments = parser.parse_args()
    for name in arguments.layer:
        if name not in LAYERS:
            parser.error(f"unknown layer {name!r}; expected of {', '.join(LAYERS)}")
    return arguments


@torch.no_grad()
def main():
    arguments = parse()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device")
    torch.manual_seed(1)
    facts = {"device": torch.cuda.get_device_name(0), "torch": torch.__version__,
             "libnf4": ".".join(map(str, nf4.version())), "rounds": arguments.rounds}  # fmt: skip
    print(", ".join(f"{name} {value}" for name, value in facts.items()) + "; microseconds a layer")
    rows = []
    for name in arguments.layer:
        title, *sizes = LAYERS[name]
        for tokens in arguments.tokens:
            measure(title, sizes, tokens, arguments.rounds, rows)
            torch.cuda.empty_cache()
            records.write(arguments.csv, facts, rows)


if __name__ == "__main__":
    main()
