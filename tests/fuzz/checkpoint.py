"""The Python package's reader of checkpoints, fuzzed by atheris, which is libFuzzer for Python.

    NF4_LIBRARY=libnf4.so PYTHONPATH=src/python python3 checkpoint.py [libFuzzer's arguments] [folder of inputs ...]

An input is a file. It is refused with a FileError that names it, or it is a checkpoint: its tensors cover the data
once; its layers have weights that the library unpacks; what is written of it by the package's Writer is the same
checkpoint when it is read again; and python -m nf4 shows it in lines of printable text. Any other outcome is a
defect, as are more time and memory than libFuzzer is told to allow."""

import contextlib
import io
import json
import os
import random
import struct
import sys
import tempfile
import warnings

import atheris
import numpy as np

with atheris.instrument_imports():
    import nf4
    from nf4 import __main__ as command
    from nf4 import checkpoint
    from nf4.checkpoint import packing, reading, safetensors, state

FOLDER = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
PATH = os.path.join(FOLDER.name, "input.safetensors")
WRITTEN = os.path.join(FOLDER.name, "written.safetensors")
MOST_UNPACKED = 1 << 16  # weights

LAYER = "layer.weight"
SUFFIXES = ["", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", f".{state._STATE}nf4"]


def contents(file):
    return {tensor.name: (tensor.dtype, tensor.shape, file.read(tensor)) for tensor in file.tensors.values()}


def check_layer(file, layer):
    weight = checkpoint.weight(file, layer)
    assert (weight.rows, weight.cols) == (layer.rows, layer.shape[-1]), layer
    blocks = -(-layer.count // layer.blocksize)
    scales = blocks + 4 * (256 + -(-blocks // layer.nested_blocksize)) if layer.nested else 4 * blocks
    assert layer.nbytes == -(-layer.count // 2) + scales + 4 * 16, layer
    if layer.quant_type == "nf4" and max(layer.count, layer.rows, layer.shape[-1]) <= MOST_UNPACKED:
        assert nf4.Handle().unpack(weight).shape == (layer.rows, layer.shape[-1]), layer


def check_written(file):
    """Writes all that `file` has, and reads it again."""
    writer = safetensors.Writer(file.tensors.values(), file.metadata)
    with open(WRITTEN, "wb") as written:
        writer.begin(written)
        for tensor in file.tensors.values():
            packing.Copied(file, tensor).write(writer, None, lambda nbytes: None)
    again = reading.File(WRITTEN)
    assert contents(again) == contents(file) and again.metadata == file.metadata
    return again


def check_shown():
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        command.main(["inspect", PATH])
    assert all(line.isprintable() for line in shown.getvalue().splitlines()), shown.getvalue()


def check(data):
    with open(PATH, "wb") as file:
        file.write(data)
    try:
        file = checkpoint.open(PATH)
        layers = checkpoint.layers(file)
    except checkpoint.FileError as error:
        assert str(error).startswith(f"{PATH}: ") and len(str(error)) > len(PATH) + 2, error
        return
    (header,) = struct.unpack_from("<Q", data)
    assert sum(tensor.nbytes for tensor in file.tensors.values()) == len(data) - 8 - header
    for layer in layers:
        check_layer(file, layer)
    # Layers of the written file are in another order.
    again = checkpoint.layers(check_written(file))
    assert sorted(map(repr, again)) == sorted(map(repr, layers)), (again, layers)
    check_shown()


# ---- inputs that are nearly right


def pack(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def valid(rng):
    """A file with a packed layer, or two."""
    arrays = {"steps": ("I64", [3], bytes(24)), "norm": ("BF16", [2, 2], bytes(8))}
    for name in [LAYER, "other"][: rng.randrange(1, 3)]:
        rows, cols, blocksize = rng.randrange(0, 9), rng.randrange(0, 90), rng.choice([32, 64, 4096])
        nested = rng.random() < 0.5
        for tensor in state.packed_tensors(name, "F16", (rows, cols), blocksize, nested):
            arrays[tensor.name] = tensor.dtype, list(tensor.shape), bytes(tensor.written_nbytes)
        text = state.state_text("F16", (rows, cols), blocksize, nested, 0.5)
        key = state.state_key(name)
        arrays[key] = "U8", [len(text)], bytes(text)
        if rng.random() < 0.3:  # one of the parts is longer or shorter than it should be
            part = rng.choice([tensor for tensor in arrays if tensor.startswith(name)])
            dtype, shape, values = arrays[part]
            itemsize = safetensors.ITEMSIZE[dtype]
            count = max(0, len(values) // itemsize + rng.choice([-1, 1]))
            arrays[part] = dtype, [count], values[: count * itemsize].ljust(count * itemsize, b"\0")
        arrays[f"{name}.quant_map"] = "F32", [16], np.array(nf4._library.codebook(), np.float32).tobytes()
    header, data = {}, b""
    if rng.random() < 0.5:
        header["__metadata__"] = {"format": "pt"}
    for name, (dtype, shape, values) in arrays.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    return pack(header, data)


VALUES = [0, 1, -1, 2**31, 2**63 - 1, 2**63, 10**400, 0.5, 1e308, "", "U8", "F32", "nf4", "\x1b[2J", "\ud800", None,
          True, [], [0], [2**62, 2], {}, [[]], float("nan"), float("inf"), 32, 64, 4096]  # fmt: skip


def places(value, found):
    """(container, key) of all that lies in a JSON value."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            found.append((value, key))
            places(value[key], found)
    return found


def change(rng, value):
    container, key = rng.choice(places(value, []))
    kind = rng.randrange(4)
    if kind == 0 and isinstance(container, dict):
        container[rng.choice([LAYER, "other", "quant_type", "shape"]) + rng.choice(SUFFIXES)] = container.pop(key)
    elif kind == 1:
        del container[key]
    elif kind == 2 and isinstance(container[key], int):
        container[key] += rng.choice([-1, 1, 8, 64])
    else:
        container[key] = rng.choice(VALUES)


def mutate(data, most, seed):
    """libFuzzer's own mutation of the bytes, or a change of the JSON of the header, or of that of a layer's state."""
    rng = random.Random(seed)
    kind = rng.randrange(4)
    try:
        if kind == 0:
            return valid(rng)[:most]
        (length,) = struct.unpack_from("<Q", data)
        header, values = json.loads(data[8 : 8 + length]), data[8 + length :]
        if kind == 1:
            change(rng, header)
        elif kind == 2:
            name = rng.choice([name for name in header if state._STATE in name])
            begin, end = header[name]["data_offsets"]
            if not 0 <= begin <= end <= len(values):
                raise ValueError("it lies past the end")
            inner = json.loads(values[begin:end])
            change(rng, inner)
            text = json.dumps(inner).encode()
            text += b" " * (end - begin - len(text))
            values = values[:begin] + text + values[end:]
            for entry in header.values():  # what lies behind moves
                if "data_offsets" in entry:
                    entry["data_offsets"] = [
                        place + (len(text) - (end - begin) if place >= end else 0) for place in entry["data_offsets"]
                    ]
            header[name]["data_offsets"], header[name]["shape"] = [begin, begin + len(text)], [len(text)]
        else:
            values = atheris.Mutate(values, len(values))
        return pack(header, values)[:most]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, struct.error):
        return atheris.Mutate(data, most)  # it is no file with such a place


def main():
    arguments = [sys.argv[0], "-max_len=8192", *sys.argv[1:]]
    warnings.simplefilter("error")
    atheris.Setup(arguments, check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
