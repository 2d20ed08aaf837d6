"""libnf4.so by ctypes: the structs and functions of nf4.h, and a failed call as an exception."""

from __future__ import annotations

import ctypes
import os
import pathlib
from ctypes import POINTER, byref, c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from typing import Any

from ._arguments import integer

SUCCESS = 0
INVALID_ARGUMENT = 1
UNSUPPORTED = 3
UNKNOWN_VARIANT = 4
NO_DEVICE = 8

HOST = -1

F32, F16, BF16, U8, I32, I64 = range(6)
OP_GEMM = 2
OP_GEMM_EXPERTS = 5
OP_GEMM_TRANSPOSED = 7
SIZE_MAX = c_size_t(-1).value

BLOCKSIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)


class Error(RuntimeError):
    """A call that libnf4 refused or that failed. `status` is its nf4_status_t, `name` that status's name."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.name: str = library().nf4_status_string(status).decode()

    def __reduce__(self) -> tuple[Any, ...]:  # that of exceptions would make it again of the message alone
        return type(self), (self.status, str(self))


class Struct(ctypes.Structure):
    """A struct of nf4.h, which begins with its own size."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(struct_size=ctypes.sizeof(self), **fields)


class WeightStruct(Struct):
    """nf4_weight_t"""

    _fields_ = [
        ("struct_size", c_size_t),
        ("rows", c_int64),
        ("cols", c_int64),
        ("codes", c_void_p),
        ("absmax", c_void_p),
        ("blocksize", c_int32),
        ("absmax_dtype", c_int32),
        ("absmax_map", c_void_p),
        ("absmax2", c_void_p),
        ("absmax_offset", c_void_p),
        ("absmax_blocksize", c_int32),
        ("flags", c_uint32),
    ]


class ProductStruct(Struct):
    """nf4_product_t"""

    _fields_ = [
        ("struct_size", c_size_t),
        ("y", c_void_p),
        ("ldy", c_int64),
        ("weight", POINTER(WeightStruct)),
        ("bias", c_void_p),
    ]


class RoutingStruct(Struct):
    """nf4_routing_t"""

    _fields_ = [
        ("struct_size", c_size_t),
        ("experts", c_int64),
        ("slots", c_int64),
        ("top_k", c_int64),
        ("ids", c_void_p),
        ("ids_dtype", c_int32),
        ("reserved", c_int32),
        ("ends", c_void_p),
        ("order", c_void_p),
        ("scale", c_void_p),
    ]


class OptionsStruct(Struct):
    """nf4_options_t"""

    _fields_ = [
        ("struct_size", c_size_t),
        ("variant", c_char_p),
        ("config", c_char_p),
        ("workspace", c_void_p),
        ("workspace_size", c_size_t),
    ]


class ProblemStruct(Struct):
    """nf4_problem_t"""

    _fields_ = [
        ("struct_size", c_size_t),
        ("op", c_int32),
        ("dtype", c_int32),
        ("m", c_int64),
        ("n", c_int64),
        ("k", c_int64),
        ("blocksize", c_int32),
        ("absmax_dtype", c_int32),
        ("alignment", c_int32),
        ("strided", c_int32),
        ("experts", c_int64),
        ("top_k", c_int64),
        ("sorted", c_int32),
        ("reserved", c_int32),
    ]


class SelectionStruct(Struct):
    """nf4_selection_t"""

    _fields_ = [
        ("struct_size", c_size_t),
        ("variant", c_char_p),
        ("workspace_size", c_size_t),
        ("config", ctypes.c_char * 64),
        ("reason", ctypes.c_char * 192),
    ]


class DeviceInfoStruct(Struct):
    """nf4_device_info_t"""

    _fields_ = [
        ("struct_size", c_size_t),
        ("device", c_int32),
        ("compute_capability", c_int32),
        ("multiprocessors", c_int32),
        ("reserved", c_int32),
        ("name", ctypes.c_char * 128),
    ]


_handle, _data, _stream = c_void_p, c_void_p, c_void_p
_weight, _options, _routing = POINTER(WeightStruct), POINTER(OptionsStruct), POINTER(RoutingStruct)

