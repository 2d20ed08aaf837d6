"""vllm-bnb-plugin's layers on the GPU, with stand-ins for vLLM (test_vllm.py has the same on the CPU)."""

import pytest
import torch

import nf4

pytest.importorskip("vllm_bnb_plugin")

import test_vllm  # noqa: E402


@pytest.fixture(scope="module")
def plugin():
    nf4.disable()  # vLLM loads its plug-ins before it imports bitsandbytes
    return test_vllm.load("CUDA")


@pytest.mark.parametrize("parts", [test_vllm.PARTS, (48, 48), (24,), (16, 8, 8, 8, 8)])
@pytest.mark.parametrize("rows", [(1,), (3,), (40,), (300,), (2, 3)])
def test_parts(plugin, parts, rows):
    nf4.disable()
    status = nf4.enable()
    assert "vLLM: parts of a layer" in status["replaced"]
    layer, method, w = test_vllm.make_layer(plugin, parts)
    layer.cuda()
    for state in layer.weight.bnb_quant_state.values():
        state.to("cuda")
    x = test_vllm.make_x(*rows).cuda()
    expected = x.float() @ w.cuda().T
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        assert torch.equal(method.apply(layer, x).float(), expected)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            y = method.apply(layer, x)
    y.zero_()
    torch.cuda.synchronize()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(y.float(), expected)
