"""What a checkpoint holds of a packed layer: its keys, its quant_state, and the layer that is read from them.

docs/reference/format.md lists the keys."""

import json
import math
import re
import struct
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from .._array import Bfloat16
from .._handle import Handle, Weight
from .._library import BLOCKSIZES, Error, codebook, packed_size
from .matrix import DTYPES, NUMPY, Matrix, typed
from .reading import Checkpoint
from .safetensors import FileError, Tensor, element_count, is_size

NESTED_BLOCKSIZE = 256  # bitsandbytes'
CHUNK = 1 << 24  # elements at a time: a multiple of every blocksize and of what two nested blocksizes make of it

_QUANT_STORAGE = ("U8", "BF16", "F16", "F32")
_STATE = "quant_state.bitsandbytes__"
_OFFSET_WIDTH = 26  # of a nested_offset in JSON: the longest repr of a float, and room
_MOST_ELEMENTS = 2**60  # that the library takes


# ---- to write


def state_key(name: str) -> str:
    return f"{name}.{_STATE}nf4"


def state_text(dtype: str, shape: Sequence[int], blocksize: int, nested: bool, offset: float) -> bytes:
    """The quant_state of a layer. Its length does not depend on the offset, since the header comes before the data."""
    state = {"quant_type": "nf4", "blocksize": blocksize, "dtype": DTYPES[dtype], "shape": list(shape)}
    if not nested:
        return json.dumps(state).encode()
    state.update(nested_blocksize=NESTED_BLOCKSIZE, nested_dtype="float32", nested_offset=float(offset))
    text = json.dumps(state)
    return (text + " " * (_OFFSET_WIDTH - len(json.dumps(state["nested_offset"])))).encode()


