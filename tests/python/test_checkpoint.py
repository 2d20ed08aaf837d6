"""Packed checkpoints: what quantize writes, what inspect says, and files that are not what they should be."""

import contextlib
import io
import json
import os
import pathlib
import struct
import tempfile
import unittest
from unittest import mock

import numpy as np

import nf4
import support
from nf4 import __main__ as main
from nf4 import checkpoint
from nf4._safetensors import FileError, Reader

TYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "U8": np.uint8, "I64": np.int64}
LAYER = "model.layers.0.mlp.up_proj.weight"


def file_bytes(tensors, metadata=None):
    """A safetensors file of {name: (dtype, array)}, by the format's description alone."""
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype, array) in tensors.items():
        header[name] = {
            "dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes],
        }  # fmt: skip
        data += array.tobytes()
    return with_header(json.dumps(header).encode(), data)


def with_header(header, data=b""):
    return struct.pack("<Q", len(header)) + header + data


def read(path):
    """The inverse of file_bytes."""
    content = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert (8 + length + begin) % np.dtype(TYPES[entry["dtype"]]).itemsize == 0, f"{name} is not aligned"
        data = content[8 + length + begin : 8 + length + end]
        tensors[name] = entry["dtype"], np.frombuffer(data, TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


class FolderTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.source, self.target = self.folder / "in.safetensors", self.folder / "out.safetensors"

    def write(self, content, name="in.safetensors"):
        (self.folder / name).write_bytes(content)
        return str(self.folder / name)

    def write_model(self, dtype="F32", shape=(48, 100)):
        w = support.random_matrix(*shape)
        if dtype == "BF16":
            w = (w.view(np.uint32) >> 16).astype(np.uint16)
        w = w.astype(TYPES[dtype])
        tensors = {
            "model.embed_tokens.weight": (dtype, w),
            "model.norm.weight": (dtype, w[0]),
            LAYER: (dtype, w),
            "model.layers.0.mlp.up_proj.bias": (dtype, w[:, 0]),
            "lm_head.weight": (dtype, w),
            "steps": ("I64", np.arange(3)),
        }
        self.write(file_bytes(tensors, {"format": "pt"}))
        return tensors

    def quantize(self, **options):
        return checkpoint.quantize(str(self.source), str(self.target), **options)

    def run_main(self, *arguments):
        """What python -m nf4 prints, and how it exits."""
        out = io.StringIO()
        code = None
        with contextlib.redirect_stdout(out):
            try:
                main.main([str(argument) for argument in arguments])
            except SystemExit as exit_:
                code = exit_.code
        return out.getvalue(), code


class QuantizeTest(FolderTest):
    def test_keys(self):
        """Names, types and shapes of docs/format.md, which are those of bitsandbytes' QuantState.as_dict."""
        for dtype, name in (("F32", "float32"), ("F16", "float16"), ("BF16", "bfloat16")):
            with self.subTest(dtype=dtype):
                before = self.write_model(dtype)
                self.assertEqual(self.quantize(), [LAYER])
                after, metadata = read(self.target)
                self.assertEqual(metadata, {"format": "pt"})
                for key, (type_, array) in before.items():
                    if key != LAYER:
                        self.assertEqual(after[key][0], type_)
                        np.testing.assert_array_equal(after[key][1], array)
                found = {key: (type_, array.shape) for key, (type_, array) in after.items() if key not in before}
                state = after[f"{LAYER}.quant_state.bitsandbytes__nf4"][1]
                self.assertEqual(found, {
                    f"{LAYER}.absmax": ("F32", (75,)),
                    f"{LAYER}.quant_map": ("F32", (16,)),
                    f"{LAYER}.quant_state.bitsandbytes__nf4": ("U8", state.shape),
                })  # fmt: skip
                self.assertEqual((after[LAYER][0], after[LAYER][1].shape), ("U8", (2400, 1)))
                self.assertEqual(
                    json.loads(state.tobytes()),
                    {"quant_type": "nf4", "blocksize": 64, "dtype": name, "shape": [48, 100]},
                )

    def test_values(self):
        w = self.write_model()[LAYER][1]
        self.quantize(blocksize=128)
        after, _ = read(self.target)
        expected = nf4.Handle().pack(w, blocksize=128)
        np.testing.assert_array_equal(after[LAYER][1][:, 0], expected.codes)
        np.testing.assert_array_equal(after[f"{LAYER}.absmax"][1], expected.absmax)
        np.testing.assert_array_equal(after[f"{LAYER}.quant_map"][1], support.CODEBOOK)

    def test_nested(self):
        w = self.write_model(shape=(480, 100))[LAYER][1]
        self.quantize(nested=True)
        after, _ = read(self.target)
        expected = nf4.Handle().pack(w, nested=True)
        self.assertEqual(after[f"{LAYER}.absmax"][0], "U8")
        np.testing.assert_array_equal(after[f"{LAYER}.absmax"][1], expected.absmax)
        np.testing.assert_array_equal(after[f"{LAYER}.nested_absmax"][1], expected.absmax2)
        np.testing.assert_array_equal(after[f"{LAYER}.nested_quant_map"][1], np.float32(nf4.dynamic_map()))
        state = json.loads(after[f"{LAYER}.quant_state.bitsandbytes__nf4"][1].tobytes())
        self.assertEqual((state["nested_blocksize"], state["nested_dtype"]), (256, "float32"))
        self.assertEqual(np.float32(state["nested_offset"]), expected.absmax_offset[0])

    def test_nested_state_has_one_length(self):
        tensor = checkpoint.Tensor("x", "F32", (2, 3))
        offsets = [0.0, 1.0, np.float32(0.1), np.finfo(np.float32).max, np.finfo(np.float32).tiny, float("nan")]
        self.assertEqual(len({len(checkpoint._state(tensor, 64, True, offset)) for offset in offsets}), 1)

    def test_chunks(self):
        """The bytes do not depend on how much is packed at a time, not even where a chunk ends within a row."""
        for dtype in ("F32", "BF16"):
            self.write_model(dtype, shape=(300, 101))
            self.quantize()
            whole = self.target.read_bytes()
            with mock.patch.object(checkpoint, "_CHUNK", 4096):
                self.quantize()
            self.assertEqual(self.target.read_bytes(), whole)

    def test_filter(self):
        self.write_model()
        self.assertEqual(self.quantize(exclude=""), ["model.embed_tokens.weight", LAYER, "lm_head.weight"])
        self.assertEqual(self.quantize(include="lm_head", exclude=None), ["lm_head.weight"])
        with self.assertRaisesRegex(FileError, "no matrix of"):
            self.quantize(include="none")

    def test_packed_input(self):
        """What is packed already has no floats left to pack."""
        self.write_model()
        self.quantize()
        self.source.write_bytes(self.target.read_bytes())
        with self.assertRaisesRegex(FileError, "no matrix of"):
            self.quantize()
        self.quantize(include="lm_head", exclude="")
        after, _ = read(self.target)
        self.assertIn(f"{LAYER}.absmax", after)
        self.assertIn("lm_head.weight.absmax", after)

    def test_progress(self):
        self.write_model()
        seen = []
        self.quantize(progress=lambda *where: seen.append(where))
        size = sum(array.nbytes for _, array in read(self.source)[0].values())
        self.assertEqual(seen[-1], (size, size))
        self.assertEqual(sorted(seen), seen)


class AtomicTest(FolderTest):
    def test_failure_leaves_nothing(self):
        self.write_model()
        self.target.write_bytes(b"before")
        for step in ("_write_packed", "_write_copy"):
            with mock.patch.object(checkpoint, step, side_effect=OSError("disk full")):
                with self.assertRaisesRegex(OSError, "disk full"):
                    self.quantize()
            self.assertEqual(self.target.read_bytes(), b"before")
            self.assertEqual(sorted(os.listdir(self.folder)), ["in.safetensors", "out.safetensors"])

    def test_interrupt_leaves_nothing(self):
        self.write_model()
        with self.assertRaises(KeyboardInterrupt):
            self.quantize(progress=mock.Mock(side_effect=KeyboardInterrupt))
        self.assertEqual(os.listdir(self.folder), ["in.safetensors"])

    def test_same_file(self):
        self.write_model()
        before = self.source.read_bytes()
        with self.assertRaisesRegex(ValueError, "both the input and the output"):
            checkpoint.quantize(str(self.source), str(self.source))
        self.assertEqual(self.source.read_bytes(), before)

    def test_no_folder(self):
        self.write_model()
        with self.assertRaises(FileNotFoundError):
            checkpoint.quantize(str(self.source), str(self.folder / "none" / "out.safetensors"))


class BadFileTest(FolderTest):
    def test_files(self):
        good = file_bytes({"x": ("F32", np.ones((2, 3), np.float32))})
        entry = '{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}'

        def header(text, data=bytes(24)):
            return with_header(text.encode(), data)

        cases = {
            "too few": b"1234567",
            "its header takes": struct.pack("<Q", 2**63) + b"{}",
            "truncated": good[:40],
            "but the file holds 23 bytes": good[:-1],
            "end at byte 24, but the file holds 25": good + b"x",
            "the header is no JSON:": header("{" * 100),
            "is no JSON: maximum recursion|is no JSON:": header("[" * 100_000),
            "no JSON: 'utf-8'": with_header(b"\xff\xfe"),
            "the header is no JSON object": header("[]"),
            "__metadata__ is no JSON object": header('{"__metadata__": 3}'),
            "'x' is no JSON object": header('{"x": 3}'),
            "'x' has no dtype": header('{"x": {}}'),
            "'x' has no shape": header(entry.join(['{"x":', "}"]).replace("[2,3]", "[2,-3]")),
            "has no shape of sizes": header(entry.join(['{"x":', "}"]).replace("[2,3]", "[2,true]")),
            "has no pair of data_offsets": header(entry.join(['{"x":', "}"]).replace("[0,24]", "[0,24,48]")),
            "'x' lies at bytes 24 to 0": header(entry.join(['{"x":', "}"]).replace("[0,24]", "[24,0]")),
            "'x' lies at bytes 0 to 1000": header(entry.join(['{"x":', "}"]).replace("[0,24]", "[0,1000]")),
            "'x' has 24 bytes, but F32 .* takes 36": header(entry.join(['{"x":', "}"]).replace("[2,3]", "[3,3]")),
            "takes 3402823669": header(entry.join(['{"x":', "}"]).replace("[2,3]", f"[{2**63 - 1},{2**63 - 1}]")),
            "'y' begins at byte 0; expected 24": header('{"x":' + entry + ',"y":' + entry + "}"),
        }
        for message, content in cases.items():
            with self.subTest(message=message):
                path = self.write(content)
                with self.assertRaisesRegex(FileError, message):
                    Reader(path)
                _, code = self.run_main("inspect", path)
                self.assertTrue(code.startswith(f"nf4: {path}: "), code)

    def test_layers(self):
        self.write_model(shape=(480, 100))
        self.quantize(nested=True)
        good, _ = read(self.target)
        state_key = f"{LAYER}.quant_state.bitsandbytes__nf4"
        state = json.loads(good[state_key][1].tobytes())

        def changed(**fields):
            text = json.dumps({**state, **fields}).encode()
            return {state_key: ("U8", np.frombuffer(text, np.uint8))}

        cases = [
            ("is no JSON", {state_key: ("U8", np.zeros(3, np.uint8))}),
            ("is no JSON object", {state_key: ("U8", np.frombuffer(b"[]", np.uint8))}),
            ("quant_type 3", changed(quant_type=3)),
            ("quant_type 'fp4', which is not what its key says", changed(quant_type="fp4")),
            ("blocksize 63", changed(blocksize=63)),
            ("blocksize True", changed(blocksize=True)),
            ("blocksize None", changed(blocksize=None)),
            ("shape \\[480\\]", changed(shape=[480])),
            ("shape \\[480, -1\\]", changed(shape=[480, -1])),
            ("expected 24050 bytes", changed(shape=[481, 100])),
            ("expected 2\\^60 elements", changed(shape=[2**31 - 1, 2**31 - 1])),
            ("nested_blocksize 100", changed(nested_blocksize=100)),
            ("nested_offset None", changed(nested_offset=None)),
            ("absmax as U8 \\[749\\]", {f"{LAYER}.absmax": ("U8", np.zeros(749, np.uint8))}),
            ("absmax as F32 \\[750\\]", {f"{LAYER}.absmax": ("F32", np.zeros(750, np.float32))}),
            ("lacks .*nested_quant_map", {f"{LAYER}.nested_quant_map": None}),
            ("has nothing as its codes", {LAYER: None}),
            ("quant_map that is not NF4's", {f"{LAYER}.quant_map": ("F32", np.zeros(16, np.float32))}),
        ]
        for message, changes in cases:
            with self.subTest(message=message):
                tensors = {key: value for key, value in {**good, **changes}.items() if value is not None}
                path = self.write(file_bytes(tensors), "bad.safetensors")
                with self.assertRaisesRegex(FileError, f"layer '{LAYER}' .*{message}"):
                    checkpoint.layers(Reader(path))

    def test_keys_taken(self):
        tensors = self.write_model()
        tensors[f"{LAYER}.absmax"] = ("F32", np.zeros(3, np.float32))
        self.write(file_bytes(tensors))
        with self.assertRaisesRegex(FileError, "has keys of packed layers beside"):
            self.quantize()


class InspectTest(FolderTest):
    def test_error(self):
        for dtype, nested in (("F32", False), ("BF16", True)):
            with self.subTest(dtype=dtype):
                w = self.write_model(dtype, shape=(480, 100))[LAYER][1]
                w = nf4.Bfloat16(w).to_float32() if dtype == "BF16" else w
                self.quantize(nested=nested)
                with mock.patch.object(checkpoint, "_CHUNK", 4096):
                    (layer,) = checkpoint.layers(Reader(self.target))
                    measured = checkpoint.error(Reader(self.target), layer, Reader(self.source))
                after, _ = read(self.target)
                absmax = after[f"{LAYER}.absmax"][1]
                if nested:
                    absmax = support.unpack_absmax(
                        absmax, np.float32(nf4.dynamic_map()), after[f"{LAYER}.nested_absmax"][1],
                        np.float32(layer.nested_offset),
                    )  # fmt: skip
                unpacked = support.unpack(after[LAYER][1][:, 0], absmax, 480, 100, 64)
                w = w.astype(np.float64)
                self.assertAlmostEqual(measured, np.linalg.norm(unpacked - w) / np.linalg.norm(w), places=9)

    def test_other_original(self):
        self.write_model()
        self.quantize()
        (layer,) = checkpoint.layers(Reader(self.target))
        other = self.write(file_bytes({LAYER: ("F32", np.ones((2, 2), np.float32))}), "other.safetensors")
        with self.assertRaisesRegex(FileError, "expected \\[48, 100\\]"):
            checkpoint.error(Reader(self.target), layer, Reader(other))
        none = self.write(file_bytes({"x": ("F32", np.ones((2, 2), np.float32))}), "none.safetensors")
        self.assertIsNone(checkpoint.error(Reader(self.target), layer, Reader(none)))


class MainTest(FolderTest):
    def test_commands(self):
        self.write_model()
        out, code = self.run_main("quantize", self.source, self.target, "--blocksize", 32, "--nested")
        self.assertIsNone(code)
        self.assertIn("packed 1 matrices", out)
        config = json.loads(out.splitlines()[-1])
        self.assertEqual((config["quant_method"], config["bnb_4bit_use_double_quant"]), ("bitsandbytes", True))
        out, code = self.run_main("inspect", self.target, "--original", self.source)
        self.assertIsNone(code)
        (line,) = [line for line in out.splitlines() if line.startswith(LAYER)]
        self.assertEqual(line.split()[1:6], ["nf4", "48x100", "float32", "32", "yes"])
        self.assertRegex(line, r"0\.0[5-9]\d+$")

    def test_refused(self):
        self.write_model()
        for arguments, message in (
            (("quantize", self.source, self.target, "--blocksize", "48"), "blocksize is 48"),
            (("quantize", self.folder / "none", self.target), "No such file"),
            (("inspect", self.folder), "Is a directory"),
        ):
            _, code = self.run_main(*arguments)
            self.assertRegex(code, f"^nf4: .*{message}")
        self.assertFalse(self.target.exists())

    def test_progress_bar(self):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        terminal, pipe = Terminal(), io.StringIO()
        for stream in (terminal, pipe):
            bar = main.ProgressBar(stream)
            bar(1, 2)
            bar(2, 2)
            bar.close()
        self.assertIn("100%", terminal.getvalue())
        self.assertTrue(terminal.getvalue().endswith("\n"))
        self.assertEqual(pipe.getvalue(), "")


if __name__ == "__main__":
    unittest.main()
