"""The safetensors format: 8 bytes of header length, a JSON header, then the data."""

import json
import math
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Dict, Iterable, List, Tuple

ITEMSIZE = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "C64": 8, "BOOL": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1,
}  # fmt: skip

LENGTH_BYTES = 8
LONGEST_HEADER = 100_000_000  # what the safetensors library reads
_MOST = 2**63  # of elements, and of bytes


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
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.end - self.begin

    @property
    def written_nbytes(self) -> int:
        """Bytes in a file that is yet to be written; what has a type that is not known keeps those that it had."""
        return self.count * ITEMSIZE[self.dtype] if self.dtype in ITEMSIZE else self.nbytes


def is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def element_count(shape: Iterable[int]) -> int:
    """The product of sizes. It stops where no file could hold as much, so that a long list takes no long time."""
    count = 1
    for size in shape:
        count *= size
        if count >= _MOST:
            raise ValueError("has more elements than a file can hold")
    return count


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _refuse_duplicates(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    entries: Dict[str, Any] = {}
    for name, value in pairs:
        if name in entries:
            raise ValueError(f"{name!r} is there twice")
        entries[name] = value
    return entries


def parse_json_object(text: bytes) -> Dict[str, Any]:
    """The object that `text` is. ValueError says what is wrong: also with NaN, and with a name that comes twice."""
    try:
        value = json.loads(
            bytes(text).decode(), parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")
    return value


def _tensor(name: str, entry: Any, data_bytes: int) -> Tensor:
    """The tensor that `entry` of the header describes, or a ValueError that says what is wrong there."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("has a name that is no Unicode text") from None
    if not isinstance(entry, dict):
        raise ValueError("is no JSON object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str):
        raise ValueError("has no dtype")
    if not isinstance(shape, list) or not all(map(is_size, shape)):
        raise ValueError("has no shape of sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(is_size, offsets)):
        raise ValueError("has no pair of data_offsets")
    count = element_count(shape)
    tensor = Tensor(name, dtype, tuple(shape), *offsets)
    if not tensor.begin <= tensor.end <= data_bytes:
        raise ValueError(f"lies at bytes {tensor.begin} to {tensor.end}, but the file holds {data_bytes} bytes of data")
    if dtype in ITEMSIZE and tensor.nbytes != count * ITEMSIZE[dtype]:
        raise ValueError(f"has {tensor.nbytes} bytes, but {dtype} {shape} takes {count * ITEMSIZE[dtype]}")
    return tensor


def parse_header(header: bytes, data_bytes: int) -> Tuple[Dict[str, Tensor], Dict[str, str]]:
    """Tensors by name, and the metadata, of a header before `data_bytes` of data. ValueError says what is wrong."""
    try:
        entries = parse_json_object(header)
    except ValueError as error:
        raise ValueError(f"the header {error}") from None
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise ValueError("__metadata__ is no JSON object")
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise ValueError(f"__metadata__ has a {type(value).__name__} at {name!r}; expected a text")
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


class Writer:
    """Lays `tensors` (name, dtype, shape) out in a file, and writes them in any order, a piece at a time."""

    def __init__(self, tensors: Iterable[Tensor], metadata: Dict[str, str]) -> None:
        entries: Dict[str, Any] = {"__metadata__": metadata} if metadata else {}
        self._places = {}
        place = 0
        # Larger elements first, so that each tensor is aligned to its element.
        for tensor in sorted(tensors, key=lambda tensor: (-ITEMSIZE.get(tensor.dtype, 8), tensor.name)):
            self._places[tensor.name] = place
            end = place + tensor.written_nbytes
            entries[tensor.name] = {
                "dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [place, end],
            }  # fmt: skip
            place = end
        header = json.dumps(entries, separators=(",", ":"), allow_nan=False).encode()
        self._header = header + b" " * (-len(header) % 8)
        self._data = LENGTH_BYTES + len(self._header)
        self.nbytes = self._data + place

    def begin(self, file: BinaryIO) -> None:
        self._file = file
        file.write(struct.pack("<Q", len(self._header)) + self._header)
        file.truncate(self.nbytes)

    def write(self, name: str, data: Any, begin: int = 0) -> None:
        """Writes `data`, anything with a buffer, to the tensor `name` from its byte `begin` on."""
        self._file.seek(self._data + self._places[name] + begin)
        self._file.write(data)


def read_length(first_bytes: bytes, size: int) -> int:
    """Bytes of the header, by the beginning of a file of `size` bytes. ValueError says what is wrong."""
    if size < LENGTH_BYTES:
        raise ValueError(f"{size} bytes are too few for a safetensors file")
    (length,) = struct.unpack("<Q", first_bytes)
    if length > min(size - LENGTH_BYTES, LONGEST_HEADER):
        raise ValueError(
            f"says that its header takes {length} bytes, and has {size} in all; truncated, or no safetensors file"
        )
    return length
