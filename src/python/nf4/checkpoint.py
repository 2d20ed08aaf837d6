"""Checkpoints in safetensors whose linear layers are NF4, as transformers and bitsandbytes load them.

docs/format.md tells the keys of a layer. quantize() writes them, layers() reads them, error() measures the error.
"""

import json
import os
import re
from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from ._array import Bfloat16
from ._handle import Handle, Weight
from ._library import BLOCKSIZES, Error, codebook, packed_size
from ._safetensors import FileError, Reader, Tensor, Writer

INCLUDE = r"(^|\.)weight$"
EXCLUDE = r"(^|\.)(lm_head|\w*embed\w*|wte|wpe|shared)\."  # transformers leaves these as they are

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_NUMPY = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"), "U8": np.dtype("u1")}
_QUANT_STORAGE = ("U8", "BF16", "F16", "F32")
_NESTED_BLOCKSIZE = 256  # bitsandbytes'
_STATE = "quant_state.bitsandbytes__"
_OFFSET_WIDTH = 26  # of a nested_offset in JSON: the longest repr of a float, and room

_CHUNK = 1 << 24  # elements: a multiple of every blocksize, so that no block and no byte is cut


def _typed(data, dtype):
    """Bytes of a tensor as an array that the library takes."""
    array = np.frombuffer(data, _NUMPY[dtype])
    if not array.flags.aligned:
        array = array.copy()
    return Bfloat16(array) if dtype == "BF16" else array


# ---- quantize


class _HostPacker:
    def __init__(self):
        self.handle = Handle()

    def pack(self, data, dtype, blocksize):
        weight = self.handle.pack(_typed(data, dtype), blocksize=blocksize)
        return weight.codes, weight.absmax


class _CudaPacker:
    """Packs on a GPU, in memory of torch."""

    def __init__(self, device):
        try:
            import torch
        except ImportError:
            raise RuntimeError("packing on a GPU takes its memory from torch, which is not installed") from None
        self.torch = torch
        self.device = torch.device("cuda", device)
        self.handle = Handle(device)

    def pack(self, data, dtype, blocksize):
        torch = self.torch
        with torch.cuda.device(self.device):
            # A copy, since torch warns of memory that cannot be written.
            w = torch.from_numpy(np.frombuffer(data, np.uint8).copy()).to(self.device)
            w = w.view(getattr(torch, _DTYPES[dtype]))
            codes_bytes, blocks = packed_size(1, w.numel(), blocksize)
            codes = torch.empty(codes_bytes, dtype=torch.uint8, device=self.device)
            absmax = torch.empty(blocks, dtype=torch.float32, device=self.device)
            stream = torch.cuda.current_stream().cuda_stream
            self.handle.pack(w, blocksize=blocksize, codes=codes, absmax=absmax, stream=stream)
            return codes.cpu().numpy(), absmax.cpu().numpy()


