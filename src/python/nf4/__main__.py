"""python -m nf4: packs checkpoints and shows what is in them."""

import argparse
import json
import os
import sys
import time

from . import Error, checkpoint
from ._safetensors import FileError, Reader


class ProgressBar:
    """One line on a terminal, nothing elsewhere."""

    WIDTH = 40
    INTERVAL = 0.1  # seconds between two drawings

    def __init__(self, stream):
        self.stream = stream if stream.isatty() else None
        self.start = time.monotonic()
        self.drawn = 0.0

    def __call__(self, done, total):
        now = time.monotonic()
        if self.stream is None or (done < total and now - self.drawn < self.INTERVAL):
            return
        self.drawn = now
        part = done / total if total else 1.0
        bar = "#" * round(part * self.WIDTH)
        rate = done / 1e6 / max(now - self.start, 1e-9)
        self.stream.write(f"\r[{bar:<{self.WIDTH}}] {100 * part:3.0f}%  {done / 1e9:.2f} GB  {rate:.0f} MB/s ")
        self.stream.flush()

    def close(self):
        if self.stream is not None and self.drawn:
            self.stream.write("\n")


def quantize(arguments):
    bar = ProgressBar(sys.stderr)
    try:
        packed = checkpoint.quantize(
            arguments.input, arguments.output, blocksize=arguments.blocksize, nested=arguments.nested,
            include=arguments.include, exclude=arguments.exclude, device=arguments.device, progress=bar,
        )  # fmt: skip
    finally:
        bar.close()
    before, after = os.path.getsize(arguments.input), os.path.getsize(arguments.output)
    print(
        f"{arguments.output}: packed {len(packed)} matrices, {before} bytes to {after} ({before / after:.2f}x smaller)"
    )
    print('For transformers, the model\'s config.json needs "quantization_config":')
    print(json.dumps(checkpoint.quantization_config(nested=arguments.nested)))


def inspect(arguments):
    reader = Reader(arguments.file)
    original = Reader(arguments.original) if arguments.original else None
    layers = checkpoint.layers(reader)
    width = max([len(layer.name) for layer in layers] + [len("layer")])
    columns = f"{{:<{width}}} {{:>4}} {{:>15}} {{:>9}} {{:>9}} {{:>6}} {{:>12}} {{:>8}}"
    print(columns.format("layer", "type", "shape", "dtype", "blocksize", "nested", "bytes", "error"))
    for layer in layers:
        error = checkpoint.error(reader, layer, original) if original else None
        print(columns.format(
            layer.name, layer.quant_type, "{}x{}".format(*layer.shape), layer.dtype, layer.blocksize,
            "yes" if layer.nested else "no", layer.nbytes, "-" if error is None else f"{error:.5f}",
        ))  # fmt: skip
    packed = sum(layer.nbytes for layer in layers)
    total = sum(tensor.nbytes for tensor in reader.tensors.values())
    weights = sum(layer.shape[0] * layer.shape[1] for layer in layers)
    print(f"\n{len(layers)} packed layers: {weights} weights in {packed} bytes"
          + (f", {8 * packed / weights:.3f} bits each" if weights else ""))  # fmt: skip
    print(f"all else: {total - packed} bytes")
    if original:
        print("error: ||NF4(W) - W|| / ||W||")


def parse(arguments):
    parser = argparse.ArgumentParser(prog="python -m nf4", description=__doc__.partition(": ")[2])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("quantize", help="pack the matrices of a safetensors file")
    command.set_defaults(run=quantize)
    command.add_argument("input", metavar="IN.safetensors")
    command.add_argument("output", metavar="OUT.safetensors")
    command.add_argument("--blocksize", type=int, default=64, help="elements that share a scale (default: 64)")
    command.add_argument("--nested", action="store_true", help="quantize the scales too (double quantization)")
    command.add_argument("--include", metavar="REGEX", default=checkpoint.INCLUDE,
                         help="pack matrices whose name matches (default: %(default)s)")  # fmt: skip
    command.add_argument("--exclude", metavar="REGEX", default=checkpoint.EXCLUDE,
                         help="but not those whose name matches; '' for none (default: %(default)s)")  # fmt: skip
    command.add_argument("--device", type=int, metavar="N", help="pack on CUDA device N, with torch (default: the CPU)")

    command = commands.add_parser("inspect", help="show the packed layers of a safetensors file")
    command.set_defaults(run=inspect)
    command.add_argument("file", metavar="FILE")
    command.add_argument("--original", metavar="FILE", help="the file before, to measure the error against")
    return parser.parse_args(arguments)


def main(arguments=None):
    arguments = parse(arguments)
    try:
        arguments.run(arguments)
    except (FileError, Error, OSError, ValueError, RuntimeError) as error:
        sys.exit(f"nf4: {error}")
    except KeyboardInterrupt:
        sys.exit("nf4: interrupted")


if __name__ == "__main__":
    main()
