"""The pass for torch.compile, on the CPU, where gemm_4bit is bitsandbytes' own. Needs torch and bitsandbytes 0.50."""

import unittest

import support

try:
    import bitsandbytes.functional as F
    import torch
    from nf4 import _inductor
    from torch._inductor import config
    from torch.fx.experimental.proxy_tensor import make_fx

    reason = None if hasattr(torch.ops.bitsandbytes, "gemm_4bit") else "bitsandbytes before 0.50"
except ImportError as error:
    reason = str(error)


@unittest.skipIf(reason is not None, reason)
class InductorTest(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)
        self.x = torch.randn(3, 128)
        packed = [F.quantize_4bit(torch.randn(rows, 128), quant_type="nf4") for rows in (128, 64, 32)]
        self.weights = [(codes, state.absmax) for codes, state in packed]
        self.addCleanup(setattr, config, "post_grad_custom_post_pass", config.post_grad_custom_post_pass)

    def multiply(self, x, weight, quant_type="nf4"):
        codes, absmax = weight
        return torch.ops.bitsandbytes.gemm_4bit(x, codes, [codes.numel() // 64, 128], absmax, 64, quant_type)

    def traced(self, function):
        """What `function` of x and weights does, as a graph of which they are the inputs."""
        return make_fx(function, tracing_mode="fake")(self.x, self.weights)

    def groups(self, function):
        """The rows of the products in each group that the pass makes, and how many products it leaves alone. What is
        computed must stay the same."""
        traced = self.traced(function)
        expected = traced(self.x, self.weights)
        _inductor.group_products(traced.graph)
        traced.graph.lint()
        traced.recompile()
        for now, then in zip(traced(self.x, self.weights), expected):
            self.assertTrue(torch.equal(now, then))
        rows = [node.args[2][::2] for node in self.found(traced.graph, torch.ops.nf4.gemm_4bit_group)]
        return rows, len(self.found(traced.graph, torch.ops.bitsandbytes.gemm_4bit))

    @staticmethod
    def found(graph, operator):
        return list(graph.find_nodes(op="call_function", target=operator.default))

    def test_products_of_one_x(self):
        def layer(x, weights):
            first = self.multiply(x, weights[0])
            between = torch.relu(first)
            return first, self.multiply(x, weights[1]), self.multiply(between, weights[2]), self.multiply(x, weights[2])

        self.assertEqual(self.groups(layer), ([[128, 64, 32]], 1))

    def test_groups_that_follow_one_another(self):
        def layers(x, weights):
            for _ in range(2):
                x = self.multiply(x, weights[0]) + self.multiply(x, weights[1]).repeat(1, 2)
            return (x,)

        self.assertEqual(self.groups(layers), ([[128, 64], [128, 64]], 0))

    def test_what_stays_where_it_is(self):
        """Products of codes that are made after the first one, of another type, and of another x."""

        def layer(x, weights):
            first = self.multiply(x, weights[0])
            late = weights[1][0] + (first.sum() > 0).to(torch.uint8), weights[1][1]
            return first, self.multiply(x, late), self.multiply(x, weights[2], "fp4"), self.multiply(x + 1, weights[1])

        self.assertEqual(self.groups(layer), ([], 4))

    def test_with_another_pass(self):
        seen = []
        before = config.post_grad_custom_post_pass = seen.append
        undo = _inductor.install(lambda *_: None)
        own = config.post_grad_custom_post_pass
        self.assertIsNone(own.uuid())  # nobody knows what the other does
        graph = self.traced(lambda x, weights: [self.multiply(x, weight) for weight in weights]).graph
        with config.patch(cpp_wrapper=True):  # for a process that may not have the operator
            own(graph)
        self.assertFalse(self.found(graph, torch.ops.nf4.gemm_4bit_group))
        own(graph)
        self.assertTrue(self.found(graph, torch.ops.nf4.gemm_4bit_group))
        self.assertEqual(seen, [graph, graph])
        undo()
        self.assertIs(config.post_grad_custom_post_pass, before)

    def test_a_later_pass_stays(self):
        undo = _inductor.install(lambda *_: None)
        self.assertIsNotNone(config.post_grad_custom_post_pass.uuid())
        later = _inductor.GroupProducts(config.post_grad_custom_post_pass)
        self.assertIsNotNone(later.uuid())
        config.post_grad_custom_post_pass = later
        undo()
        self.assertIs(config.post_grad_custom_post_pass, later)


if __name__ == "__main__":
    support.main()
