"""python -m nf4: packs checkpoints and shows what is in them."""

import argparse
import contextlib
import importlib.metadata
import json
import os
import signal
import sys
import time
from typing import Any, Iterator, List, Optional, TextIO

import nf4

from . import Error, checkpoint
from .checkpoint.folders import SHARD_SIZE


def printable(text: object) -> str:
    """`text` with control characters escaped, since names in a file may hold what a terminal obeys."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


class ProgressBar:
    """One line on a terminal, nothing elsewhere."""

    WIDTH = 40
    INTERVAL = 0.1  # seconds between two drawings

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream if stream.isatty() else None
        self.start = time.monotonic()
        self.drawn = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.stream is None or (done < total and now - self.drawn < self.INTERVAL):
            return
        self.drawn = now
        part = done / total if total else 1.0
        bar = "#" * round(part * self.WIDTH)
        rate = done / 1e6 / max(now - self.start, 1e-9)
        self.stream.write(f"\r[{bar:<{self.WIDTH}}] {100 * part:3.0f}%  {done / 1e9:.2f} GB  {rate:.0f} MB/s ")
        self.stream.flush()

    def close(self) -> None:
        if self.stream is not None and self.drawn:
            self.stream.write("\n")


class Terminated(BaseException):
    """A signal that ends the process, once what was begun is cleared away."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP raise Terminated, unless they are ignored, as under nohup."""

    def terminate(number: int, _: Any) -> None:
        for other in caught:
            signal.signal(other, signal.SIG_IGN)  # the first is enough
        raise Terminated(number)

    caught = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    for number in caught:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)


def quantize(arguments: argparse.Namespace) -> None:
    job = checkpoint.Quantization(
        arguments.input, arguments.output, blocksize=arguments.blocksize, nested=arguments.nested,
        include=arguments.include, exclude=arguments.exclude, experts=arguments.experts, config=arguments.config,
        shard_size=arguments.shard_size, force=arguments.force, device=arguments.device,
    )  # fmt: skip
    bar = ProgressBar(sys.stderr)
    try:
        job.run(bar)
    finally:
        bar.close()
    before, after = job.source_nbytes, job.nbytes
    print(printable(
        f"{arguments.output}: packed {len(job.packed)} matrices, {before} bytes to {after} "
        f"({before / after:.2f}x smaller)"
    ))  # fmt: skip
    for name in job.left:
        print(printable(f"not copied, since it holds other weights or is no regular file: {name}"))
    for name in job.mismatched:
        print(printable(f"transformers does not load {name} as it is now"))
    if not os.path.isdir(arguments.output):
        print('For transformers, the model\'s config.json needs "quantization_config":')
        print(json.dumps(job.quantization_config))


def inspect(arguments: argparse.Namespace) -> None:
    packed = checkpoint.open(arguments.path)
    original = checkpoint.open(arguments.original) if arguments.original else None
    layers = checkpoint.layers(packed)
    groups = checkpoint.grouped(layers)
    names = list(map(printable, groups))
    width = max(map(len, [*names, "layer"]))
    columns = f"{{:<{width}}} {{:>4}} {{:>15}} {{:>9}} {{:>9}} {{:>6}} {{:>12}} {{:>8}}"
    print(columns.format("layer", "type", "shape", "dtype", "blocksize", "nested", "bytes", "error"))
    for name, group in zip(names, groups.values()):
        errors = [checkpoint.error(packed, layer, original) for layer in group] if original else []
        known = [error for error in errors if error is not None]
        first = group[0]
        shape = [len(group), *first.shape] if len(group) > 1 else first.shape
        print(printable(columns.format(
            name, first.quant_type, "x".join(map(str, shape)), first.dtype, first.blocksize,
            "yes" if first.nested else "no", sum(layer.nbytes for layer in group),
            f"{max(known):.5f}" if known else "-",
        )))  # fmt: skip
    nbytes = sum(layer.nbytes for layer in layers)
    total = sum(tensor.nbytes for tensor in packed.tensors.values())
    weights = sum(layer.count for layer in layers)
    print(f"\n{len(layers)} packed layers: {weights} weights in {nbytes} bytes"
          + (f", {8 * nbytes / weights:.3f} bits each" if weights else ""))  # fmt: skip
    print(f"all else: {total - nbytes} bytes")
    if original:
        largest = ", of experts the largest" if len(groups) < len(layers) else ""
        print(f"error: ||NF4(W) - W|| / ||W||{largest}")


def status(_: argparse.Namespace) -> None:
    print(json.dumps(nf4.status(), indent=2, default=str))


class _Version(argparse.Action):
    """Asked for the version alone, since the library must be loaded for its number."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        try:
            library = ".".join(map(str, nf4.version()))
        except OSError as error:
            library = f"cannot be loaded: {error}"
        try:
            package = importlib.metadata.version("nf4")
        except importlib.metadata.PackageNotFoundError:
            package = library
        print(printable(f"nf4 {package} (libnf4 {library})"))
        parser.exit()


def parse(arguments: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m nf4", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--version", action=_Version, nargs=0, help="show the versions of the package and the library")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "quantize", help="pack the matrices of a model",
        description="Packs the matrices that transformers would pack, and copies all else. A folder with a model gives "
                    "a folder that from_pretrained loads; a safetensors file gives a file.",
    )  # fmt: skip
    command.set_defaults(run=quantize)
    command.add_argument("input", metavar="MODEL", help="a folder, an index of shards, or a safetensors file")
    command.add_argument("output", metavar="OUT", help="a new or empty folder, or a file")
    command.add_argument("--blocksize", type=int, default=64, help="elements that share a scale (default: 64)")
    command.add_argument("--nested", action="store_true", help="quantize the scales too (double quantization)")
    command.add_argument("--include", metavar="REGEX",
                         help="pack the matrices whose name matches, whatever transformers would pack")  # fmt: skip
    command.add_argument("--exclude", metavar="REGEX", help="leave those whose name matches as they are")
    command.add_argument("--experts", action="store_true",
                         help="pack the weights of experts too, one by one; the plug-in loads them")  # fmt: skip
    command.add_argument("--config", metavar="FILE", help="the model's config.json (default: the one beside MODEL)")
    command.add_argument("--shard-size", metavar="SIZE", default=SHARD_SIZE,
                         help="most bytes of a file in a folder, such as 5GB (default: %(default)s)")  # fmt: skip
    command.add_argument("--force", action="store_true", help="overwrite a file that is there already")
    command.add_argument("--device", type=int, metavar="N", help="pack on CUDA device N, with torch (default: the CPU)")

    command = commands.add_parser("inspect", help="show the packed layers of a checkpoint")
    command.set_defaults(run=inspect)
    command.add_argument("path", metavar="MODEL", help="a folder, an index of shards, or a safetensors file")
    command.add_argument("--original", metavar="MODEL", help="the model before, to measure the error against")

    command = commands.add_parser("status", help="tell whether bitsandbytes uses libnf4, and for what")
    command.set_defaults(run=status)
    return parser.parse_args(arguments)


def _drop_output() -> None:
    """What is still buffered for an output that takes no more would fail once again when Python ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Optional[List[str]] = None) -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names need not be of the terminal's characters
    parsed = parse(arguments)
    try:
        with _signals_raise():
            parsed.run(parsed)
            sys.stdout.flush()
    except (Error, OSError, ValueError, RuntimeError) as error:
        _drop_output()
        sys.exit(f"nf4: {printable(error)}")
    except KeyboardInterrupt:
        sys.exit("nf4: interrupted")
    except Terminated as terminated:
        os.kill(os.getpid(), terminated.number)


if __name__ == "__main__":
    main()
