"""The package as a whole: what `import nf4` offers, its version, its types, and what it says without CUDA."""

import importlib.metadata
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import nf4
import support

SOURCES = pathlib.Path(nf4.__file__).parent
TYPED = ("__init__", "_arguments", "_array", "_handle", "_library")


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout.strip()


class ImportTest(unittest.TestCase):
    def test_modules_are_imported_when_used(self):
        self.assertEqual(
            python("import sys, nf4; print('nf4.checkpoint' in sys.modules, nf4.checkpoint.quantize.__name__,"
                   "'checkpoint' in dir(nf4), 'torch' in sys.modules)"),
            "False quantize True False",
        )  # fmt: skip

    def test_without_torch(self):
        """nf4.operators is then no attribute, and says why; importing it fails as any import without torch."""
        self.assertEqual(
            python("import sys; sys.modules['torch'] = None; import nf4\n"
                   "print(hasattr(nf4, 'operators'))\n"
                   "try: nf4.operators\nexcept AttributeError as error: print(error)\n"
                   "try: from nf4 import operators\nexcept ImportError as error: print('torch' in str(error))"),
            "False\nnf4.operators cannot be had: import of torch halted; None in sys.modules\nTrue",
        )  # fmt: skip

    def test_unknown_attribute(self):
        with self.assertRaisesRegex(AttributeError, "module 'nf4' has no attribute 'nonsense'"):
            nf4.nonsense

    def test_version(self):
        with mock.patch.object(importlib.metadata, "version", lambda name: {"nf4": "9.8.7"}[name]):
            self.assertEqual(nf4.__version__, "9.8.7")

        def missing(name):
            raise importlib.metadata.PackageNotFoundError(name)

        with mock.patch.object(importlib.metadata, "version", missing):
            self.assertEqual(nf4.__version__, "{}.{}.{}".format(*nf4.version()))


class ExtensionTest(unittest.TestCase):
    def test_import(self):
        """Any CPython can load it, with torch or without."""
        if not (SOURCES / "_short_call.abi3.so").exists() or sys.version_info < (3, 10):
            self.skipTest("no extension module in the package, or an older Python")
        self.assertEqual(python("from nf4._short_call import ShortCall; print(ShortCall.__name__)"), "ShortCall")


class CudaTest(unittest.TestCase):
    def test_built_with_cuda(self):
        """NF4_HAVE_CUDA is set by the build that runs the tests."""
        have = os.environ.get("NF4_HAVE_CUDA")
        if have is None:
            self.skipTest("NF4_HAVE_CUDA is not set")
        self.assertIs(nf4.is_built_with_cuda(), have == "1")
        self.assertIs(nf4.status()["cuda"], have == "1")

    def test_first_use_says_what_is_missing(self):
        """A machine without a GPU, or a build without CUDA: the message tells which, and what to do."""
        try:
            nf4.Handle(0).close()
        except nf4.Error as error:
            self.assertEqual(error.name, "NF4_ERROR_NO_DEVICE")
            expected = "NVIDIA driver" if nf4.is_built_with_cuda() else "no CUDA, .* build it again with NF4_CUDA=ON"
            self.assertRegex(str(error), f"device is 0; .*{expected}")

    def test_library_that_cannot_be_had(self):
        """status() tells so, and does not raise."""
        code = "import nf4; status = nf4.status(); print(status['cuda'], status['enabled'])"
        with mock.patch.dict(os.environ, NF4_LIBRARY="/nowhere/libnf4.so"):
            self.assertEqual(python(code), "None False")
        with mock.patch.dict(os.environ, NF4_TUNING_FILE="/nowhere/table"):
            self.assertEqual(python(code), "None False")


class TypesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cache = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.cache.cleanup)

    def test_marker(self):
        self.assertTrue((SOURCES / "py.typed").exists())

    def mypy(self, *arguments):
        found = subprocess.run([sys.executable, "-m", "mypy", "--version"], capture_output=True, check=False)
        if found.returncode:
            self.skipTest("no mypy")
        return subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", self.cache.name,
             *arguments], capture_output=True, text=True, check=False,
        )  # fmt: skip

    def test_annotations(self):
        done = self.mypy(*(str(SOURCES / f"{name}.py") for name in TYPED))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_caller(self):
        """The types reach those who call: mypy finds what is wrong, and nothing else."""
        caller = """import nf4
handle = nf4.Handle()
weight: nf4.Weight = handle.pack([1.0], blocksize=64)
rows: int = weight.rows
version: str = nf4.__version__
wrong: str = weight.rows
weight.rows = 5
handle.pack([1.0], blocksize="64")
nf4.Handle("0")
"""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "caller.py")
            path.write_text(caller)
            with mock.patch.dict(os.environ, MYPYPATH=str(SOURCES.parent)):
                done = self.mypy(str(path))
        lines = [line.split(":")[1] for line in done.stdout.splitlines() if ": error:" in line]
        self.assertEqual(lines, ["6", "7", "8", "9"], done.stdout + done.stderr)


if __name__ == "__main__":
    support.main()
