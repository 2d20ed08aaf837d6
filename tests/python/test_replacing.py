"""What nf4.enable() replaces in a real bitsandbytes, and that nf4.disable() puts it back, whatever the versions are: no
value is computed. Needs torch and bitsandbytes."""

import unittest
from unittest import mock

import nf4
import support

try:
    import bitsandbytes
    import torch
except ImportError:
    bitsandbytes = None


@unittest.skipIf(bitsandbytes is None, "no torch or no bitsandbytes")
class ReplacingTest(unittest.TestCase):
    def setUp(self):
        cuda = mock.patch("torch.cuda.is_available", lambda: True)
        cuda.start()
        self.addCleanup(cuda.stop)
        self.addCleanup(nf4.disable)

    def operators(self):
        """bitsandbytes' operators for 4 bits, as far as it has any, and whether each has a kernel for CUDA."""
        names = ("gemm_4bit", "gemv_4bit", "dequantize_4bit", "quantize_4bit")
        has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
        return {name: has_kernel(f"bitsandbytes::{name}", "CUDA") for name in names
                if hasattr(torch.ops.bitsandbytes, name)}  # fmt: skip

    def test_enable_and_disable(self):
        forward, operators = bitsandbytes.nn.Linear4bit.forward, self.operators()
        for _ in range(2):
            status = nf4.enable()
            self.assertTrue(status["enabled"], status["reason"])
            self.assertEqual(status["bitsandbytes"], bitsandbytes.__version__)
            self.assertLessEqual({"Linear4bit.forward", *operators}, set(status["replaced"]))
            self.assertIsNot(bitsandbytes.nn.Linear4bit.forward, forward)
            self.assertTrue(all(self.operators().values()))

            status = nf4.disable()
            self.assertFalse(status["enabled"])
            self.assertEqual(status["replaced"], [])
            self.assertIs(bitsandbytes.nn.Linear4bit.forward, forward)
            self.assertEqual(self.operators(), operators)


if __name__ == "__main__":
    support.main()
