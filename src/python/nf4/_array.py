"""Where an array's data lies: numpy's arrays, and any other's by DLPack or __cuda_array_interface__."""

import ctypes
import math
from dataclasses import dataclass
from typing import Optional, Tuple

from ._library import BF16, F16, F32, U8

HOST = -1

_KINDS = {"f4": F32, "f2": F16, "u1": U8, "bfloat16": BF16}
_ITEMSIZE = {F32: 4, F16: 2, BF16: 2, U8: 1}
NAMES = {F32: "float32", F16: "float16", BF16: "bfloat16", U8: "uint8"}


@dataclass(frozen=True)
class Buffer:
    """`owner` keeps the data alive. Strides are in elements; None stands for a C-contiguous array."""

    pointer: int
    dtype: int
    shape: Tuple[int, ...]
    strides: Optional[Tuple[int, ...]]
    device: int
    owner: object

    def contiguous(self):
        if self.strides is None:
            return True
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides)):
            if size > 1 and stride != expected:
                return False
            expected *= size
        return True

    @property
    def count(self):
        return math.prod(self.shape)

    @property
    def nbytes(self):
        return self.count * _ITEMSIZE[self.dtype]


class Bfloat16:
    """A numpy array of uint16 that holds the bits of bfloat16, a type that numpy lacks."""

    def __init__(self, bits):
        if bits.dtype != "uint16":
            raise TypeError(f"bits are {bits.dtype}; expected uint16")
        self.bits = bits

    def to_float32(self):
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


_DL_DTYPES = {(2, 32): F32, (2, 16): F16, (4, 16): BF16, (1, 8): U8}  # (code, bits): float, bfloat, unsigned
_DL_HOST = (1, 3)  # CPU, and host memory that CUDA pinned
_DL_CUDA = (2, 13)  # CUDA, and CUDA's managed memory
_NO_SYNC = -1  # the call's stream orders the work

_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


def _from_dlpack(array):
    device_type = array.__dlpack_device__()[0]
    capsule = array.__dlpack__(stream=_NO_SYNC) if device_type in _DL_CUDA else array.__dlpack__()
    tensor = _DLTensor.from_address(_capsule_pointer(capsule, b"dltensor"))
    dtype = _DL_DTYPES.get((tensor.code, tensor.bits)) if tensor.lanes == 1 else None
    if dtype is None:
        raise TypeError(f"an array of DLPack type code {tensor.code} with {tensor.bits} bits; expected {_expected()}")
    if tensor.device.type in _DL_HOST:
        device = HOST
    elif tensor.device.type in _DL_CUDA:
        device = tensor.device.id
    else:
        raise TypeError(f"an array on DLPack device type {tensor.device.type}; expected host or CUDA memory")
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None
    # The capsule is never marked as consumed, so that it frees what it holds when it goes.
    return Buffer((tensor.data or 0) + tensor.byte_offset, dtype, shape, strides, device, (array, capsule))


def _from_interface(array, interface, device):
    typestr = interface["typestr"]
    dtype = _KINDS.get(typestr[1:])
    if dtype is None or typestr[0] == ">":
        raise TypeError(f"an array of type {typestr!r}; expected {_expected()}")
    strides = interface.get("strides")
    if strides is not None:
        if any(stride % _ITEMSIZE[dtype] for stride in strides):
            raise TypeError(f"an array with strides of {strides} bytes; expected multiples of {_ITEMSIZE[dtype]}")
        strides = tuple(stride // _ITEMSIZE[dtype] for stride in strides)
    return Buffer(interface["data"][0], dtype, tuple(interface["shape"]), strides, device, array)


def _expected():
    return "one of " + ", ".join(NAMES.values())


def _cuda_device_of(array):
    """__cuda_array_interface__ does not tell the device; those who offer it do, each in its way."""
    device = getattr(array, "device", None)
    for name in ("index", "id"):
        number = getattr(device, name, None)
        if isinstance(number, int):
            return number
    return 0


def buffer(array, what):
    """`array` as a Buffer. `what` names the argument in the error message."""
    try:
        if isinstance(array, Bfloat16):
            return _from_interface(array, dict(array.bits.__array_interface__, typestr="<bfloat16"), HOST)
        if hasattr(array, "__array_interface__"):
            interface = array.__array_interface__
            if getattr(array, "dtype", None) == "bfloat16":  # ml_dtypes': to numpy two bytes without a meaning
                interface = dict(interface, typestr="<bfloat16")
            return _from_interface(array, interface, HOST)
        if hasattr(array, "__dlpack__"):
            return _from_dlpack(array)
        interface = getattr(array, "__cuda_array_interface__", None)
        if interface is not None:
            return _from_interface(array, interface, _cuda_device_of(array))
    except TypeError as error:
        raise TypeError(f"{what} is {error}") from None
    raise TypeError(
        f"{what} is a {type(array).__name__}; "
        "expected a numpy array, or one with __dlpack__ or __cuda_array_interface__"
    )
