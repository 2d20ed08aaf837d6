#!/usr/bin/env python3
"""Draws the products (blocksize 64, fp32 scales) of a results file as SVG plots:

    gemm-m1-bf16-time.svg             time, a bar for each layer, of libnf4 and its peers
    gemm-m1-bf16-ceiling.svg          fraction of the read ceiling, the same way
    gemm-m1-bf16-ceiling-by-size.svg  fraction of the read ceiling against the weights of a layer
    gemm-bf16-time-by-m.svg           time against M, a panel for each layer; for a file of several M
    gemm-bf16-ceiling-by-m.svg        fraction of the read ceiling, the same way

With --shape it draws the time of one layer against M alone, from all files given. libnf4 is what it selects; where the
file does not tell, or tells of variants too, its fastest variant.

    python3 bench/scripts/plot.py RESULTS.csv [FOLDER]                                    needs matplotlib
    python3 bench/scripts/plot.py --shape 28672,8192 RESULTS.csv [RESULTS.csv ...] FOLDER
"""

import argparse
import csv
import math
import pathlib

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

OURS = ("libnf4", "#76b900")
PEERS = {  # as the file names them: label and color
    "bitsandbytes": ("bitsandbytes", "#d95f02"),
    "bitsandbytes unpack + cuBLAS": ("bitsandbytes, unpack + cuBLAS", "#e6ab02"),
    "cuBLAS dense": ("cuBLAS, dense {dtype}", "#7570b3"),
}
FUSED = ("selected", "bitsandbytes", "cuBLAS dense")  # of the plots for one M


def read(path):
    """Returns the comment lines as a dict, and the rows."""
    lines = path.read_text().splitlines()
    comments = (line[2:].partition(": ") for line in lines if line.startswith("# "))
    facts = {name: value for name, _, value in comments}
    return facts, list(csv.DictReader(line for line in lines if not line.startswith("#")))


def products(rows, dtype):
    """Keeps the rows that the plots are about."""
    wanted = {"op": "gemm", "dtype": dtype, "blocksize": "64", "nested": "0", "status": "ok"}
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def shape_of(row):
    return row["n"], row["k"]


def layer_of(row):
    return row["layer"] or "x".join(shape_of(row))


def by_layer(rows, m):
    """Returns {layer: {contender: row}} of one M, layers in the file's order."""
    layers = {}
    for row in rows:
        if row["m"] == str(m) and row["contender"] in FUSED:
            layers.setdefault(layer_of(row), {})[row["contender"]] = row
    return layers


def look(name, dtype):
    """Returns the label and color of a contender."""
    label, color = PEERS.get(name, OURS)
    return {"label": label.format(dtype=dtype), "color": color}


def save(figure, path):
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    print(path)


def draw_bars(path, layers, column, scale, ylabel, title, dtype):
    """Draws one bar per layer and contender."""
    present = [name for name in FUSED if any(name in rows for rows in layers.values())]
    width = 0.8 / len(present)
    figure, axes = plt.subplots(figsize=(11, 4.5), layout="constrained")
    for i, name in enumerate(present):
        offset = (i - (len(present) - 1) / 2) * width
        places = [j + offset for j, rows in enumerate(layers.values()) if name in rows]
        heights = [float(rows[name][column]) * scale for rows in layers.values() if name in rows]
        bars = axes.bar(places, heights, width, **look(name, dtype))
        axes.bar_label(bars, fmt="%.0f", fontsize=6)
    axes.set_xticks(range(len(layers)), list(layers), rotation=30, ha="right")
    axes.set_ylabel(ylabel)
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    save(figure, path)


def draw_ceiling_by_size(path, layers, title, dtype):
    """Draws one point per layer and contender."""
    figure, axes = plt.subplots(figsize=(11, 4.5), layout="constrained")
    for name in FUSED:
        rows = sorted((rows[name] for rows in layers.values() if name in rows), key=weights)
        heights = [100 * float(row["fraction_of_ceiling"]) for row in rows]
        axes.plot([weights(row) for row in rows], heights, marker="o", linewidth=0.8, **look(name, dtype))
    axes.set_xscale("log", base=10)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_ylim(0, 100)
    axes.set_xlabel("million weights")
    axes.set_ylabel("% of the read ceiling")
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False)
    save(figure, path)


def weights(row):
    """Returns the size of a row's layer, in millions."""
    return int(row["n"]) * int(row["k"]) * 1e-6


