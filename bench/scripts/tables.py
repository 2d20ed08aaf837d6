#!/usr/bin/env python3
"""Writes the tables of README.md and docs/ from the records in bench/results/, so that each figure has one home.

A table stands between two lines of its document:

    <!-- table NAME from FILE.csv: written by bench/scripts/tables.py -->
    <!-- end of table -->

    python3 bench/scripts/tables.py            writes every table anew
    python3 bench/scripts/tables.py --check    fails if a document differs from its records
"""

from __future__ import annotations

import argparse
import csv
import difflib
import pathlib
import re
import sys
from typing import Callable

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"
DOCUMENTS = ("README.md", "docs/**/*.md")

BITSANDBYTES = ("bitsandbytes", "bitsandbytes older gemv", "bitsandbytes unpack + cuBLAS")
DENSE = ("cuBLAS dense",)
LAYERS = {  # as nf4-bench names them: as a reader knows them
    "llama70b.qo": "Llama-3.3-70B q/o",
    "llama70b.kv": "Llama-3.3-70B k/v",
    "llama70b.gate_up": "Llama-3.3-70B gate/up",
    "llama70b.down": "Llama-3.3-70B down",
    "qwen32b.q": "Qwen3-32B q",
    "qwen32b.kv": "Qwen3-32B k/v",
    "qwen32b.o": "Qwen3-32B o",
    "qwen32b.gate_up": "Qwen3-32B gate/up",
    "qwen32b.down": "Qwen3-32B down",
    "gemma27b.q": "Gemma-3-27B q",
    "gemma27b.kv": "Gemma-3-27B k/v",
    "gemma27b.o": "Gemma-3-27B o",
    "gemma27b.gate_up": "Gemma-3-27B gate/up",
    "gemma27b.down": "Gemma-3-27B down",
}
FEW_LAYERS = ("llama70b.gate_up", "qwen32b.o", "llama70b.kv")  # large, middle, small
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)


class Record:
    """A CSV file of results: `facts` has its comment lines by name, `rows` the rows that are right."""

    def __init__(self, name: str) -> None:
        lines = (RESULTS / name).read_text().splitlines()
        self.facts = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# ") and ": " in line)
        self.rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))

    def only(self, **wanted: object) -> list[dict[str, str]]:
        return [row for row in self.rows if all(row[name] == str(value) for name, value in wanted.items())]

    def product(self, layer: str, m: int, **wanted: object) -> list[dict[str, str]]:
        """The contenders at one product, in bf16, blocksize 64 and fp32 scales if not wanted otherwise."""
        defaults = {"op": "gemm", "dtype": "bf16", "blocksize": 64, "nested": 0, "status": "ok"}
        return self.only(**{**defaults, "layer": layer, "m": m, **wanted})


def fastest(rows: list[dict[str, str]], contenders: tuple[str, ...]) -> float:
    """Microseconds of the fastest of `contenders`, NaN if none is there."""
    return min((float(row["median_us"]) for row in rows if row["contender"] in contenders), default=float("nan"))


def ours(rows: list[dict[str, str]]) -> dict[str, str]:
    (row,) = (row for row in rows if row["contender"] == "selected")
    return row


