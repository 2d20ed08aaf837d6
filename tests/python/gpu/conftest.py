"""Tests of the plug-in on a GPU, for pytest. They need torch with CUDA, bitsandbytes, and this package with a libnf4
that was built with CUDA; those of models need transformers, and one peft. docs/design/testing.md says how to run them."""

import contextlib
import pathlib
import sys

import pytest
import torch

import nf4

sys.path.insert(1, str(pathlib.Path(__file__).parents[1]))  # for what is shared with the tests without a GPU

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@contextlib.contextmanager
def bitsandbytes_alone():
    nf4.disable()
    try:
        yield
    finally:
        nf4.enable()


@pytest.fixture(autouse=True, scope="session")
def device():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def enabled():
    """Every test begins with the plug-in in place, and a device that it can use."""
    torch.manual_seed(1)
    status = nf4.enable()
    assert status["enabled"], status
    yield
    assert not nf4.status()["unusable_devices"], nf4.status()


def unpack64(packed, state):
    """What packed weights mean, in float64, from the format's description alone."""
    codes = packed.flatten().view(torch.uint8)
    codebook = torch.tensor(nf4.codebook(), dtype=torch.float64, device=codes.device)
    values = codebook[torch.stack([codes >> 4, codes & 15], dim=1).flatten().long()]
    absmax = state.absmax
    if state.nested:
        second = state.state2
        scales = second.absmax.repeat_interleave(second.blocksize)[: absmax.numel()]
        absmax = second.code[absmax.long()] * scales + state.offset
    values = values[: state.shape.numel()] * absmax.double().repeat_interleave(state.blocksize)[: state.shape.numel()]
    return values.reshape(state.shape)


def assert_product(y, x, w, bias=None):
    """Every element within the bound of docs/reference/accuracy.md for the widest class of its dtype."""
    unit, codebook = {
        torch.float32: (2.0**-24, 0.0),
        torch.float16: (2.0**-11, 2.0**-11),
        torch.bfloat16: (2.0**-8, 2.0**-8),
    }[y.dtype]
    x = x.double()
    exact = x @ w.T
    size = x.abs() @ w.abs().T
    if bias is not None:
        exact, size = exact + bias.double(), size + bias.double().abs()
    g = codebook + (w.shape[1] + 4) * 2.0**-23
    bound = unit * exact.abs() + (1 + unit) * g * size + torch.finfo(y.dtype).smallest_normal
    assert y.shape == exact.shape
    worst = ((y.double() - exact).abs() / bound).max().item()
    assert worst <= 1, worst
