"""Folders and shards: what is read as one checkpoint, and the folder that quantize writes."""

import json
import os
import signal
import stat
import unittest
from unittest import mock

import numpy as np

import nf4
from checkpoints import LAYER, LLAMA, FolderTest, file_bytes, model_tensors, read
from nf4 import checkpoint
from nf4.checkpoint import FileError, folders, loader
from nf4.checkpoint.matrix import Matrix


class ModelTest(FolderTest):
    def setUp(self):
        super().setUp()
        self.model, self.out = self.folder / "model", self.folder / "out"
        self.model.mkdir()
        self.tensors = model_tensors(shape=(40, 64))
        (self.model / "config.json").write_text(json.dumps({**LLAMA, "time": [0.0, float("inf")]}))
        patch = mock.patch("nf4.checkpoint.loader.ask", side_effect=loader.Unanswered("not asked in this test"))
        patch.start()
        self.addCleanup(patch.stop)

    def write_file(self):
        (self.model / "model.safetensors").write_bytes(file_bytes(self.tensors, {"format": "pt"}))

    def write_shards(self, tensors=None, folder=None):
        """Each tensor in a shard of its own."""
        folder = folder or self.model
        tensors = tensors or self.tensors
        places = {name: f"model-{i:05}-of-{len(tensors):05}.safetensors" for i, name in enumerate(tensors, 1)}
        for name, place in places.items():
            (folder / place).write_bytes(file_bytes({name: tensors[name]}, {"format": "pt"}))
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": places}))
        return index

    def quantize(self, **options):
        return checkpoint.quantize(str(self.model), str(self.out), **options)

    def read_out(self):
        """All tensors of the output, by its index if it has one."""
        index = self.out / "model.safetensors.index.json"
        if not index.exists():
            return read(self.out / "model.safetensors")[0]
        tensors = {}
        for name, place in json.loads(index.read_text())["weight_map"].items():
            tensors[name] = read(self.out / place)[0][name]
        return tensors


