"""The operator of examples/onnxruntime beside ONNX Runtime's own. Needs onnx and onnxruntime, and the library of custom
operators, which NF4_ONNXRUNTIME names."""

import os
import pathlib
import sys
import unittest

import numpy as np
import support

import nf4

try:
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    from onnx import TensorProto, helper, numpy_helper

    sys.path.insert(1, str(pathlib.Path(__file__).parents[2] / "examples" / "onnxruntime"))
    import matmul_bnb4
except ImportError:
    missing = "no onnx or no onnxruntime"
else:
    missing = "" if os.environ.get("NF4_ONNXRUNTIME") else "no NF4_ONNXRUNTIME, the library of custom operators"

N, K = 5, 65  # blocks and the two codes of a byte straddle rows, and the last byte has one code


def layer(domain, codes, absmax, type_=TensorProto.FLOAT if not missing else None, n=N, k=K, **attributes):
    """x [m, k] times one weight, in and out in float32, the operator itself in `type_`."""
    attributes = {"K": k, "N": n, "block_size": 32, "quant_type": 1, **attributes}
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["a"], to=type_),
         helper.make_node("MatMulBnb4", ["a", "codes", "absmax"], ["b"], domain=domain, **attributes),
         helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT)],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(codes, "codes"), numpy_helper.from_array(absmax, "absmax")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@unittest.skipIf(missing, missing)
class OnnxRuntimeTest(unittest.TestCase):
    def setUp(self):
        self.library = os.environ["NF4_ONNXRUNTIME"]
        self.w = support.random_matrix(N, K)
        self.weight = nf4.Handle().pack(self.w, blocksize=32)

    def test_format(self):
        """What ONNX Runtime packs has the bytes of libnf4, and means the same, bit for bit."""
        from onnxruntime.capi._pybind_state import quantize_matmul_bnb4

        codes, absmax = np.zeros_like(self.weight.codes), np.zeros_like(self.weight.absmax)
        quantize_matmul_bnb4(codes, self.w, absmax, 32, 1, N, K)
        np.testing.assert_array_equal(codes, self.weight.codes)
        np.testing.assert_array_equal(absmax, self.weight.absmax)
        unit = np.eye(K, dtype=np.float32)
        exact = support.unpack(codes, absmax, N, K, 32).T
        np.testing.assert_array_equal(matmul_bnb4.run(layer("com.microsoft", codes, absmax), unit), exact)
        np.testing.assert_array_equal(matmul_bnb4.run(layer("nf4", codes, absmax), unit, self.library), exact)

    def test_types(self):
        """x of small integers, and weights of -1, 0 and 1 times a power of two, so that results are exact. ONNX Runtime
        itself has no kernel for bfloat16 on the CPU."""
        w = 0.5 * (np.arange(N * K) % 3 - 1).reshape(N, K).astype(np.float32)
        x = (np.arange(4 * K) % 5).reshape(4, K).astype(np.float32)
        weight = nf4.Handle().pack(w, blocksize=32)
        for type_ in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16):
            with self.subTest(type_):
                absmax = weight.absmax.astype(helper.tensor_dtype_to_np_dtype(type_))
                y = matmul_bnb4.run(layer("nf4", weight.codes, absmax, type_), x, self.library)
                np.testing.assert_array_equal(y, x @ w.T)
                if type_ != TensorProto.BFLOAT16:
                    theirs = matmul_bnb4.run(layer("com.microsoft", weight.codes, absmax, type_), x)
                    np.testing.assert_array_equal(y, theirs)

    def test_shapes(self):
        """A has any dimensions before K, also of no rows."""
        model = layer("nf4", self.weight.codes, self.weight.absmax)
        w = support.unpack(self.weight.codes, self.weight.absmax, N, K, 32)
        for rows in ((), (1,), (0,), (2, 3), (2, 0, 3)):
            with self.subTest(rows):
                x = np.random.default_rng(1).normal(0, 1, (*rows, K)).astype(np.float32)
                y = matmul_bnb4.run(model, x, self.library)
                self.assertEqual(y.shape, (*rows, N))
                np.testing.assert_allclose(y, x.astype(np.float64) @ w.T, rtol=0, atol=1e-6)

    def test_use_nf4(self):
        """Nodes in FP4, and of weights that are not [N, K], are left to ONNX Runtime."""
        for attributes, count in (({}, 1), ({"transB": 1}, 1), ({"quant_type": 0}, 0), ({"transB": 0}, 0)):
            model = layer("com.microsoft", self.weight.codes, self.weight.absmax, **attributes)
            with self.subTest(attributes):
                self.assertEqual(matmul_bnb4.use_nf4(model), count)
                self.assertEqual(model.graph.node[1].domain, "nf4" if count else "com.microsoft")
                self.assertEqual([o.domain for o in model.opset_import], ["", "com.microsoft"] + ["nf4"] * count)

    def test_refusals(self):
        """What does not fit is an error that says why."""
        codes, absmax = self.weight.codes, self.weight.absmax
        x = np.ones((2, K), np.float32)
        for model, x_, expected in (
            (layer("nf4", codes, absmax, quant_type=0), x, "quant_type is 0; expected 1, NF4"),
            (layer("nf4", codes, absmax, transB=0), x, r"transB is 0; expected 1, W is \[N, K\]"),
            (layer("nf4", codes, absmax, block_size=48), x, "blocksize is 48"),
            (layer("nf4", codes, absmax, block_size=1 << 40), x, "block_size is 1099511627776"),
            (layer("nf4", codes, absmax, n=-1), x, "rows is -1"),
            (layer("nf4", codes[1:], absmax), x, f"codes holds {codes.size - 1} elements, expected {codes.size}"),
            (layer("nf4", codes, absmax[1:]), x, f"absmax holds {absmax.size - 1} elements, expected {absmax.size}"),
            (layer("nf4", codes, absmax), x[:, 1:], f"the last dimension of A is {K - 1}; expected {K}, K"),
            (layer("nf4", codes, absmax), np.array(1, np.float32), f"A is a scalar; expected .* {K}, K"),
        ):
            with self.subTest(expected), self.assertRaisesRegex(Exception, expected):
                matmul_bnb4.run(model, x_, self.library)


if __name__ == "__main__":
    support.main()
