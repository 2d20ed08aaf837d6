#!/bin/sh
# Installs the Python package from the sources $2 as users do, into an environment of the Python $1 in the folder $3, and
# uses it. Without a package index, which pip needs for the build's tools, the test is skipped.
set -eu
unset PYTHONPATH NF4_LIBRARY
rm -rf "$3"
"$1" -m venv --system-site-packages "$3" # the system's numpy
python="$3/bin/python"
if ! "$python" -m pip download --quiet --no-deps --dest "$3/tools" scikit-build-core; then
  echo "skipped: no scikit-build-core to be had"
  exit 77
fi
SKBUILD_CMAKE_DEFINE="NF4_CUDA=OFF" "$python" -m pip install --quiet --config-settings=build-dir="$3/build" "$2"

cd "$3"
"$python" - <<'PYTHON'
import importlib.metadata
import pathlib
import sys

import numpy as np

import nf4

assert pathlib.Path(nf4.__file__).is_relative_to(sys.prefix), nf4.__file__
handle = nf4.Handle()
w = np.eye(64, dtype=np.float32)
assert np.array_equal(handle.unpack(handle.pack(w)), w)
assert importlib.metadata.version("nf4") == ".".join(map(str, nf4.version()))
(entry,) = importlib.metadata.entry_points(group="bitsandbytes.backends")
assert entry.value == "nf4.plugin:autoload", entry
PYTHON
