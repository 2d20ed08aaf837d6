#!/bin/sh
# Compiles the family that docs/design/variants.md adds as an example, with the CUDA compiler $1 and the sources $2.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed -n '/^```cuda$/,/^```$/{/^```/!p}' "$2/docs/design/variants.md" >"$work/example.cu"
grep -q gemv_thread_variants "$work/example.cu" || { echo "no example was found" >&2; exit 1; }
"$1" -std=c++20 --expt-relaxed-constexpr -arch=sm_80 -Xcompiler=-Wall,-Wextra -Werror=all-warnings -DNF4_HAVE_CUDA=1 \
  -DNF4_RACECHECK=0 -I"$2/include" -I"$2/kernels" -c "$work/example.cu" -o "$work/example.o"
