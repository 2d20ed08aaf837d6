"""Handle and Weight: the operations of nf4.h on arrays."""

import contextlib
import ctypes
import math
from ctypes import byref

from ._array import HOST, NAMES, Bfloat16, buffer
from ._library import (
    BF16,
    F16,
    F32,
    U8,
    DeviceInfoStruct,
    OptionsStruct,
    ProductStruct,
    WeightStruct,
    check,
    dynamic_map,
    library,
    packed_size,
)

_DTYPES = {name: dtype for dtype, name in NAMES.items() if dtype != U8}


def _dtype(dtype):
    """An nf4_dtype_t for "bfloat16", numpy.float32, torch.float16 and the like."""
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", None) or str(dtype).rpartition(".")[2]
    if name not in _DTYPES:
        raise TypeError(f"dtype is {name}; expected one of {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _options(variant, config):
    if variant is None and config is None:
        return None
    return byref(OptionsStruct(variant=_encoded(variant), config=_encoded(config)))


def _encoded(text):
    return None if text is None else text.encode()


class Weight:
    """A matrix [rows, cols] in NF4, as a bitsandbytes checkpoint holds it: a view of arrays that it keeps alive.

    absmax holds one scale for each block in float32, float16 or bfloat16; or it is uint8, nested, and absmax_map,
    absmax2 and absmax_offset come with it (nf4.h says what they mean). codes may be of any type, bitsandbytes'
    quant_storage: its bytes count.
    """

    def __init__(self, rows, cols, codes, absmax, *, blocksize=64, absmax_map=None, absmax2=None, absmax_offset=None,
                 absmax_blocksize=256):  # fmt: skip
        self.rows, self.cols, self.blocksize, self.absmax_blocksize = rows, cols, blocksize, absmax_blocksize
        self.codes, self.absmax = codes, absmax
        self.absmax_map, self.absmax2, self.absmax_offset = absmax_map, absmax2, absmax_offset

        codes_bytes, blocks = packed_size(rows, cols, blocksize)
        codes = _contiguous(codes, "codes")
        absmax = _sized(absmax, "absmax", blocks)
        nested = absmax.dtype == U8
        _at_least("codes", codes.nbytes, codes_bytes, "bytes")
        self.device = codes.device
        fields = {}
        parts = {"absmax": absmax}
        if nested:
            for name, array, count in (
                ("absmax_map", absmax_map, 256),
                ("absmax2", absmax2, -(-blocks // max(absmax_blocksize, 1))),
                ("absmax_offset", absmax_offset, 1),
            ):
                if array is None:
                    raise ValueError(f"{name} is None; expected an array, since absmax is uint8 (nested)")
                parts[name] = _sized(array, name, count)
                if parts[name].dtype != F32:
                    raise TypeError(f"{name} is {NAMES[parts[name].dtype]}; expected float32")
                fields[name] = parts[name].pointer
        for name, part in parts.items():
            _same_device(name, part, self.device)
        self._keep = (codes, parts)
        self.struct = WeightStruct(
            rows=rows, cols=cols, codes=codes.pointer, absmax=absmax.pointer, blocksize=blocksize,
            absmax_dtype=absmax.dtype, absmax_blocksize=absmax_blocksize, **fields,
        )  # fmt: skip

    @property
    def nested(self):
        return self.struct.absmax_dtype == U8

    @property
    def shape(self):
        return self.rows, self.cols

    @property
    def nbytes(self):
        """Bytes of codes and scales."""
        codes, parts = self._keep
        return codes.nbytes + sum(part.nbytes for part in parts.values())


class Handle:
    """A CUDA device, or the host backend: nf4_handle_t. Threads and streams may share one.

    On the host, results that no `out` is given for are new numpy arrays (a nf4.Bfloat16 if x has that type). On CUDA
    every result needs its array, since the library allocates nothing, and the work is ordered on `stream`: a
    cudaStream_t as an int, 0 is the legacy
    default stream. The arrays must be ready on that stream, and the device must be the thread's current one.
    """

    def __init__(self, device=HOST):
        self._handle = ctypes.c_void_p()
        self.device = device
        check(library().nf4_create(byref(self._handle), device))

    def close(self):
        """Frees the handle. It frees itself when it is no longer referenced."""
        handle, self._handle = self._handle, ctypes.c_void_p()
        check(library().nf4_destroy(handle))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        with contextlib.suppress(Exception):  # nf4_create failed, or the interpreter is shutting down
            self.close()

    @property
    def pointer(self):
        """The nf4_handle_t, for calls of the C API."""
        return self._handle

    def device_info(self):
        """Name, compute capability (90 for 9.0; 0 on the host) and number of multiprocessors or threads, a dict."""
        info = DeviceInfoStruct()
        check(library().nf4_device_info(self._handle, byref(info)))
        return {
            "device": info.device,
            "name": info.name.decode(),
            "compute_capability": info.compute_capability,
            "multiprocessors": info.multiprocessors,
        }

    def pack(self, w, *, blocksize=64, nested=False, codes=None, absmax=None, stream=None, variant=None, config=None):
        """Packs w [rows, cols] and returns a Weight; nested quantizes its scales too (compress_statistics).

        `codes` and `absmax` are the outputs: ceil(rows*cols/2) of uint8, one float32 for each block. A nested weight
        has more of them, so on CUDA call pack_absmax by itself."""
        w_, rows, cols, stride = self._matrix(w, "w")
        codes_bytes, blocks = packed_size(rows, cols, blocksize)
        codes, codes_ = self._output(codes, "codes", (codes_bytes,), U8)
        absmax, absmax_ = self._output(absmax, "absmax", (blocks,), F32)
        options = _options(variant, config)
        check(library().nf4_pack(self._handle, codes_.pointer, absmax_.pointer, w_.pointer, stride, w_.dtype, rows,
                                 cols, blocksize, options, stream))  # fmt: skip
        if not nested:
            return Weight(rows, cols, codes, absmax, blocksize=blocksize)
        absmax_codes, absmax2, offset, absmax_map = self.pack_absmax(absmax, stream=stream)
        return Weight(rows, cols, codes, absmax_codes, blocksize=blocksize, absmax_map=absmax_map, absmax2=absmax2,
                      absmax_offset=offset)  # fmt: skip

    def unpack(self, weight, *, dtype=None, out=None, stream=None, variant=None, config=None):
        """Unpacks `weight` into `out` [rows, cols], or into a new array of `dtype`, float32 if it is None."""
        wanted = F32 if dtype is None else _dtype(dtype)
        self._owns("weight", weight)
        out, out_ = self._output(out, "out", weight.shape, wanted if out is None or dtype is not None else None)
        check(library().nf4_unpack(self._handle, out_.pointer, _stride(out_, "out"), out_.dtype, byref(weight.struct),
                                   _options(variant, config), stream))  # fmt: skip
        return out

    def pack_absmax(self, absmax, *, absmax_map=None, blocksize=256, codes=None, absmax2=None, offset=None,
                    stream=None, variant=None, config=None):  # fmt: skip
        """Nested quantization of scales. Returns (codes, absmax2, offset, absmax_map); the map is bitsandbytes'."""
        absmax_ = _contiguous(absmax, "absmax", dtype=F32)
        self._owns("absmax", absmax_)
        count = absmax_.count
        if absmax_map is None:
            absmax_map = self._new_map()
        map_ = _sized(absmax_map, "absmax_map", 256, dtype=F32)
        codes, codes_ = self._output(codes, "codes", (count,), U8)
        absmax2, absmax2_ = self._output(absmax2, "absmax2", (-(-count // max(blocksize, 1)),), F32)
        offset, offset_ = self._output(offset, "offset", (1,), F32)
        check(library().nf4_pack_absmax(self._handle, codes_.pointer, absmax2_.pointer, offset_.pointer,
                                        absmax_.pointer, count, map_.pointer, blocksize, _options(variant, config),
                                        stream))  # fmt: skip
        return codes, absmax2, offset, absmax_map

    def unpack_absmax(self, weight, *, out=None, stream=None, variant=None, config=None):
        """The scales of `weight`, however stored, as float32: one for each block."""
        self._owns("weight", weight)
        out, out_ = self._output(out, "out", (packed_size(*weight.shape, weight.blocksize)[1],), F32)
        check(library().nf4_unpack_absmax(self._handle, out_.pointer, byref(weight.struct), _options(variant, config),
                                          stream))  # fmt: skip
        return out

    def gemm(self, x, weight, *, bias=None, out=None, stream=None, variant=None, config=None):
        """out = x W^T + bias, for x [..., K] and out [..., N] of the same dtype. Rows of x [m, K] may lie apart."""
        x_, m, k, ldx = self._matrix(x, "x")
        self._owns("weight", weight)
        if k != weight.cols:
            raise ValueError(f"x has {k} columns; expected weight.cols ({weight.cols})")
        bias_ = None if bias is None else _sized(bias, "bias", weight.rows, dtype=x_.dtype)
        out, out_ = self._output(out, "out", (*x_.shape[:-1], weight.rows), x_.dtype)
        check(library().nf4_gemm(self._handle, out_.pointer, _stride(out_, "out"), x_.pointer, ldx, m, x_.dtype,
                                 byref(weight.struct), bias_ and bias_.pointer, _options(variant, config),
                                 stream))  # fmt: skip
        return out

    def gemm_group(self, x, weights, *, biases=None, outs=None, stream=None, variant=None, config=None):
        """The products of x [..., K] with each of `weights`, launched together where that can be: a list of what gemm()
        gives for each. `biases` and `outs` are lists as long, or None; a bias may be None too."""
        x_, m, k, ldx = self._matrix(x, "x")
        weights = list(weights)
        biases = _as_many("biases", biases, weights)
        outs = _as_many("outs", outs, weights)
        products = []
        keep = []
        for i, weight in enumerate(weights):
            self._owns(f"weights[{i}]", weight)
            if k != weight.cols:
                raise ValueError(f"x has {k} columns; expected weights[{i}].cols ({weight.cols})")
            bias_ = None if biases[i] is None else _sized(biases[i], f"biases[{i}]", weight.rows, dtype=x_.dtype)
            outs[i], out_ = self._output(outs[i], f"outs[{i}]", (*x_.shape[:-1], weight.rows), x_.dtype)
            keep += bias_, out_
            products.append(
                ProductStruct(y=out_.pointer, ldy=_stride(out_, f"outs[{i}]"), weight=ctypes.pointer(weight.struct),
                              bias=bias_ and bias_.pointer)
            )  # fmt: skip
        check(library().nf4_gemm_group(self._handle, (ProductStruct * len(products))(*products), len(products),
                                       x_.pointer, ldx, m, x_.dtype, _options(variant, config), stream))  # fmt: skip
        return outs

    # ---- arguments

    def _owns(self, what, array):
        if array.device != self.device:
            raise ValueError(f"{what} is on {_place(array.device)}; expected {_place(self.device)}, the handle's")

    def _matrix(self, array, what):
        """Buffer, rows, columns and leading dimension of an array [..., columns]."""
        array = buffer(array, what)
        self._owns(what, array)
        if array.dtype == U8:
            raise TypeError(f"{what} is uint8; expected one of {', '.join(_DTYPES)}")
        if not array.shape:
            raise ValueError(f"{what} is a scalar; expected at least one dimension")
        cols = array.shape[-1]
        return array, math.prod(array.shape[:-1]), cols, _stride(array, what)

    def _output(self, array, what, shape, dtype):
        """The array to write to and its Buffer: the one given, checked, or on the host a new one."""
        if array is None:
            if self.device != HOST:
                raise ValueError(f"{what} is None; expected an array on {_place(self.device)}")
            array = _new_array(shape, dtype)
        out = buffer(array, what)
        self._owns(what, out)
        if out.shape != tuple(shape):
            raise ValueError(f"{what} has shape {out.shape}; expected {tuple(shape)}")
        if dtype is not None and out.dtype != dtype:
            raise TypeError(f"{what} is {NAMES[out.dtype]}; expected {NAMES[dtype]}")
        if dtype is None and out.dtype == U8:
            raise TypeError(f"{what} is uint8; expected one of {', '.join(_DTYPES)}")
        if len(shape) < 2 and not out.contiguous():
            raise ValueError(f"{what} is not contiguous")
        return array, out

    def _new_map(self):
        if self.device != HOST:
            raise ValueError(f"absmax_map is None; expected an array on {_place(self.device)}")
        import numpy as np

        return np.array(dynamic_map(), np.float32)


def _new_array(shape, dtype):
    import numpy as np

    if dtype == BF16:
        return Bfloat16(np.empty(shape, np.uint16))
    return np.empty(shape, {F32: np.float32, F16: np.float16, U8: np.uint8}[dtype])


def _as_many(what, values, weights):
    """`values` as a list of one for each of `weights`, of None if there are none."""
    values = [None] * len(weights) if values is None else list(values)
    if len(values) != len(weights):
        raise ValueError(f"{what} has {len(values)} items; expected {len(weights)}, one for each of weights")
    return values


def _place(device):
    return "the host" if device == HOST else f"CUDA device {device}"


def _at_least(what, have, need, unit):
    if have < need:
        raise ValueError(f"{what} has {have} {unit}; expected {need} or more")


def _same_device(what, array, device):
    if array.device != device:
        raise ValueError(f"{what} is on {_place(array.device)}; expected {_place(device)}, where the codes are")


def _contiguous(array, what, dtype=None):
    array = buffer(array, what)
    if not array.contiguous():
        raise ValueError(f"{what} is not contiguous")
    if dtype is not None and array.dtype != dtype:
        raise TypeError(f"{what} is {NAMES[array.dtype]}; expected {NAMES[dtype]}")
    return array


def _sized(array, what, count, dtype=None):
    array = _contiguous(array, what, dtype)
    _at_least(what, array.count, count, "elements")
    return array


def _stride(array, what):
    """Leading dimension of an array whose rows are contiguous and evenly spaced."""
    cols = array.shape[-1]
    if array.strides is None or array.contiguous():
        return cols
    if len(array.shape) != 2 or (cols > 1 and array.strides[1] != 1) or array.strides[0] < cols:
        raise ValueError(f"{what} has strides {array.strides}; expected contiguous rows, one after the other")
    return array.strides[0]
