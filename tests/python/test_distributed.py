"""Training in two processes on the CPU, by distributed.py. Needs what that needs."""

import host_device
import support

class DistributedTest(host_device.HostTest):
    oldest = (0, 49)

    def test_losses(self):
        import torch

        if not torch.distributed.is_available():
            self.skipTest("a torch without torch.distributed")
        import distributed

        for name, (theirs, ours) in distributed.run().items():
            with self.subTest(name):
                self.assertIsInstance(theirs, list)
                self.assertTrue(distributed.equal(theirs, ours), f"bitsandbytes {theirs}, libnf4 {ours}")


if __name__ == "__main__":
    support.main()
