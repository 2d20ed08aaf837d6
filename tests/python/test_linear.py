"""The short Linear4bit.forward of the plug-in, on the CPU: what it takes and what it leaves to the forward before it,
with its calls in Python and in C. Needs torch and bitsandbytes. Versions before 0.49 have no kernels for the CPU, so a
dense product is their forward."""

import contextlib
import copy
import ctypes
import functools
import gc
import io
import os
import pathlib
import sys
import threading
import unittest
import weakref
from unittest import mock

import host_device
import nf4
import support
from host_device import HOST, linear, quantize, unpack

if not host_device.missing:
    import bitsandbytes
    import torch
    from bitsandbytes.nn import Linear4bit
    from nf4 import _library, _tensors
    from nf4._bitsandbytes import devices as _devices
    from nf4._bitsandbytes import extension
    from nf4._bitsandbytes import linear as _linear
    from torch.autograd import forward_ad
    from torch.utils.flop_counter import FlopCounterMode

ROWS, COLS = 64, 256


class Own(Exception):
    """An error of bitsandbytes."""


def not_in_python():
    """What Python's call needs is not there."""
    return mock.patch.object(_tensors, "multiply", side_effect=AssertionError("made in Python"))


def dense_forward(self, x):
    bitsandbytes.nn.modules.fix_4bit_weight_quant_state_from_module(self)
    bias = None if self.bias is None else self.bias.to(x.dtype)
    return torch.nn.functional.linear(x, unpack(self.weight, self.weight.quant_state).to(x.dtype), bias)


def resident_pages():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])


def both_ways(case):
    """A class of tests, and another with the same tests and the calls in C."""
    in_c = type(f"{case.__name__}InC", (case,), {"in_c": True})
    globals()[in_c.__name__] = in_c
    return case


class ForwardTest(host_device.HostTest):
    in_c = False

    def setUp(self):
        super().setUp()
        environment = mock.patch.dict(os.environ, NF4_DISABLE_EXTENSION="0" if self.in_c else "1")
        environment.start()
        self.addCleanup(environment.stop)
        self.bitsandbytes = Linear4bit.forward if host_device.bitsandbytes_version() >= (0, 49) else dense_forward
        self.calls = 0

        def original(layer, x):
            self.calls += 1
            return self.bitsandbytes(layer, x)

        self.original = original
        patch = mock.patch.object(Linear4bit, "forward", original)
        patch.start()
        self.addCleanup(patch.stop)
        status = self.enable()
        self.addCleanup(nf4.disable)
        self.x = torch.randn(2, 3, COLS)
        if self.in_c:
            host_device.require_extension(self, status)

    def assert_short(self, layer, x=None):
        """It is the short forward that answers, and it reads what is there by now."""
        x = self.x if x is None else x
        before = self.calls
        with torch.no_grad():
            y = layer(x)
        self.assertEqual(self.calls, before)
        exact = torch.nn.functional.linear(x, unpack(layer.weight, layer.weight.quant_state), layer.bias)
        self.assertTrue(torch.allclose(y, exact, atol=1e-5))
        if self.in_c:
            with torch.no_grad(), not_in_python():
                self.assertTrue(torch.equal(layer(x), y))
            self.assertEqual(self.calls, before)
        return y

    def assert_original(self, call):
        before = self.calls
        try:
            return call()
        finally:
            self.assertEqual(self.calls, before + 1)

    def assert_left(self, layer, *arguments, **named):
        """The call is bitsandbytes' own to refuse, in its own words."""
        self.bitsandbytes = mock.Mock(side_effect=Own)
        with torch.no_grad(), self.assertRaises(Own):
            layer(*arguments, **named)


