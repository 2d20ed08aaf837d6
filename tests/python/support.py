"""What several tests share: a reference of the format in numpy and float64, and the golden vectors."""

import pathlib
import sys
import unittest

import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "golden.bin"

CODEBOOK = np.array(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
     -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
     0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0],
    np.float32,
)  # fmt: skip


def random_matrix(rows, cols, seed=1):
    return np.random.default_rng(seed).normal(0, 0.02, (rows, cols)).astype(np.float32)


def unpack(codes, absmax, rows, cols, blocksize):
    """What packed weights mean, bit for bit, in float32."""
    nibbles = np.stack([codes >> 4, codes & 15], axis=1).reshape(-1)[: rows * cols]
    return (CODEBOOK[nibbles] * np.repeat(absmax, blocksize)[: rows * cols]).reshape(rows, cols)


def unpack_absmax(codes, absmax_map, absmax2, offset, blocksize=256):
    return absmax_map[codes] * np.repeat(absmax2, blocksize)[: codes.size] + offset


def golden():
    """The records of golden.bin, {name: array}; bf16 as the uint16 of its bits."""
    types = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16, "u8": np.uint8}
    data = GOLDEN.read_bytes()
    records = {}
    place = 0
    while place < len(data):
        end = data.index(b"\n", place)
        name, dtype, count = data[place:end].decode().split()
        records[name] = np.frombuffer(data, types[dtype], int(count), end + 1).copy()  # aligned
        place = end + 1 + records[name].nbytes
    return records


def main(module="__main__"):
    """unittest.main, but a file whose tests were all skipped exits with 77, which ctest shows as skipped, and one that
    has no tests fails."""
    result = unittest.main(module, exit=False).result
    if result.testsRun == 0:
        sys.exit("failed: no test ran")
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if result.testsRun == len(result.skipped) else 0)


if __name__ == "__main__":
    main(sys.argv.pop(1))  # python3 -m support MODULE [unittest's arguments]: whether or not the file calls main itself
