"""Where an array's data lies: numpy's arrays, and any other's by DLPack or __cuda_array_interface__."""

from __future__ import annotations

import ctypes
import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from ._library import BF16, F16, F32, HOST, I32, I64, U8

Array = Any  # numpy's, or one with __dlpack__ or __cuda_array_interface__

_KINDS = {"f4": F32, "f2": F16, "u1": U8, "bfloat16": BF16, "i4": I32, "i8": I64}
_ITEMSIZE = {F32: 4, F16: 2, BF16: 2, U8: 1, I32: 4, I64: 8}
NAMES = {F32: "float32", F16: "float16", BF16: "bfloat16", U8: "uint8", I32: "int32", I64: "int64"}

NUMBERS = (F32, F16, BF16, U8)  # what weights, activations and scales are
INTEGERS = (I32, I64)  # what ids of experts are

_INT64_MAX = (1 << 63) - 1


class _NotTaken(TypeError):
    """What an array is that it is not taken. buffer() puts the argument's name in front."""


class _WrongType(_NotTaken):
    """buffer() puts behind it what was expected."""


@dataclass(frozen=True)
class Buffer:
    """`owner` keeps the data alive. Strides are in elements; None stands for a C-contiguous array."""

    pointer: int
    dtype: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    device: int
    readonly: bool
    owner: object

    def __post_init__(self) -> None:
        # Sizes that C has no integer for would lose their high bits.
        if math.prod(filter(None, self.shape)) > _INT64_MAX:
            raise _NotTaken(f"an array of shape {self.shape}; expected at most {_INT64_MAX} elements")
        if any(abs(stride) > _INT64_MAX for stride in self.strides or ()):
            raise _NotTaken(f"an array with strides of {self.strides} elements; expected at most {_INT64_MAX}")

    def contiguous(self) -> bool:
        if self.strides is None:
            return True
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides)):
            if size > 1 and stride != expected:
                return False
            expected *= size
        return True

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.count * _ITEMSIZE[self.dtype]


    @functools.cached_property
    def rows(self) -> Rows:
        """Of an array that is contiguous, or a matrix of contiguous rows."""
        itemsize = _ITEMSIZE[self.dtype]
        if self.strides is None or self.contiguous():
            nbytes = self.nbytes
            return Rows(self.pointer, 1, nbytes, nbytes, self.pointer + nbytes)
        number, width, step = self.shape[0], self.shape[1] * itemsize, self.strides[0] * itemsize
        return Rows(self.pointer, number, step, width, self.pointer + (number - 1) * step + width)


class Rows(NamedTuple):
    """The memory of a matrix: rows of `width` bytes, of which each begins `step` after the one before."""

    start: int
    number: int
    step: int
    width: int
    end: int

    def meet(self, start: int, width: int) -> bool:
        """Whether any byte of these rows is one of the `width` from `start` on, which is not before the first row."""
        row = (start - self.start - self.width) // self.step + 1  # the first that ends behind `start`
        return row < self.number and self.start + row * self.step < start + width


def overlap(one: Buffer, other: Buffer) -> bool:
    """Whether two arrays on one device share a byte. Each is contiguous, or a matrix of contiguous rows, which may lie
    between those of the other."""
    first, second = one.rows, other.rows
    if first.start > second.start:
        first, second = second, first
    if second.start >= first.end or not one.count or not other.count:
        return False
    # With the same step all rows of the second lie to those of the first as its first row does.
    checked = 1 if second.step == first.step else second.number
    return any(first.meet(second.start + row * second.step, second.width) for row in range(checked))


class Bfloat16:
    """A numpy array of uint16 that holds the bits of bfloat16, a type that numpy lacks."""

    def __init__(self, bits: Any) -> None:
        if not hasattr(bits, "__array_interface__"):
            raise TypeError(f"bits is a {type(bits).__name__}; expected a numpy array of uint16")
        if bits.dtype != "uint16":
            raise TypeError(f"bits are {bits.dtype}; expected uint16")
        self._bits = bits

    @property
    def bits(self) -> Any:
        return self._bits

    def __repr__(self) -> str:
        return f"nf4.Bfloat16({self.bits!r})"

    def to_float32(self) -> Any:
        return (self.bits.astype("uint32") << 16).view("float32")


class _DLDevice(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("id", ctypes.c_int32)]


class _DLTensor(ctypes.Structure):
    """DLTensor of dlpack.h, which a capsule "dltensor" begins with."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _DLDevice),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _DLManagedTensorVersioned(ctypes.Structure):
    """What a capsule "dltensor_versioned" holds, from DLPack 1.0 on."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _DLTensor),
    ]


# (code, bits): float, bfloat, unsigned, signed
_DL_DTYPES = {(2, 32): F32, (2, 16): F16, (4, 16): BF16, (1, 8): U8, (0, 32): I32, (0, 64): I64}
_DL_HOST = (1, 3)  # CPU, and host memory that CUDA pinned
_DL_CUDA = (2, 13)  # CUDA, and CUDA's managed memory
_DL_VERSION = (1, 0)
_DL_READ_ONLY, _DL_COPIED = 1, 2
_NO_SYNC = -1  # the call's stream orders the work

_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_capsule_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_capsule_is_valid.argtypes = [ctypes.py_object, ctypes.c_char_p]


