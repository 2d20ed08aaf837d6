"""What quantize replaces, and that it leaves a whole output behind or nothing."""

import os
import signal
import stat
import unittest
from unittest import mock

import nf4
from checkpoints import LAYER, FolderTest, read

PACK = ("--include", "up_proj")


class TargetTest(FolderTest):
    def setUp(self):
        super().setUp()
        self.write_model()

    def refused(self, message, target, *options):
        """The refusal names what the user typed, and comes before any work."""
        with mock.patch.object(nf4.Handle, "pack", side_effect=AssertionError("work was begun")):
            _, code = self.run_main("quantize", self.source, target, *PACK, *options)
        self.assertRegex(str(code), f"^nf4: .*{message}")
        self.assertIn(str(target), code)

    def test_needs_force(self):
        self.target.write_bytes(b"before")
        self.refused("--force", self.target)
        self.assertEqual(self.target.read_bytes(), b"before")
        _, code = self.run_main("quantize", self.source, self.target, *PACK, "--force")
        self.assertIsNone(code)
        self.assertIn(f"{LAYER}.absmax", read(self.target)[0])

    def test_no_regular_file(self):
        os.mkfifo(self.target)
        self.refused("no regular file", self.target, "--force")
        self.assertTrue(stat.S_ISFIFO(os.stat(self.target).st_mode))
        link = self.folder / "link"
        link.symlink_to(self.target)
        self.refused("no regular file", link, "--force")
        self.assertTrue(link.is_symlink())

    @unittest.skipIf(os.geteuid() != 0, "only root makes device nodes")
    def test_device_node(self):
        try:
            os.mknod(self.target, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            self.skipTest("no device nodes here")
        self.refused("no regular file", self.target, "--force")
        self.assertTrue(stat.S_ISCHR(os.stat(self.target).st_mode))

    def test_symlink(self):
        """The link stays, and what it points to is written; also where that is not there yet."""
        other = self.folder / "other"
        other.mkdir()
        self.target.symlink_to("other/file")
        for options in ((), ("--force",)):
            _, code = self.run_main("quantize", self.source, self.target, *PACK, *options)
            self.assertIsNone(code)
            self.assertTrue(self.target.is_symlink())
            self.assertIn(f"{LAYER}.absmax", read(other / "file")[0])
            self.assertEqual(os.listdir(other), ["file"])
            (other / "file").write_bytes(b"before")

    def test_folder_and_missing_parent(self):
        self.refused("is a folder", self.folder, "--force")
        self.refused("is a folder", f"{self.folder}/new/")
        self.refused("is no folder to write to", self.folder / "none" / "out.safetensors")

    @unittest.skipIf(os.geteuid() == 0, "root may write everywhere")
    def test_parent_that_cannot_be_written(self):
        parent = self.folder / "parent"
        parent.mkdir(0o500)
        self.refused("cannot be written to", parent / "out.safetensors")

    def test_same_file(self):
        before = self.source.read_bytes()
        _, code = self.run_main("quantize", self.source, self.source, *PACK, "--force")
        self.assertIn("both the input and the output", code)
        self.assertEqual(self.source.read_bytes(), before)

    def test_mode(self):
        """A new file follows the umask; what replaces another has its mode."""
        self.addCleanup(os.umask, os.umask(0o027))
        for mode in (0o640, 0o600, 0o664):
            if self.target.exists():
                self.target.chmod(mode)
            _, code = self.run_main("quantize", self.source, self.target, *PACK, "--force")
            self.assertIsNone(code)
            self.assertEqual(stat.S_IMODE(os.stat(self.target).st_mode), mode)

    def test_space(self):
        with mock.patch("shutil.disk_usage", return_value=mock.Mock(total=1000, free=999)):
            self.refused("999 are free", self.target)


class NothingLeftTest(FolderTest):
    def setUp(self):
        super().setUp()
        self.write_model()

    def test_failure(self):
        self.target.write_bytes(b"before")
        for method in ("pack", "__init__"):
            with mock.patch.object(nf4.Handle, method, side_effect=nf4.Error(6, "no memory")):
                with self.assertRaisesRegex(nf4.Error, "no memory"):
                    self.quantize(force=True)
            self.assertEqual(self.target.read_bytes(), b"before")
            self.assertEqual(self.files(), ["in.safetensors", "out.safetensors"])

    def test_interrupt(self):
        with self.assertRaises(KeyboardInterrupt):
            self.quantize(progress=mock.Mock(side_effect=KeyboardInterrupt))
        self.assertEqual(self.files(), ["in.safetensors"])

    def signalled(self, number, preparation=""):
        action = f"os.kill(os.getpid(), {int(number)})"
        return self.run_during_pack(action, "quantize", self.source, self.target, *PACK, preparation=preparation)

    def test_signals(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number=number):
                ended = self.signalled(number)
                self.assertEqual(ended.returncode, -number, ended.stderr)
                self.assertEqual(self.files(), ["in.safetensors"])
        ended = self.signalled(signal.SIGINT)
        self.assertEqual((ended.returncode, ended.stderr), (1, "nf4: interrupted\n"))
        self.assertEqual(self.files(), ["in.safetensors"])

    def test_ignored_signal(self):
        """nohup's SIGHUP stays ignored."""
        ended = self.signalled(signal.SIGHUP, preparation="signal.signal(signal.SIGHUP, signal.SIG_IGN)")
        self.assertEqual(ended.returncode, 0, ended.stderr)

    def test_input_truncated_meanwhile(self):
        self.write_model(shape=(480, 100))
        action = f"os.truncate({str(self.source)!r}, 5000)"
        ended = self.run_during_pack(action, "quantize", self.source, self.target, "--include", "up_proj|lm_head")
        self.assertEqual(ended.returncode, 1, ended.stderr)
        self.assertRegex(ended.stderr, f"nf4: {self.source}: has no byte [0-9]+ any more, and held")
        self.assertEqual(self.files(), ["in.safetensors"])

    def test_write_error_names_output(self):
        limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
        ended = self.run_during_pack("pass", "quantize", self.source, self.target, *PACK, preparation=limit)
        self.assertEqual(ended.returncode, 1)
        self.assertRegex(ended.stderr, f"^nf4: .*File too large.*{self.target}")
        self.assertEqual(self.files(), ["in.safetensors"])


if __name__ == "__main__":
    unittest.main()
