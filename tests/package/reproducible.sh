#!/usr/bin/env bash
# Builds again what is in a build folder, from a copy of the sources in another folder, and compares: it must be the same
# file. A compiler's cache has no part in it.
#   bash tests/package/reproducible.sh BUILD FILE SETTING...
# FILE is a path in the folder BUILD, as Ninja knows it: src/libnf4.so, or an object. SETTINGs are those that BUILD was
# configured with, for CMake: -DNF4_CUDA=OFF. With CUDA the library takes as long as it did; CI compares an object.
set -euo pipefail
build=$1 file=$2 settings=("${@:3}")
root=$(cd "$(dirname "$0")/../.." && pwd)
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
export CCACHE_DISABLE=1 SCCACHE_NO_CACHE=1
mkdir "$elsewhere/sources"
cp -r "$root"/{CMakeLists.txt,cmake,include,kernels,src} "$elsewhere/sources"
cmake -S "$elsewhere/sources" -B "$elsewhere/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNF4_BUILD_TESTS=OFF \
  -DNF4_BUILD_BENCH=OFF -DNF4_BUILD_EXAMPLES=OFF "${settings[@]}" >"$elsewhere/log"
cmake --build "$elsewhere/build" --target "$file" >>"$elsewhere/log" || { cat "$elsewhere/log" >&2; exit 1; }
cmp "$build/$file" "$elsewhere/build/$file"
echo "built in two folders, $(basename "$file") is the same file"
