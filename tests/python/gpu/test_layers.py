"""Operators, layers and C functions of bitsandbytes on libnf4, against bitsandbytes' own and float64."""

import ctypes
import threading

import bitsandbytes as bnb
import bitsandbytes.functional as F
import pytest
import torch
from conftest import DTYPES, assert_product, bitsandbytes_alone, unpack64

import nf4


@pytest.fixture(params=["C", "Python"])
def language(request, enabled, monkeypatch):
    """The one that calls of layers are made in."""
    monkeypatch.setenv("NF4_DISABLE_EXTENSION", str(int(request.param == "Python")))
    nf4.disable()
    status = nf4.enable()
    if not status["short_call"].startswith(request.param):
        pytest.skip(status["short_call"])
    yield
    nf4.disable()


both_ways = pytest.mark.usefixtures("language")


def quantized(rows, cols, dtype=torch.bfloat16, **options):
    w = (torch.randn(rows, cols, device="cuda") * 0.02).to(dtype)
    return F.quantize_4bit(w, quant_type="nf4", **options)


def linear(rows, cols, dtype=torch.bfloat16, bias=True, nested=False, storage=torch.uint8, quant_type="nf4"):
    layer = bnb.nn.Linear4bit(cols, rows, bias=bias, compute_dtype=dtype, quant_type=quant_type,
                              compress_statistics=nested, quant_storage=storage)  # fmt: skip
    return layer.to(dtype).cuda().requires_grad_(False)


@both_ways
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("lead", [(1,), (1, 1), (3,), (2, 4), (17,), (64,), (300,)])
def test_products(dtype, nested, lead):
    for rows, cols in ((256, 512), (1000, 1024), (48, 100)):
        layer = linear(rows, cols, dtype, nested=nested)
        x = torch.randn(*lead, cols, device="cuda", dtype=dtype)
        w = unpack64(layer.weight.data, layer.weight.quant_state)
        short = layer(x)
        assert layer.__dict__["_nf4_plan"] is not None
        assert_product(short, x, w, layer.bias)
        by_operator = bnb.matmul_4bit(x, layer.weight, quant_state=layer.weight.quant_state, bias=layer.bias)
        if hasattr(torch.ops.bitsandbytes, "gemm_4bit"):
            assert torch.equal(short, by_operator)
        assert_product(by_operator, x, w, layer.bias)


@pytest.mark.parametrize("nested", [False, True])
def test_calls_in_c(nested, monkeypatch):
    """What comes again is not made in Python, whatever the stream, and in a graph."""
    if nf4.status()["short_call"] != "C":
        pytest.skip(nf4.status()["short_call"])
    layer = linear(256, 512, nested=nested)
    inputs = [torch.randn(*lead, 512, device="cuda", dtype=torch.bfloat16) for lead in ((1, 1), (2, 8), (7,))]
    expected = [layer(x) for x in inputs]
    monkeypatch.delattr("nf4._tensors.multiply")
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    for x, y in zip(inputs, expected):
        assert torch.equal(layer(x), y)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            assert torch.equal(layer(x), y)
    with torch.no_grad(), torch.cuda.graph(graph):
        captured = layer(inputs[0])
    graph.replay()
    assert torch.equal(captured, expected[0])


@pytest.mark.parametrize("blocksize", [64, 128, 256, 512, 1024, 2048, 4096])
@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_are_bitsandbytes(dtype, blocksize):
    w = (torch.randn(300, 1024, device="cuda") * 0.02).to(dtype)
    with bitsandbytes_alone():
        theirs, state = F.quantize_4bit(w, quant_type="nf4", blocksize=blocksize)
        unpacked = F.dequantize_4bit(theirs, state)
    ours, absmax = F.quantize_4bit(w, quant_type="nf4", blocksize=blocksize)
    assert torch.equal(absmax.absmax, state.absmax)
    # An approximate reciprocal there, a division here: docs/reference/format.md.
    assert (ours != theirs).sum() <= (1 if dtype == torch.float32 else 0)
    assert torch.equal(F.dequantize_4bit(theirs, state), unpacked)