def _capsule(array: Array) -> object:
    keywords = {"stream": _NO_SYNC} if array.__dlpack_device__()[0] in _DL_CUDA else {}
    try:
        return array.__dlpack__(max_version=_DL_VERSION, **keywords)
    except TypeError:  # from before DLPack 1.0
        return array.__dlpack__(**keywords)


def _opened(capsule: object) -> tuple[_DLTensor, bool]:
    """The tensor of a capsule, and whether what is written to it would be lost or must not be written."""
    if not _capsule_is_valid(capsule, b"dltensor_versioned"):
        return _DLTensor.from_address(_capsule_pointer(capsule, b"dltensor")), False
    managed = _DLManagedTensorVersioned.from_address(_capsule_pointer(capsule, b"dltensor_versioned"))
    if managed.major != _DL_VERSION[0]:
        raise _NotTaken(f"an array of DLPack {managed.major}.{managed.minor}; expected {_DL_VERSION[0]}.x")
    return managed.tensor, bool(managed.flags & (_DL_READ_ONLY | _DL_COPIED))


def _from_dlpack(array: Array) -> Buffer:
    try:
        capsule = _capsule(array)
    except BufferError as error:
        raise _NotTaken(f"an array that cannot be had by DLPack: {error}") from error
    tensor, readonly = _opened(capsule)
    dtype = _DL_DTYPES.get((tensor.code, tensor.bits)) if tensor.lanes == 1 else None
    if dtype is None:
        raise _WrongType(f"an array of DLPack type code {tensor.code} with {tensor.bits} bits")
    if tensor.device.type in _DL_HOST:
        device = HOST
    elif tensor.device.type in _DL_CUDA:
        device = tensor.device.id
    else:
        raise _NotTaken(f"an array on DLPack device type {tensor.device.type}; expected host or CUDA memory")
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None
    # The capsule is never marked as consumed, so that it frees what it holds when it goes.
    return Buffer((tensor.data or 0) + tensor.byte_offset, dtype, shape, strides, device, readonly, (array, capsule))


def _from_interface(array: Array, interface: dict[str, Any], device: int) -> Buffer:
    typestr = interface["typestr"]
    dtype = _KINDS.get(typestr[1:])
    if dtype is None or typestr[0] == ">":
        raise _WrongType(f"an array of type {typestr!r}")
    data = interface.get("data")
    if not isinstance(data, tuple):  # numpy also allows an object with the buffer protocol, such as bytes
        raise _NotTaken(f"a {type(array).__name__} that does not tell its address; expected a numpy array of it")
    strides = interface.get("strides")
    if strides is not None:
        if any(stride % _ITEMSIZE[dtype] for stride in strides):
            raise _NotTaken(f"an array with strides of {strides} bytes; expected multiples of {_ITEMSIZE[dtype]}")
        strides = tuple(stride // _ITEMSIZE[dtype] for stride in strides)
    pointer, readonly = data
    return Buffer(pointer, dtype, tuple(interface["shape"]), strides, device, bool(readonly), array)


def _cuda_device_of(array: Array) -> int:
    """__cuda_array_interface__ does not tell the device; those who offer it do, each in its way."""
    device = getattr(array, "device", None)
    for name in ("index", "id"):
        number = getattr(device, name, None)
        if isinstance(number, int):
            return number
    return 0


def _from_numpy(array: Array) -> Buffer:
    import numpy as np

    if isinstance(array, np.generic):  # what it says of its memory is of a copy that is gone by then
        raise _NotTaken(f"a numpy scalar of {array.dtype}; expected an array")
    interface = array.__array_interface__
    if interface["typestr"] == "<V2" and str(getattr(array, "dtype", None)) == "bfloat16":  # ml_dtypes'
        interface = dict(interface, typestr="<bfloat16")
    return _from_interface(array, interface, HOST)


def buffer(array: Array, what: str, dtypes: tuple[int, ...] = NUMBERS) -> Buffer:
    """`array` as a Buffer of one of `dtypes`. `what` names the argument in the error message."""
    try:
        found = _buffer(array)
        if found.dtype not in dtypes:
            raise _WrongType(f"an array of type {NAMES[found.dtype]}")
        return found
    except _WrongType as error:
        raise TypeError(f"{what} is {error}; expected one of {', '.join(NAMES[dtype] for dtype in dtypes)}") from None
    except _NotTaken as error:
        raise TypeError(f"{what} is {error}") from error.__cause__


def _buffer(array: Array) -> Buffer:
    if isinstance(array, Bfloat16):
        interface = array.bits.__array_interface__
        if interface["typestr"] != "<u2":  # numpy lets the type of an array be set
            raise _NotTaken(f"a Bfloat16 whose bits are {array.bits.dtype}; expected uint16")
        return _from_interface(array, dict(interface, typestr="<bfloat16"), HOST)
    if hasattr(array, "__array_interface__"):
        return _from_numpy(array)
    if hasattr(array, "__dlpack__"):
        return _from_dlpack(array)
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is not None:
        return _from_interface(array, interface, _cuda_device_of(array))
    raise _NotTaken(
        f"a {type(array).__name__}; expected a numpy array, or one with __dlpack__ or __cuda_array_interface__"
    )