def _packed_tensors(tensor, blocksize, nested):
    """What takes the place of `tensor`."""
    codes_bytes, blocks = packed_size(*tensor.shape, blocksize)
    name = tensor.name
    tensors = [
        Tensor(name, "U8", (codes_bytes, 1)),
        Tensor(f"{name}.absmax", "U8" if nested else "F32", (blocks,)),
        Tensor(f"{name}.quant_map", "F32", (16,)),
        Tensor(f"{name}.{_STATE}nf4", "U8", (len(_state(tensor, blocksize, nested, 0.0)),)),
    ]
    if nested:
        tensors += [
            Tensor(f"{name}.nested_absmax", "F32", (-(-blocks // _NESTED_BLOCKSIZE),)),
            Tensor(f"{name}.nested_quant_map", "F32", (256,)),
        ]
    return tensors


def _state(tensor, blocksize, nested, offset):
    """The quant_state of a layer. Its length does not depend on the offset, since the header comes before the data."""
    state = {
        "quant_type": "nf4", "blocksize": blocksize, "dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape),
    }  # fmt: skip
    if not nested:
        return json.dumps(state).encode()
    state.update(nested_blocksize=_NESTED_BLOCKSIZE, nested_dtype="float32", nested_offset=float(offset))
    text = json.dumps(state)
    return (text + " " * (_OFFSET_WIDTH - len(json.dumps(state["nested_offset"])))).encode()


def _write_packed(writer, reader, tensor, packer, blocksize, nested, progress):
    name = tensor.name
    itemsize = _NUMPY[tensor.dtype].itemsize
    absmax = np.empty(packed_size(*tensor.shape, blocksize)[1], np.float32)
    for begin in range(0, tensor.count, _CHUNK):
        end = min(begin + _CHUNK, tensor.count)
        data = reader.bytes(tensor, begin * itemsize, end * itemsize)
        codes, absmax[begin // blocksize : -(-end // blocksize)] = packer.pack(data, tensor.dtype, blocksize)
        writer.write(name, codes, begin // 2)
        progress(len(data))
    offset = 0.0
    if nested:
        # On the host in any case: they are few, and the sum is the same everywhere.
        codes, absmax2, offset, absmax_map = Handle().pack_absmax(absmax, blocksize=_NESTED_BLOCKSIZE)
        writer.write(f"{name}.absmax", codes)
        writer.write(f"{name}.nested_absmax", absmax2)
        writer.write(f"{name}.nested_quant_map", absmax_map)
        offset = offset[0]
    else:
        writer.write(f"{name}.absmax", absmax)
    writer.write(f"{name}.quant_map", np.array(codebook(), np.float32))
    writer.write(f"{name}.{_STATE}nf4", _state(tensor, blocksize, nested, offset))


def _write_copy(writer, reader, tensor, progress):
    for begin in range(0, tensor.nbytes, _CHUNK):
        data = reader.bytes(tensor, begin, min(begin + _CHUNK, tensor.nbytes))
        writer.write(tensor.name, data, begin)
        progress(len(data))


def selected(tensors, include=INCLUDE, exclude=EXCLUDE):
    """Those of `tensors` that quantize() packs: matrices of floats, named as the expressions say."""
    include, exclude = re.compile(include), re.compile(exclude) if exclude else None
    return [
        tensor for tensor in tensors
        if len(tensor.shape) == 2 and tensor.count and tensor.dtype in _DTYPES and include.search(tensor.name)
        and not (exclude and exclude.search(tensor.name))
    ]  # fmt: skip


def quantize(
    source, target, *, blocksize=64, nested=False, include=INCLUDE, exclude=EXCLUDE, device=None, progress=None
):
    """Packs the selected matrices of the file `source`, copies all else, and writes `target`, whole or not at all.

    `device` is the number of a CUDA device; None is the host. progress(done, all), in bytes read, is called on the way.
    At most a chunk of one matrix and its scales are in memory. Returns the names of what was packed."""
    if blocksize not in BLOCKSIZES:
        raise ValueError(f"blocksize is {blocksize}; expected one of {', '.join(map(str, BLOCKSIZES))}")
    reader = Reader(source)
    if os.path.exists(target) and os.path.samefile(source, target):
        raise ValueError(f"{target} is both the input and the output")
    packed = selected(reader.tensors.values(), include, exclude)
    if not packed:
        raise FileError(
            f"{source}: no matrix of {', '.join(_DTYPES)} whose name matches {include!r} and not {exclude!r}"
        )
    names = {tensor.name for tensor in packed}
    tensors = [tensor for tensor in reader.tensors.values() if tensor.name not in names]
    for tensor in packed:
        tensors += _packed_tensors(tensor, blocksize, nested)
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise FileError(f"{source}: has keys of packed layers beside the layers themselves")

    total = sum(tensor.nbytes for tensor in reader.tensors.values())
    done = 0

    def advance(nbytes):
        nonlocal done
        done += nbytes
        if progress is not None:
            progress(done, total)

    packer = _HostPacker() if device is None else _CudaPacker(device)
    with Writer(target, tensors, reader.metadata) as writer:
        for tensor in reader.tensors.values():
            if tensor.name in names:
                _write_packed(writer, reader, tensor, packer, blocksize, nested, advance)
            else:
                _write_copy(writer, reader, tensor, advance)
    return [tensor.name for tensor in packed]


def quantization_config(*, nested=False, dtype="bfloat16"):
    """What config.json of a model needs as its "quantization_config" for transformers to load the packed file."""
    return {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": nested,
        "bnb_4bit_compute_dtype": dtype,
        "bnb_4bit_quant_storage": "uint8",
    }


# ---- inspect


@dataclass(frozen=True)
class Layer:
    """A packed matrix of a file."""

    name: str
    quant_type: str
    shape: Tuple[int, int]
    dtype: str
    blocksize: int
    nested: bool
    storage: str
    nbytes: int
    nested_blocksize: Optional[int] = None
    nested_offset: Optional[float] = None


def _parse_state(data):
    try:
        state = json.loads(bytes(data).decode())
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"is no JSON: {problem}") from None
    if not isinstance(state, dict):
        raise ValueError("is no JSON object")
    return state


def _field(state, name, kind, what):
    value = state.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"has {name} {value!r}; expected {what}")
    return value


def _need(tensors, name, dtypes, count):
    tensor = tensors.get(name)
    if tensor is None:
        raise ValueError(f"lacks {name}")
    if tensor.dtype not in dtypes or tensor.count != count:
        raise ValueError(
            f"has {name} as {tensor.dtype} {list(tensor.shape)}; expected {' or '.join(dtypes)}, {count} of them"
        )
    return tensor


def _layer(reader, name, key):
    """The layer `name`, whose quant_state is the tensor `key`. ValueError says what is wrong with it."""
    tensors = reader.tensors
    state = _parse_state(reader.bytes(tensors[key]))
    quant_type = _field(state, "quant_type", str, '"nf4" or "fp4"')
    if key != f"{name}.{_STATE}{quant_type}":
        raise ValueError(f"has quant_type {quant_type!r}, which is not what its key says")
    blocksize = _field(state, "blocksize", int, "a number")
    if blocksize not in BLOCKSIZES:
        raise ValueError(f"has blocksize {blocksize}; expected one of {', '.join(map(str, BLOCKSIZES))}")
    dtype = _field(state, "dtype", str, "a name")
    shape = _field(state, "shape", list, "two sizes")
    if len(shape) != 2 or not all(isinstance(size, int) and 0 <= size < 2**31 for size in shape):
        raise ValueError(f"has shape {shape}; expected two sizes")

    codes_bytes, blocks = packed_size(*shape, blocksize)
    codes = tensors.get(name)
    if codes is None or codes.dtype not in _QUANT_STORAGE or codes.nbytes != codes_bytes:
        found = "nothing" if codes is None else f"{codes.dtype} {list(codes.shape)}"
        raise ValueError(f"has {found} as its codes; expected {codes_bytes} bytes of {' or '.join(_QUANT_STORAGE)}")
    nested = f"{name}.nested_absmax" in tensors
    parts = [
        codes,
        _need(tensors, f"{name}.absmax", ["U8"] if nested else ["F32"], blocks),
        _need(tensors, f"{name}.quant_map", ["F32"], 16),
    ]
    nested_blocksize = nested_offset = None
    if nested:
        nested_blocksize = _field(state, "nested_blocksize", int, "a number")
        if nested_blocksize not in BLOCKSIZES:
            raise ValueError(f"has nested_blocksize {nested_blocksize}; expected one of {BLOCKSIZES}")
        nested_offset = float(_field(state, "nested_offset", (int, float), "a number"))
        parts += [
            _need(tensors, f"{name}.nested_absmax", ["F32"], -(-blocks // nested_blocksize)),
            _need(tensors, f"{name}.nested_quant_map", ["F32"], 256),
        ]
    if quant_type == "nf4":
        values = _typed(reader.bytes(tensors[f"{name}.quant_map"]), "F32")
        if not np.array_equal(values, np.array(codebook(), np.float32)):
            raise ValueError("has a quant_map that is not NF4's")
    return Layer(name, quant_type, tuple(shape), dtype, blocksize, nested, codes.dtype,
                 sum(part.nbytes for part in parts), nested_blocksize, nested_offset)  # fmt: skip


def layers(reader):
    """The packed layers of an open file, checked."""
    found = []
    for key in reader.tensors:
        name, separator, _ = key.rpartition(f".{_STATE}")
        if not separator:
            continue
        try:
            found.append(_layer(reader, name, key))
        except (ValueError, Error) as problem:
            raise FileError(f"{reader.path}: layer {name!r} {problem}") from None
    return found


def weight(reader, layer):
    """The nf4.Weight of a layer of an open file."""

    def part(name, dtype):
        return _typed(reader.bytes(reader.tensors[f"{layer.name}{name}"]), dtype)

    fields = {}
    if layer.nested:
        fields = {
            "absmax_map": part(".nested_quant_map", "F32"),
            "absmax2": part(".nested_absmax", "F32"),
            "absmax_offset": np.array([layer.nested_offset], np.float32),
            "absmax_blocksize": layer.nested_blocksize,
        }
    return Weight(*layer.shape, part("", "U8"), part(".absmax", "U8" if layer.nested else "F32"),
                  blocksize=layer.blocksize, **fields)  # fmt: skip


def error(reader, layer, original):
    """||NF4(W) - W|| / ||W|| against the file `original` (a Reader), or None if that has no such matrix."""
    tensor = original.tensors.get(layer.name)
    if layer.quant_type != "nf4" or tensor is None or tensor.dtype not in _DTYPES:
        return None
    if tensor.shape != layer.shape:
        raise FileError(f"{original.path}: {layer.name!r} is {list(tensor.shape)}; expected {list(layer.shape)}")
    handle = Handle()
    absmax = handle.unpack_absmax(weight(reader, layer))
    itemsize = _NUMPY[tensor.dtype].itemsize
    error2 = norm2 = 0.0
    for begin in range(0, tensor.count, _CHUNK):
        end = min(begin + _CHUNK, tensor.count)
        codes = np.frombuffer(reader.bytes(reader.tensors[layer.name], begin // 2, -(-end // 2)), np.uint8)
        scales = absmax[begin // layer.blocksize : -(-end // layer.blocksize)]
        unpacked = handle.unpack(Weight(1, end - begin, codes, scales, blocksize=layer.blocksize))[0]
        w = _typed(original.bytes(tensor, begin * itemsize, end * itemsize), tensor.dtype)
        w = w.to_float32() if isinstance(w, Bfloat16) else w.astype(np.float32)
        error2 += np.sum(np.square((unpacked - w).astype(np.float64)))
        norm2 += np.sum(np.square(w.astype(np.float64)))
    return float(np.sqrt(error2 / norm2)) if norm2 else 0.0
