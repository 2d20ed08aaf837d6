#!/usr/bin/env bash
# Sets the machine up, builds everything and runs all tests. GPU tests are reported as skipped where there is no GPU.
set -euo pipefail
cd "$(dirname "$0")/.."

bash cmake/setup.sh
cmake --preset default
cmake --build --preset default
ctest --preset default -j "$(nproc)"

# The library must also build where there is no CUDA toolkit; its examples show that it then works.
if grep -q '^CMAKE_CUDA_COMPILER:.*nvcc' build/default/CMakeCache.txt; then
  cmake --preset host-only -B build/no-cuda -DNF4_BUILD_TESTS=OFF -DNF4_BUILD_BENCH=OFF
  cmake --build build/no-cuda
  ctest --test-dir build/no-cuda/examples --output-on-failure
  bash tests/package/reproducible.sh build/no-cuda/src/libnf4.so
fi

# The host code under ThreadSanitizer, then under AddressSanitizer and UndefinedBehaviorSanitizer: the unit tests, but for
# the few that take most of the time.
for sanitizers in tsan asan; do
  cmake --preset $sanitizers
  cmake --build --preset $sanitizers --target nf4_tests
  build/$sanitizers/tests/nf4_tests '~[gpu]' '~gemm: all pairs*' '~gemm: many rows*' '~gemm: the same bits*' \
    '~ring: whole rounds*' '~ring: a barrier for each taker*'
done

# The fuzzers, from their seeds, for a minute each.
if command -v clang++ >/dev/null; then
  cmake --preset fuzz
  cmake --build --preset fuzz
  ctest --preset fuzz -j "$(nproc)"
fi