class QuantizeTest(ModelTest):
    def check_tensors(self):
        found = self.read_out()
        weight = nf4.Handle().pack(self.tensors[LAYER][1])
        np.testing.assert_array_equal(found[LAYER][1][:, 0], weight.codes)
        np.testing.assert_array_equal(found[f"{LAYER}.absmax"][1], weight.absmax)
        for name in set(self.tensors) - {LAYER}:
            np.testing.assert_array_equal(found[name][1], self.tensors[name][1])
        self.assertEqual(len(found), len(self.tensors) + 3)

    def test_file(self):
        self.write_file()
        self.assertEqual(self.quantize(), [LAYER])
        self.assertEqual(sorted(os.listdir(self.out)), ["config.json", "model.safetensors"])
        self.check_tensors()
        config = json.loads((self.out / "config.json").read_text())
        quantization = config.pop("quantization_config")
        self.assertEqual(config, json.loads((self.model / "config.json").read_text()))
        self.assertEqual(quantization, checkpoint.quantization_config(dtype="float16"))
        self.assertIsNone(quantization["llm_int8_skip_modules"])
        self.assertEqual(self.files(), ["model", "out"])

    def test_shards(self):
        """Shards of any sizes in, shards of at most shard_size out; a layer's parts lie in one."""
        index = self.write_shards()
        for source in (self.model, index):
            for size, count in ((10_500, 3), ("50GB", 1)):
                with self.subTest(source=source, size=size):
                    self.out = self.folder / f"out-{source.name}-{size}"
                    checkpoint.quantize(source, self.out, shard_size=size)
                    files = [name for name in os.listdir(self.out) if name.endswith(".safetensors")]
                    self.assertEqual(len(files), count)
                    self.check_tensors()
                    for name in files:
                        self.assertEqual(read(self.out / name)[1], {"format": "pt"})
        out_index = json.loads((self.folder / "out-model-10500" / "model.safetensors.index.json").read_text())
        self.assertEqual(len({place for name, place in out_index["weight_map"].items() if LAYER in name}), 1)
        self.out = self.folder / "out-model-10500"
        total = sum(array.nbytes for _, array in self.read_out().values())
        self.assertEqual(out_index["metadata"]["total_size"], total)

    def test_companions(self):
        """All except weights is copied, also what is a link, as in the cache of downloads."""
        self.write_shards()
        (self.folder / "blob").write_text("vocabulary")
        (self.model / "tokenizer.json").symlink_to(self.folder / "blob")
        for name in (
            "generation_config.json", "chat/template.jinja", ".git/config", "original/consolidated.00.pth",
            "pytorch_model.bin", "pytorch_model.bin.index.json", "tokenizer.model", "consolidated.safetensors",
        ):  # fmt: skip
            path = self.model / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(name)
        out, code = self.run_main("quantize", self.model, self.out)
        self.assertIsNone(code)
        found = sorted(str(path.relative_to(self.out)) for path in self.out.rglob("*") if path.is_file())
        self.assertEqual(found, ["chat/template.jinja", "config.json", "generation_config.json", "model.safetensors",
                                 "tokenizer.json", "tokenizer.model"])  # fmt: skip
        self.assertEqual((self.out / "tokenizer.json").read_text(), "vocabulary")
        self.assertFalse((self.out / "tokenizer.json").is_symlink())
        for name in ("original/consolidated.00.pth", "pytorch_model.bin", "consolidated.safetensors"):
            self.assertRegex(out, f"not copied, .*: {name}")

    def test_refused(self):
        self.write_file()
        self.out.mkdir()
        (self.out / "notes").write_text("")
        cases = [(self.model, self.out, "is a folder that holds files"), (self.model, self.model, "that holds files"),
                 (self.model, self.model / "config.json", "is no folder"),
                 (self.model, self.folder / "none" / "out", "is no folder to write to")]  # fmt: skip
        for source, target, message in cases:
            with mock.patch.object(nf4.Handle, "pack", side_effect=AssertionError("work was begun")):
                _, code = self.run_main("quantize", source, target, "--force")
            self.assertRegex(str(code), f"^nf4: {target}: .*{message}")
        self.assertEqual(os.listdir(self.out), ["notes"])
        os.unlink(self.model / "config.json")
        _, code = self.run_main("quantize", self.model, self.folder / "new", "--include", "up_proj")
        self.assertRegex(code, "No such file.*model/config.json")

    def test_empty_folder(self):
        """It is filled, also behind a link, and has the mode that it had."""
        self.write_file()
        self.out.mkdir(0o700)
        link = self.folder / "link"
        link.symlink_to(self.out)
        checkpoint.quantize(self.model, link)
        self.check_tensors()
        self.assertTrue(link.is_symlink())
        self.assertEqual(stat.S_IMODE(os.stat(self.out).st_mode), 0o700)

    def test_nothing_left(self):
        self.write_shards()
        with mock.patch.object(folders, "copy_file", side_effect=KeyboardInterrupt):
            (self.model / "tokenizer.json").write_text("")
            with self.assertRaises(KeyboardInterrupt):
                self.quantize(shard_size=10_500)
        self.assertEqual(self.files(), ["model"])
        ended = self.run_during_pack("os.kill(os.getpid(), signal.SIGTERM)", "quantize", self.model, self.out,
                                     "--include", "up_proj")  # fmt: skip
        self.assertEqual(ended.returncode, -signal.SIGTERM, ended.stderr)
        self.assertEqual(self.files(), ["model"])

    def test_write_error_names_output(self):
        self.write_file()
        limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
        ended = self.run_during_pack("pass", "quantize", self.model, self.out, "--include", "up", preparation=limit)
        self.assertRegex(ended.stderr, f"^nf4: .*File too large: '{self.out}")
        self.assertEqual(self.files(), ["model"])

    def test_shard_sizes(self):
        for size, expected in ((7, 7), ("7", 7), ("5GB", 5 * 10**9), ("5 GiB", 5 * 2**30), ("2kb", 2000),
                               ("3 MB", 3000000),
                               ("1TB", 10**12), ("9KiB", 9216), ("1mib", 2**20), ("4TiB", 4 * 2**40)):
            self.assertEqual(folders.parse_size(size), expected)
        for size in (0, -1, "", "GB", "5 apples", "1.5GB", "0GB", None):
            with self.assertRaisesRegex(ValueError, "^shard_size is .*; expected a number of bytes"):
                folders.parse_size(size)


