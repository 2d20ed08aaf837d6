#!/usr/bin/env bash
# Shows that the checks can fail. tests/plants/ holds faults as patches. Those of kernels name the variant they are in
# and the test, or the step of tests/gpu.sh, that must catch them; those in tests/plants/host/ name a test of ctest.
#
#   bash tests/plants.sh host [NAME ...]           plants the latter, or those named, one at a time into a copy of the
#                                                  commit that is checked out, in build/plants-host. No GPU needed
#   bash tests/plants.sh build FOLDER              builds the commit that is checked out, without and with all faults,
#                                                  for sm_90a; FOLDER then has all that `run` needs. No GPU needed
#   bash FOLDER/plants.sh run [--limit SECONDS]    on a machine with a GPU of that kind; a check is ended after SECONDS,
#                                                  120 if not given
#
# Those of kernels are all in one binary, since a check is limited to one variant by NF4_TEST_VARIANT, or meets shapes that
# another fault leaves alone. A fault is caught if its check succeeds without the faults and fails with them, for what it
# is there to see: a result for a test, an error of its tool for a sanitizer. Ends with a line that counts them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

build() {
  mkdir -p "$1"
  local folder tree kind
  folder=$(realpath -- "$1")
  cd "$here/.."
  tree=build/plants
  rm -rf "$tree"
  git clone --quiet . "$tree"
  for kind in clean planted; do
    [[ $kind == clean ]] || git -C "$tree" apply "$here"/plants/*.patch
    (cd "$tree" && cmake --preset gpu-bundle -DCMAKE_CUDA_ARCHITECTURES=90a-real -DNF4_BUILD_BENCH=OFF &&
      cmake --build --preset gpu-bundle --target nf4_tests)
    mkdir -p "$folder/$kind"
    strip -o "$folder/$kind/nf4_tests" "$tree/build/gpu-bundle/tests/nf4_tests"
    ln -sf nf4_tests "$folder/$kind/nf4_tests_racecheck" # the fault that racecheck must catch is in no ring
    git describe --always --abbrev=12 >"$folder/$kind/commit"
  done
  cp -r tests/plants tests/plants.sh tests/gpu.sh "$folder"
}

# judge WHAT: tells the outcome of a fault, and counts it; total: the counts.
passed=0 failed=0
judge() {
  echo "$outcome: $1, $((SECONDS - started)) s"
  if [[ $outcome == caught ]]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    tail -20 "$output"
  fi
}
total() {
  echo "$passed passed, $failed failed"
  ((failed == 0 && passed > 0))
}

# check KIND: the check of the current fault on one of the binaries, into $output; its last line counts.
check() {
  local command=("$here/$1/nf4_tests" "${test//,/\\,}") # a comma would begin another selection
  [[ ! $step ]] || command=(bash "$here/gpu.sh" --bundle "$here/$1" --limit "$limit" "$step")
  NF4_TEST_VARIANT=$variant timeout -k 10 "$limit" "${command[@]}" >"$output" 2>&1 || true
}

run() {
  local patch fault outcome started
  output=$(mktemp)
  trap 'rm -f "$output"' EXIT
  for patch in "$here"/plants/*.patch; do
    fault=$(sed -n 's/^fault: //p' "$patch")
    variant=$(sed -n 's/^variant: //p' "$patch")
    test=$(sed -n 's/^test: //p' "$patch")
    step=$(sed -n 's/^step: //p' "$patch")
    started=$SECONDS
    outcome=MISSED
    check clean
    if tail -1 "$output" | grep -q ' 0 failed'; then
      check planted
      if grep -qE "${step:+SUMMARY: [1-9]}${test:+, [1-9][0-9]* failed}" "$output"; then outcome=caught; fi
    fi
    judge "$(basename "$patch" .patch), $variant: $fault; by ${test:-$step}"
  done
  total
}

# finds TEST: 0 if the test fails for the copy as it is, 1 if it succeeds, 2 if it cannot be run.
finds() {
  local code=0
  cmake --build --preset default >"$output" 2>&1 || return 2
  ctest --preset default --no-tests=error -R "^$1\$" >"$output" 2>&1 || code=$?
  ((code == 0)) || grep -q '[1-9][0-9]* tests* failed out of' "$output" || return 2
  ((code != 0))
}

host() {
  local patch name fault test outcome started
  cd "$here/.."
  for name; do [[ -f $here/plants/host/$name.patch ]] || { echo "no fault $name" >&2; exit 2; }; done
  output=$(mktemp)
  trap 'rm -f "$output"' EXIT
  rm -rf build/plants-host
  git clone --quiet . build/plants-host
  cd build/plants-host
  cmake --preset default >"$output"
  for patch in "$here"/plants/host/*.patch; do
    name=$(basename "$patch" .patch)
    (($# == 0)) || [[ " $* " == *" $name "* ]] || continue
    fault=$(sed -n 's/^fault: //p' "$patch")
    test=$(sed -n 's/^test: //p' "$patch")
    started=$SECONDS
    outcome=MISSED
    if finds "$test"; then
      outcome='fails without the fault'
    elif (($? == 1)); then
      git apply "$patch"
      if finds "$test"; then outcome=caught; fi
      git checkout --quiet .
    fi
    judge "$name: $fault; by $test"
  done
  total
}

limit=120
case ${1:-}/$# in
  host/*) host "${@:2}" ;;
  build/2) build "$2" ;;
  run/1) run ;;
  run/3) [[ $2 == --limit ]] && limit=$3 && run ;;
  *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
