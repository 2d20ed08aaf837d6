"""The plug-in's failure modes, with stubs for torch and bitsandbytes: its entry point must never break an import."""

import importlib
import importlib.metadata
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import types
import unittest
from unittest import mock

import nf4
import support
from nf4 import _library, plugin
from nf4._patch import when_imported


class FakeReplacements:
    """Stands for nf4._bitsandbytes, which needs torch."""

    def __init__(self, failure=None):
        self.failure = failure
        self.made = []

    def Replacements(self, quantize_experts):
        if self.failure:
            raise self.failure
        self.made.append(mock.Mock(names=["gemm_4bit"], devices=mock.Mock(reasons={}, limits={}), uncompiled={}))
        self.made[-1].experts.quantize = quantize_experts
        return self.made[-1]


def fake_torch(cuda=True, hip=None):
    torch = types.ModuleType("torch")
    torch.version = types.SimpleNamespace(hip=hip)
    torch.cuda = types.SimpleNamespace(is_available=lambda: cuda)
    return torch


class PluginTest(unittest.TestCase):
    def setUp(self):
        """A fresh plug-in, where all that it needs is there."""
        importlib.reload(plugin)
        self.replacements = FakeReplacements()
        self.modules = {
            "torch": fake_torch(),
            "bitsandbytes": types.ModuleType("bitsandbytes"),
            "nf4._bitsandbytes": self.replacements,
        }
        patch = mock.patch.dict(sys.modules, self.modules)
        patch.start()
        self.addCleanup(patch.stop)
        self.built_with_cuda = mock.patch.object(_library, "is_built_with_cuda", lambda: True)
        self.built_with_cuda.start()
        self.addCleanup(self.built_with_cuda.stop)
        environment = mock.patch.dict(os.environ)
        environment.start()
        self.addCleanup(environment.stop)
        for name in ("NF4_DISABLE", "NF4_EXPERTS"):
            os.environ.pop(name, None)

    def assert_keeps_its_own(self, reason):
        with self.assertNoLogs("nf4", "INFO"):
            self.assertIsNone(plugin.autoload())
        status = nf4.status()
        self.assertFalse(status["enabled"])
        self.assertRegex(status["reason"], reason)
        self.assertEqual(self.replacements.made, [])

    def test_autoload(self):
        with self.assertLogs("nf4", "INFO") as logs:
            plugin.autoload()
            plugin.autoload()
        self.assertEqual(len(logs.output), 1)
        self.assertRegex(logs.output[0], "uses libnf4")
        self.assertEqual(len(self.replacements.made), 1)
        status = nf4.status()
        self.assertEqual((status["enabled"], status["reason"], status["replaced"]), (True, None, ["gemm_4bit"]))

    def test_entry_point(self):
        """The name that bitsandbytes is given is that of a function without arguments."""
        text = (support.GOLDEN.parents[2] / "pyproject.toml").read_text()
        self.assertIn('[project.entry-points."bitsandbytes.backends"]\nnf4 = "nf4.plugin:autoload"\n', text)
        self.assertTrue(callable(plugin.autoload))

    def test_enable_and_disable(self):
        self.assertRegex(nf4.status()["reason"], "was not called")
        self.assertTrue(nf4.enable()["enabled"])
        self.assertTrue(nf4.enable()["enabled"])
        (made,) = self.replacements.made
        made.undo.assert_not_called()
        self.assertFalse(nf4.disable()["enabled"])
        self.assertFalse(nf4.disable()["enabled"])
        made.undo.assert_called_once_with()
        self.assertRegex(nf4.status()["reason"], "disable")
        with self.assertNoLogs("nf4", "INFO"):  # said already
            self.assertTrue(nf4.enable()["enabled"])

    def test_experts(self):
        """They are quantized where the environment or the caller says so, and a call that says nothing changes nothing."""
        nf4.enable()
        experts = self.replacements.made[-1].experts
        self.assertIs(experts.quantize, False)
        for asked, quantize in ((True, True), (None, True), (False, False), (None, False)):
            nf4.enable(experts=asked)
            self.assertIs(experts.quantize, quantize)
        for value, quantize in (("1", True), ("0", False), ("", False)):
            nf4.disable()
            os.environ["NF4_EXPERTS"] = value
            nf4.enable()
            self.assertIs(self.replacements.made[-1].experts.quantize, quantize)

    def test_versions(self):
        """Which were tried, and which of those that are installed were not."""
        installed = {"torch": "2.4.1+cu121", "transformers": "99.0.dev0", "bitsandbytes": "0.1"}

        def version(package):
            if package not in installed:
                raise importlib.metadata.PackageNotFoundError
            return installed[package]

        with mock.patch.object(importlib.metadata, "version", version):
            status = nf4.enable()
            self.assertTrue(status["enabled"])
            self.assertEqual({name: status[name] for name in installed}, installed)
            self.assertIsNone(status["nf4"])
            self.assertEqual(status["untried"], {"transformers": "99.0.dev0", "bitsandbytes": "0.1"})
            installed.clear()
            self.assertEqual(nf4.status()["untried"], {})
            installed.update((package, versions[1]) for package, versions in status["tried"].items())
            self.assertEqual(nf4.status()["untried"], {})

    def test_versions_without_the_package(self):
        """A script that makes environments of them reads the file alone."""
        path = pathlib.Path(nf4.__file__).with_name("_versions.py")
        tried = runpy.run_path(str(path))["TRIED"]
        self.assertEqual(set(tried), {"torch", "transformers", "bitsandbytes"})
        for oldest, newest in tried.values():
            self.assertLess(plugin._release(oldest), plugin._release(newest))

    def test_opt_out(self):
        os.environ["NF4_DISABLE"] = "1"
        self.assert_keeps_its_own("NF4_DISABLE")
        self.assertFalse(nf4.enable()["enabled"])
        for value in ("", "0"):
            os.environ["NF4_DISABLE"] = value
            self.assertTrue(nf4.enable()["enabled"])
            nf4.disable()

    def test_no_torch(self):
        sys.modules["torch"] = None
        self.assert_keeps_its_own("torch cannot be imported")

    def test_rocm(self):
        sys.modules["torch"] = fake_torch(hip="6.0")
        self.assert_keeps_its_own("ROCm")

    def test_no_cuda(self):
        sys.modules["torch"] = fake_torch(cuda=False)
        self.assert_keeps_its_own("no CUDA device")

    def test_no_library(self):
        with mock.patch.object(_library, "_library", None), mock.patch.object(_library, "find", lambda: "/none.so"):
            self.assert_keeps_its_own("libnf4 cannot be loaded: /none.so")

    def test_built_without_cuda(self):
        """A GPU, and a package for the host alone: one warning, which tells what to do, as status() does."""
        with mock.patch.object(_library, "is_built_with_cuda", lambda: False):
            self.assertRegex(nf4.status()["reason"], "built without CUDA.*pip install")
            with self.assertLogs("nf4", "WARNING") as logs:
                plugin.autoload()
                self.assertFalse(nf4.enable()["enabled"])
            self.assertEqual(len(logs.output), 1)
            self.assertRegex(logs.output[0], "built without CUDA.*NF4_CUDA=ON")
            status = nf4.status()
            self.assertRegex(status["reason"], "built without CUDA.*NF4_CUDA=ON")
            self.assertIs(status["cuda"], False)
            sys.modules["torch"] = fake_torch(cuda=False)
            self.assert_keeps_its_own("no CUDA device")
        self.assertIs(nf4.status()["cuda"], True)

    def test_library_that_cannot_tell(self):
        def refuse():
            raise nf4.Error(12, "table, line 1: nonsense")

        with mock.patch.object(_library, "is_built_with_cuda", refuse):
            self.assertIsNone(nf4.status()["cuda"])
            self.assertTrue(nf4.enable()["enabled"])

    def test_older_library(self):
        """One that lacks a function."""
        with mock.patch.object(_library, "_library", None), mock.patch.dict(_library._PROTOTYPES, nf4_none=[]):
            self.assert_keeps_its_own("libnf4 cannot be loaded: .*nf4_none")

    def test_unknown_bitsandbytes(self):
        """What cannot be replaced is left, with a warning. Only nf4.enable() raises."""
        self.replacements.failure = AttributeError("module 'bitsandbytes.nn' has no attribute 'Linear4bit'")
        with self.assertLogs("nf4", "WARNING") as logs:
            self.assertIsNone(plugin.autoload())
        self.assertRegex(logs.output[0], "keeps its own kernels: AttributeError: .*Linear4bit")
        self.assertRegex(nf4.status()["reason"], "Linear4bit")
        with self.assertRaisesRegex(AttributeError, "Linear4bit"):
            nf4.enable()

    def test_no_bitsandbytes(self):
        sys.modules["bitsandbytes"] = None
        with self.assertRaisesRegex(RuntimeError, "bitsandbytes cannot be imported"):
            nf4.enable()
        self.assertFalse(nf4.status()["enabled"])