def microseconds(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def table(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shape(row: dict[str, str]) -> str:
    return f"{row['n']} x {row['k']}"


def conditions(record: Record, weights: str = "bf16, blocksize 64, fp32 scales") -> str:
    facts = record.facts
    peer = f"; bitsandbytes {facts['bitsandbytes']}" if "bitsandbytes" in facts else ""
    return (
        f"One {facts['device']}, driver {facts['driver']}, libnf4 {facts['libnf4']} at commit {facts['commit']}{peer};\n"
        f"{weights}, cold caches, constant weights, medians, one run."
    )


# ---- the tables


def speedups(record: Record) -> str:
    """How many times as fast as the faster way of bitsandbytes, and as dense 16-bit weights."""
    m = (1, 8, 64, 256)
    body = []
    for layer in FEW_LAYERS:
        cells = []
        for rows in (record.product(layer, each) for each in m):
            time = float(ours(rows)["median_us"])
            cells.append(f"{fastest(rows, BITSANDBYTES) / time:.1f}x / {fastest(rows, DENSE) / time:.1f}x")
        body.append([f"{LAYERS[layer]}, {shape(rows[0])}", *cells])
    return table(["layer, N x K", *(f"M = {each}" for each in m)], body) + "\n\n" + conditions(record)


def times(record: Record) -> str:
    """Microseconds of libnf4, the faster way of bitsandbytes, and dense weights."""
    m = (1, 8, 16, 32, 64, 128, 256, 1024)
    body = []
    for layer, name in LAYERS.items():
        cells = []
        for rows in (record.product(layer, each) for each in m):
            values = float(ours(rows)["median_us"]), fastest(rows, BITSANDBYTES), fastest(rows, DENSE)
            cells.append(" / ".join(map(microseconds, values)))
        body.append([f"{name}, {shape(rows[0])}", *cells])
    return table(["layer, N x K", *(f"M = {each}" for each in m)], body) + "\n\n" + conditions(record)


def ceiling(record: Record) -> str:
    """M = 1 against the memory, beside unpack and pack."""
    body = []
    for layer, name in LAYERS.items():
        row = ours(record.product(layer, 1))
        cells = [microseconds(float(row["median_us"])), f"{100 * float(row['fraction_of_ceiling']):.0f}%"]
        for op in ("unpack", "pack"):
            row = ours(record.only(op=op, dtype="bf16", blocksize=64, nested=0, layer=layer, status="ok"))
            cells += [microseconds(float(row["median_us"])), f"{100 * float(row['fraction_of_ceiling']):.0f}%"]
        body.append([f"{name}, {shape(row)}", *cells])
    head = ["layer, N x K", "M = 1, us", "of read", "unpack, us", "of write", "pack, us", "of read"]
    return table(head, body) + f"\n\nCeilings measured in the run: {record.facts['ceilings']}.\n{conditions(record)}"


def against_peers(record: Record) -> str:
    """For each M: geometric mean over the layers, and the worst layer."""
    body = []
    for m in ROWS:
        cells = [str(m)]
        for contenders in (BITSANDBYTES, DENSE):
            ratios = {}
            for layer in LAYERS:
                rows = record.product(layer, m)
                ratios[layer] = fastest(rows, contenders) / float(ours(rows)["median_us"])
            worst = min(ratios, key=lambda layer: ratios[layer])
            mean = 1.0
            for ratio in ratios.values():
                mean *= ratio ** (1 / len(ratios))
            slower = sum(ratio < 1 for ratio in ratios.values())
            cells += [f"{mean:.2f}x", f"{ratios[worst]:.2f}x ({LAYERS[worst]})", f"{slower} of {len(ratios)}"]
        body.append(cells)
    head = ["M", "against bitsandbytes, mean", "worst layer", "slower on", "against dense bf16, mean", "worst layer",
            "slower on"]  # fmt: skip
    return table(head, body) + "\n\n" + conditions(record)


def other_formats(record: Record) -> str:
    """Other dtypes, blocksizes and nested scales on one layer."""
    cases = {
        "bf16": {}, "f16": {"dtype": "f16"}, "f32": {"dtype": "f32"}, "blocksize 32": {"blocksize": 32},
        "blocksize 128": {"blocksize": 128}, "blocksize 4096": {"blocksize": 4096}, "nested scales": {"nested": 1},
    }  # fmt: skip
    body = []
    for name, wanted in cases.items():
        cells = [name]
        for m in (1, 16, 256):
            rows = record.product("llama70b.gate_up", m, **wanted)
            values = float(ours(rows)["median_us"]), fastest(rows, BITSANDBYTES), fastest(rows, DENSE)
            cells.append(" / ".join("-" if value != value else microseconds(value) for value in values))
        body.append(cells)
    weights = "where a row says nothing else bf16, blocksize 64, fp32 scales"
    return table(["28672 x 8192", "M = 1", "M = 16", "M = 256"], body) + "\n\n" + conditions(record, weights)


def errors(record: Record) -> str:
    """The least and the largest relative error over all layers, ||y - ref|| / ||ref|| against float64."""

    def span_of(rows: list[dict[str, str]], contenders: tuple[str, ...]) -> str:
        found = [float(row["relative_error"]) for row in rows if row["contender"] in contenders]
        return f"{min(found):.1e} to {max(found):.1e}" if found else "-"

    body = []
    for dtype, spans in (("bf16", ((1, 32), (64, 64), (128, 1024))), ("f16", ((1, 32), (64, 64), (128, 1024)))):
        for low, high in spans:
            rows = [row for row in record.only(op="gemm", dtype=dtype, blocksize=64, nested=0, status="ok")
                    if row["layer"] in LAYERS and low <= int(row["m"]) <= high]  # fmt: skip
            span = str(low) if low == high else f"{low} to {high}"
            body.append([dtype, span, span_of(rows, ("selected",)), span_of(rows, BITSANDBYTES)])
    return table(["dtype", "M", "libnf4", "bitsandbytes"], body) + "\n\n" + conditions(
        record, "blocksize 64, fp32 scales"
    )


def models(record: Record) -> str:
    """Whole models: milliseconds a decoding step, and how many times as fast."""
    body = []
    modes = [mode for mode in ("compiled", "graph", "eager") if record.only(mode=mode)]
    batches = sorted({int(row["batch"]) for mode in modes for row in record.only(mode=mode)})
    for model in dict.fromkeys(row["model"] for row in record.rows):
        for mode in modes:
            cells = []
            for batch in batches:
                found = {row["contender"]: row for row in record.only(model=model, mode=mode, batch=batch)}
                if "nf4" in found and "bitsandbytes" in found:
                    ratio = found["nf4"]["speedup_range"].replace("-", " to ")
                    times = f"{float(found['nf4']['ms']):.1f} / {float(found['bitsandbytes']['ms']):.1f} ms"
                    cells.append(f"{float(found['nf4']['speedup']):.2f}x ({ratio}), {times}")
                else:
                    cells.append("not measured")
            if cells != ["not measured"] * len(cells):
                body.append([model, mode, *cells])
    facts = record.facts
    commit = f" at commit {facts['commit']}" if "commit" in facts else ""
    return table(["model", "step", *(f"batch {batch}" for batch in batches)], body) + (
        f"\n\nOne {facts['device']}, libnf4 {facts['libnf4']}{commit}, torch {facts['torch']}, transformers "
        f"{facts['transformers']},\nbitsandbytes {facts['bitsandbytes']}; random weights in full size, context "
        f"{facts['context']}, static cache of {facts.get('cache', '512')}. Times: libnf4 / bitsandbytes."
    )


def generate(record: Record) -> str:
    """Whole calls of generate(), by the way that it is called: tokens a second, and how many times as fast."""
    ways = {"nf4": "plain", "nf4 static": "static cache", "nf4 compile": "`nf4.compile`"}
    rows = record.only(mode="generate")
    batches = sorted({int(row["batch"]) for row in rows})
    body = []
    for model in dict.fromkeys(row["model"] for row in rows):
        for contender, way in ways.items():
            cells, first = [], []
            for batch in batches:
                (row,) = record.only(mode="generate", model=model, contender=contender, batch=batch) or (None,)
                if row is None:
                    cells.append("not measured")
                    continue
                ratio = row["speedup_range"].replace("-", " to ")
                cells.append(f"{float(row['speedup']):.2f}x ({ratio}), {float(row['tokens_per_s']):.0f}")
                first.append(float(row["first_s"]))
            if first:
                body.append([model, way, *cells, f"{max(first):.0f} s"])
    facts = record.facts
    return table(["model", "way", *(f"batch {batch}" for batch in batches), "first call"], body) + (
        f"\n\nOne {facts['device']}, {facts['cpu']}, libnf4 {facts['libnf4']} at commit {facts['commit']},\n"
        f"torch {facts['torch']}, transformers {facts['transformers']}, bitsandbytes {facts['bitsandbytes']}; random weights in full "
        f"size,\n{facts['context']} tokens and {facts['tokens']} new ones. Times as fast as the faster of bitsandbytes' "
        f"plain and static, and tokens\na second; {facts['rounds']} rounds. First call: the slowest batch."
    )


def lookup_tables(record: Record) -> str:
    """The plain kernels, with the table in global and in shared memory."""
    body = []
    for layer, name in LAYERS.items():
        rows = record.product(layer, 1)
        plain, shared = (fastest(rows, (f"gemv.lut_{where}",)) for where in ("global", "shared"))
        time = float(ours(rows)["median_us"])
        body.append([
            f"{name}, {shape(rows[0])}", microseconds(plain), microseconds(shared), f"{plain / shared:.2f}x",
            microseconds(time), f"{plain / time:.2f}x",
        ])  # fmt: skip
    head = ["layer, N x K", "lut_global", "lut_shared", "shared against global", "selected", "against lut_global"]
    return table(head, body) + "\n\n" + conditions(record)


TABLES: dict[str, Callable[[Record], str]] = {
    "speedups": speedups, "times": times, "ceiling": ceiling, "against-peers": against_peers, "models": models,
    "other-formats": other_formats, "errors": errors, "generate": generate, "lookup-tables": lookup_tables,
}  # fmt: skip

_BEGIN = r"<!-- table (?P<name>[\w-]+) from (?P<file>[\w.-]+): written by bench/scripts/tables\.py -->\n"
_MARKED = re.compile(f"(?P<begin>{_BEGIN}).*?(?P<end><!-- end of table -->)", re.DOTALL)


def written(text: str) -> str:
    """The document `text` with its tables as the records have them."""

    def fill(match: re.Match[str]) -> str:
        made = TABLES[match["name"]](Record(match["file"]))
        return f"{match['begin']}{made}\n{match['end']}"

    return _MARKED.sub(fill, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a document differs")
    options = parser.parse_args()

    tables = 0
    stale = []
    for path in sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern)):
        text = path.read_text()
        tables += len(_MARKED.findall(text))
        made = written(text)
        if made == text:
            continue
        stale.append(path)
        if options.check:
            name = str(path.relative_to(ROOT))
            sys.stdout.writelines(difflib.unified_diff(text.splitlines(True), made.splitlines(True), name, "records"))
        else:
            path.write_text(made)
    if tables == 0:
        sys.exit("tables.py: no document has a table; expected the markers that this script's head shows")
    if options.check and stale:
        sys.exit("tables.py: run bench/scripts/tables.py: the documents above differ from their records")
    print(f"{tables} tables, {len(stale)} documents {'differ' if options.check else 'written'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
