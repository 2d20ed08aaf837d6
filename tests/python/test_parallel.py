"""Tensor parallel in processes on the CPU, by parallel.py; and the cuts of single matrices. Needs transformers 5.17 and
bitsandbytes 0.50."""

import functools

import host_device
import support

try:
    import torch

    from nf4._transformers import is_known_version

    known = torch.distributed.is_available() and is_known_version()
except ImportError:
    known = False
if known:
    import parallel

    from nf4._tensor_parallel.cut import COLS, ROWS, Cut, blocksize, shard


class ParallelTest(host_device.HostTest):
    oldest = (0, 50)

    def setUp(self):
        super().setUp()
        if not known:
            self.skipTest("no torch.distributed, or a transformers before 5.17")


class CutTest(ParallelTest):
    def assert_part(self, layer, cut, expected, size):
        """The bits of what the part means, in blocks of `size`."""
        part = shard(layer.weight, cut)
        found = host_device.unpack(part.data, part.quant_state)
        self.assertTrue(torch.equal(found, expected), cut)
        self.assertEqual(part.quant_state.blocksize, size)
        self.assertEqual(part.numel(), (expected.numel() + 1) // 2)
        self.assertFalse(part.quant_state.nested)

    def test_parts(self):
        for nested in (False, True):
            with self.subTest(nested=nested):
                layer = host_device.linear(192, 40, nested)
                w = host_device.unpack(layer.weight.data, layer.weight.quant_state)
                self.assert_part(layer, Cut(ROWS, ((10, 40),)), w[10:], 64)
                self.assert_part(layer, Cut(ROWS, ((0, 4), (20, 24))), torch.cat([w[:4], w[20:24]]), 64)
                self.assert_part(layer, Cut(COLS, ((64, 192),)), w[:, 64:], 64)
                self.assert_part(layer, Cut(COLS, ((96, 192),)), w[:, 96:], 32)

    def test_blocks_that_straddle_rows(self):
        """Rows of 96 in blocks of 64: every second row begins a block, and every one a block of 32; the last block of
        a matrix may be shorter."""
        layer = host_device.linear(96, 7)
        w = host_device.unpack(layer.weight.data, layer.weight.quant_state)
        self.assert_part(layer, Cut(ROWS, ((2, 4),)), w[2:4], 64)
        self.assert_part(layer, Cut(ROWS, ((4, 7),)), w[4:], 64)
        self.assert_part(layer, Cut(ROWS, ((1, 4),)), w[1:4], 32)
        self.assert_part(layer, Cut(COLS, ((32, 96),)), w[:, 32:], 32)

    def test_what_cannot_be_cut(self):
        layer = host_device.linear(96, 7)
        for cut in (Cut(COLS, ((48, 96),)), Cut(COLS, ((0, 8),))):
            self.assertIsNone(blocksize(64, cut.starts((7, 96))))
            with self.assertRaisesRegex(ValueError, "is not on blocks of 64"):
                shard(layer.weight, cut)
        self.assertIsNone(blocksize(64, Cut(ROWS, ((0, 1),)).starts((3, 80))))


class ProcessesTest(ParallelTest):
    """What was found by processes that are started once."""

    @staticmethod
    @functools.cache
    def found():
        return parallel.run(parallel.CASES)

    def assert_near(self, found, *names):
        for name in names:
            self.assertLess(found[name], parallel.TOLERANCE, (name, found))

    def test_architectures(self):
        """Logits and tokens of two processes are those of one."""
        for name in parallel.ARCHITECTURES:
            with self.subTest(name):
                found = self.found()[name]
                self.assert_near(found, "sharded", "loaded", "compiled")
                self.assertTrue(found["tokens"] and found["tokens, static cache"], found)
                self.assertEqual(found["bytes"], 0.5)

    def test_compiled_generate(self):
        found = self.found()["nf4.compile"]
        self.assertEqual(found["same"], [True] * 3)
        self.assertIn("compiled step", found["names"])

    def test_packed_checkpoint(self):
        """No process holds more than its half, and one matrix."""
        found = self.found()["packed checkpoint"]
        self.assert_near(found, "loaded")
        self.assertLess(found["most"], 0.65)
        self.assertRegex(found["saved"], "not serializable")

    def test_experts(self):
        """Also experts whose weights are transposed, and whose biases are added once."""
        for name in parallel.EXPERTS:
            with self.subTest(name):
                found = self.found()[name]
                if found is None:
                    continue
                self.assert_near(found, "sharded")
                if "refused" in found:
                    self.assertRegex(found["refused"], "does not sum the products of .*experts if they are packed")
                    continue
                self.assert_near(found, "compiled", "loaded", "loaded packed", "not by libnf4")
                self.assertTrue(found["tokens"] and found["tokens, static cache"], found)
                self.assertEqual(found["bytes"], 0.5)
                self.assertEqual(found["shape"], [4, 128, 64])

    def test_uneven(self):
        """4 blocks for 3 processes, and a vocabulary that 3 divides."""
        names = ("mistral, blocks of 32", "gpt_oss")
        for name, found in parallel.run({name: (parallel.uneven, name) for name in names}, count=3).items():
            with self.subTest(name):
                self.assert_near(found, "sharded")
                if name == "gpt_oss" and found["refused"] != "nothing":
                    self.assertRegex(found["refused"], "does not sum the products of .*experts if they are packed")
                    continue
                self.assertEqual((found["size"], found["refused"]), (64, "nothing"))

    def test_refused(self):
        reasons = {
            "kv heads": "k_proj has 1 heads of attention; expected a number that 2 processes divide evenly",
            "columns": "down_proj .128, 96. cannot be cut for 2 processes: columns 0 to 48 do not begin and end with",
            "odd": "gate_proj has 129 rows; expected a number that 2 processes divide evenly",
        }
        for what, reason in reasons.items():
            with self.subTest(what):
                found = self.found()[what]
                self.assertRegex(found["error"], f"ValueError: .*{reason}")
                self.assertRegex(found["loading"], f"ValueError: .*{reason}")
                self.assertEqual(found["after"], 0)

    def test_processes_that_disagree(self):
        """Both say which is the other one, and none waits."""
        for what, own, other in (
            ("shapes", None, "process 1 of 2 has another model than process 0: model.layers.0.*512"),
            ("blocksize", None, "process 1 of 2 .* model.layers.0.mlp.down_proj.weight is .* blocks of 32, .* 64"),
            ("adapter", "down_proj has an adapter", "process 1 of 2 cannot go on: ValueError: .*has an adapter"),
            ("other device", "the model is on cpu, meta; expected one", "process 1 of 2 cannot go on: ValueError: the model"),
        ):
            with self.subTest(what):
                errors = self.found()[what]
                self.assertRegex(errors[0], f"RuntimeError: {other}")
                self.assertRegex(errors[1], f"ValueError: .*{own}" if own else f"RuntimeError: {other}")

    def test_bad_calls(self):
        errors = self.found()["bad calls"]
        for what, expected in {
            "dense": "ValueError: LlamaForCausalLM has no layer in NF4 that its tp_plan shards",
            "dense folder": "ValueError: .* was not loaded in 4 bits: give a quantization_config",
            "no plan": "ValueError: LlamaForCausalLM has no tp_plan",
            "twice": "ValueError: the model is sharded already, over 2 processes",
            "a layer": "TypeError: model is a Linear; expected one of transformers",
            "options": "TypeError: options .'dtype'. are for a model that is loaded",
            "device_map": "TypeError: device_map cannot be given",
            "saved": "ValueError: The model is quantized with .* and is not serializable",
        }.items():
            self.assertRegex(errors[what], expected)

    def test_without_processes(self):
        import nf4

        with self.assertRaisesRegex(RuntimeError, "torch.distributed is not initialized; start the script by torchrun"):
            nf4.tensor_parallel(torch.nn.Linear(1, 1))


if __name__ == "__main__":
    support.main()
