"""A model in NF4 (com.microsoft.MatMulBnb4) by ONNX Runtime's own kernels and by libnf4's, and how far the two differ.

    python3 matmul_bnb4.py path/to/libnf4_onnxruntime.so

matmul_bnb4.cpp is the library. Needs onnx, and onnxruntime 1.17 or newer.
"""

import sys

import numpy as np
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer


def use_nf4(model):
    """Lets libnf4 multiply by the NF4 weights of `model`: their nodes name its operator instead. Returns how many there
    are. Nodes in FP4, or whose weights are not [N, K], stay as they are."""
    nodes = 0
    for node in model.graph.node:
        values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if (node.domain, node.op_type, values.get("quant_type")) == ("com.microsoft", "MatMulBnb4", 1):
            if values.get("transB", 1) == 1:
                node.domain = "nf4"
                nodes += 1
    if nodes and not any(opset.domain == "nf4" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("nf4", 1))
    return nodes


def run(model, x, library=None):
    """The first output of `model`, with the operators of `library`."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    if library is not None:
        options.register_custom_ops_library(library)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def make_model(weights):
    """y = relu(x W0^T) W1^T, in NF4 by ONNX Runtime's own tool. Its MatMul takes the weights as [K, N]."""
    type_ = helper.np_dtype_to_tensor_dtype(weights[0].dtype)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w0"], ["y0"], name="layer0"),
         helper.make_node("Relu", ["y0"], ["relu0"]),
         helper.make_node("MatMul", ["relu0", "w1"], ["y"], name="layer1")],
        "mlp",
        [helper.make_tensor_value_info("x", type_, ["batch", "sequence", weights[0].shape[1]])],
        [helper.make_tensor_value_info("y", type_, ["batch", "sequence", weights[1].shape[0]])],
        [numpy_helper.from_array(np.ascontiguousarray(w.T), f"w{i}") for i, w in enumerate(weights)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    quantizer = MatMulBnb4Quantizer(model, MatMulBnb4Quantizer.NF4, block_size=64)
    quantizer.process()
    return quantizer.model.model


def main():
    random = np.random.default_rng(1)
    model = make_model([random.normal(0, 0.02, shape).astype(np.float32) for shape in ((512, 256), (128, 512))])
    x = random.normal(0, 1, (2, 3, 256)).astype(np.float32)

    theirs = run(model, x)
    print(f"{use_nf4(model)} layers are libnf4's")
    ours = run(model, x, sys.argv[1])
    difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f"within {difference:.1e} of ONNX Runtime's own result")
    assert difference < 4e-6


if __name__ == "__main__":
    main()
