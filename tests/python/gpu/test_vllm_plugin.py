"""vllm-bnb-plugin's layers on the GPU, with stand-ins for vLLM (test_vllm.py has the same on the CPU)."""

import importlib.util

import pytest
import torch

import nf4

if importlib.util.find_spec("vllm_bnb_plugin") is None:  # importing it would need vLLM
    pytest.skip("no vllm-bnb-plugin", allow_module_level=True)

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


@pytest.mark.parametrize("tokens", [1, 3, 40, 300])
def test_experts(plugin, tokens):
    nf4.disable()
    status = nf4.enable()
    assert "vLLM: experts" in status["replaced"]
    layer, method, exact = test_vllm.make_experts(plugin)
    x, weights, ids = test_vllm.make_routing(tokens)
    layer.cuda()
    for parameter in (layer.w13_weight, layer.w2_weight):
        parameter.bnb_quant_state.to("cuda")
    expected = exact(x, weights, ids)
    with torch.no_grad():
        y = method.apply(layer, x.cuda(), weights.cuda(), ids.cuda(), None, None)
    assert (y.double().cpu() - expected).norm() < 2e-2 * expected.norm()
