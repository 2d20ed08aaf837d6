"""What plugin.py puts in the place of parts of bitsandbytes, and takes away again."""

import functools
import gc
import importlib.util
import inspect
import logging
import warnings
import weakref

import bitsandbytes
import bitsandbytes.functional
import torch

from . import _tensors
from ._library import BLOCKSIZES, F32, Error, check, codebook, library

log = logging.getLogger("nf4")

_BLOCKSIZES = frozenset(BLOCKSIZES)


class Devices(dict):
    """Whether libnf4 can use a device, by its index. One that it cannot use is left to bitsandbytes, with a warning."""

    def __init__(self):
        super().__init__({-1: False})  # the CPU has kernels of its own in bitsandbytes
        self.reasons = {}

    def __missing__(self, index):
        try:
            _tensors.handle(index)
            self[index] = True
        except Error as error:
            self.reasons[index] = str(error)
            log.warning("bitsandbytes keeps its own kernels on CUDA device %d: %s", index, error)
            self[index] = False
        return self[index]


class Codes:
    """Which code tables are NF4's. gemv_4bit takes the 16 values of a 4-bit type, and not its name: they lie on the
    GPU, so each tensor is read once and remembered while it lives."""

    def __init__(self):
        self.known = {}  # by address: a weak reference to the tensor there, and whether it is NF4's
        self.nf4 = codebook()

    def is_nf4(self, code):
        pointer = code.data_ptr()
        known = self.known.get(pointer)
        if known is not None and known[0]() is code:
            return known[1]
        if code.is_cuda and torch.cuda.is_current_stream_capturing():
            return False  # reading it would break the capture
        verdict = code.dtype == torch.float32 and code.flatten().tolist() == self.nf4
        self.known[pointer] = weakref.ref(code), verdict
        return verdict

    def is_nf4_at(self, pointer):
        """For callers that have the address alone: the tensor there is then that of a live QuantState, or unknown."""
        known = self.known.get(pointer)
        code = known[0]() if known is not None else None
        if code is None or code.data_ptr() != pointer:
            code = self._find(pointer)
        return code is not None and self.is_nf4(code)

    @staticmethod
    def _find(pointer):
        """The code at this address of a live QuantState."""
        for state in gc.get_objects():
            if issubclass(type(state), bitsandbytes.functional.QuantState) and isinstance(state.code, torch.Tensor):
                if state.code.data_ptr() == pointer:
                    return state.code
        return None


# Around all that asks a Params4bit, in an eager call or as an argument that compiled code hands to an operator: each
# question would take a microsecond by the way of its __torch_function__.
_NoTorchFunction = torch._C.DisableTorchFunctionSubclass


# ---- operators


