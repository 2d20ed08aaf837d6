#!/usr/bin/env bash
# Checks that host code of CUDA sources has a stack protector and libc's checked calls: compiles a source that needs both
# as the object $2 of the library is compiled in the folder $1, which Ninja builds.
set -euo pipefail
build=$1 object=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/source.cu" <<'CUDA'
#include <cstring>
void use(const char*);
void copy(const char* from, size_t bytes) {
  char local[16];
  memcpy(local, from, bytes);
  use(local);
}
CUDA
command=$(ninja -C "$build" -t commands "$object" | tail -n 1)
command=$(sed -E "s| -c [^ ]+| -c $work/source.cu|; s|$object|$work/object|g" <<<"$command")
(cd "$build" && sh -c "$command")
for symbol in __stack_chk_fail __memcpy_chk; do
  nm -u "$work/object" | grep -q "$symbol" || { echo "does not need $symbol: $command" >&2; exit 1; }
done
