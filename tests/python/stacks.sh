#!/usr/bin/env bash
# Makes, in the folder $1, the Python environments that the tests of this folder run in beside the system's own:
#   newest          torch, transformers and bitsandbytes as PyPI has them today, and vllm-bnb-plugin without vLLM
#   oldest          the oldest versions of src/python/nf4/_versions.py
#   oldest_values   the same, with the oldest bitsandbytes whose kernels for the CPU round as those for CUDA do
#   runtimes        what else libnf4 is linked to, as PyPI has it today
#   oldest_experts  newest, with the oldest transformers whose experts the plug-in knows
# Those that are there are brought up to date. Prints what is in them; exits with 77 where PyPI cannot be reached.
set -euo pipefail
folder=$(realpath -m "$1")
cd "$(dirname "$0")/../.."

python3 -m venv "$folder/uv"
"$folder/uv/bin/pip" install --quiet --upgrade uv || exit 77
uv=$folder/uv/bin/uv

# environment NAME REQUIREMENT...
environment() {
  local python=$folder/$1/bin/python
  "$uv" venv --quiet --allow-existing --no-python-downloads --python python3 "$folder/$1"
  "$uv" pip install --quiet --upgrade --python "$python" "${@:2}"
}
versions() {
  echo "$1: $("$uv" pip freeze --quiet --python "$folder/$1/bin/python" |
    grep -E '^(torch|transformers|bitsandbytes|vllm-bnb-plugin|onnxruntime|jax)==' | xargs)"
}

needed=(accelerate peft setuptools) # Triton 3.0, of the oldest torch, needs setuptools and does not say so
mapfile -t oldest < <(python3 -c '
import runpy
for package, (oldest, _) in runpy.run_path("src/python/nf4/_versions.py")["TRIED"].items():
    print(f"{package}=={oldest}")')
environment newest torch transformers bitsandbytes "${needed[@]}"
environment newest --no-deps vllm-bnb-plugin
environment oldest "${oldest[@]}" "${needed[@]}"
environment oldest_values --no-deps bitsandbytes==0.49.0
environment runtimes numpy onnx onnxruntime jax
environment oldest_experts "transformers==$(python3 -c '
import runpy
print(runpy.run_path("src/python/nf4/_versions.py")["EXPERTS"])')"
packages() { "$folder/$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
packages oldest >"$(packages oldest_values)/oldest.pth"   # all but bitsandbytes
packages newest >"$(packages oldest_experts)/newest.pth"  # all but transformers and what it needs

for name in newest oldest oldest_values oldest_experts runtimes; do versions $name; done
