#!/usr/bin/env bash
# Sets the machine up, builds everything and runs all tests. Ends with what each step came to and a line that counts the
# tests, and exits with 0 if none failed. Tests that need a GPU are counted as skipped where there is none. A step that
# cannot be done here says why; one that ran no test has failed.
#
#   bash tests/run.sh [STEP ...]     without: all, in this order
#     default    the library, with CUDA where there is a toolkit, and all of its tests
#     no_cuda    the host backend alone, as where there is no toolkit, and its examples
#     stacks     the Python tests with the oldest and the newest torch, transformers and bitsandbytes, and with other
#                runtimes, from PyPI; where that cannot be reached the step is skipped, and fails if CI is set to true
#     tsan asan  the host code under ThreadSanitizer, with the tests of what threads share, and under AddressSanitizer and
#                UndefinedBehaviorSanitizer, with all: both without the sweeps, which the step default runs
#     fuzz       the fuzzers, from their seeds, for 10 s each; that of the Python package with atheris from PyPI and
#                the library of the step default, or it is skipped
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

all=(default no_cuda stacks tsan asan fuzz)
steps=("$@")
((${#steps[@]})) || steps=("${all[@]}")
for step in "${steps[@]}"; do
  [[ " ${all[*]} " == *" $step "* ]] || { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 2; }
done

work=$(mktemp -d)
trap '[[ ! ${stacks-} ]] || kill "$stacks" 2>/dev/null; rm -rf "$work"' EXIT

# Adds a line to $work/counts: passed, failed, skipped.
run_ctest() {
  local status tests failures skipped junit=$work/junit.xml
  rm -f "$junit"
  ctest "$@" --output-on-failure --no-tests=error --output-junit "$junit"
  status=$?
  read -r tests failures skipped < <(sed -nE 's/^\t(tests|failures|skipped)="([0-9]*)"/\2/p' "$junit" | xargs)
  echo "$((tests - failures - skipped)) $failures $skipped" >>"$work/counts"
  return $status
}

run_default() {
  cmake --preset default && cmake --build --preset default && run_ctest --preset default -j "$(nproc)" -LE stack
}

run_no_cuda() {
  local variants
  variants=$(build/default/tests/nf4_tests --list-variants) || return
  if [[ ! $variants ]]; then
    skip "the build of the step default has no CUDA either"
    return
  fi
  cmake --preset host-only -B build/no-cuda -DNF4_BUILD_TESTS=OFF -DNF4_BUILD_BENCH=OFF &&
    cmake --build build/no-cuda && run_ctest --test-dir build/no-cuda/examples &&
    bash tests/package/reproducible.sh build/no-cuda src/libnf4.so -DNF4_CUDA=OFF
}

run_stacks() {
  wait "$stacks"
  local status=$?
  cat "$work/stacks"
  if ((status == 77)) && [[ ${CI:-} != true ]]; then
    skip "PyPI cannot be reached"
    return
  fi
  ((status == 0)) && cmake --preset default -DNF4_PYTHON_STACKS="$PWD/build/stacks" &&
    cmake --build --preset default --target nf4_python nf4_onnxruntime nf4_jax && run_ctest --preset default -j "$(nproc)" -L stack
}

run_sanitizer() {
  local sweeps='gemm: (all pairs|exact where|many rows|the same bits)|(gemm_group|experts): what is selected'
  sweeps+='|number: fp32 rounds|pair_stream_layout: nothing overlaps|ring: (whole rounds|a barrier for each taker)'
  cmake --preset "$1" && cmake --build --preset "$1" --target nf4_tests &&
    run_ctest --preset "$1" -j "$(nproc)" -L unit -E "^($sweeps)"
}
run_tsan() { run_sanitizer tsan; }
run_asan() { run_sanitizer asan; }

run_fuzz() {
  local python=$PWD/build/fuzz-python
  python3 -m venv "$python" && "$python/bin/pip" install -q --disable-pip-version-check atheris numpy ||
    echo "fuzz: atheris cannot be had from PyPI, so fuzz.checkpoint is skipped"
  cmake --preset fuzz -DNF4_FUZZ_PYTHON="$python/bin/python" -DNF4_FUZZ_LIBRARY="$PWD/build/default/src/libnf4.so" &&
    cmake --build --preset fuzz && run_ctest --preset fuzz -j "$(nproc)"
}

skip() { reason=$1; }

bash cmake/setup.sh || exit 2
# What the stacks are made of is downloaded while the other steps compile.
if [[ " ${steps[*]} " == *" stacks "* ]]; then
  bash tests/python/stacks.sh build/stacks >"$work/stacks" 2>&1 &
  stacks=$!
fi
summary=() total_passed=0 total_failed=0 total_skipped=0
for step in "${steps[@]}"; do
  echo "=== $step"
  : >"$work/counts"
  reason='' began=$SECONDS
  "run_$step"
  status=$?
  read -r passed failed skipped < <(awk '{p += $1; f += $2; s += $3} END {print p + 0, f + 0, s + 0}' "$work/counts")
  outcome="$passed passed, $failed failed, $skipped skipped"
  if [[ $reason ]]; then
    outcome="skipped: $reason"
  elif ((failed == 0 && (status != 0 || passed == 0))); then
    failed=1
    outcome="FAILED, exit code $status: $outcome"
  fi
  summary+=("$(printf '%-8s %5s s  %s' "$step" $((SECONDS - began)) "$outcome")")
  ((total_passed += passed, total_failed += failed, total_skipped += skipped))
done

printf '\n'
printf '%s\n' "${summary[@]}"
echo "$total_passed passed, $total_failed failed, $total_skipped skipped"
((total_failed == 0))
