"""The pass for torch.compile, on the CPU, where gemm_4bit is bitsandbytes' own. Needs torch and bitsandbytes 0.50."""

import copy
import pickle
import unittest
from unittest import mock

import support

try:
    import bitsandbytes.functional as F
    import torch
    from nf4._bitsandbytes import inductor
    from torch._inductor import config, custom_graph_pass
    from torch.fx.experimental.proxy_tensor import make_fx

    reason = None if hasattr(torch.ops.bitsandbytes, "gemm_4bit") else "bitsandbytes before 0.50"
except ImportError as error:
    reason = str(error)


class GraphTest(unittest.TestCase):
    def setUp(self):
        if reason is not None:
            self.skipTest(reason)
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

    def product_graph(self):
        return self.traced(lambda x, weights: [self.multiply(x, weight) for weight in weights]).graph

    @staticmethod
    def found(graph, operator):
        return list(graph.find_nodes(op="call_function", target=operator.default))


class PassTest(GraphTest):
    def groups(self, function):
        """The rows of the products in each group that the pass makes, and how many products it leaves alone. What is
        computed must stay the same."""
        traced = self.traced(function)
        expected = traced(self.x, self.weights)
        inductor.group_products(traced.graph)
        traced.graph.lint()
        traced.recompile()
        for now, then in zip(traced(self.x, self.weights), expected):
            self.assertTrue(torch.equal(now, then))
        rows = [node.args[2][::2] for node in self.found(traced.graph, torch.ops.nf4.gemm_4bit_group)]
        return rows, len(self.found(traced.graph, torch.ops.bitsandbytes.gemm_4bit))

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

    def test_failures_leave_the_graph(self):
        """At whatever place the pass fails, the graph is as it was, and is said to be so once."""
        graph, own = self.product_graph(), inductor.GroupProducts()
        before = str(graph)
        places = [(torch.fx.Graph, "call_function", calls) for calls in range(4)]
        places += [(inductor, "_arguments", calls) for calls in range(6)]
        with self.assertLogs("nf4", "WARNING") as logs, mock.patch.object(inductor.GroupProducts, "_warned", False):
            for place in places:
                with fails_after(*place):
                    own(graph)
                self.assertEqual(str(graph), before)
                graph.lint()
            val = self.found(graph, torch.ops.bitsandbytes.gemm_4bit)[-1].meta.pop("val")
            own(graph)
            self.assertEqual(str(graph), before)
        self.assertEqual(len(logs.output), 1)
        self.found(graph, torch.ops.bitsandbytes.gemm_4bit)[-1].meta["val"] = val
        own(graph)
        self.assertNotEqual(str(graph), before)

    def test_uuid(self):
        own = inductor.GroupProducts()
        self.assertTrue(own.uuid())
        self.assertEqual(pickle.loads(pickle.dumps(own.uuid())), inductor.GroupProducts().uuid())
        with mock.patch.object(inductor, "get_hash_for_files", side_effect=OSError):
            self.assertIsNone(own.uuid())

        class Unhashable(inductor.CustomGraphPass):
            __call__ = None

            def uuid(self):
                raise OSError

        self.assertIsNone(inductor._Chain(Unhashable(), own).uuid())


def fails_after(owner, name, calls):
    """A patch by which owner.name raises once it was called so often."""
    original, counter = getattr(owner, name), iter(range(calls))

    def fail(*arguments, **named):
        if next(counter, None) is None:
            raise KeyError(name)
        return original(*arguments, **named)

    return mock.patch.object(owner, name, fail)