def packed_tensors(name: str, dtype: str, shape: Tuple[int, ...], blocksize: int, nested: bool) -> List[Tensor]:
    """What takes the place of the matrix `name`."""
    rows, cols = shape
    codes_bytes, blocks = packed_size(rows, cols, blocksize)
    tensors = [
        Tensor(name, "U8", (codes_bytes, 1)),
        Tensor(f"{name}.absmax", "U8" if nested else "F32", (blocks,)),
        Tensor(f"{name}.quant_map", "F32", (16,)),
        Tensor(state_key(name), "U8", (len(state_text(dtype, shape, blocksize, nested, 0.0)),)),
    ]
    if nested:
        tensors += [
            Tensor(f"{name}.nested_absmax", "F32", (-(-blocks // NESTED_BLOCKSIZE),)),
            Tensor(f"{name}.nested_quant_map", "F32", (256,)),
        ]
    return tensors


# ---- to read


@dataclass(frozen=True)
class Layer:
    """A packed weight of a checkpoint: a matrix, or the matrices of all experts as one."""

    name: str
    quant_type: str
    shape: Tuple[int, ...]
    dtype: str
    blocksize: int
    nested: bool
    storage: str
    nbytes: int
    nested_blocksize: Optional[int] = None
    nested_offset: Optional[float] = None

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def rows(self) -> int:
        """Of the matrix that all sizes except the last make."""
        return math.prod(self.shape[:-1])


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _parse_state(data: bytes) -> Dict[str, Any]:
    # NaN may be here, as the offset of scales that are NaN: bitsandbytes writes and reads it so.
    try:
        state = json.loads(data.decode())
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"is no JSON: {problem}") from None
    if not isinstance(state, dict):
        raise ValueError("is no JSON object")
    return state


def _field(state: Dict[str, Any], name: str, kind: Any, what: str) -> Any:
    value = state.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"has {name} {_shown(value)}; expected {what}")
    return value


def _blocksize(state: Dict[str, Any], name: str) -> int:
    value = _field(state, name, int, "a number")
    if value not in BLOCKSIZES:
        raise ValueError(f"has {name} {_shown(value)}; expected one of {', '.join(map(str, BLOCKSIZES))}")
    return value


def _shape(state: Dict[str, Any]) -> Tuple[int, ...]:
    shape = _field(state, "shape", list, "sizes")
    if not shape or not all(map(is_size, shape)):
        raise ValueError(f"has shape {_shown(shape)}; expected sizes")
    if element_count(shape) >= _MOST_ELEMENTS or element_count(shape[:-1]) >= _MOST_ELEMENTS:
        raise ValueError(f"has shape {_shown(shape)}; expected fewer than 2^60 elements")
    return tuple(shape)


def _offset(state: Dict[str, Any]) -> float:
    value = _field(state, "nested_offset", (int, float), "a number")
    try:
        number = float(value)
        struct.pack("<f", number)  # the library takes it so, and without "<" too large a number is no error
        return number
    except OverflowError:
        raise ValueError(f"has nested_offset {_shown(value)}; expected a number that a float32 can hold") from None


def _need(tensors: Dict[str, Tensor], name: str, dtype: str, count: int) -> Tensor:
    tensor = tensors.get(name)
    if tensor is None:
        raise ValueError(f"lacks {name}")
    if tensor.dtype != dtype or tensor.count != count:
        raise ValueError(f"has {name} as {tensor.dtype} {list(tensor.shape)}; expected {dtype}, {count} of them")
    return tensor


def _layer(checkpoint: Checkpoint, name: str, key: str) -> Layer:
    """The layer `name`, whose quant_state is the tensor `key`. ValueError says what is wrong with it."""
    tensors = checkpoint.tensors
    state = _parse_state(checkpoint.read(tensors[key]))
    quant_type = _field(state, "quant_type", str, '"nf4" or "fp4"')
    if key != f"{name}.{_STATE}{quant_type}":
        raise ValueError(f"has quant_type {_shown(quant_type)}, which is not what its key says")
    blocksize = _blocksize(state, "blocksize")
    dtype = _field(state, "dtype", str, "a name")
    shape = _shape(state)

    codes_bytes, blocks = packed_size(math.prod(shape[:-1]), shape[-1], blocksize)
    codes = tensors.get(name)
    if codes is None or codes.dtype not in _QUANT_STORAGE or codes.nbytes != codes_bytes:
        found = "nothing" if codes is None else f"{codes.dtype} {list(codes.shape)}"
        raise ValueError(f"has {found} as its codes; expected {codes_bytes} bytes of {' or '.join(_QUANT_STORAGE)}")
    nested = f"{name}.nested_absmax" in tensors
    parts = [
        codes,
        _need(tensors, f"{name}.absmax", "U8" if nested else "F32", blocks),
        _need(tensors, f"{name}.quant_map", "F32", 16),
    ]
    nested_blocksize = nested_offset = None
    if nested:
        nested_blocksize, nested_offset = _blocksize(state, "nested_blocksize"), _offset(state)
        parts += [
            _need(tensors, f"{name}.nested_absmax", "F32", -(-blocks // nested_blocksize)),
            _need(tensors, f"{name}.nested_quant_map", "F32", 256),
        ]
    if quant_type == "nf4":
        values = typed(checkpoint.read(tensors[f"{name}.quant_map"]), "F32")
        if not np.array_equal(values, np.array(codebook(), np.float32)):
            raise ValueError("has a quant_map that is not NF4's")
    return Layer(name, quant_type, shape, dtype, blocksize, nested, codes.dtype,
                 sum(part.nbytes for part in parts), nested_blocksize, nested_offset)  # fmt: skip


def layers(checkpoint: Checkpoint) -> List[Layer]:
    """The packed layers of a checkpoint, checked. What is wrong with one is a FileError."""
    found = []
    for key in checkpoint.tensors:
        name, separator, _ = key.rpartition(f".{_STATE}")
        if not separator:
            continue
        try:
            found.append(_layer(checkpoint, name, key))
        except FileError:
            raise
        except (ValueError, Error) as problem:
            raise FileError(f"{checkpoint.path}: layer {name!r} {problem}") from None
    return found


_EXPERT = re.compile(r"(\.experts\.(?:\w+s\.)?)\d+\.")


def grouped(layers: Iterable[Layer]) -> Dict[str, List[Layer]]:
    """Layers by name. The matrices of experts that are alike come together, with "*" for the number of the expert."""
    groups: Dict[str, List[Layer]] = {}
    for layer in layers:
        name = _EXPERT.sub(r"\1*.", layer.name)
        alike = groups.get(name, [layer])[0]
        if any(getattr(layer, what) != getattr(alike, what) for what in _SHOWN):
            name = layer.name
        groups.setdefault(name, []).append(layer)
    return groups


_SHOWN = ("quant_type", "shape", "dtype", "blocksize", "nested")


def _part(checkpoint: Checkpoint, layer: Layer, suffix: str, dtype: str, begin: int, end: int) -> Any:
    """Elements [begin, end) of the tensor that is the layer's name and `suffix`."""
    itemsize = NUMPY[dtype].itemsize
    return typed(checkpoint.read(checkpoint.tensors[layer.name + suffix], begin * itemsize, end * itemsize), dtype)


def _weight(checkpoint: Checkpoint, layer: Layer, rows: int, cols: int, begin: int) -> Weight:
    """rows * cols elements of a layer, from `begin` on, where a block of the scales' scales begins."""
    end = begin + rows * cols
    first, last = begin // layer.blocksize, -(-end // layer.blocksize)
    fields: Dict[str, Any] = {}
    size = layer.nested_blocksize
    if size is not None:
        fields = {
            "absmax_map": _part(checkpoint, layer, ".nested_quant_map", "F32", 0, 256),
            "absmax2": _part(checkpoint, layer, ".nested_absmax", "F32", first // size, -(-last // size)),
            "absmax_offset": np.array([layer.nested_offset], np.float32),
            "absmax_blocksize": size,
        }
    codes = _part(checkpoint, layer, "", "U8", begin // 2, -(-end // 2))
    absmax = _part(checkpoint, layer, ".absmax", "U8" if layer.nested else "F32", first, last)
    return Weight(rows, cols, codes, absmax, blocksize=layer.blocksize, **fields)


def weight(checkpoint: Checkpoint, layer: Layer) -> Weight:
    """The nf4.Weight of a layer. That of experts has their rows one after the other."""
    return _weight(checkpoint, layer, layer.rows, layer.shape[-1], 0)


def _error(checkpoint: Checkpoint, layer: Layer, original: Matrix) -> float:
    handle = Handle()
    error2 = norm2 = 0.0
    for begin in range(0, layer.count, CHUNK):
        end = min(begin + CHUNK, layer.count)
        unpacked = handle.unpack(_weight(checkpoint, layer, 1, end - begin, begin))[0]
        w = typed(original.read(begin, end), original.tensor.dtype)
        w = w.to_float32() if isinstance(w, Bfloat16) else w.astype(np.float32)
        error2 += np.sum(np.square((unpacked - w).astype(np.float64)))
        norm2 += np.sum(np.square(w.astype(np.float64)))
    return float(np.sqrt(error2 / norm2)) if norm2 else 0.0


def error(checkpoint: Checkpoint, layer: Layer, original: Checkpoint) -> Optional[float]:
    """||NF4(W) - W|| / ||W|| against the checkpoint before, or None if that has no such weight."""
    tensor = original.tensors.get(layer.name)
    if layer.quant_type != "nf4" or tensor is None or tensor.dtype not in DTYPES:
        return None
    # A Conv1D is transposed when it is packed. A square one does not show it by its shape, and does by its error.
    ways = [Matrix(original, tensor)] + [Matrix(original, tensor, transposed=True)] * (len(layer.shape) == 2)
    ways = [matrix for matrix in ways if matrix.shape == layer.shape]
    if not ways:
        raise FileError(f"{original.path}: {layer.name!r} is {list(tensor.shape)}; expected {list(layer.shape)}")
    value = _error(checkpoint, layer, ways[0])
    return min(value, _error(checkpoint, layer, ways[1])) if len(ways) > 1 and value > 1 else value
