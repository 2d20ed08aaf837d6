"""What the tests of checkpoints share: files by the format's description alone, and a folder to run in."""

import contextlib
import io
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

import numpy as np

import support
from nf4 import __main__ as main
from nf4 import checkpoint

TYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "U8": np.uint8, "I64": np.int64}
LAYER = "model.layers.0.mlp.up_proj.weight"
STATE = "quant_state.bitsandbytes__nf4"
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "float16"}


def file_bytes(tensors, metadata=None):
    """A safetensors file of {name: (dtype, array)}."""
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype, array) in tensors.items():
        header[name] = {
            "dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes],
        }  # fmt: skip
        data += array.tobytes()
    return with_header(json.dumps(header).encode(), data)


def with_header(header, data=b""):
    return struct.pack("<Q", len(header)) + header + data


def read(path):
    """The inverse of file_bytes."""
    content = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert (8 + length + begin) % np.dtype(TYPES[entry["dtype"]]).itemsize == 0, f"{name} is not aligned"
        data = content[8 + length + begin : 8 + length + end]
        tensors[name] = entry["dtype"], np.frombuffer(data, TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


def model_tensors(dtype="F32", shape=(48, 100)):
    w = support.random_matrix(*shape)
    if dtype == "BF16":
        w = (w.view(np.uint32) >> 16).astype(np.uint16)
    w = w.astype(TYPES[dtype])
    return {
        "model.embed_tokens.weight": (dtype, w),
        "model.norm.weight": (dtype, w[0]),
        LAYER: (dtype, w),
        "model.layers.0.mlp.up_proj.bias": (dtype, w[:, 0]),
        "lm_head.weight": (dtype, w),
        "steps": ("I64", np.arange(3)),
    }


class FolderTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.source, self.target = self.folder / "in.safetensors", self.folder / "out.safetensors"

    def write(self, content, name="in.safetensors"):
        (self.folder / name).write_bytes(content)
        return str(self.folder / name)

    def write_model(self, dtype="F32", shape=(48, 100)):
        tensors = model_tensors(dtype, shape)
        self.write(file_bytes(tensors, {"format": "pt"}))
        return tensors

    def quantize(self, include="up_proj", **options):
        return checkpoint.quantize(str(self.source), str(self.target), include=include, **options)

    def run_main(self, *arguments):
        """What python -m nf4 prints, and how it exits."""
        out = io.StringIO()
        code = None
        with contextlib.redirect_stdout(out):
            try:
                main.main([str(argument) for argument in arguments])
            except SystemExit as exit_:
                code = exit_.code
        return out.getvalue(), code

    def run_during_pack(self, action, *arguments, preparation=""):
        """python -m nf4 in a process of its own, without transformers. `action` happens at the first matrix packed."""
        script = f"""
import os, resource, signal, sys
from nf4 import Handle, __main__ as main
sys.modules["transformers"] = None
{preparation}
pack = Handle.pack
def pack_after_action(*arguments, **options):
    {action}
    return pack(*arguments, **options)
Handle.pack = pack_after_action
main.main(sys.argv[1:])
"""
        command = [sys.executable, "-c", script, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def files(self):
        return sorted(os.listdir(self.folder))
