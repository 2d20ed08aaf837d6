"""Safetensors files: 8 bytes of header length, a JSON header, then the data. Read and written a piece at a time."""

import contextlib
import json
import math
import mmap
import os
import struct
from dataclasses import dataclass
from typing import Tuple

ITEMSIZE = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "C64": 8, "BOOL": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1,
}  # fmt: skip

_LONGEST_HEADER = 100_000_000  # what the safetensors library reads


class FileError(ValueError):
    """A file that is not what it should be. The message names the file."""


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str  # as the file spells it
    shape: Tuple[int, ...]
    begin: int = 0  # bytes, from the start of the data
    end: int = 0

    @property
    def count(self):
        return math.prod(self.shape)

    @property
    def nbytes(self):
        return self.end - self.begin


def _is_size(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _tensor(name, entry, data_bytes):
    """The tensor that `entry` of the header describes, or a ValueError that says what is wrong there."""
    if not isinstance(entry, dict):
        raise ValueError("is no JSON object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str):
        raise ValueError("has no dtype")
    if not isinstance(shape, list) or not all(map(_is_size, shape)):
        raise ValueError("has no shape of sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise ValueError("has no pair of data_offsets")
    tensor = Tensor(name, dtype, tuple(shape), *offsets)
    if not tensor.begin <= tensor.end <= data_bytes:
        raise ValueError(f"lies at bytes {tensor.begin} to {tensor.end}, but the file holds {data_bytes} bytes of data")
    if dtype in ITEMSIZE and tensor.nbytes != tensor.count * ITEMSIZE[dtype]:
        raise ValueError(f"has {tensor.nbytes} bytes, but {dtype} {shape} takes {tensor.count * ITEMSIZE[dtype]}")
    return tensor


def parse_header(header, data_bytes):
    """Tensors by name, and the metadata, of a header before `data_bytes` of data. ValueError says what is wrong."""
    try:
        entries = json.loads(header.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the header is no JSON: {error}") from None
    if not isinstance(entries, dict):
        raise ValueError("the header is no JSON object")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise ValueError("__metadata__ is no JSON object")
    tensors = {}
    for name, entry in entries.items():
        try:
            tensors[name] = _tensor(name, entry, data_bytes)
        except ValueError as error:
            raise ValueError(f"tensor {name!r} {error}") from None
    place = 0
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != place:
            raise ValueError(f"tensor {tensor.name!r} begins at byte {tensor.begin}; expected {place}")
        place = tensor.end
    if place != data_bytes:
        raise ValueError(f"the tensors end at byte {place}, but the file holds {data_bytes} bytes of data")
    return tensors, metadata


class Reader:
    """A file, mapped into memory. `tensors` has its Tensors by name, in the header's order."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 8:
                raise FileError(f"{path}: {size} bytes are too few for a safetensors file")
            (header_bytes,) = struct.unpack("<Q", file.read(8))
            if header_bytes > min(size - 8, _LONGEST_HEADER):
                raise FileError(f"{path}: says that its header takes {header_bytes} bytes, and has {size} in all; "
                                "truncated, or no safetensors file")  # fmt: skip
            self._data = 8 + header_bytes
            try:
                self.tensors, self.metadata = parse_header(file.read(header_bytes), size - self._data)
            except ValueError as error:
                raise FileError(f"{path}: {error}") from None
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def bytes(self, tensor, begin=0, end=None):
        """Bytes [begin, end) of `tensor`, without a copy."""
        end = tensor.nbytes if end is None else end
        return memoryview(self._map)[self._data + tensor.begin + begin : self._data + tensor.begin + end]


class Writer:
    """Writes `tensors` (name, dtype, shape) to `path`, in any order. The file appears at the end of the with block,
    whole, or not at all if that raises."""

    def __init__(self, path, tensors, metadata):
        self.path = path
        self._part = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.part")
        # Larger elements first, so that each tensor is aligned to its element.
        entries = {"__metadata__": metadata} if metadata else {}
        self._places = {}
        place = 0
        for tensor in sorted(tensors, key=lambda tensor: (-ITEMSIZE.get(tensor.dtype, 8), tensor.name)):
            nbytes = tensor.count * ITEMSIZE[tensor.dtype] if tensor.dtype in ITEMSIZE else tensor.nbytes
            self._places[tensor.name] = place
            entries[tensor.name] = {
                "dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [place, place + nbytes],
            }  # fmt: skip
            place += nbytes
        header = json.dumps(entries, separators=(",", ":")).encode()
        self._header = header + b" " * (-len(header) % 8)
        self._size = 8 + len(self._header) + place

    def __enter__(self):
        self._file = open(self._part, "xb")
        try:
            self._file.write(struct.pack("<Q", len(self._header)) + self._header)
            self._file.truncate(self._size)
        except BaseException:
            self.__exit__(OSError, None, None)
            raise
        return self

    def write(self, name, data, begin=0):
        """Writes `data`, anything with a buffer, to the tensor `name` from its byte `begin` on."""
        self._file.seek(8 + len(self._header) + self._places[name] + begin)
        self._file.write(data)

    def __exit__(self, failure, *_):
        try:
            if failure is None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                os.replace(self._part, self.path)
        finally:
            self._file.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._part)
