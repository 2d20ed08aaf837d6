"""Packed checkpoints: what quantize writes, what inspect says, and files that are not what they should be."""

import contextlib
import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
import unittest
from unittest import mock

import numpy as np

import nf4
import support
from checkpoints import LAYER, LLAMA, STATE, FolderTest, file_bytes, read, with_header
from nf4 import __main__ as main
from nf4 import checkpoint
from nf4.checkpoint import FileError, loader, packing, state


class QuantizeTest(FolderTest):
    def test_keys(self):
        """Names, types and shapes of docs/reference/format.md, which are those of bitsandbytes' QuantState.as_dict."""
        for dtype, name in (("F32", "float32"), ("F16", "float16"), ("BF16", "bfloat16")):
            with self.subTest(dtype=dtype):
                before = self.write_model(dtype)
                self.assertEqual(self.quantize(force=True), [LAYER])
                after, metadata = read(self.target)
                self.assertEqual(metadata, {"format": "pt"})
                for key, (type_, array) in before.items():
                    if key != LAYER:
                        self.assertEqual(after[key][0], type_)
                        np.testing.assert_array_equal(after[key][1], array)
                found = {key: (type_, array.shape) for key, (type_, array) in after.items() if key not in before}
                text = after[f"{LAYER}.{STATE}"][1]
                self.assertEqual(found, {
                    f"{LAYER}.absmax": ("F32", (75,)),
                    f"{LAYER}.quant_map": ("F32", (16,)),
                    f"{LAYER}.{STATE}": ("U8", text.shape),
                })  # fmt: skip
                self.assertEqual((after[LAYER][0], after[LAYER][1].shape), ("U8", (2400, 1)))
                self.assertEqual(
                    json.loads(text.tobytes()),
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
        found = json.loads(after[f"{LAYER}.{STATE}"][1].tobytes())
        self.assertEqual((found["nested_blocksize"], found["nested_dtype"]), (256, "float32"))
        self.assertEqual(np.float32(found["nested_offset"]), expected.absmax_offset[0])

    def test_nested_state_has_one_length(self):
        offsets = [0.0, 1.0, np.float32(0.1), np.finfo(np.float32).max, np.finfo(np.float32).tiny, float("nan")]
        self.assertEqual(len({len(state.state_text("F32", (2, 3), 64, True, offset)) for offset in offsets}), 1)

    def test_chunks(self):
        """The bytes do not depend on how much is packed at a time, not even where a chunk ends within a row."""
        for dtype in ("F32", "BF16"):
            self.write_model(dtype, shape=(300, 101))
            self.quantize(force=True)
            whole = self.target.read_bytes()
            with mock.patch.object(state, "CHUNK", 4096):
                self.quantize(force=True)
            self.assertEqual(self.target.read_bytes(), whole)

    def test_filter(self):
        self.write_model()
        every = ["model.embed_tokens.weight", LAYER, "lm_head.weight"]
        self.assertEqual(self.quantize(include="weight"), every)
        self.assertEqual(self.quantize(include="weight", exclude="lm_head", force=True), every[:2])
        with self.assertRaisesRegex(FileError, "no matrix of .* to pack: include is 'none', exclude is None"):
            self.quantize(include="none", force=True)

    def test_lone_file(self):
        """Without a config there is no telling what transformers would pack."""
        self.write_model()
        for options in ({}, {"exclude": "lm_head"}):
            with self.assertRaisesRegex(FileError, "in.safetensors: has no config.json beside it.*say by include"):
                self.quantize(include=None, **options)
        self.assertEqual(self.files(), ["in.safetensors"])

    def test_rule_without_transformers(self):
        """A config is enough for architectures that are known to be plain, and for no others."""
        self.write_model()
        config = self.folder / "other.json"
        with mock.patch("nf4.checkpoint.loader.ask", side_effect=loader.Unanswered("not installed")):
            config.write_text(json.dumps({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}))
            with self.assertRaisesRegex(FileError, "other.json: does not tell .*not installed.*say by include"):
                self.quantize(include=None, config=config)
            config.write_text(json.dumps(LLAMA))
            self.assertEqual(self.quantize(include=None, config=config), [LAYER])
            (self.folder / "config.json").write_text(json.dumps(LLAMA))
            out, code = self.run_main("quantize", self.source, self.target, "--force", "--exclude", "mlp")
            self.assertIn("no matrix of", code)
            _, code = self.run_main("quantize", self.source, self.target, "--force")
            self.assertIsNone(code)

    def test_quantized_already(self):
        self.write_model()
        (self.folder / "config.json").write_text(json.dumps({**LLAMA, "quantization_config": {"quant_method": "fp8"}}))
        with self.assertRaisesRegex(FileError, "config.json: has a quantization_config"):
            self.quantize(include=None)

    def test_regular_expressions(self):
        self.write_model()
        for option in ("--include", "--exclude"):
            _, code = self.run_main("quantize", self.source, self.target, option, "(")
            self.assertRegex(str(code), f"nf4: {option[2:]} is '\\('; expected a regular expression: ")

    def test_packed_input(self):
        """What is packed already has no floats left to pack."""
        self.write_model()
        self.quantize()
        self.source.write_bytes(self.target.read_bytes())
        with self.assertRaisesRegex(FileError, "no matrix of"):
            self.quantize(force=True)
        self.quantize(include="lm_head", force=True)
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


@unittest.skipUnless(importlib.util.find_spec("torch"), "no torch")
class CudaPackerTest(unittest.TestCase):
    """Packing in torch's memory, with that of the CPU and the host backend in the GPU's place."""

    def test_packs_as_the_host_does(self):
        import torch

        packer = object.__new__(packing.CudaPacker)
        packer.torch, packer.device, packer.handle = torch, torch.device("cpu"), nf4.Handle()
        stream = mock.Mock(cuda_stream=0)
        values = np.random.default_rng(1).normal(size=130)
        arrays = {"F32": values.astype(np.float32), "F16": values.astype(np.float16),
                  "BF16": (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)}  # fmt: skip
        with mock.patch("torch.cuda.device", contextlib.nullcontext), mock.patch(
            "torch.cuda.current_stream", return_value=stream
        ):
            for dtype, array in arrays.items():
                with self.subTest(dtype=dtype):
                    expected = packing.HostPacker().pack(array, dtype, 64)
                    for ours, host in zip(packer.pack(array, dtype, 64), expected):
                        np.testing.assert_array_equal(ours, host)


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
            "__metadata__ has a float at 'x'; expected a text": header('{"__metadata__": {"x": 1e99}}'),
            "NaN is no JSON": header('{"__metadata__": {"x": NaN}}'),
            "'x' is there twice": header('{"x": 3, "x": 3}'),
            "has a name that is no Unicode text": header('{"\\ud800": 3}'),
            "is no JSON: .*integer string|has no shape": header('{"x":{"dtype":"F32","shape":[1' + "0" * 5000 + "]}}"),
            "'x' has more elements than a file": header(entry.join(['{"x":', "}"]).replace("[2,3]", f"{[2**62] * 9}")),
            "'x' is no JSON object": header('{"x": 3}'),
            "'x' has no dtype": header('{"x": {}}'),
            "'x' has no shape": header(entry.join(['{"x":', "}"]).replace("[2,3]", "[2,-3]")),
            "has no shape of sizes": header(entry.join(['{"x":', "}"]).replace("[2,3]", "[2,true]")),
            "has no pair of data_offsets": header(entry.join(['{"x":', "}"]).replace("[0,24]", "[0,24,48]")),
            "'x' lies at bytes 24 to 0": header(entry.join(['{"x":', "}"]).replace("[0,24]", "[24,0]")),
            "'x' lies at bytes 0 to 1000": header(entry.join(['{"x":', "}"]).replace("[0,24]", "[0,1000]")),
            "'x' has 24 bytes, but F32 .* takes 36": header(entry.join(['{"x":', "}"]).replace("[2,3]", "[3,3]")),
            "'y' begins at byte 0; expected 24": header('{"x":' + entry + ',"y":' + entry + "}"),
        }
        for message, content in cases.items():
            with self.subTest(message=message):
                path = self.write(content)
                with self.assertRaisesRegex(FileError, message):
                    checkpoint.open(path)
                _, code = self.run_main("inspect", path)
                self.assertTrue(code.startswith(f"nf4: {path}: "), code)

    def test_sizes_of_types(self):
        """By the description of safetensors."""
        types = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2,
                 "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "C64": 8, "F64": 8, "I64": 8, "U64": 8}  # fmt: skip
        for dtype, size in types.items():
            for nbytes in (3 * size, 3 * size + 1, 3 * size - 1):
                with self.subTest(dtype=dtype, nbytes=nbytes):
                    entry = {"dtype": dtype, "shape": [3], "data_offsets": [0, nbytes]}
                    path = self.write(with_header(json.dumps({"x": entry}).encode(), bytes(nbytes)))
                    if nbytes == 3 * size:
                        self.assertEqual(checkpoint.open(path).tensors["x"].nbytes, nbytes)
                    else:
                        with self.assertRaisesRegex(FileError, f"{dtype} .* takes {3 * size}$"):
                            checkpoint.open(path)

    def test_layers(self):
        self.write_model(shape=(480, 100))
        self.quantize(nested=True)
        good, _ = read(self.target)
        state_key = f"{LAYER}.{STATE}"
        right = json.loads(good[state_key][1].tobytes())

        def changed(**fields):
            text = json.dumps({**right, **fields}).encode()
            return {state_key: ("U8", np.frombuffer(text, np.uint8))}

        cases = [
            ("is no JSON", {state_key: ("U8", np.zeros(3, np.uint8))}),
            ("is no JSON object", {state_key: ("U8", np.frombuffer(b"[]", np.uint8))}),
            ("quant_type 3", changed(quant_type=3)),
            ("quant_type 'fp4', which is not what its key says", changed(quant_type="fp4")),
            ("blocksize 63", changed(blocksize=63)),
            ("blocksize True", changed(blocksize=True)),
            ("blocksize None", changed(blocksize=None)),
            ("shape \\[\\]", changed(shape=[])),
            ("shape \\[480, True\\]", changed(shape=[480, True])),
            ("expected 240 bytes", changed(shape=[480])),
            ("shape \\[480, -1\\]", changed(shape=[480, -1])),
            ("expected 24050 bytes", changed(shape=[481, 100])),
            ("fewer than 2\\^60 elements", changed(shape=[2**31 - 1, 2**31 - 1])),
            ("fewer than 2\\^60 elements", changed(shape=[2**61, 0])),
            ("nested_blocksize 100", changed(nested_blocksize=100)),
            ("nested_offset None", changed(nested_offset=None)),
            ("nested_offset 1000+\\.\\.\\.; expected a number that a float", changed(nested_offset=10**400)),
            ("nested_offset 1e\\+39; expected a number that a float32 can hold", changed(nested_offset=1e39)),
            ("blocksize 1000+\\.\\.\\.; expected one of", changed(blocksize=10**400)),
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
                    checkpoint.layers(checkpoint.open(path))

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
                self.quantize(nested=nested, force=True)
                with mock.patch.object(state, "CHUNK", 64 * 256):
                    (layer,) = checkpoint.layers(checkpoint.open(self.target))
                    measured = checkpoint.error(checkpoint.open(self.target), layer, checkpoint.open(self.source))
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
        (layer,) = checkpoint.layers(checkpoint.open(self.target))
        other = self.write(file_bytes({LAYER: ("F32", np.ones((2, 2), np.float32))}), "other.safetensors")
        with self.assertRaisesRegex(FileError, "expected \\[48, 100\\]"):
            checkpoint.error(checkpoint.open(self.target), layer, checkpoint.open(other))
        none = self.write(file_bytes({"x": ("F32", np.ones((2, 2), np.float32))}), "none.safetensors")
        self.assertIsNone(checkpoint.error(checkpoint.open(self.target), layer, checkpoint.open(none)))


    def test_transposed(self):
        """A Conv1D lies transposed in the original, which a square one shows by its error alone."""
        for shape in ((48, 96), (96, 96)):
            w = support.random_matrix(*shape)
            self.write(file_bytes({"w": ("F32", w)}))
            original = self.write(file_bytes({"w": ("F32", w.T.copy())}), "original.safetensors")
            self.quantize(include="w", force=True)
            packed = checkpoint.open(self.target)
            (layer,) = checkpoint.layers(packed)
            values = [checkpoint.error(packed, layer, checkpoint.open(path)) for path in (self.source, original)]
            self.assertEqual(values[0], values[1])
            self.assertLess(values[0], 0.15)

    def test_weight(self):
        w = self.write_model()[LAYER][1]
        for nested in (False, True):
            self.quantize(nested=nested, force=True)
            packed = checkpoint.open(self.target)
            (layer,) = checkpoint.layers(packed)
            handle = nf4.Handle()
            np.testing.assert_array_equal(
                handle.unpack(checkpoint.weight(packed, layer)), handle.unpack(handle.pack(w, nested=nested))
            )

    def test_experts(self):
        """The matrices of all experts as one weight of three sizes."""
        w = support.random_matrix(4 * 6, 64)
        weight = nf4.Handle().pack(w)
        text = json.dumps({"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [4, 6, 64]}).encode()
        name = "model.layers.0.mlp.experts.gate_up_proj"
        path = self.write(file_bytes({
            name: ("U8", weight.codes.reshape(-1, 1)), f"{name}.absmax": ("F32", weight.absmax),
            f"{name}.quant_map": ("F32", support.CODEBOOK), f"{name}.{STATE}": ("U8", np.frombuffer(text, np.uint8)),
        }))  # fmt: skip
        original = self.write(file_bytes({name: ("F32", w.reshape(4, 6, 64))}), "original.safetensors")
        out, code = self.run_main("inspect", path, "--original", original)
        self.assertIsNone(code)
        self.assertRegex(out, f"{name} +nf4 +4x6x64 +float32 .* 0.0[5-9]")
        packed = checkpoint.open(path)
        (layer,) = checkpoint.layers(packed)
        self.assertEqual(checkpoint.weight(packed, layer).shape, (24, 64))


class MainTest(FolderTest):
    def test_commands(self):
        self.write_model()
        options = ("--blocksize", 32, "--nested", "--include", "up")
        out, code = self.run_main("quantize", self.source, self.target, *options)
        self.assertIsNone(code)
        self.assertIn("packed 1 matrices", out)
        config = json.loads(out.splitlines()[-1])
        self.assertEqual((config["quant_method"], config["bnb_4bit_use_double_quant"]), ("bitsandbytes", True))
        self.assertEqual(config["bnb_4bit_compute_dtype"], "float32")
        self.assertEqual(config["llm_int8_skip_modules"], ["lm_head", "model.embed_tokens"])
        out, code = self.run_main("inspect", self.target, "--original", self.source)
        self.assertIsNone(code)
        self.assertEqual(out.splitlines()[-1], "error: ||NF4(W) - W|| / ||W||")
        (line,) = [line for line in out.splitlines() if line.startswith(LAYER)]
        self.assertEqual(line.split()[1:6], ["nf4", "48x100", "float32", "32", "yes"])
        self.assertRegex(line, r"0\.0[5-9]\d+$")

    def test_help(self):
        out, code = self.run_main("--help")
        self.assertEqual(code, 0)
        for part in ("packs checkpoints and shows what is in them.", "quantize", "inspect"):
            self.assertIn(part, out)

    def test_refused(self):
        self.write_model()
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        for arguments, message in (
            (("quantize", self.source, self.target, "--blocksize", "48"), "blocksize is 48"),
            (("quantize", self.source, self.target, "--shard-size", "5 apples"), "shard_size is '5 apples'"),
            (("quantize", self.folder / "none", self.target), "No such file"),
            (("inspect", self.folder), "has neither model.safetensors nor"),
            (("inspect", pipe), "is no regular file"),
        ):
            _, code = self.run_main(*arguments)
            self.assertRegex(code, f"^nf4: .*{message}")
        self.assertFalse(self.target.exists())

    def test_escape_sequences(self):
        """A name does not reach the terminal as what a terminal obeys."""
        name = "\x1b[2J\u202e\nproj"
        self.write(file_bytes({name: ("F32", support.random_matrix(8, 64)), "\x1b": ("U8", np.zeros(3, np.uint8))}))
        target = self.folder / "\x1b[31m"
        for arguments in (
            ("quantize", self.source, target, "--include", "proj"), ("inspect", target), ("inspect", "\x1b[31m/none"),
            ("quantize", self.source, target, "--include", "\x1b"), ("inspect", self.folder / "\udcff"),
        ):  # fmt: skip
            out, code = self.run_main(*arguments)
            text = out + (code or "")
            self.assertTrue(all(c.isprintable() or c == "\n" for c in text), repr(text))
            text.encode()
        out, _ = self.run_main("inspect", target)
        self.assertIn("\\x1b[2J\\u202e\\nproj ", out)

    def test_escape_sequences_of_a_type(self):
        """A layer's type is what its file says, as long as a key says the same."""
        self.write_model()
        self.quantize()
        packed, _ = read(self.target)
        key = f"{LAYER}.{STATE}"
        state = json.loads(packed.pop(key)[1].tobytes())
        text = json.dumps({**state, "quant_type": "\x1b[2J"}).encode()
        packed[key.replace("nf4", "\x1b[2J")] = "U8", np.frombuffer(text, np.uint8)
        out, code = self.run_main("inspect", self.write(file_bytes(packed)))
        self.assertIsNone(code)
        self.assertNotIn("\x1b", out)
        self.assertIn(" \\x1b[2J ", out)

    def test_output_that_cannot_be_written(self):
        self.write_model()
        self.quantize()
        command = [sys.executable, "-m", "nf4", "inspect", str(self.target)]
        for buffered in ("", "1"):
            environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
            with open("/dev/full", "w") as full:
                ended = subprocess.run(
                    command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, env=environment
                )
            self.assertEqual(ended.returncode, 1)
            self.assertRegex(ended.stderr, "^nf4: .*No space left on device'?\n$")

    def test_version_and_status(self):
        version = ".".join(map(str, nf4.version()))
        out, code = self.run_main("--version")
        self.assertEqual((code, out.startswith("nf4 "), f"libnf4 {version}" in out), (0, True, True))
        out, code = self.run_main("status")
        self.assertEqual((code, json.loads(out)), (None, json.loads(json.dumps(nf4.status()))))

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