def fastest(rows, shape, name):
    """Returns {m: row} on one shape, of a peer or, if `name` is None, of libnf4's fastest row."""
    found = {}
    for row in rows:
        ours = row["peer"] != "1" and not row["contender"].startswith("nf4 unpack")
        if shape_of(row) == shape and (row["contender"] == name or name is None and ours):
            m = int(row["m"])
            if m not in found or float(row["median_us"]) < float(found[m]["median_us"]):
                found[m] = row
    return dict(sorted(found.items()))


def draw_against_m(axes, rows, shape, dtype, column="median_us"):
    """Draws one line per contender: times, or fractions of the read ceiling as %."""
    share = column == "fraction_of_ceiling"
    for name in [None, *PEERS]:
        found = fastest(rows, shape, name)
        heights = [float(row[column]) * (100 if share else 1) for row in found.values()]
        axes.plot(list(found), heights, marker="o", markersize=4, **look(name, dtype))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    if share:
        axes.set_ylim(0, 100)
    else:
        axes.set_yscale("log", base=10)
    axes.yaxis.set_major_formatter("{x:.0f}")


def draw_layer(path, rows, shape, dtype, where):
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    draw_against_m(axes, rows, shape, dtype)
    axes.set_xlabel("M, rows of x")
    axes.set_ylabel("microseconds")
    axes.set_title(f"{' x '.join(shape)}, {where}", fontsize=10)
    axes.legend(frameon=False)
    save(figure, path)


def draw_layers(path, rows, dtype, column, title):
    """Draws a panel per layer."""
    layers = {layer_of(row): shape_of(row) for row in rows}
    columns = min(4, len(layers))
    lines = math.ceil(len(layers) / columns)
    size = (3 * columns, 2.3 * lines + 0.7)
    figure, panels = plt.subplots(lines, columns, figsize=size, layout="constrained", squeeze=False)
    for axes in panels.flat[len(layers) :]:
        axes.remove()
    for axes, (layer, shape) in zip(panels.flat, layers.items()):
        draw_against_m(axes, rows, shape, dtype, column)
        axes.set_title(f"{layer}, {' x '.join(shape)}", fontsize=8)
        axes.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10)
    figure.legend(*panels.flat[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=4)
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=pathlib.Path, nargs="+", metavar="RESULTS.csv", help="and a folder, else docs/img")
    parser.add_argument("--shape", metavar="N,K")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--m", type=int, default=1)
    options = parser.parse_args()

    folder = options.paths.pop() if options.paths[-1].suffix != ".csv" else pathlib.Path("docs/img")
    if not options.paths or (len(options.paths) > 1 and not options.shape):
        parser.error("expected one results file, or --shape")
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams.update({"svg.hashsalt": "nf4", "svg.fonttype": "none"})  # the same small file for the same results

    files = [read(path) for path in options.paths]
    facts = files[0][0]
    dtype = options.dtype
    rows = products([row for _, rows in files for row in rows], dtype)
    where = f"{facts.get('device', '?')}, commit {facts.get('commit', '?')}, {dtype}"
    if options.shape:
        shape = tuple(options.shape.split(","))
        draw_layer(folder / f"gemm-{'x'.join(shape)}-{dtype}.svg", rows, shape, dtype, where)
        return

    layers = by_layer(rows, options.m)
    if not layers:
        parser.error(f"{options.paths[0]} has no gemm of M={options.m} in {dtype}")
    name = f"gemm-m{options.m}-{dtype}"
    at_m = f"M={options.m}, {where}"
    share = f"Share of the memory's measured read rate, {facts.get('ceilings', '')} ({at_m})"
    draw_bars(folder / f"{name}-time.svg", layers, "median_us", 1, "microseconds", f"Time per product ({at_m})", dtype)
    draw_bars(folder / f"{name}-ceiling.svg", layers, "fraction_of_ceiling", 100, "% of the read ceiling", share, dtype)
    draw_ceiling_by_size(folder / f"{name}-ceiling-by-size.svg", layers, share, dtype)
    if len({row["m"] for row in rows}) > 1:
        time, share = f"Microseconds against M ({where})", f"% of the read ceiling against M ({where})"
        draw_layers(folder / f"gemm-{dtype}-time-by-m.svg", rows, dtype, "median_us", time)
        draw_layers(folder / f"gemm-{dtype}-ceiling-by-m.svg", rows, dtype, "fraction_of_ceiling", share)


if __name__ == "__main__":
    main()