@both_ways
class WhatItTakesTest(ForwardTest):
    def test_values(self):
        for nested in (False, True):
            for bias in (False, True):
                layer = linear(COLS, ROWS, nested, bias)
                self.assert_short(layer)
                plan = layer._nf4_plan
                self.assert_short(layer)
                self.assertIs(layer._nf4_plan, plan)

    def test_shapes(self):
        layer = linear(COLS, ROWS)
        for lead in ((), (1,), (7,), (1, 1), (2, 1, 3), (2, 1, 1, 2)):
            self.assertEqual(self.assert_short(layer, torch.randn(*lead, COLS)).shape, (*lead, ROWS))
        before = self.calls
        with torch.no_grad():
            wide, deep = torch.randn(4, 3, 2 * COLS), torch.randn(2, 1, 1, 2, 1, COLS)
            for x in (wide[..., :COLS], wide[..., ::2], wide[..., :COLS].transpose(0, 1), wide[::2, 1, COLS:], deep):
                self.assertTrue(torch.equal(layer(x), layer(x.contiguous())))
            one = wide[1:2, :1, :COLS]  # of strides that say nothing
            self.assertTrue(torch.equal(layer(one), layer(one.clone())))
            for lead in ((0,), (2, 0)):
                self.assertEqual(layer(torch.empty(*lead, COLS)).shape, (*lead, ROWS))
        self.assertEqual(self.calls, before)

    def test_dtypes(self):
        for dtype in (torch.float16, torch.bfloat16):
            layer = linear(COLS, ROWS, nested=True).to(dtype)
            w = unpack(layer.weight, layer.weight.quant_state)
            for compute_dtype in (dtype, None):
                layer.compute_dtype = compute_dtype
                x = self.x.to(dtype)
                before = self.calls
                with torch.no_grad():
                    y = layer(x)
                    exact = torch.nn.functional.linear(x.double(), w.double(), layer.bias.double())
                    self.assertLess((y.double() - exact).abs().max() / exact.abs().max(), 1e-2)
                    with not_in_python() if self.in_c else contextlib.nullcontext():
                        self.assertTrue(torch.equal(layer(x), y))
                self.assertEqual((self.calls, y.dtype), (before, dtype))

    def test_gradients_that_nobody_takes(self):
        layer = linear(COLS, ROWS).requires_grad_(False)
        y = self.assert_short(layer)
        before = self.calls
        with not_in_python() if self.in_c else contextlib.nullcontext():
            self.assertTrue(torch.equal(layer(self.x), y))
        self.assertEqual(self.calls, before)

    def test_threads(self):
        """Layers of their own, and one that they share."""
        shared = linear(COLS, ROWS, nested=True)
        y = self.assert_short(shared)
        failures = []

        def work(layer):
            try:
                with torch.no_grad():
                    expected = layer(self.x)
                    for _ in range(200):
                        if not (torch.equal(layer(self.x), expected) and torch.equal(shared(self.x), y)):
                            failures.append(layer)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(linear(COLS, ROWS),)) for _ in range(4)]
        before = self.calls
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((failures, self.calls), ([], before))

    def test_nothing_leaks(self):
        """Of calls that are made, handed back, and refused."""
        layer, x = linear(COLS, ROWS, nested=True), torch.randn(1, COLS)
        tensors = (x, layer.weight, layer.bias, layer.weight.quant_state.absmax, layer.weight.quant_state.state2.code)

        def calls(count):
            for _ in range(count):
                layer(x)

        def left(count):
            for _ in range(count):
                layer(self.x.double())
                layer(self.x.transpose(0, 1))

        self.bitsandbytes = lambda layer, x: None
        with torch.no_grad():
            for run, count in ((calls, 20000), (left, 1000)):
                run(200)
                gc.collect()
                before = [sys.getrefcount(tensor) for tensor in tensors]
                blocks, pages = sys.getallocatedblocks(), resident_pages()
                run(count)
                gc.collect()
                self.assertEqual([sys.getrefcount(tensor) for tensor in tensors], before)
                self.assertLess(sys.getallocatedblocks() - blocks, count // 10)
                self.assertLess(resident_pages() - pages, 500)  # 2 MB, of which a tensor a call would be a part

    def test_modes(self):
        layer = linear(COLS, ROWS).requires_grad_(False)
        y = self.assert_short(layer)
        before = self.calls
        with torch.inference_mode():
            self.assertTrue(torch.equal(layer(self.x), y))
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            self.assertEqual(layer(self.x).dtype, torch.float32)  # as bitsandbytes returns the type of x
        self.assertTrue(torch.equal(layer(x=self.x), y))
        self.assertEqual(self.calls, before)

    def test_copies(self):
        layer = linear(COLS, ROWS)
        y = self.assert_short(layer)
        self.assertIsNone(copy.deepcopy(layer).__dict__["_nf4_plan"])
        self.assertTrue(torch.equal(self.assert_short(copy.copy(layer)), y))
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        self.assertTrue(torch.equal(self.assert_short(torch.load(file, weights_only=False)), y))
        self.assertNotIn("_nf4_plan", layer.state_dict())

    def test_shared_weight(self):
        one, other = linear(COLS, ROWS), linear(COLS, ROWS, bias=False)
        other.weight = one.weight
        for _ in range(2):
            y, without_bias = self.assert_short(one), self.assert_short(other)
            self.assertTrue(torch.allclose(y - one.bias, without_bias, atol=1e-5))
            one.weight.data = torch.randint_like(one.weight.data, 256)

    def test_subclass(self):
        class Scaled(Linear4bit):
            def forward(self, x):
                return 2 * super().forward(x)

        layer = linear(COLS, ROWS)
        y = self.assert_short(layer)
        layer.__class__ = Scaled
        with torch.no_grad():
            self.assertTrue(torch.equal(layer(self.x), 2 * y))

    def test_hooks(self):
        layer = linear(COLS, ROWS)
        y = self.assert_short(layer)
        layer.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 2,))
        layer.register_forward_hook(lambda _, __, output: output / 2)
        with torch.no_grad():
            self.assertTrue(torch.allclose(layer(self.x) + layer.bias / 2, y, atol=1e-5))