class ReadTest(ModelTest):
    def test_layer_in_two_shards(self):
        """A layer is one, wherever its parts lie."""
        self.write_file()
        self.quantize(nested=True)
        packed = self.folder / "shards"
        packed.mkdir()
        index = self.write_shards(self.read_out(), packed)
        expected = checkpoint.layers(checkpoint.open(self.out))
        for path in (packed, index):
            out, code = self.run_main("inspect", path, "--original", self.model)
            self.assertIsNone(code)
            self.assertRegex(out, f"{LAYER} .* 0.0[5-9]\\d*\n\n1 packed layers")
            self.assertEqual(checkpoint.layers(checkpoint.open(path)), expected)

    def test_bad_index(self):
        index = self.write_shards()
        good = json.loads(index.read_text())["weight_map"]
        cases = {
            "is no JSON": "{",
            "NaN is no JSON": '{"weight_map": NaN}',
            "is no JSON object": "[]",
            "has no weight_map": '{"weight_map": []}',
            "'steps' lies in 3; expected a file": json.dumps({"weight_map": {"steps": 3}}),
            "'steps' lies in '../x'; expected": json.dumps({"weight_map": {"steps": "../x"}}),
            "'steps' lies in '/etc/passwd'; expected": json.dumps({"weight_map": {"steps": "/etc/passwd"}}),
            "'steps' lies in '..'; expected": json.dumps({"weight_map": {"steps": ".."}}),
            "'other' is not in 'model-00003": json.dumps({"weight_map": {**good, "other": good[LAYER]}}),
        }
        for message, text in cases.items():
            index.write_text(text)
            with self.assertRaisesRegex(FileError, f"{index}: .*{message}"):
                checkpoint.open(self.model)
        index.write_text(json.dumps({"weight_map": {"steps": "none.safetensors"}}))
        with self.assertRaisesRegex(FileNotFoundError, "none.safetensors"):
            checkpoint.open(index)

    def test_same_name_in_two_shards(self):
        """The index says which counts."""
        index = self.write_shards()
        shard = json.loads(index.read_text())["weight_map"]["lm_head.weight"]
        (self.model / shard).write_bytes(file_bytes({
            "lm_head.weight": ("F32", np.ones((2, 2), np.float32)), "steps": ("I64", np.zeros(7, np.int64)),
        }))  # fmt: skip
        found = checkpoint.open(self.model)
        np.testing.assert_array_equal(np.frombuffer(found.read(found.tensors["steps"]), np.int64), np.arange(3))


class MatrixTest(ModelTest):
    def test_transposed(self):
        """Any range of the transposed matrix, which is what a chunk is."""
        self.write_file()
        opened = checkpoint.open(self.model)
        w = self.tensors[LAYER][1]
        for transposed, expected in ((False, w), (True, w.T)):
            m = Matrix(opened, opened.tensors[LAYER], transposed)
            self.assertEqual(m.shape, expected.shape)
            for begin, end in ((0, w.size), (0, 1), (39, 41), (40, 80), (1000, 2001), (w.size - 1, w.size)):
                np.testing.assert_array_equal(m.read(begin, end), expected.reshape(-1)[begin:end])


if __name__ == "__main__":
    unittest.main()