class SettingTest(GraphTest):
    """What others have Inductor do, before and after the plug-in sets its own pass."""

    def install(self, before=None):
        config.post_grad_custom_post_pass = before
        self.undo = inductor.install(lambda *_: NotImplemented)
        self.addCleanup(self.undo)
        return config.post_grad_custom_post_pass

    def run_passes(self, is_inference=True):
        """As Inductor does it, by its own function for that in torch 2.15. Returns whether products were grouped."""
        graph = self.product_graph()
        several = getattr(custom_graph_pass, "get_custom_graph_passes", lambda one: () if one is None else (one,))
        aware = getattr(custom_graph_pass, "CustomInferenceAwareGraphPass", ())
        for each in several(config.post_grad_custom_post_pass):
            each(graph, is_inference=is_inference) if isinstance(each, aware) else each(graph)
        return bool(self.found(graph, torch.ops.nf4.gemm_4bit_group))

    def test_nothing(self):
        own = self.install()
        self.assertTrue(own.uuid())
        self.assertTrue(self.run_passes())
        with config.patch(cpp_wrapper=True):  # for a process that may not have the operator
            self.assertFalse(self.run_passes())
        self.undo()
        self.assertIsNone(config.post_grad_custom_post_pass)

    def test_a_function(self):
        seen = []
        self.assertIsNone(self.install(seen.append).uuid())  # nobody knows what it does
        self.assertTrue(self.run_passes())
        self.assertEqual(len(seen), 1)
        self.undo()
        self.assertEqual(config.post_grad_custom_post_pass, seen.append)

    def test_a_pass(self):
        seen = []

        class Pass(inductor.CustomGraphPass):
            def __call__(self, graph):
                seen.append(graph)

            def uuid(self):
                return "Pass"

        self.assertIn("Pass", self.install(before := Pass()).uuid())
        self.assertTrue(self.run_passes())
        self.assertEqual(len(seen), 1)
        self.undo()
        self.assertIs(config.post_grad_custom_post_pass, before)

    def test_a_pass_that_asks_for_inference(self):
        base = getattr(custom_graph_pass, "CustomInferenceAwareGraphPass", None)
        if base is None:
            self.skipTest("a torch without them")
        seen = []

        class Pass(base):
            def __call__(self, graph, is_inference):
                seen.append(is_inference)

            def uuid(self):
                return "Pass"

        self.install(Pass())
        for is_inference in (True, False):
            self.assertTrue(self.run_passes(is_inference))
        self.assertEqual(seen, [True, False])

    def test_several(self):
        if not hasattr(custom_graph_pass, "get_custom_graph_passes"):
            self.skipTest("a torch that takes one pass")
        first, second = [], []
        for kind in (list, tuple):
            before = kind((first.append, second.append))
            self.assertIsInstance(self.install(before), kind)
            self.assertTrue(self.run_passes())
            self.undo()
            self.assertIs(config.post_grad_custom_post_pass, before)
        self.assertEqual((len(first), len(second)), (2, 2))

    def test_a_failure_of_others_is_theirs(self):
        def fail(graph):
            raise ZeroDivisionError

        self.install(fail)
        with self.assertRaises(ZeroDivisionError):
            self.run_passes()

    def test_what_is_set_later_stays(self):
        """Also where it goes on to what it found; ours then does nothing more."""
        seen = []
        ours = self.install()

        def theirs(graph):
            seen.append(graph)
            ours(graph)

        config.post_grad_custom_post_pass = theirs
        self.assertTrue(self.run_passes())
        self.undo()
        self.assertIs(config.post_grad_custom_post_pass, theirs)
        self.assertFalse(self.run_passes())
        self.assertEqual(len(seen), 2)

    def test_what_is_added_later_stays(self):
        if not hasattr(custom_graph_pass, "get_custom_graph_passes"):
            self.skipTest("a torch that takes one pass")
        first, later = [], []
        for before, added in ((None, [later.append]), ([first.append], [first.append, later.append]),
                              (first.append, [first.append, later.append])):  # fmt: skip
            setting = self.install(copy.copy(before))
            setting = setting if isinstance(setting, list) else [setting]
            config.post_grad_custom_post_pass = [*setting, later.append]
            self.assertTrue(self.run_passes())
            self.undo()
            self.assertEqual(config.post_grad_custom_post_pass, added)
            self.assertFalse(self.run_passes())

    def test_a_setting_that_is_put_back(self):
        """By the end of config.patch, for example, within which the plug-in was disabled."""
        with_ours = self.install()
        self.undo()
        config.post_grad_custom_post_pass = with_ours
        self.assertFalse(self.run_passes())
        uuid = with_ours.uuid()
        self.assertIsNot(self.install(with_ours), with_ours)
        self.assertNotEqual(config.post_grad_custom_post_pass.uuid(), uuid)
        self.assertTrue(self.run_passes())
        self.undo()
        self.assertIsNone(config.post_grad_custom_post_pass)


class CompileTest(GraphTest):
    """Whole compilations, on the CPU, of what has no product in NF4."""

    def compiled(self, before):
        config.post_grad_custom_post_pass = before
        self.addCleanup(inductor.install(lambda *_: NotImplemented))
        torch.compiler.reset()
        self.assertTrue(torch.equal(torch.compile(torch.relu)(self.x), torch.relu(self.x)))

    def test_others_before(self):
        seen = []
        several = hasattr(custom_graph_pass, "get_custom_graph_passes")
        self.compiled([seen.append, seen.append] if several else seen.append)
        self.assertEqual(len(seen), 2 if several else 1)

    def test_failure(self):
        with mock.patch.object(inductor, "group_products", side_effect=RuntimeError("changed")):
            with mock.patch.object(inductor, "get_hash_for_files", side_effect=RuntimeError("changed")):
                with mock.patch.object(inductor.GroupProducts, "_warned", False), self.assertLogs("nf4", "WARNING"):
                    self.compiled(None)


if __name__ == "__main__":
    support.main()