@both_ways
class StaleStateTest(ForwardTest):
    """What a layer is given while it lives, is what its next call reads: assert_short() holds against what is there."""

    def setUp(self):
        super().setUp()
        self.layer = linear(COLS, ROWS, nested=True)
        self.parameter, self.state = self.layer.weight, self.layer.weight.quant_state
        self.y = self.assert_short(self.layer)

    def changed(self):
        self.assertFalse(torch.allclose(self.assert_short(self.layer), self.y))

    def test_codes(self):
        self.parameter.data = self.parameter.data.roll(1)
        self.changed()

    def test_codes_in_place(self):
        self.parameter.data.copy_(self.parameter.data.roll(1))
        self.changed()

    def test_parameter(self):
        self.layer.weight = copy.deepcopy(self.parameter)
        self.layer.weight.data.copy_(self.parameter.data.roll(1))
        self.changed()

    def test_quant_state(self):
        self.layer.weight.quant_state = quantize(torch.randn(ROWS, COLS), nested=True)[1]
        self.changed()

    def test_absmax(self):
        self.state.absmax = self.state.absmax.flip(0)
        self.changed()

    def test_absmax_data(self):
        self.state.absmax.data = self.state.absmax.flip(0)
        self.changed()

    def test_offset(self):
        self.state.offset = self.state.offset + 1
        self.changed()

    def test_offset_data(self):
        self.state.offset.data = self.state.offset + 1
        self.changed()

    def test_second_absmax(self):
        self.state.state2.absmax = self.state.state2.absmax * 2
        self.changed()

    def test_second_absmax_data(self):
        self.state.state2.absmax.data = self.state.state2.absmax * 2
        self.changed()

    def test_second_code(self):
        self.state.state2.code = self.state.state2.code.flip(0)
        self.changed()

    def test_second_state(self):
        self.state.state2 = copy.deepcopy(self.state.state2)
        self.state.state2.absmax *= 2
        self.changed()

    def test_not_nested_any_more(self):
        self.state.absmax = torch.rand(self.state.absmax.numel())
        self.state.nested, self.state.state2, self.state.offset = False, None, None
        self.changed()

    def test_absmax_dtype(self):
        layer = linear(COLS, ROWS)
        self.assert_short(layer)
        state = layer.weight.quant_state
        state.absmax.data = state.absmax.data.half().float()  # so that both mean the same
        y = self.assert_short(layer)
        state.absmax.data = state.absmax.data.half()
        self.assertTrue(torch.equal(self.assert_short(layer), y))

    def test_blocksize(self):
        layer = linear(COLS, ROWS)
        y = self.assert_short(layer)
        layer.weight.quant_state.blocksize = 128
        self.assertFalse(torch.equal(self.assert_short(layer), y))

    def test_shape(self):
        self.state.shape = torch.Size((ROWS // 2, COLS))
        self.layer.bias = None
        self.assertEqual(self.assert_short(self.layer).shape[-1], ROWS // 2)

    def test_bias(self):
        self.layer.bias.data = self.layer.bias.data + 1
        self.changed()
        self.layer.bias = torch.nn.Parameter(self.layer.bias.data + 1)
        self.changed()
        self.layer.bias = None
        self.changed()

    def test_quant_type(self):
        """Not NF4 any more: no business of libnf4."""
        self.state.quant_type = "fp4"
        self.assert_left(self.layer, self.x)

    def test_offset_of_another_type(self):
        """Converted it would be a copy, which does not change with it."""
        self.state.offset = self.state.offset.bfloat16()
        for _ in range(2):
            with torch.no_grad():
                y = self.assert_original(lambda: self.layer(self.x))
            w = unpack(self.parameter, self.state)
            self.assertTrue(torch.allclose(y, torch.nn.functional.linear(self.x, w, self.layer.bias), atol=1e-5))
            self.state.offset.fill_(1)

    def test_nothing_is_kept_alive(self):
        """The memory of a layer that is moved away is free before the next call, which may need it."""
        gone = [weakref.ref(tensor) for tensor in (self.parameter, self.state.absmax, self.layer.bias)]
        self.layer.weight = self.layer.bias = self.layer.quant_state = self.parameter = self.state = None
        gc.collect()
        self.assertEqual([reference() for reference in gone], [None] * 3)


@both_ways
class WhatItLeavesTest(ForwardTest):
    def test_watched(self):
        layer = linear(COLS, ROWS)
        self.assert_original(lambda: layer(self.x))  # the bias has gradients
        layer.requires_grad_(False)
        self.assert_short(layer)
        x = self.x.clone().requires_grad_()
        self.assert_original(lambda: layer(x)).sum().backward()
        self.assertEqual(x.grad.shape, x.shape)
        with torch.no_grad():
            self.assert_original(lambda: layer(torch.nn.Parameter(self.x)))
            self.assert_original(lambda: layer(self.x.to(torch.bfloat16)))
            self.assert_original(lambda: torch.jit.trace(layer, self.x, check_trace=False))
            with FlopCounterMode(display=False):
                self.assert_original(lambda: layer(self.x))
            with contextlib.suppress(RuntimeError):
                self.assert_original(lambda: torch.func.vmap(layer)(self.x))
            twice = self.assert_original(lambda: torch.func.vmap(lambda z: layer(self.x) * z)(torch.ones(2)))
            self.assertEqual(twice.shape, (2, *self.x.shape[:-1], ROWS))
            with forward_ad.dual_level(), contextlib.suppress(NotImplementedError):
                self.assert_original(lambda: layer(forward_ad.make_dual(self.x, self.x)))

    def test_compiled(self):
        layer = linear(COLS, ROWS).requires_grad_(False)
        y = self.assert_short(layer)
        self.bitsandbytes = lambda layer, x: torch.nn.functional.linear(x, w, layer.bias)
        w = unpack(layer.weight, layer.weight.quant_state)
        compiled = torch.compile(layer, backend="eager", fullgraph=True)
        with mock.patch("torch.cuda.is_available", lambda: False):
            self.assertTrue(torch.allclose(compiled(self.x), y, atol=1e-5))

    def test_weight_with_gradients(self):
        layer = linear(COLS, ROWS, bias=False)
        layer.weight.data = layer.weight.data.flatten().view(torch.float32)
        layer.weight.requires_grad_()
        self.bitsandbytes = mock.Mock(side_effect=Own)
        with self.assertRaises(Own):
            layer(self.x)

    def test_fp4(self):
        self.assert_left(linear(COLS, ROWS, quant_type="fp4"), self.x)

    def test_odd_inputs(self):
        for x in (None, 1, self.x.numpy(), torch.tensor(1.0), self.x[..., :-1], self.x.long(),
                  self.x.double(), self.x.to_sparse(), self.x.to("meta")):  # fmt: skip
            with self.subTest(x=type(x)):
                self.assert_left(linear(COLS, ROWS), x)

    def test_rows_beyond_what_is_known_to_be_faster(self):
        """On a device that nobody measured; the host stands for it."""
        devices, layer = nf4.plugin._replacements.devices, linear(COLS, ROWS)
        devices.limits[HOST] = "not measured"
        with mock.patch.dict(_devices._ROWS, {"gemm.host": 6}), torch.no_grad():
            self.assert_short(layer)  # of 2 times 3 rows
            self.assert_original(lambda: layer(torch.randn(7, COLS)))
        with torch.no_grad():
            self.assert_original(lambda: layer(self.x))

    def test_more_arguments(self):
        """A forward that somebody has replaced by one with more of them."""
        nf4.disable()
        with mock.patch.object(Linear4bit, "forward", lambda self, x, *more, **named: (more, named)):
            self.enable()
            layer = linear(COLS, ROWS)
            self.assertEqual(layer(self.x, 1, a=2), ((1,), {"a": 2}))
            nf4.disable()

    def test_parameters_that_are_elsewhere(self):
        """Plain tensors outside of _parameters, as FSDP with use_orig_params=False and DataParallel have them."""
        for names in (("weight",), ("bias",), ("weight", "bias")):
            for planned in (False, True):
                with self.subTest(names=names, planned=planned):
                    layer = linear(COLS, ROWS)
                    y = self.assert_short(copy.deepcopy(layer))
                    if planned:
                        self.assert_short(layer)
                    for name in names:
                        tensor = torch.Tensor._make_subclass(torch.Tensor, getattr(layer, name).data)
                        delattr(layer, name)
                        setattr(layer, name, tensor)
                    with torch.no_grad():
                        self.assertTrue(torch.allclose(self.assert_original(lambda: layer(self.x)), y, atol=1e-5))

    def test_parameters_that_are_shadowed(self):
        layer = linear(COLS, ROWS)
        y = self.assert_short(layer)
        layer.__dict__["bias"] = layer.bias.data + 1
        with torch.no_grad():
            self.assertTrue(torch.allclose(self.assert_original(lambda: layer(self.x)), y + 1, atol=1e-5))

    def test_property_of_a_subclass(self):
        class Biased(Linear4bit):
            bias = property(lambda self: self._parameters["bias"] + 1)

        layer = linear(COLS, ROWS)
        y = self.assert_short(copy.deepcopy(layer))
        layer.__class__ = Biased
        with torch.no_grad():
            self.assertTrue(torch.allclose(self.assert_original(lambda: layer(self.x)), y + 1, atol=1e-5))

    def test_parametrized(self):
        class PlusOne(torch.nn.Module):
            def forward(self, bias):
                return bias + 1

        layer = linear(COLS, ROWS)
        y = self.assert_short(layer)
        torch.nn.utils.parametrize.register_parametrization(layer, "bias", PlusOne())
        with torch.no_grad():
            self.assertTrue(torch.allclose(self.assert_original(lambda: layer(self.x)), y + 1, atol=1e-5))
        torch.nn.utils.parametrize.remove_parametrizations(layer, "bias", leave_parametrized=False)
        self.assertTrue(torch.equal(self.assert_short(layer), y))

    def test_functional_call(self):
        layer = linear(COLS, ROWS)
        y = self.assert_short(layer)
        with torch.no_grad():
            plus = torch.func.functional_call(layer, {"bias": layer.bias + 1}, self.x)
            self.assertTrue(torch.allclose(plus, y + 1, atol=1e-5))
            codes = layer.weight.data.roll(1)
            rolled = self.assert_original(lambda: torch.func.functional_call(layer, {"weight": codes}, self.x))
            w = unpack(codes, layer.quant_state)
        self.assertTrue(torch.allclose(rolled, torch.nn.functional.linear(self.x, w, layer.bias), atol=1e-5))
        self.assertTrue(torch.equal(self.assert_short(layer), y))

    def test_bias_of_another_layout(self):
        layer = linear(COLS, ROWS)
        self.assert_short(layer)
        layer.bias.data = torch.randn(2 * ROWS)[::2]
        exact = torch.nn.functional.linear(self.x, unpack(layer.weight, layer.weight.quant_state), layer.bias)
        with torch.no_grad():
            self.assertTrue(torch.allclose(self.assert_original(lambda: layer(self.x)), exact, atol=1e-5))
        layer.bias = torch.nn.Parameter(torch.randn(ROWS // 2))
        self.assert_left(layer, self.x)

    def test_layers_of_unknown_kinds(self):
        """Whatever is wrong with a layer, or new about it, is bitsandbytes' own to work with or to report."""

        def not_contiguous(layer, state):
            layer.weight.data = layer.weight.data.repeat(1, 2)[:, :1]

        def too_short(layer, state):
            layer.weight.data = layer.weight.data[:-1].clone()

        def packed_for_cpu(layer, state):
            layer.weight.data = layer.weight.data.clone()
            state.packing_format_for_cpu = True

        def on_meta(layer, state):
            layer.weight = bitsandbytes.nn.Params4bit(layer.weight.data.to("meta"), quant_state=state, quant_type="nf4")

        changes = {
            "no state": lambda layer, state: setattr(layer.weight, "quant_state", None),
            "weight without the attribute": lambda layer, state: delattr(layer.weight, "quant_state"),
            "no weight": lambda layer, state: setattr(layer, "weight", None),
            "no bias registered": lambda layer, state: layer._parameters.pop("bias"),
            "compute_dtype missing": lambda layer, state: delattr(layer, "compute_dtype"),
            "compute_type_is_set missing": lambda layer, state: delattr(layer, "compute_type_is_set"),
            "compute type not set": lambda layer, state: setattr(layer, "compute_type_is_set", False),
            "absmax missing": lambda layer, state: delattr(state, "absmax"),
            "absmax too short": lambda layer, state: setattr(state, "absmax", state.absmax[:-1].clone()),
            "absmax in float64": lambda layer, state: setattr(state, "absmax", state.absmax.double()),
            "absmax not contiguous": lambda layer, state: setattr(state, "absmax", state.absmax.repeat(2)[::2]),
            "absmax on another device": lambda layer, state: setattr(state, "absmax", state.absmax.to("meta")),
            "absmax no tensor": lambda layer, state: setattr(state, "absmax", None),
            "nested, but nothing is": lambda layer, state: setattr(state, "nested", True),
            "shape unknown": lambda layer, state: setattr(state, "shape", None),
            "shape of three": lambda layer, state: setattr(state, "shape", torch.Size((2, ROWS // 2, COLS))),
            "blocksize of its own": lambda layer, state: setattr(state, "blocksize", 48),
            "blocksize unknown": lambda layer, state: setattr(state, "blocksize", None),
            "packed for the CPU": packed_for_cpu,
            "codes not contiguous": not_contiguous,
            "codes too short": too_short,
            "codes on meta": on_meta,
        }
        for name, change in changes.items():
            for planned in (False, True):
                with self.subTest(name, planned=planned):
                    layer = linear(COLS, ROWS)
                    if planned:
                        self.bitsandbytes = None
                        self.assert_short(layer)
                    change(layer, layer.quant_state)
                    self.assert_left(layer, self.x)

    def test_refusals(self):
        """What the library does not take is the original's; where it fails, in CUDA for example, it says so itself."""
        answers = []

        @ctypes.CFUNCTYPE(ctypes.c_int, *_library._PROTOTYPES["nf4_gemm"])
        def gemm(*_):
            return answers.pop()

        library = _tensors.library()
        fake = mock.Mock(wraps=library, nf4_gemm=gemm)
        for module in (_tensors, _linear):
            patch = mock.patch.object(module, "library", lambda: fake)
            patch.start()
            self.addCleanup(patch.stop)
        nf4.disable()
        self.enable()
        layer = linear(COLS, ROWS)
        with torch.no_grad():
            answers.append(0)
            layer(self.x)  # which makes a plan
            with not_in_python() if self.in_c else contextlib.nullcontext():
                for status in (1, 2, 3):
                    answers.append(status)
                    self.assert_left(layer, self.x)
                    self.assertEqual(answers, [])
                answers.append(9)
                with self.assertRaises(nf4.Error) as raised:
                    layer(self.x)
        self.assertEqual(raised.exception.name, library.nf4_status_string(9).decode())


@both_ways
class OffloadTest(ForwardTest):
    def test_weights_that_come_and_go(self):
        """A layer whose tensors are on meta between its calls, and others in each; as accelerate's hooks have it."""
        for nested in (False, True):
            layer = linear(COLS, ROWS, nested)
            y = self.assert_short(layer)
            home, on_meta = layer.weight, torch.nn.Parameter(layer.weight.data.to("meta"), requires_grad=False)
            loaded = []

            def load(module, inputs):
                module.weight = copy.deepcopy(home)
                loaded.append(weakref.ref(module.weight))

            def drop(module, inputs, output):
                module.weight = on_meta

            layer.register_forward_pre_hook(load)
            layer.register_forward_hook(drop)
            before = self.calls
            for _ in range(3):
                with torch.no_grad():
                    self.assertTrue(torch.equal(layer(self.x), y))
            self.assertEqual(self.calls, before)
            gc.collect()
            self.assertEqual([reference() for reference in loaded], [None] * 3)

    def test_accelerate(self):
        try:
            from accelerate.hooks import AlignDevicesHook, add_hook_to_module, remove_hook_from_module
        except ImportError:
            self.skipTest("no accelerate")
        layer = linear(COLS, ROWS)
        y = self.assert_short(layer)
        add_hook_to_module(layer, AlignDevicesHook(execution_device="cpu", io_same_device=True))
        before = self.calls
        with torch.no_grad():
            self.assertTrue(torch.equal(layer(self.x), y))
            self.assertEqual(self.calls, before)
            nf4.disable()  # the hook has kept the method
            self.assertTrue(torch.allclose(self.assert_original(lambda: layer(self.x)), y, atol=1e-5))
        remove_hook_from_module(layer)


@both_ways
class DisableTest(ForwardTest):
    def test_given_back(self):
        self.assertIsNot(Linear4bit.forward, self.original)
        nf4.disable()
        self.assertIs(Linear4bit.forward, self.original)

    def test_plans_are_not_kept(self):
        """What devices are good for is found out anew."""
        layer = linear(COLS, ROWS)
        self.assert_short(layer)
        nf4.disable()
        self.enable()
        nf4.plugin._replacements.devices[HOST] = False
        with torch.no_grad():
            self.assert_original(lambda: layer(self.x))

    def test_bound_before(self):
        """accelerate keeps the method that it wraps."""
        layer = linear(COLS, ROWS)
        forward = layer.forward
        nf4.disable()
        with torch.no_grad():
            self.assert_original(lambda: forward(self.x))

    def test_a_later_patch_stays(self):
        ours = Linear4bit.forward

        @functools.wraps(ours)
        def theirs(self, x):
            return ours(self, x) + 1

        layer = linear(COLS, ROWS)
        with torch.no_grad():
            y = layer(self.x)
            Linear4bit.forward = theirs
            for _ in range(3):
                nf4.disable()
                self.assertIs(Linear4bit.forward, theirs)
                self.assertTrue(torch.allclose(self.assert_original(lambda: layer(self.x)), y + 1, atol=1e-5))
                self.enable()
                before = self.calls
                self.assertTrue(torch.allclose(layer(self.x), y, atol=1e-5))
                self.assertEqual(self.calls, before)
            nf4.disable()
            Linear4bit.forward = ours  # they have taken theirs away
            self.assertTrue(torch.allclose(self.assert_original(lambda: layer(self.x)), y, atol=1e-5))
            self.enable()
            before = self.calls
            layer(self.x)
            self.assertEqual(self.calls, before)
            nf4.disable()
        self.assertIs(Linear4bit.forward, self.original)


class ExtensionTest(host_device.HostTest):
    """Where calls are not made in C: nf4.status() says why, and all else is as it is."""

    def setUp(self):
        super().setUp()
        environment = mock.patch.dict(os.environ, NF4_DISABLE_EXTENSION="")
        environment.start()
        self.addCleanup(environment.stop)
        self.addCleanup(nf4.disable)

    def assert_in_python(self, reason):
        status = self.enable()
        self.assertRegex(status["short_call"], f"^Python: .*{reason}")
        self.assertIn("Linear4bit.forward", status["replaced"])
        layer, x = linear(COLS, ROWS), torch.randn(1, COLS)
        with torch.no_grad(), mock.patch.object(_tensors, "multiply", wraps=_tensors.multiply) as multiply:
            layer(x), layer(x)
        self.assertEqual(multiply.call_count, 2)
        nf4.disable()
        self.assertIsNone(nf4.status()["short_call"])

    def test_turned_off(self):
        with mock.patch.dict(os.environ, NF4_DISABLE_EXTENSION="1"):
            self.assert_in_python("NF4_DISABLE_EXTENSION is set")

    def test_older_torch(self):
        with mock.patch.object(extension, "_API", "__of_another_name__"):
            self.assert_in_python("lacks DLPack's exchange API")

    def test_free_threaded(self):
        with mock.patch("sysconfig.get_config_var", lambda name: int(name == "Py_GIL_DISABLED")):
            self.assert_in_python("free-threaded")

    def test_not_built(self):
        host_device.require_extension(self, self.enable())
        nf4.disable()
        with mock.patch.object(extension, "_FILE", "_none.so"), mock.patch.dict(sys.modules):
            sys.modules.pop(extension._NAME, None)
            self.assert_in_python("there is no _none.so")

    def test_another_version(self):
        """A file that is no module, and a module that expects other arguments."""
        host_device.require_extension(self, self.enable())
        nf4.disable()
        with mock.patch.dict(sys.modules):
            sys.modules.pop(extension._NAME, None)
            with mock.patch.object(extension, "_places", lambda: [pathlib.Path(__file__)]):
                self.assert_in_python("invalid ELF header")
        with mock.patch.object(torch.Tensor, "__dlpack_c_exchange_api__", None):
            self.assert_in_python("PyCapsule")

    def test_nothing_is_kept(self):
        """Of a plug-in that was disabled."""

        def alive():
            gc.collect()
            return sum(type(item).__name__ == "ShortCall" for item in gc.get_objects())

        before = alive()
        for _ in range(3):
            host_device.require_extension(self, self.enable())
            linear(COLS, ROWS)(torch.randn(1, COLS))
            self.assertEqual(alive(), before + 1)
            nf4.disable()
        self.assertEqual(alive(), before)

    def test_arguments(self):
        """Those of Python are checked, since what it holds are addresses."""
        host_device.require_extension(self, self.enable())
        short_call = extension.load().ShortCall
        for wrong in ({}, {"exchange_api": torch.Tensor.__dlpack_c_exchange_api__, "gemm": 1, "workspace_rows": 1}):
            with self.assertRaisesRegex(TypeError, "lacks the argument"):
                short_call(**wrong)


if __name__ == "__main__":
    support.main()