# Without argtypes, ctypes would pass 64-bit sizes and pointers as 32-bit ints.
_PROTOTYPES: dict[str, list[Any]] = {
    "nf4_create": [POINTER(c_void_p), c_int32],
    "nf4_destroy": [_handle],
    "nf4_device_info": [_handle, POINTER(DeviceInfoStruct)],
    "nf4_codebook": [POINTER(c_float)],
    "nf4_dynamic_map": [POINTER(c_float)],
    "nf4_packed_size": [POINTER(c_int64), POINTER(c_int64), c_int64, c_int64, c_int32],
    "nf4_pack": [_handle, _data, _data, _data, c_int64, c_int32, c_int64, c_int64, c_int32, _options, _stream],
    "nf4_unpack": [_handle, _data, c_int64, c_int32, _weight, _options, _stream],
    "nf4_pack_absmax": [_handle, _data, _data, _data, _data, c_int64, _data, c_int32, _options, _stream],
    "nf4_unpack_absmax": [_handle, _data, _weight, _options, _stream],
    "nf4_select": [_handle, POINTER(ProblemStruct), _options, POINTER(SelectionStruct)],
    "nf4_gemm": [_handle, _data, c_int64, _data, c_int64, c_int64, c_int32, _weight, _data, _options, _stream],
    "nf4_gemm_group": [
        _handle, POINTER(ProductStruct), c_size_t, _data, c_int64, c_int64, c_int32, _options, _stream
    ],
    "nf4_gemm_experts": [
        _handle, _data, c_int64, _data, c_int64, c_int32, _weight, _data, _routing, _options, _stream
    ],
    "nf4_gemm_transposed": [_handle, _data, c_int64, _data, c_int64, c_int64, c_int32, _weight, _options, _stream],
    "nf4_sort_experts": [_handle, _data, _data, _routing, _options, _stream],
    "nf4_variant_config": [_handle, c_char_p, c_size_t, c_char_p, c_size_t],
}

_library: ctypes.CDLL | None = None


def find() -> str:
    """NF4_LIBRARY, else the library that came with the package, else the system's."""
    path = os.environ.get("NF4_LIBRARY")
    if path:
        return path
    packaged = pathlib.Path(__file__).with_name("libnf4.so")
    return str(packaged) if packaged.exists() else "libnf4.so.1"


def library() -> ctypes.CDLL:
    """The loaded library. Raises OSError if there is none."""
    global _library
    if _library is None:
        loaded = ctypes.CDLL(find())
        for name, argtypes in _PROTOTYPES.items():
            getattr(loaded, name).argtypes = argtypes
        loaded.nf4_status_string.restype = c_char_p
        loaded.nf4_last_error_message.restype = c_char_p
        _library = loaded
    return _library


def check(status: int) -> None:
    if status != SUCCESS:
        # The library cuts messages to its buffer, and they may hold names of files, which need not be UTF-8.
        raise Error(status, library().nf4_last_error_message().decode(errors="replace"))


def version() -> tuple[int, int, int]:
    """The library's version, (major, minor, patch)."""
    number: int = library().nf4_version()
    return number // 10000, number // 100 % 100, number % 100


def is_built_with_cuda() -> bool:
    """Whether the library has the CUDA backend, or the host's alone. Does not initialize CUDA."""
    handle = c_void_p()
    check(library().nf4_create(byref(handle), HOST))
    try:
        config = ctypes.create_string_buffer(64)
        status = library().nf4_variant_config(handle, _A_CUDA_VARIANT, 0, config, len(config))
        if status != UNKNOWN_VARIANT:
            check(status)
        return bool(status == SUCCESS)
    finally:
        check(library().nf4_destroy(handle))


_A_CUDA_VARIANT = b"gemm.tiled"  # what every problem on CUDA can run, so each build with CUDA has it


def codebook() -> list[float]:
    """The 16 values of NF4, a list of floats."""
    values = (c_float * 16)()
    check(library().nf4_codebook(values))
    return list(values)


def dynamic_map() -> list[float]:
    """bitsandbytes' signed dynamic 8-bit map, the usual absmax_map of nested quantization: 256 floats."""
    values = (c_float * 256)()
    check(library().nf4_dynamic_map(values))
    return list(values)


def packed_size(rows: int, cols: int, blocksize: int = 64) -> tuple[int, int]:
    """How much memory a packed [rows, cols] takes: bytes of codes, and number of absmax values."""
    rows, cols = integer(rows, "rows"), integer(cols, "cols")
    codes, absmax = c_int64(), c_int64()
    check(library().nf4_packed_size(byref(codes), byref(absmax), rows, cols, integer(blocksize, "blocksize", 32)))
    return codes.value, absmax.value