@pytest.mark.parametrize("storage", [torch.uint8, torch.bfloat16, torch.float16, torch.float32])
def test_quant_storage(storage):
    layer = linear(256, 512, storage=storage)
    assert layer.weight.dtype == storage
    with bitsandbytes_alone():
        theirs, _ = F.quantize_4bit(F.dequantize_4bit(layer.weight.data, layer.weight.quant_state), quant_type="nf4",
                                    quant_storage=storage)  # fmt: skip
    assert torch.equal(layer.weight.data.view(torch.uint8), theirs.view(torch.uint8))
    x = torch.randn(3, 512, device="cuda", dtype=torch.bfloat16)
    assert_product(layer(x), x, unpack64(layer.weight.data, layer.weight.quant_state), layer.bias)


def test_nested_scales():
    packed, state = quantized(512, 4096, compress_statistics=True)
    ours = F.dequantize_blockwise(state.absmax, state.state2)
    unpacked = F.dequantize_4bit(packed, state)
    with bitsandbytes_alone():
        assert torch.equal(F.dequantize_blockwise(state.absmax, state.state2), ours)
        assert torch.equal(F.dequantize_4bit(packed, state), unpacked)


@both_ways
def test_not_contiguous():
    layer = linear(256, 512)
    wide = torch.randn(6, 4, 1024, device="cuda", dtype=torch.bfloat16)
    for x in (wide[..., :512], wide[..., :512].transpose(0, 1), wide[..., ::2], wide[:, ::2, 512:]):
        assert not x.is_contiguous()
        assert torch.equal(layer(x), layer(x.contiguous()))
        assert torch.equal(bnb.matmul_4bit(x, layer.weight, quant_state=layer.weight.quant_state, bias=layer.bias),
                           layer(x))  # fmt: skip


@both_ways
def test_empty():
    layer = linear(256, 512)
    assert layer(torch.empty(2, 0, 512, device="cuda", dtype=torch.bfloat16)).shape == (2, 0, 256)


def test_fp4_is_left_alone():
    layer = linear(256, 512, quant_type="fp4")
    for lead in ((1,), (8,)):
        x = torch.randn(*lead, 512, device="cuda", dtype=torch.bfloat16)
        y = layer(x)
        with bitsandbytes_alone():
            assert torch.equal(layer(x), y)


