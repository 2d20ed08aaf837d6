#!/usr/bin/env bash
# Runs the tests of the host code under valgrind's memcheck, leaks included, which takes some minutes. Arguments are
# Catch2's, a selection of tests; without one, all but those of a GPU and the largest of the others.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || { echo "no valgrind: apt-get install valgrind"; exit 1; }

# Its own build: CUDA's runtime would only add noise.
cmake --preset host-only -B build/valgrind -DNF4_BUILD_BENCH=OFF -DNF4_BUILD_EXAMPLES=OFF
cmake --build build/valgrind --target nf4_tests
(($#)) || set -- '~[.]' '~[gpu]' '~gemm: all pairs*' '~gemm: exact*' '~gemm: every way*' '~gemm: many rows*' \
  '~gemm: the same bits*' '~pack: codes and absmax*' '~unpack: exact*' '~pack_absmax: by definition*'
valgrind --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite,indirect,possible \
  build/valgrind/tests/nf4_tests "$@"