class AfterImportTest(unittest.TestCase):
    """What is to be done to a module that somebody may import later."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        package = pathlib.Path(folder.name, "some_package")
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "module.py").write_text("value = 1")
        for patch in (mock.patch.object(sys, "path", [folder.name, *sys.path]), mock.patch.dict(sys.modules),
                      mock.patch.object(sys, "meta_path", list(sys.meta_path))):  # fmt: skip
            patch.start()
            self.addCleanup(patch.stop)
        self.seen = []

    def after_import(self):
        return when_imported("some_package.module", lambda module: self.seen.append(module.value))

    def test_later(self):
        before = list(sys.meta_path)
        self.after_import()
        importlib.import_module("some_package")
        self.assertEqual(self.seen, [])
        module = importlib.import_module("some_package.module")
        self.assertEqual(self.seen, [1])
        self.assertEqual(module.value, 1)
        self.assertEqual(sys.meta_path, before)
        self.assertIn("value", module.__spec__.loader.get_source("some_package.module"))
        importlib.reload(module)  # once, also where it is loaded again
        self.assertEqual(self.seen, [1])

    def test_already(self):
        importlib.import_module("some_package.module")
        before = list(sys.meta_path)
        self.after_import()()
        self.assertEqual(self.seen, [1])
        self.assertEqual(sys.meta_path, before)

    def test_undone(self):
        self.after_import()()
        importlib.import_module("some_package.module")
        self.assertEqual(self.seen, [])

    def test_no_such_module(self):
        when_imported("some_package.other", self.seen.append)
        with self.assertRaises(ModuleNotFoundError):
            importlib.import_module("some_package.other")
        self.assertEqual(self.seen, [])


class ImportTest(unittest.TestCase):
    def test_no_torch_needed(self):
        """Nothing of the package imports torch but the modules that say so."""
        code = "import sys; sys.modules['torch'] = None; import nf4.__main__, nf4.checkpoint, nf4.plugin; nf4.status()"
        subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
    support.main()