def test_autocast():
    layer = linear(256, 512, torch.float32)
    layer.compute_dtype = None
    x = torch.randn(4, 512, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        y = layer(x)
        with bitsandbytes_alone():
            assert layer(x).dtype == y.dtype


def test_gradients():
    layer = linear(256, 512).requires_grad_(False)
    x = torch.randn(2, 5, 512, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    grad = torch.randn(2, 5, 256, device="cuda", dtype=torch.bfloat16)
    (ours,) = torch.autograd.grad(layer(x), x, grad)
    with bitsandbytes_alone():
        (theirs,) = torch.autograd.grad(layer(x), x, grad)
    assert torch.equal(ours, theirs)  # the same unpacked weights, and the same dense product


@both_ways
def test_streams():
    """Work goes to the caller's stream: what that stream did before is seen, and others do not disturb."""
    layer = linear(4096, 4096)
    inputs = [torch.randn(1, 4096, device="cuda", dtype=torch.bfloat16) for _ in range(8)]
    expected = [layer(x) for x in inputs]
    failures = []

    def work(x, y):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream), torch.no_grad():
            late = torch.zeros_like(x)
            for _ in range(20):
                late.zero_()
                torch.cuda._sleep(1_000_000)
                late.copy_(x)
                if not torch.equal(layer(late), y):
                    failures.append(x)
        stream.synchronize()

    torch.cuda.synchronize()
    threads = [threading.Thread(target=work, args=pair) for pair in zip(inputs, expected)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def by_forward(layer, x):
    return layer(x)


def by_operator(layer, x):
    return bnb.matmul_4bit(x, layer.weight, quant_state=layer.weight.quant_state, bias=layer.bias)


def rewrite(layer, source):
    """Writes the weights of another layer into those of `layer`, late on a stream that is busy."""
    with torch.no_grad():
        torch.cuda._sleep(5_000_000)
        layer.weight.copy_(source.weight)
        layer.weight.quant_state.absmax.copy_(source.weight.quant_state.absmax)


@both_ways
@pytest.mark.parametrize("way", [by_forward, by_operator])
@pytest.mark.parametrize("m", [1, 8, 64])
def test_weights_written_between_calls(way, m):
    """A product takes what was written just before it."""
    layer, *sources = (linear(2048, 2048, bias=False) for _ in range(3))
    x = torch.randn(m, 2048, device="cuda", dtype=torch.bfloat16)
    expected = [source(x) for source in sources]
    for turn in range(20):
        way(layer, x)
        rewrite(layer, sources[turn % 2])
        assert torch.equal(way(layer, x), expected[turn % 2])


def other_offset(state):
    state.offset = state.offset + 0.5


def other_offset_type(state):
    state.offset = (state.offset + 0.5).bfloat16()


def other_scales(state):
    state.absmax = state.absmax.flip(0)


def other_scales_data(state):
    state.absmax.data = state.absmax.flip(0)


def other_second_scales(state):
    state.state2.absmax = state.state2.absmax * 2


def other_second_code(state):
    state.state2.code.data = state.state2.code.flip(0)


@both_ways
@pytest.mark.parametrize("change", [other_offset, other_offset_type, other_scales, other_scales_data,
                                    other_second_scales, other_second_code])  # fmt: skip
def test_state_that_is_replaced(change):
    """A call takes what the layer has by then, and nothing of what it had, whose memory may be another's."""
    layer = linear(256, 512, nested=True)
    x = torch.randn(2, 512, device="cuda", dtype=torch.bfloat16)
    before = layer(x)
    change(layer.weight.quant_state)
    junk = [torch.full((512,), torch.nan, device="cuda") for _ in range(64)]  # where the old ones were
    y = layer(x)
    assert not torch.equal(y, before)
    assert_product(y, x, unpack64(layer.weight.data, layer.weight.quant_state), layer.bias)
    del junk


@both_ways
def test_weights_written_before_a_graph():
    layers, source = [linear(2048, 2048, bias=False) for _ in range(3)], linear(2048, 2048, bias=False)
    x = torch.randn(1, 2048, device="cuda", dtype=torch.bfloat16)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        y = layers[2](layers[1](layers[0](x)))
    for layer in layers:
        rewrite(layer, source)
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(y, layers[2](layers[1](layers[0](x))))


@both_ways
def test_weights_written_in_a_graph():
    layer, source = linear(2048, 2048, bias=False), linear(2048, 2048, bias=False)
    x = torch.randn(1, 2048, device="cuda", dtype=torch.bfloat16)
    layer(x)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        layer.weight.copy_(source.weight)
        layer.weight.quant_state.absmax.copy_(source.weight.quant_state.absmax)
        y = layer(x)
    for _ in range(20):
        torch.cuda._sleep(1_000_000)
        source.weight.copy_(torch.randint(0, 256, source.weight.shape, dtype=torch.uint8, device="cuda"))
        graph.replay()
        assert torch.equal(y, source(x))


@both_ways
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_second_device():
    layer = linear(256, 512).to("cuda:1")
    x = torch.randn(1, 512, device="cuda:1", dtype=torch.bfloat16)
    assert torch.cuda.current_device() == 0
    y = layer(x)
    assert y.device == x.device and torch.cuda.current_device() == 0
    assert_product(y, x, unpack64(layer.weight.data, layer.weight.quant_state), layer.bias)


@both_ways
@pytest.mark.parametrize("m", [1, 8, 64])
def test_cuda_graph(m):
    """Captured without a call before, as some do."""
    layer = linear(1024, 2048, nested=True)
    x = torch.randn(m, 2048, device="cuda", dtype=torch.bfloat16)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad():
        if m == 64:
            layer(x)  # cuBLAS allocates its workspace in its first call
        with torch.cuda.graph(graph):
            y = layer(x)
        for _ in range(3):
            x.copy_(torch.randn_like(x))
            graph.replay()
            assert torch.equal(y, layer(x))


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compile(mode):
    layers = torch.nn.Sequential(linear(512, 256), torch.nn.SiLU(), linear(256, 512, nested=True))
    compiled = torch.compile(layers, mode=mode, fullgraph=True)
    with torch.no_grad():
        for m in (1, 1, 1, 8, 8):
            x = torch.randn(m, 256, device="cuda", dtype=torch.bfloat16)
            torch.testing.assert_close(compiled(x), layers(x), rtol=0.02, atol=0.02)


@pytest.mark.skipif(not hasattr(torch.ops.bitsandbytes, "gemm_4bit"), reason="before bitsandbytes 0.50")
@pytest.mark.parametrize("nested", [False, True])
def test_compile_groups_products(nested):
    """Products of the same x are launched together, if all of their operands are there for the first of them."""
    from torch._inductor.utils import run_and_get_code

    q, k, v, o = (linear(rows, 256, nested=nested) for rows in (256, 64, 64, 128))
    state = F.quantize_4bit(torch.randn(32, 256, device="cuda"), quant_type="nf4")[1]

    def layer(x, late):
        first = q(x)
        codes = (late + first.sum().to(torch.uint8) * 0).contiguous()  # made after the first product
        return o(first), k(x), v(x), bnb.matmul_4bit(x, codes, quant_state=state)

    x = torch.randn(1, 256, device="cuda", dtype=torch.bfloat16)
    late = torch.randint(0, 256, (32 * 256 // 2, 1), device="cuda", dtype=torch.uint8)
    with torch.no_grad():
        torch.compiler.reset()
        compiled = torch.compile(layer, fullgraph=True)
        ours, (code,) = run_and_get_code(compiled, x, late)
        (group,) = [line for line in code.splitlines() if "nf4.gemm_4bit_group.default(" in line]
        assert "[256, 256, 64, 256, 64, 256]" in group
        assert code.count("bitsandbytes.gemm_4bit.default(") == 2
        for a, b in zip(ours, layer(x, late)):
            torch.testing.assert_close(a, b, rtol=0.02, atol=0.02)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            compiled(x, late)
            torch.cuda.synchronize()
        assert sum("nf4::gemm" in event.name for event in profile.events()) == 3
        with bitsandbytes_alone():
            assert all(torch.equal(a, b) for a, b in zip(compiled(x, late), layer(x, late)))
            torch.compiler.reset()
            _, (code,) = run_and_get_code(torch.compile(layer, fullgraph=True), x, late)
            assert "gemm_4bit_group" not in code


@pytest.mark.parametrize("several", [False, True])
def test_compile_with_passes_of_others(several):
    """Set before the plug-in puts its own in: they run, and products are still grouped."""
    from torch._inductor import config, custom_graph_pass
    from torch._inductor.utils import run_and_get_code

    if several and not hasattr(custom_graph_pass, "get_custom_graph_passes"):
        pytest.skip("a torch that takes one pass")
    if not hasattr(torch.ops.bitsandbytes, "gemm_4bit"):
        pytest.skip("before bitsandbytes 0.50")
    seen = []
    q, k = linear(256, 256), linear(64, 256)
    x = torch.randn(1, 256, device="cuda", dtype=torch.bfloat16)
    nf4.disable()
    with config.patch(post_grad_custom_post_pass=[seen.append] if several else seen.append), torch.no_grad():
        nf4.enable()
        torch.compiler.reset()
        _, (code,) = run_and_get_code(torch.compile(lambda x: (q(x), k(x)), fullgraph=True), x)
        nf4.disable()
    assert seen and "nf4.gemm_4bit_group.default(" in code


def test_operator_is_traced():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        y = torch.ops.bitsandbytes.dequantize_4bit.default(
            torch.empty(512, 1, dtype=torch.uint8, device="cuda"), torch.empty(16, device="cuda"), 64, "nf4", [16, 64],
            torch.bfloat16,
        )  # fmt: skip
    assert (y.shape, y.dtype) == ((16, 64), torch.bfloat16)


@pytest.mark.parametrize("dtype,name", [(torch.float16, "fp16"), (torch.bfloat16, "bf16")])
def test_c_functions(dtype, name):
    """As Unsloth calls them."""
    native = bnb.functional.lib
    packed, state = quantized(512, 1024, dtype)
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    number, pointer = ctypes.c_int32, lambda tensor: ctypes.c_void_p(tensor.data_ptr())
    out = torch.full((512, 1024), torch.nan, device="cuda", dtype=dtype)
    getattr(native, f"cdequantize_blockwise_{name}_nf4")(
        None, pointer(packed), pointer(state.absmax), pointer(out), number(64), number(out.numel()), stream
    )
    assert torch.equal(out, F.dequantize_4bit(packed, state))
    gemv = getattr(native, f"cgemm_4bit_inference_naive_{name}")
    for quant_type in ("nf4", "fp4"):
        packed, state = F.quantize_4bit(out, quant_type=quant_type)
        x = torch.randn(1, 1024, device="cuda", dtype=dtype)
        y = torch.full((1, 512), torch.nan, device="cuda", dtype=dtype)
        gemv(number(512), number(1), number(1024), pointer(x), pointer(packed), pointer(state.absmax),
             pointer(state.code), pointer(y), number(512), number(512), number(512), number(64), stream)  # fmt: skip
        w = unpack64(packed, state) if state.quant_type == "nf4" else F.dequantize_4bit(packed, state).double()
        assert_product(y, x, w)


def test_handle():
    """The ctypes layer by itself, on arrays of torch."""
    handle = nf4.Handle(0)
    w = torch.randn(48, 100, device="cuda", dtype=torch.bfloat16)
    codes = torch.empty(2400, device="cuda", dtype=torch.uint8)
    absmax = torch.empty(75, device="cuda")
    stream = torch.cuda.current_stream().cuda_stream
    weight = handle.pack(w, codes=codes, absmax=absmax, stream=stream)
    x = torch.randn(3, 100, device="cuda", dtype=torch.bfloat16)
    y = torch.full((3, 48), torch.nan, device="cuda", dtype=torch.bfloat16)
    handle.gemm(x, weight, out=y, stream=stream)
    _, state = F.quantize_4bit(w, quant_type="nf4")
    assert_product(y, x, unpack64(codes, state))
    with pytest.raises(ValueError, match="out is None; expected an array on CUDA device 0"):
        handle.gemm(x, weight, stream=stream)
    with pytest.raises(ValueError, match="x is on the host; expected CUDA device 0"):
        handle.gemm(x.cpu(), weight, out=y, stream=stream)
    with pytest.raises(nf4.Error) as raised:
        handle.gemm(x, weight, out=y, stream=stream, variant="gemm.none")
    assert raised.value.name == "NF4_ERROR_UNKNOWN_VARIANT"


def test_operators():
    import nf4.operators  # noqa: F401

    ops = torch.ops.nf4
    w = torch.randn(256, 512, device="cuda", dtype=torch.bfloat16)
    codes, absmax = ops.pack(w)
    x = torch.randn(2, 3, 512, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    _, state = F.quantize_4bit(w, quant_type="nf4")
    assert_product(ops.gemm(x, codes, absmax, [256, 512]).detach(), x.detach(), unpack64(codes, state))
    torch.library.opcheck(ops.gemm.default, (x, codes, absmax, [256, 512]))
    torch.library.opcheck(ops.unpack.default, (codes, absmax, [256, 512], torch.float16))
