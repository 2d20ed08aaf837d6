#!/bin/sh
# Makes the wheel of the Python package from the sources $2 with the Python $1, in the folder $3, and installs and uses
# it as users do. Without a package index, which pip needs for the build's tools, the test is skipped.
set -eu
unset PYTHONPATH NF4_LIBRARY
sources=$2
rm -rf "$3"
mkdir -p "$3"
cd "$3"
"$1" -m venv venv
python=venv/bin/python
if ! "$python" -m pip download --quiet --no-deps --dest tools scikit-build-core; then
  echo "skipped: no scikit-build-core to be had"
  exit 77
fi

# On a machine that has no fmt of its own: CMake looks nowhere but where pip puts the build's tools. As one source the
# library takes a third of the time to compile.
NF4_REPOSITORY=https://example.org/nf4 CMAKE_ARGS="-DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF -DCMAKE_FIND_USE_SYSTEM_ENVIRONMENT_PATH=OFF -DCMAKE_UNITY_BUILD=ON" \
  bash "$sources/cmake/wheel.sh" host-only dist "$1"

# The sources are what a build takes, without records of measurements and what CI runs.
tar -tf dist/*.tar.gz | sed 's|^[^/]*/||' >names
grep -q '^kernels/' names
! grep -E '^(bench/results|\.ci|build)/' names || { echo "of these the sources have no need" >&2; exit 1; }

"$python" -m pip install --quiet dist/*.whl
"$python" - <<'PYTHON'
import importlib.metadata
import pathlib
import re
import sys

import numpy as np

import nf4

assert pathlib.Path(nf4.__file__).is_relative_to(sys.prefix), nf4.__file__
handle = nf4.Handle()
w = np.eye(64, dtype=np.float32)
assert np.array_equal(handle.unpack(handle.pack(w)), w)
assert importlib.metadata.version("nf4") == nf4.__version__ == ".".join(map(str, nf4.version()))
assert pathlib.Path(nf4.__file__).with_name("py.typed").exists()
assert "built without CUDA" in nf4.status()["reason"], nf4.status()
readme = importlib.metadata.metadata("nf4").get_payload()
links = re.findall(r"\]\((.*?)\)", readme)
assert len(links) > 10, readme
assert all(re.match(r"https?://", link) for link in links), links
assert f"https://example.org/nf4/blob/v{nf4.__version__}/CHANGELOG.md" in links, links
(entry,) = importlib.metadata.entry_points(group="bitsandbytes.backends")
assert entry.value == "nf4.plugin:autoload", entry
PYTHON

# Where there is no CUDA compiler the build says that it is the host's alone, and fails if CUDA was asked for.
export CUDACXX=/nowhere/nvcc
cmake -S "$sources" -B configured -DNF4_BUILD_TESTS=OFF -DNF4_BUILD_BENCH=OFF -DNF4_BUILD_EXAMPLES=OFF 2>warning
grep -q "cannot use a GPU" warning || { echo "no warning of a build without CUDA" >&2; exit 1; }
if "$python" -m pip wheel --no-deps --config-settings=cmake.define.NF4_CUDA=ON --config-settings=build-dir="$3/failed" \
    --wheel-dir="$3/failed" "$sources" >failure 2>&1; then
  echo "a wheel without CUDA was made where CUDA was asked for" >&2
  exit 1
fi
grep -q "NF4_CUDA is ON, but no CUDA compiler was found" failure || { cat failure >&2; exit 1; }
