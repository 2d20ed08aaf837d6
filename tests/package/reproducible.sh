#!/usr/bin/env bash
# Builds the library of the host backend again, from a copy of the sources in another folder: it must be the same file as
# $1, a build by the preset host-only.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
mkdir "$elsewhere/sources"
cp -r "$root"/{CMakeLists.txt,cmake,include,kernels,src} "$elsewhere/sources"
cmake -S "$elsewhere/sources" -B "$elsewhere/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNF4_CUDA=OFF \
  -DNF4_BUILD_TESTS=OFF -DNF4_BUILD_BENCH=OFF -DNF4_BUILD_EXAMPLES=OFF >"$elsewhere/log"
cmake --build "$elsewhere/build" --target nf4 >>"$elsewhere/log"
cmp "$1" "$elsewhere/build/src/libnf4.so"
echo "built in two folders, $(basename "$1") is the same file"
