"""Handle and Weight: the operations of nf4.h on arrays."""

from __future__ import annotations

import contextlib
import ctypes
import math
from ctypes import byref
from typing import Any, Iterable, Sequence

from ._arguments import flag, integer, many, stream_pointer, text
from ._array import INTEGERS, NAMES, NUMBERS, Array, Bfloat16, Buffer, buffer, overlap
from ._library import (
    BF16,
    F16,
    F32,
    HOST,
    I32,
    INVALID_ARGUMENT,
    U8,
    DeviceInfoStruct,
    Error,
    OptionsStruct,
    ProductStruct,
    RoutingStruct,
    WeightStruct,
    check,
    dynamic_map,
    library,
    packed_size,
)

_DTYPES = {NAMES[dtype]: dtype for dtype in NUMBERS if dtype != U8}


def _dtype(dtype: Any) -> int:
    """An nf4_dtype_t for "bfloat16", numpy.float32, torch.float16 and the like."""
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", None) or str(dtype).rpartition(".")[2]
    if name not in _DTYPES:
        raise TypeError(f"dtype is {name}; expected one of {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _options(variant: str | None, config: str | None) -> Any:
    if variant is None and config is None:
        return None
    return byref(OptionsStruct(variant=text(variant, "variant"), config=text(config, "config")))


class Weight:
    """A matrix [rows, cols] in NF4, as a bitsandbytes checkpoint holds it: a view of arrays that it keeps alive.

    absmax holds one scale for each block in float32, float16 or bfloat16; or it is uint8, nested, and absmax_map,
    absmax2 and absmax_offset come with it (nf4.h says what they mean). codes may be of any type, bitsandbytes'
    quant_storage: its bytes count.

    Nothing of it can be set, and its arrays must keep their memory: their values may change, their sizes may not. A
    copy by copy.copy is a view of the same arrays; copy.deepcopy and pickle copy them.
    """

    def __init__(self, rows: int, cols: int, codes: Array, absmax: Array, *, blocksize: int = 64,
                 absmax_map: Array = None, absmax2: Array = None, absmax_offset: Array = None,
                 absmax_blocksize: int = 256) -> None:  # fmt: skip
        rows, cols = integer(rows, "rows"), integer(cols, "cols")
        blocksize = integer(blocksize, "blocksize", 32)
        absmax_blocksize = integer(absmax_blocksize, "absmax_blocksize", 32)
        codes_bytes, blocks = packed_size(rows, cols, blocksize)
        buffers = {"codes": _contiguous(codes, "codes"), "absmax": _sized(absmax, "absmax", blocks)}
        _at_least("codes", buffers["codes"].nbytes, codes_bytes, "bytes")
        if buffers["absmax"].dtype == U8:
            for name, array, count in (
                ("absmax_map", absmax_map, 256),
                ("absmax2", absmax2, -(-blocks // max(absmax_blocksize, 1))),
                ("absmax_offset", absmax_offset, 1),
            ):
                if array is None:
                    raise ValueError(f"{name} is None; expected an array, since absmax is uint8 (nested)")
                buffers[name] = _sized(array, name, count, F32)
        for name, part in buffers.items():
            if part.device != buffers["codes"].device:
                raise ValueError(
                    f"{name} is on {_place(part.device)}; expected {_place(buffers['codes'].device)}, "
                    "where the codes are"
                )
        self._arrays = codes, absmax, absmax_map, absmax2, absmax_offset
        self._buffers = buffers
        self._struct = WeightStruct(
            rows=rows, cols=cols, blocksize=blocksize, absmax_dtype=buffers["absmax"].dtype,
            absmax_blocksize=absmax_blocksize, **{name: part.pointer for name, part in buffers.items()},
        )  # fmt: skip

    @property
    def rows(self) -> int:
        return int(self._struct.rows)

    @property
    def cols(self) -> int:
        return int(self._struct.cols)

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.cols

    @property
    def blocksize(self) -> int:
        return int(self._struct.blocksize)

    @property
    def absmax_blocksize(self) -> int:
        return int(self._struct.absmax_blocksize)

    @property
    def codes(self) -> Array:
        return self._arrays[0]

    @property
    def absmax(self) -> Array:
        return self._arrays[1]

    @property
    def absmax_map(self) -> Array:
        return self._arrays[2]

    @property
    def absmax2(self) -> Array:
        return self._arrays[3]

    @property
    def absmax_offset(self) -> Array:
        return self._arrays[4]

    @property
    def nested(self) -> bool:
        return self._buffers["absmax"].dtype == U8

    @property
    def device(self) -> int:
        """nf4.HOST, or the number of a CUDA device."""
        return self._buffers["codes"].device

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return sum(part.nbytes for part in self._buffers.values())

    @property
    def struct(self) -> WeightStruct:
        """The nf4_weight_t, for calls of the C API: a copy, of use as long as the Weight lives."""
        return WeightStruct.from_buffer_copy(self._struct)

    def __repr__(self) -> str:
        nested = ", nested" if self.nested else ""
        return f"<nf4.Weight {self.rows}x{self.cols}, blocksize {self.blocksize}{nested}, on {_place(self.device)}>"

    def __reduce__(self) -> tuple[Any, ...]:  # for copy and pickle, since the struct's addresses are of these arrays
        return _weight, (*self.shape, *self._arrays, self.blocksize, self.absmax_blocksize)


def _weight(rows: int, cols: int, codes: Array, absmax: Array, absmax_map: Array, absmax2: Array, absmax_offset: Array,
            blocksize: int, absmax_blocksize: int) -> Weight:  # fmt: skip
    return Weight(rows, cols, codes, absmax, blocksize=blocksize, absmax_map=absmax_map, absmax2=absmax2,
                  absmax_offset=absmax_offset, absmax_blocksize=absmax_blocksize)  # fmt: skip


class _Owner:
    """An nf4_handle_t, as an argument of ctypes. It is destroyed when nothing refers to it, and so in no call."""

    def __init__(self, device: int) -> None:
        self._as_parameter_ = ctypes.c_void_p()
        check(library().nf4_create(byref(self._as_parameter_), device))

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # there is no library, or the interpreter is shutting down
            library().nf4_destroy(self._as_parameter_)


class Handle:
    """A CUDA device, or the host backend: nf4_handle_t. Threads and streams may share one.

    On the host, results that no `out` is given for are new numpy arrays (a nf4.Bfloat16 if x has that type). On CUDA
    every result needs its array, since the library allocates nothing, and the work is ordered on `stream`: a
    cudaStream_t as an int, 0 is the legacy default stream. The arrays must be ready on that stream, and the device must
    be the thread's current one. An array that is written must allow it, and overlap no other of the call.

    A copy, or what is read from a pickle, is another handle of the same device, made anew.
    """

    def __init__(self, device: int = HOST) -> None:
        self._device = integer(device, "device", 32)
        self._owner: _Owner | None = _Owner(self._device)

    @property
    def device(self) -> int:
        """nf4.HOST, or the number of the CUDA device."""
        return self._device

    def close(self) -> None:
        """Frees the handle, once the calls of other threads that use it have returned; later ones raise nf4.Error.
        Closing twice is fine. A handle that is no longer referenced is freed too."""
        self._owner = None

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        name = "closed" if self._owner is None else self.device_info()["name"]
        return f"<nf4.Handle device {self.device}, {name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        self._open()
        return type(self), (self.device,)

    def _open(self) -> _Owner:
        """What a call takes as its handle, and thereby keeps from being freed."""
        owner = self._owner
        if owner is None:
            raise Error(INVALID_ARGUMENT, "the handle is closed; expected one that is open")
        return owner

    @property
    def pointer(self) -> ctypes.c_void_p:
        """The nf4_handle_t, for calls of the C API: of use until the handle is closed."""
        return self._open()._as_parameter_

    def device_info(self) -> dict[str, Any]:
        """Name, compute capability (90 for 9.0; 0 on the host) and number of multiprocessors or threads, a dict."""
        info = DeviceInfoStruct()
        check(library().nf4_device_info(self._open(), byref(info)))
        return {
            "device": info.device,
            "name": info.name.decode(errors="replace"),
            "compute_capability": info.compute_capability,
            "multiprocessors": info.multiprocessors,
        }

    def pack(self, w: Array, *, blocksize: int = 64, nested: bool = False, codes: Array = None, absmax: Array = None,
             stream: int | None = None, variant: str | None = None, config: str | None = None) -> Weight:  # fmt: skip
        """Packs w [rows, cols] and returns a Weight; nested quantizes its scales too (compress_statistics).

        `codes` and `absmax` are the outputs: ceil(rows*cols/2) of uint8, one float32 for each block. A nested weight
        has more of them, so on CUDA call pack_absmax by itself."""
        w_, rows, cols, stride = self._matrix(w, "w")
        blocksize = integer(blocksize, "blocksize", 32)
        if flag(nested, "nested") and self.device != HOST:
            raise ValueError("nested is True; expected False on CUDA, where pack_absmax takes the arrays for it")
        codes_bytes, blocks = packed_size(rows, cols, blocksize)
        codes, codes_ = self._output(codes, "codes", (codes_bytes,), U8)
        absmax, absmax_ = self._output(absmax, "absmax", (blocks,), F32)
        _apart({"codes": codes_, "absmax": absmax_}, {"w": w_})
        check(library().nf4_pack(self._open(), codes_.pointer, absmax_.pointer, w_.pointer, stride, w_.dtype, rows,
                                 cols, blocksize, _options(variant, config), stream_pointer(stream)))  # fmt: skip
        if not nested:
            return Weight(rows, cols, codes, absmax, blocksize=blocksize)
        absmax_codes, absmax2, offset, absmax_map = self.pack_absmax(absmax, stream=stream)
        return Weight(rows, cols, codes, absmax_codes, blocksize=blocksize, absmax_map=absmax_map, absmax2=absmax2,
                      absmax_offset=offset)  # fmt: skip

    def unpack(self, weight: Weight, *, dtype: Any = None, out: Array = None, stream: int | None = None,
               variant: str | None = None, config: str | None = None) -> Array:  # fmt: skip
        """Unpacks `weight` into `out` [rows, cols], or into a new array of `dtype`, float32 if it is None."""
        wanted = F32 if dtype is None else _dtype(dtype)
        inputs = self._parts(weight, "weight")
        out, out_ = self._output(out, "out", weight.shape, wanted if out is None or dtype is not None else None)
        _apart({"out": out_}, inputs)
        check(library().nf4_unpack(self._open(), out_.pointer, _stride(out_, "out"), out_.dtype, byref(weight._struct),
                                   _options(variant, config), stream_pointer(stream)))  # fmt: skip
        return out

    def pack_absmax(self, absmax: Array, *, absmax_map: Array = None, blocksize: int = 256, codes: Array = None,
                    absmax2: Array = None, offset: Array = None, stream: int | None = None, variant: str | None = None,
                    config: str | None = None) -> tuple[Array, Array, Array, Array]:  # fmt: skip
        """Nested quantization of scales. Returns (codes, absmax2, offset, absmax_map); the map is bitsandbytes'."""
        blocksize = integer(blocksize, "blocksize", 32)
        absmax_ = self._owned(_contiguous(absmax, "absmax", F32), "absmax")
        count = absmax_.count
        if absmax_map is None:
            absmax_map = self._new_map()
        map_ = self._owned(_sized(absmax_map, "absmax_map", 256, F32), "absmax_map")
        codes, codes_ = self._output(codes, "codes", (count,), U8)
        absmax2, absmax2_ = self._output(absmax2, "absmax2", (-(-count // max(blocksize, 1)),), F32)
        offset, offset_ = self._output(offset, "offset", (1,), F32)
        _apart({"codes": codes_, "absmax2": absmax2_, "offset": offset_}, {"absmax": absmax_, "absmax_map": map_})
        check(library().nf4_pack_absmax(self._open(), codes_.pointer, absmax2_.pointer, offset_.pointer,
                                        absmax_.pointer, count, map_.pointer, blocksize, _options(variant, config),
                                        stream_pointer(stream)))  # fmt: skip
        return codes, absmax2, offset, absmax_map

    def unpack_absmax(self, weight: Weight, *, out: Array = None, stream: int | None = None, variant: str | None = None,
                      config: str | None = None) -> Array:  # fmt: skip
        """The scales of `weight`, however stored, as float32: one for each block."""
        inputs = self._parts(weight, "weight")
        out, out_ = self._output(out, "out", (packed_size(*weight.shape, weight.blocksize)[1],), F32)
        _apart({"out": out_}, inputs)
        check(library().nf4_unpack_absmax(self._open(), out_.pointer, byref(weight._struct), _options(variant, config),
                                          stream_pointer(stream)))  # fmt: skip
        return out

    def gemm(self, x: Array, weight: Weight, *, bias: Array = None, out: Array = None, stream: int | None = None,
             variant: str | None = None, config: str | None = None) -> Array:  # fmt: skip
        """out = x W^T + bias, for x [..., K] and out [..., N] of the same dtype. Rows of x [m, K] may lie apart."""
        x_, m, _, ldx = self._matrix(x, "x")
        out, out_, inputs = self._product(x_, weight, "weight", bias, "bias", out, "out")
        _apart({"out": out_}, {"x": x_, **inputs})
        check(library().nf4_gemm(self._open(), out_.pointer, _stride(out_, "out"), x_.pointer, ldx, m, x_.dtype,
                                 byref(weight._struct), _pointer(inputs.get("bias")), _options(variant, config),
                                 stream_pointer(stream)))  # fmt: skip
        return out

    def gemm_group(self, x: Array, weights: Iterable[Weight], *, biases: Sequence[Array] | None = None,
                   outs: Sequence[Array] | None = None, stream: int | None = None, variant: str | None = None,
                   config: str | None = None) -> list[Array]:  # fmt: skip
        """The products of x [..., K] with each of `weights`, launched together where that can be: a list of what gemm()
        gives for each. `biases` and `outs` are lists as long, or None; a bias may be None too."""
        x_, m, _, ldx = self._matrix(x, "x")
        weights = many(weights, "weights", "a list of nf4.Weight")
        biases = _as_many(biases, "biases", weights)
        outs = _as_many(outs, "outs", weights)
        products = []
        inputs, outputs = {"x": x_}, {}
        for i, weight in enumerate(weights):
            bias, out = f"biases[{i}]", f"outs[{i}]"
            outs[i], out_, parts = self._product(x_, weight, f"weights[{i}]", biases[i], bias, outs[i], out)
            inputs.update(parts)
            outputs[out] = out_
            products.append(
                ProductStruct(y=out_.pointer, ldy=_stride(out_, out), weight=ctypes.pointer(weight._struct),
                              bias=_pointer(parts.get(bias)))
            )  # fmt: skip
        _apart(outputs, inputs)
        check(library().nf4_gemm_group(self._open(), (ProductStruct * len(products))(*products), len(products),
                                       x_.pointer, ldx, m, x_.dtype, _options(variant, config),
                                       stream_pointer(stream)))  # fmt: skip
        return outs

    def gemm_transposed(self, x: Array, weight: Weight, *, out: Array = None, stream: int | None = None,
                        variant: str | None = None, config: str | None = None) -> Array:  # fmt: skip
        """out = x W, for x [..., N] and out [..., K] of the same dtype: the gradient of gemm()'s x of that of its result.
        Rows of x [m, N] may lie apart."""
        x_, m, cols, ldx = self._matrix(x, "x")
        inputs = self._parts(weight, "weight")
        if cols != weight.rows:
            raise ValueError(f"x has {cols} columns; expected weight.rows ({weight.rows})")
        out, out_ = self._output(out, "out", (*x_.shape[:-1], weight.cols), x_.dtype)
        _apart({"out": out_}, {"x": x_, **inputs})
        check(library().nf4_gemm_transposed(self._open(), out_.pointer, _stride(out_, "out"), x_.pointer, ldx, m,
                                            x_.dtype, byref(weight._struct), _options(variant, config),
                                            stream_pointer(stream)))  # fmt: skip
        return out

    def gemm_experts(self, x: Array, weight: Weight, experts: int, ids: Array = None, *, order: Array = None,
                     ends: Array = None, scale: Array = None, bias: Array = None, out: Array = None,
                     stream: int | None = None, variant: str | None = None,
                     config: str | None = None) -> Array:  # fmt: skip
        """out [slots, N] = (x W_e^T + bias_e) * scale, row by row, for the expert e of each slot; zeros for a slot of
        none. `weight` holds the experts' matrices [N, K] one after the other, [experts * N, K].

        ids has an int32 or int64 for each slot, [tokens, top_k] for example; any other number than an expert's is none.
        Or there is what sort_experts returns instead: ends [experts], and order [slots], which may be None where the
        rows of x lie sorted. x [..., K] has a row for each slot, or for each `top_k` of them that follow one another.
        bias is [experts, N] of x's dtype, scale float32, one for each slot."""
        x_, rows_of_x, cols, ldx = self._matrix(x, "x")
        inputs = self._parts(weight, "weight")
        if cols != weight.cols:
            raise ValueError(f"x has {cols} columns; expected weight.cols ({weight.cols})")
        experts = integer(experts, "experts")
        if experts < 0 or weight.rows % max(experts, 1) or (experts == 0 and weight.rows):
            raise ValueError(f"experts is {experts}; expected a divisor of weight.rows ({weight.rows})")
        if bias is not None:
            inputs["bias"] = self._owned(_sized(bias, "bias", weight.rows, x_.dtype), "bias")
        routing, parts = self._routing(experts, rows_of_x, ids, order, ends, scale)
        out, out_ = self._output(out, "out", (routing.slots, weight.rows // max(experts, 1)), x_.dtype)
        _apart({"out": out_}, {"x": x_, **inputs, **parts})
        check(library().nf4_gemm_experts(self._open(), out_.pointer, _stride(out_, "out"), x_.pointer, ldx, x_.dtype,
                                         byref(weight._struct), _pointer(inputs.get("bias")), byref(routing),
                                         _options(variant, config), stream_pointer(stream)))  # fmt: skip
        return out

    def sort_experts(self, ids: Array, experts: int, *, order: Array = None, ends: Array = None,
                     stream: int | None = None, variant: str | None = None,
                     config: str | None = None) -> tuple[Array, Array]:  # fmt: skip
        """Sorts the slots by their ids, stably, those of no expert last. Returns (order, ends) for gemm_experts: int32,
        the slots in order, and behind which of them each of the `experts` ends."""
        ids_ = self._owned(_contiguous(ids, "ids", *INTEGERS), "ids")
        experts = integer(experts, "experts")
        order, order_ = self._output(order, "order", (ids_.count,), I32)
        ends, ends_ = self._output(ends, "ends", (max(experts, 0),), I32)
        _apart({"order": order_, "ends": ends_}, {"ids": ids_})
        struct = RoutingStruct(experts=experts, slots=ids_.count, top_k=1, ids=ids_.pointer, ids_dtype=ids_.dtype)
        check(library().nf4_sort_experts(self._open(), order_.pointer, ends_.pointer, byref(struct),
                                         _options(variant, config), stream_pointer(stream)))  # fmt: skip
        return order, ends

    # ---- arguments

    def _owned(self, array: Buffer, what: str) -> Buffer:
        if array.device != self.device:
            raise ValueError(f"{what} is on {_place(array.device)}; expected {_place(self.device)}, the handle's")
        return array

    def _parts(self, weight: Weight, what: str) -> dict[str, Buffer]:
        """The arrays of a weight on this device, by name."""
        if not isinstance(weight, Weight):
            raise TypeError(f"{what} is a {type(weight).__name__}; expected a nf4.Weight")
        self._owned(weight._buffers["codes"], what)
        return {f"{what}.{name}": part for name, part in weight._buffers.items()}

    def _matrix(self, array: Array, what: str) -> tuple[Buffer, int, int, int]:
        """Buffer, rows, columns and leading dimension of an array [..., columns]."""
        matrix = self._owned(buffer(array, what), what)
        if matrix.dtype == U8:
            raise TypeError(f"{what} is uint8; expected one of {', '.join(_DTYPES)}")
        if not matrix.shape:
            raise ValueError(f"{what} is a scalar; expected at least one dimension")
        cols = matrix.shape[-1]
        return matrix, math.prod(matrix.shape[:-1]), cols, _stride(matrix, what)

    def _product(self, x: Buffer, weight: Weight, weight_name: str, bias: Array, bias_name: str, out: Array,
                 out_name: str) -> tuple[Array, Buffer, dict[str, Buffer]]:  # fmt: skip
        """The array to write x W^T + bias to, its Buffer, and what is read for it besides x, by name."""
        inputs = self._parts(weight, weight_name)
        if x.shape[-1] != weight.cols:
            raise ValueError(f"x has {x.shape[-1]} columns; expected {weight_name}.cols ({weight.cols})")
        if bias is not None:
            inputs[bias_name] = self._owned(_sized(bias, bias_name, weight.rows, x.dtype), bias_name)
        return (*self._output(out, out_name, (*x.shape[:-1], weight.rows), x.dtype), inputs)

    def _routing(self, experts: int, rows_of_x: int, ids: Array, order: Array, ends: Array,
                 scale: Array) -> tuple[RoutingStruct, dict[str, Buffer]]:  # fmt: skip
        """An nf4_routing_t, and its arrays by name."""
        if (ids is None) == (ends is None):
            raise ValueError(f"ids and ends are both {'None' if ids is None else 'given'}; expected one of them")
        if order is not None and ends is None:
            raise ValueError("order is given without ends")
        parts, slots = {}, rows_of_x
        if ids is not None:
            parts["ids"] = self._owned(_contiguous(ids, "ids", *INTEGERS), "ids")
            slots = parts["ids"].count
        else:
            parts["ends"] = self._owned(_sized(ends, "ends", experts, I32), "ends")
        if order is not None:
            parts["order"] = self._owned(_contiguous(order, "order", I32), "order")
            slots = parts["order"].count
        if slots % rows_of_x if rows_of_x else slots:
            raise ValueError(f"x has {rows_of_x} rows; expected a divisor of the slots ({slots})")
        if scale is not None:
            parts["scale"] = self._owned(_sized(scale, "scale", slots, F32), "scale")
        return RoutingStruct(
            experts=experts, slots=slots, top_k=max(slots // max(rows_of_x, 1), 1),
            ids_dtype=parts["ids"].dtype if ids is not None else I32,
            **{name: part.pointer for name, part in parts.items()},
        ), parts  # fmt: skip

    def _output(self, array: Array, what: str, shape: tuple[int, ...], dtype: int | None) -> tuple[Array, Buffer]:
        """The array to write to and its Buffer: the one given, checked, or on the host a new one."""
        if array is None:
            if self.device != HOST:
                raise ValueError(f"{what} is None; expected an array on {_place(self.device)}")
            array = _new_array(shape, dtype)
        out = self._owned(buffer(array, what, NUMBERS if dtype not in INTEGERS else INTEGERS), what)
        if out.shape != shape:
            raise ValueError(f"{what} has shape {out.shape}; expected {shape}")
        if dtype is not None and out.dtype != dtype:
            raise TypeError(f"{what} is {NAMES[out.dtype]}; expected {NAMES[dtype]}")
        if dtype is None and out.dtype == U8:
            raise TypeError(f"{what} is uint8; expected one of {', '.join(_DTYPES)}")
        if out.readonly:
            raise ValueError(f"{what} is read-only; expected an array that can be written")
        if len(shape) < 2 and not out.contiguous():
            raise ValueError(f"{what} is not contiguous")
        return array, out

    def _new_map(self) -> Array:
        if self.device != HOST:
            raise ValueError(f"absmax_map is None; expected an array on {_place(self.device)}")
        import numpy as np

        return np.array(dynamic_map(), np.float32)


def _new_array(shape: tuple[int, ...], dtype: int | None) -> Array:
    import numpy as np

    if dtype == BF16:
        return Bfloat16(np.empty(shape, np.uint16))
    return np.empty(shape, {F32: "float32", F16: "float16", U8: "uint8", I32: "int32"}[dtype or F32])


def _as_many(values: Any, what: str, weights: list[Weight]) -> list[Any]:
    """`values` as a list of one for each of `weights`, of None if there are none."""
    if values is None:
        return [None] * len(weights)
    listed = many(values, what, "a list of arrays")
    if len(listed) != len(weights):
        raise ValueError(f"{what} has {len(listed)} items; expected {len(weights)}, one for each of weights")
    return listed


def _pointer(array: Buffer | None) -> int | None:
    return None if array is None else array.pointer


def _place(device: int) -> str:
    return "the host" if device == HOST else f"CUDA device {device}"


def _at_least(what: str, have: int, need: int, unit: str) -> None:
    if have < need:
        raise ValueError(f"{what} has {have} {unit}; expected {need} or more")


def _apart(outputs: dict[str, Buffer], inputs: dict[str, Buffer]) -> None:
    """Refuses an output that shares memory with an input, or with another output."""
    others = dict(inputs)
    for what, out in outputs.items():
        for other, array in others.items():
            if overlap(out, array):
                raise ValueError(f"{what} overlaps {other}; expected memory of its own")
        others[what] = out


def _contiguous(array: Array, what: str, *dtypes: int) -> Buffer:
    data = buffer(array, what, INTEGERS if set(dtypes) & set(INTEGERS) else NUMBERS)
    if not data.contiguous():
        raise ValueError(f"{what} is not contiguous")
    if dtypes and data.dtype not in dtypes:
        raise TypeError(f"{what} is {NAMES[data.dtype]}; expected {' or '.join(NAMES[dtype] for dtype in dtypes)}")
    return data


def _sized(array: Array, what: str, count: int, *dtypes: int) -> Buffer:
    data = _contiguous(array, what, *dtypes)
    _at_least(what, data.count, count, "elements")
    return data


def _stride(array: Buffer, what: str) -> int:
    """Leading dimension of an array whose rows are contiguous and evenly spaced."""
    cols = array.shape[-1]
    if array.strides is None or array.contiguous():
        return cols
    if len(array.shape) != 2 or (cols > 1 and array.strides[1] != 1) or array.strides[0] < cols:
        raise ValueError(f"{what} has strides {array.strides}; expected contiguous rows, one after the other")
    return array.strides[0]