class Operators:
    """Kernels of bitsandbytes' operators for CUDA. `originals` has those before, by the same names."""

    def __init__(self, originals, devices, codes):
        self.originals, self.devices, self.codes = originals, devices, codes
        self.zeros = {}

    def kernels(self):
        ours = {
            "gemm_4bit": self.gemm_4bit,
            "gemv_4bit": self.gemv_4bit,
            "gemv_4bit.out": self.gemv_4bit_out,
            "dequantize_4bit": self.dequantize_4bit,
            "dequantize_4bit.out": self.dequantize_4bit_out,
            "quantize_4bit": self.quantize_4bit,
            "dequantize_blockwise": self.dequantize_blockwise,
            "dequantize_blockwise.out": self.dequantize_blockwise_out,
        }
        return {name: kernel for name, kernel in ours.items() if name in self.originals}

    def _usable(self, tensor, blocksize, dtype):
        return (dtype in _tensors.DTYPES and blocksize in _BLOCKSIZES and tensor.numel() > 0
                and self.devices[tensor.get_device()])  # fmt: skip

    def gemm_4bit(self, A, B, shapeB, absmax, blocksize, quant_type, bias=None, absmax_8bit=None, absmax_code=None,
                  absmax_offset=None):  # fmt: skip
        with _NoTorchFunction():
            if self._is_our_gemm(A, B, shapeB, blocksize, quant_type, bias):
                absmax_offset = None if absmax_offset is None else absmax_offset.float()  # lives as long as the call
                weight = _weight(B, shapeB, absmax, blocksize, absmax_8bit, absmax_code, absmax_offset)
                return _tensors.gemm(A, weight, shapeB[0], bias)
        return self.originals["gemm_4bit"](A, B, shapeB, absmax, blocksize, quant_type, bias, absmax_8bit, absmax_code,
                                           absmax_offset)  # fmt: skip

    def _is_our_gemm(self, A, B, shapeB, blocksize, quant_type, bias):
        return (quant_type == "nf4" and self._usable(A, blocksize, A.dtype) and len(shapeB) == 2
                and A.shape[-1] == shapeB[1] and A.get_device() == B.get_device()
                and (bias is None or (bias.dtype == A.dtype and bias.is_contiguous())))  # fmt: skip

    def gemm_4bit_group(self, A, products, quant_type):
        """The products of A, each of B, its shape, absmax, blocksize, bias, absmax_8bit, absmax_code and absmax_offset,
        as gemm_4bit takes them; None if any is to be left to bitsandbytes."""
        with _NoTorchFunction():
            weights, biases, keep = [], [], []
            for B, shape, absmax, blocksize, bias, absmax_8bit, absmax_code, absmax_offset in products:
                if not self._is_our_gemm(A, B, shape, blocksize, quant_type, bias):
                    return None
                absmax_offset = None if absmax_offset is None else absmax_offset.float()
                keep.append(absmax_offset)  # lives as long as the call
                weights.append(_weight(B, shape, absmax, blocksize, absmax_8bit, absmax_code, absmax_offset))
                biases.append(bias)
            return _tensors.gemm_group(A, weights, biases)

    def gemv_4bit(self, A, B, shapeB, absmax, code, blocksize):
        if self._is_our_gemv(A, B, shapeB, code, blocksize):
            return _tensors.gemm(A, _weight(B, shapeB, absmax, blocksize), shapeB[0])
        return self.originals["gemv_4bit"](A, B, shapeB, absmax, code, blocksize)

    def gemv_4bit_out(self, A, B, shapeB, absmax, code, blocksize, out):
        if self._is_our_gemv(A, B, shapeB, code, blocksize):
            out.copy_(_tensors.gemm(A, _weight(B, shapeB, absmax, blocksize), shapeB[0]))
        else:
            self.originals["gemv_4bit.out"](A, B, shapeB, absmax, code, blocksize, out)

    def _is_our_gemv(self, A, B, shapeB, code, blocksize):
        return (self._usable(A, blocksize, A.dtype) and len(shapeB) == 2 and A.shape[-1] == shapeB[1]
                and A.get_device() == B.get_device() and self.codes.is_nf4(code))  # fmt: skip

    def dequantize_4bit(self, A, absmax, blocksize, quant_type, shape, dtype):
        if quant_type == "nf4" and self._usable(A, blocksize, dtype):
            count = torch.Size(shape).numel()
            weight = _tensors.weight(A, absmax, 1, count, blocksize)
            return _tensors.unpack(weight, shape, dtype, A.device)
        return self.originals["dequantize_4bit"](A, absmax, blocksize, quant_type, shape, dtype)

    def dequantize_4bit_out(self, A, absmax, blocksize, quant_type, shape, dtype, out):
        if (quant_type == "nf4" and self._usable(A, blocksize, dtype) and out.dtype == dtype and out.is_contiguous()
                and out.shape == tuple(shape) and out.get_device() == A.get_device()):  # fmt: skip
            weight = _tensors.weight(A, absmax, 1, out.numel(), blocksize)
            _tensors.unpack(weight, shape, dtype, A.device, out)
        else:
            self.originals["dequantize_4bit.out"](A, absmax, blocksize, quant_type, shape, dtype, out)

    def quantize_4bit(self, A, blocksize, quant_type, quant_storage):
        if quant_type == "nf4" and self._usable(A, blocksize, A.dtype):
            # The shape that its fake implementation says; too small for some counts, which pack() then refuses.
            codes = torch.empty(((A.numel() + 1) // (quant_storage.itemsize * 2), 1), device=A.device,
                                dtype=quant_storage)  # fmt: skip
            return codes, _tensors.pack(A, blocksize, codes)
        return self.originals["quantize_4bit"](A, blocksize, quant_type, quant_storage)

    # Nested scales: bitsandbytes unpacks them by itself, and adds the offset later.

    def dequantize_blockwise(self, A, absmax, code, blocksize, dtype):
        if self._is_our_blockwise(A, absmax, code, blocksize, dtype):
            out = torch.empty(A.shape, dtype=dtype, device=A.device)
            return _tensors.unpack_absmax(A, code, absmax, self._zero(A.device), blocksize, out)
        return self.originals["dequantize_blockwise"](A, absmax, code, blocksize, dtype)

    def dequantize_blockwise_out(self, A, absmax, code, blocksize, dtype, out):
        if (self._is_our_blockwise(A, absmax, code, blocksize, dtype) and out.dtype == dtype and out.shape == A.shape
                and out.is_contiguous() and out.get_device() == A.get_device()):  # fmt: skip
            _tensors.unpack_absmax(A, code, absmax, self._zero(A.device), blocksize, out)
        else:
            self.originals["dequantize_blockwise.out"](A, absmax, code, blocksize, dtype, out)

    def _is_our_blockwise(self, A, absmax, code, blocksize, dtype):
        return (dtype == torch.float32 and self._usable(A, blocksize, dtype) and A.dtype == torch.uint8
                and absmax.dtype == code.dtype == torch.float32 and code.numel() == 256 and A.is_contiguous()
                and self._zero(A.device) is not None)  # fmt: skip

    def _zero(self, device):
        """An offset of zero in the memory of `device`."""
        zero = self.zeros.get(device)
        if zero is None:
            if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
                return None  # it would be written by the graph, and be gone with it
            zero = self.zeros[device] = torch.zeros((), device=device)
            if device.type == "cuda":
                torch.cuda.current_stream(device).synchronize()  # other streams read it too
        return zero


def _weight(B, shape, absmax, blocksize, absmax_8bit=None, absmax_code=None, absmax_offset=None):
    """The weight of gemm_4bit's arguments; nested, its absmax is the second level's."""
    if absmax_8bit is None:
        return _tensors.weight(B, absmax, shape[0], shape[1], blocksize)
    return _tensors.weight(B, absmax_8bit, shape[0], shape[1], blocksize, absmax_code, absmax, absmax_offset)


def _original_kernels():
    """The kernels that bitsandbytes registered for CUDA, by name. The dispatcher does not give them away in every
    version of torch, so their module is run once more, beside itself, with a register_kernel that collects them."""
    spec = importlib.util.find_spec("bitsandbytes.backends.cuda.ops")
    if spec is None:
        return {}
    kernels = {}

    def collect(name, *_):
        def decorate(function):
            kernels[name.partition("::")[2]] = function
            return function

        return decorate

    operators = importlib.import_module("bitsandbytes._ops")
    register_kernel, operators.register_kernel = operators.register_kernel, collect
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    finally:
        operators.register_kernel = register_kernel
    return kernels


def _register(kernels):
    """Puts `kernels` in front of those that the operators have for CUDA. The library's _destroy() takes them away."""
    made = torch.library.Library("bitsandbytes", "IMPL")
    override = {"allow_override": True} if "allow_override" in inspect.signature(made.impl).parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of each kernel that takes another's place
        for name, kernel in kernels.items():
            if not override:  # torch before 2.7 refuses by this list
                torch.library._impls.discard(f"bitsandbytes/{name}/CUDA")
            made.impl(name, _untraced(kernel), "CUDA", **override)
    return made


def _untraced(kernel):
    """`kernel`, which torch.compile is not to look into. torch marks what it gets, and a bound method takes no marks."""
    return torch._disable_dynamo(functools.wraps(kernel)(functools.partial(kernel)))


# ---- Linear4bit


class Plan:
    """What a Linear4bit needs for a product, and the objects that show whether it still holds."""

    __slots__ = ("parameter", "state", "absmax", "codes", "offset", "weight", "rows", "cols", "device")

    def __reduce__(self):
        return type(None), ()  # addresses: in a copy or a pickle of the module there is none


_len_dispatch_stack = torch._C._len_torch_dispatch_stack
_is_tracing = torch._C._is_tracing
_transform_level = torch._C._functorch.maybe_current_level  # of torch.func: vmap and the like


def _plan(module, devices):
    """A Plan for `module`, or None if it is none of ours."""
    parameter = module._parameters.get("weight")
    state = getattr(parameter, "quant_state", None)
    if state is None or state.quant_type != "nf4" or state.blocksize not in _BLOCKSIZES or len(state.shape) != 2:
        return None
    if not module.compute_type_is_set or (state.nested and state.state2.blocksize not in _BLOCKSIZES):
        return None
    plan = Plan()
    plan.parameter, plan.state, plan.absmax = parameter, state, state.absmax
    with _NoTorchFunction():
        codes = parameter.detach()
        plan.codes = parameter.data_ptr()
    plan.device = codes.get_device()
    plan.rows, plan.cols = state.shape
    if not devices[plan.device]:
        return None
    if state.nested:
        second = state.state2
        plan.offset = state.offset.float()  # a model that was cast to bf16 may have cast it too
        plan.weight = _tensors.weight(codes, state.absmax, plan.rows, plan.cols, state.blocksize, second.code,
                                      second.absmax, plan.offset, second.blocksize)  # fmt: skip
    else:
        plan.weight = _tensors.weight(codes, state.absmax, plan.rows, plan.cols, state.blocksize)
    return plan


def _short_forward(original, devices):
    """A Linear4bit.forward that goes straight to the library where that is all there is to it: a plain tensor on a
    usable device, no gradients, nothing that watches operators. Everything else is the original's."""
    gemm = _tensors.gemm
    dtypes = _tensors.DTYPES

    @functools.wraps(original)
    def forward(self, x):
        if torch.compiler.is_compiling():
            return original(self, x)
        index = x.get_device()
        if not (type(x) is torch.Tensor and devices[index] and forward.active):
            return original(self, x)
        bias = self._parameters["bias"]
        if torch.is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad)):
            return original(self, x)
        if _len_dispatch_stack() or _is_tracing() or _transform_level() is not None:
            return original(self, x)

        plan = self.__dict__.get("_nf4_plan")
        parameter = self._parameters["weight"]
        if plan is None or plan.parameter is not parameter or not _holds(plan):
            plan = self._nf4_plan = _plan(self, devices)
            if plan is None:
                return original(self, x)
        dtype = x.dtype
        if (index != plan.device or x.shape[-1] != plan.cols or dtype not in dtypes
                or self.compute_dtype not in (None, dtype)
                or (bias is not None and (bias.dtype != dtype or bias.get_device() != plan.device))):  # fmt: skip
            return original(self, x)
        return gemm(x, plan.weight, plan.rows, bias)

    forward.active = True
    return forward


