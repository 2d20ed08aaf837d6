#!/usr/bin/env python3
"""Draws the products of a results file as two SVG plots: time, and fraction of the read ceiling, by layer. With --shape
draws the time of one layer against M, of libnf4's fastest variant and of its peers, from all files given.

    python3 bench/plot.py RESULTS.csv [FOLDER]                                    needs matplotlib
    python3 bench/plot.py --shape 28672,8192 RESULTS.csv [RESULTS.csv ...] FOLDER
"""

import argparse
import csv
import pathlib

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

CONTENDERS = {  # as the file names them: label and color
    "selected": ("libnf4", "#76b900"),
    "bitsandbytes": ("bitsandbytes", "#d95f02"),
    "cuBLAS dense": ("cuBLAS, dense {dtype}", "#7570b3"),
}


def read(path):
    """Returns the comment lines as a dict, and the rows."""
    lines = path.read_text().splitlines()
    comments = (line[2:].partition(": ") for line in lines if line.startswith("# "))
    facts = {name: value for name, _, value in comments}
    return facts, list(csv.DictReader(line for line in lines if not line.startswith("#")))


def products(rows, dtype, m):
    """Returns {layer: {contender: row}}, layers in the file's order."""
    layers = {}
    for row in rows:
        if (row["op"], row["dtype"], row["m"], row["status"]) != ("gemm", dtype, str(m), "ok"):
            continue
        if row["contender"] in CONTENDERS:
            layer = row["layer"] or f"{row['n']}x{row['k']}"
            layers.setdefault(layer, {})[row["contender"]] = row
    return layers


def draw(path, layers, column, scale, ylabel, title, dtype):
    """Draws one bar per layer and contender."""
    present = [name for name in CONTENDERS if any(name in rows for rows in layers.values())]
    width = 0.8 / len(present)
    figure, axes = plt.subplots(figsize=(11, 4.5), layout="constrained")
    for i, name in enumerate(present):
        label, color = CONTENDERS[name]
        offset = (i - (len(present) - 1) / 2) * width
        places = [j + offset for j, rows in enumerate(layers.values()) if name in rows]
        heights = [float(rows[name][column]) * scale for rows in layers.values() if name in rows]
        bars = axes.bar(places, heights, width, label=label.format(dtype=dtype), color=color)
        axes.bar_label(bars, fmt="%.0f", fontsize=6)
    axes.set_xticks(range(len(layers)), list(layers), rotation=30, ha="right")
    axes.set_ylabel(ylabel)
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    print(path)


PEERS = {  # of the plot against M
    "bitsandbytes": ("bitsandbytes", "#d95f02"),
    "bitsandbytes unpack + cuBLAS": ("bitsandbytes, unpack + cuBLAS", "#e6ab02"),
    "cuBLAS dense": ("cuBLAS, dense {dtype}", "#7570b3"),
}


def fastest(rows, shape, dtype, ours):
    """Returns {m: microseconds} of the fastest row, of libnf4 (`ours` is None) or of the contender `ours`."""
    found = {}
    for row in rows:
        if (row["op"], row["dtype"], row["n"], row["k"], row["status"]) != ("gemm", dtype, *shape, "ok"):
            continue
        if row["contender"] == ours if ours else row["peer"] != "1" and not row["contender"].startswith("nf4 unpack"):
            m, time = int(row["m"]), float(row["median_us"])
            found[m] = min(time, found.get(m, time))
    return dict(sorted(found.items()))


def draw_against_m(path, rows, shape, dtype, where):
    """Draws one line per contender."""
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, (label, color) in {None: ("libnf4", "#76b900"), **PEERS}.items():
        times = fastest(rows, shape, dtype, name)
        axes.plot(list(times), list(times.values()), marker="o", label=label.format(dtype=dtype), color=color)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=10)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.yaxis.set_major_formatter("{x:.0f}")
    axes.set_xlabel("M, rows of x")
    axes.set_ylabel("microseconds")
    axes.set_title(f"{shape[0]} x {shape[1]}, {where}", fontsize=10)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    print(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=pathlib.Path, nargs="+", metavar="RESULTS.csv", help="and a folder, else docs")
    parser.add_argument("--shape", metavar="N,K")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--m", type=int, default=1)
    options = parser.parse_args()

    folder = options.paths.pop() if options.paths[-1].suffix != ".csv" else pathlib.Path("docs")
    if not options.paths or (len(options.paths) > 1 and not options.shape):
        parser.error("expected one results file, or --shape")
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams["svg.hashsalt"] = "nf4"  # the same file for the same results
    if options.shape:
        files = [read(path) for path in options.paths]
        facts, rows = files[0][0], [row for _, rows in files for row in rows]
        shape = tuple(options.shape.split(","))
        where = f"{facts.get('device', '?')}, commit {facts.get('commit', '?')}, {options.dtype}"
        draw_against_m(folder / f"gemm-{'x'.join(shape)}-{options.dtype}.svg", rows, shape, options.dtype, where)
        return
    facts, rows = read(options.paths[0])
    layers = products(rows, options.dtype, options.m)
    if not layers:
        parser.error(f"{options.paths[0]} has no gemm of M={options.m} in {options.dtype}")
    where = f"{facts.get('device', '?')}, commit {facts.get('commit', '?')}, M={options.m}, {options.dtype}"
    name = f"gemm-m{options.m}-{options.dtype}"
    draw(folder / f"{name}-time.svg", layers, "median_us", 1, "microseconds", f"Time per product ({where})",
         options.dtype)
    draw(folder / f"{name}-ceiling.svg", layers, "fraction_of_ceiling", 100, "% of the read ceiling",
         f"Share of the memory's measured read rate, {facts.get('ceilings', '')} ({where})", options.dtype)


if __name__ == "__main__":
    main()