def _holds(plan):
    """Whether the tensors are where they were."""
    state = plan.state
    if plan.parameter.quant_state is not state or state.absmax is not plan.absmax:
        return False
    with _NoTorchFunction():
        return plan.parameter.data_ptr() == plan.codes


# ---- C functions


def _value(argument):
    """The number in an argument of a C function: an int, None, or an object of ctypes."""
    return getattr(argument, "value", argument)


class Symbols:
    """Stand-ins for functions of bitsandbytes' C library `native`, with their arguments. `functions` has them."""

    def __init__(self, native, devices, codes):
        self.devices, self.codes = devices, codes
        self.functions = {}
        for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)):
            for symbol, function in (
                (f"cdequantize_blockwise_{name}_nf4", self._dequantize),
                (f"cquantize_blockwise_{name}_nf4", self._quantize),
                (f"cgemm_4bit_inference_naive_{name}", self._gemv),
            ):
                original = getattr(native, symbol, None)
                if original is not None:
                    self.functions[symbol] = functools.partial(function, original, _tensors.DTYPES[dtype])

    def _usable(self, index, blocksize):
        return self.devices[index] and _value(blocksize) in _BLOCKSIZES

    def _dequantize(self, original, dtype, code, A, absmax, out, blocksize, n, stream):
        index, count = _tensors.current_device(), _value(n)
        if not self._usable(index, blocksize):
            return original(code, A, absmax, out, blocksize, n, stream)
        weight = _tensors.struct(1, count, _value(blocksize), _value(A), _value(absmax), F32)
        return check(library().nf4_unpack(
            _tensors.handle(index), _value(out), count, dtype, weight, None, _value(stream)))  # fmt: skip

    def _quantize(self, original, dtype, code, A, absmax, out, blocksize, n):
        index, count = _tensors.current_device(), _value(n)
        if not self._usable(index, blocksize):
            return original(code, A, absmax, out, blocksize, n)
        # On the caller's stream; bitsandbytes' own has no argument for it, and runs on the default one.
        return _tensors.run(index, library().nf4_pack, _tensors.handle(index), _value(out), _value(absmax), _value(A),
                            count, dtype, 1, count, _value(blocksize), None)  # fmt: skip

    def _gemv(self, original, dtype, m, n, k, A, B, absmax, code, out, lda, ldb, ldc, blocksize, stream):
        index, rows, cols = _tensors.current_device(), _value(m), _value(k)
        if not (self._usable(index, blocksize) and _value(n) == 1 and self.codes.is_nf4_at(_value(code))):
            return original(m, n, k, A, B, absmax, code, out, lda, ldb, ldc, blocksize, stream)
        weight = _tensors.struct(rows, cols, _value(blocksize), _value(B), _value(absmax), F32)
        return check(library().nf4_gemm(
            _tensors.handle(index), _value(out), rows, _value(A), cols, 1, dtype, weight, None, None,
            _value(stream)))  # fmt: skip


# ---- all of them


class Replacements:
    """Everything, put in place when it is made, or nothing if that raises. `names` tells what."""

    def __init__(self):
        self.names = []
        self.devices = Devices()
        self._undo = []
        codes = Codes()
        try:
            operators = self._replace_operators(codes)
            self._replace_forward()
            self._replace_symbols(codes)
            self._group_products(operators)
        except BaseException:
            self.undo()
            raise

    def undo(self):
        while self._undo:
            self._undo.pop()()

    def _replace_operators(self, codes):
        if importlib.util.find_spec("bitsandbytes._ops") is None:
            return None  # before 0.46
        operators = Operators(_original_kernels(), self.devices, codes)
        kernels = operators.kernels()
        self._undo.append(_register(kernels)._destroy)
        self.names += kernels
        return operators

    def _replace_forward(self):
        linear = bitsandbytes.nn.Linear4bit
        original = linear.forward
        forward = _short_forward(original, self.devices)

        def undo():
            forward.active = False  # accelerate keeps the methods that it wraps
            linear.forward = original

        linear.forward = forward
        self._undo.append(undo)
        self.names.append("Linear4bit.forward")

    def _replace_symbols(self, codes):
        native = bitsandbytes.functional.lib
        functions = Symbols(native, self.devices, codes).functions

        def undo():
            for name in functions:
                delattr(native, name)  # its __getattr__ then finds the C function again

        for name, function in functions.items():
            setattr(native, name, function)
        self._undo.append(undo)
        self.names += functions

    def _group_products(self, operators):
        if not hasattr(torch.ops.bitsandbytes, "gemm_4bit"):
            return  # before 0.50
        try:
            from . import _inductor
        except ImportError:
            return  # a torch whose Inductor has no such passes
        self._undo.append(_inductor.install(operators.gemm_4bit_group))
        self.names.append("torch.compile: products of the same x")
