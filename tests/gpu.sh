#!/usr/bin/env bash
# All that is tested on a machine with a GPU: the tests, NVIDIA's compute-sanitizer over calls that reach every kernel,
# and the soak, 100 reruns of each variant and config that must give the same bits. Ends with a line that counts what
# passed, failed and was skipped, and exits with 0 if nothing failed.
#
#   bash tests/gpu.sh [options] [STEP ...]    steps: tests memcheck initcheck synccheck racecheck soak; without: all
#     --bundle FOLDER    run the nf4_tests that lies there, with golden/ beside it, instead of building one; racecheck
#                        runs nf4_tests_racecheck, which the preset `racecheck` builds
#     --record FILE      write the outcome there, as Markdown
#     --limit SECONDS    for one run of a sanitizer, 60 if not given; a run that takes longer has failed
#     --budget SECONDS   for everything: what has not begun by then is skipped, and the record says so
#
# NF4_TEST_VARIANT limits all of it to one variant. compute-sanitizer is looked for in $COMPUTE_SANITIZER, the bundle,
# PATH and /usr/local/cuda; without it its runs are skipped. racecheck is slow, and has been seen to stall: it runs
# variant by variant, each with a limit of its own.
set -uo pipefail
usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 2; }

bundle='' record='' limit=60 budget=0 steps=()
while (($#)); do
  case $1 in
    --bundle) bundle=$(realpath -e -- "$2") || exit 2; shift ;;
    --record) record=$(realpath -- "$2"); shift ;;
    --limit) limit=$2; shift ;;
    --budget) budget=$2; shift ;;
    tests | soak | memcheck | initcheck | synccheck | racecheck) steps+=("$1") ;;
    *) usage ;;
  esac
  shift
done
((${#steps[@]})) || steps=(tests memcheck initcheck synccheck racecheck soak)

if [[ $bundle ]]; then
  folder=$bundle
  export NF4_TEST_DATA=$bundle/golden
  commit=$(cat "$bundle/commit" 2>/dev/null || echo 'not recorded')
else
  cd "$(dirname "$0")/.." || exit 2
  bash cmake/setup.sh && cmake --preset default && cmake --build --preset default --target nf4_tests || exit 2
  folder=build/default/tests
  if [[ " ${steps[*]} " == *' racecheck '* ]]; then
    cmake --preset racecheck && cmake --build --preset racecheck || exit 2
    cp build/racecheck/tests/nf4_tests $folder/nf4_tests_racecheck
  fi
  commit=$(git describe --always --dirty --abbrev=12 2>/dev/null || echo 'not recorded')
fi
tests=$folder/nf4_tests
[[ -x $tests ]] || { echo "no nf4_tests in $folder" >&2; exit 2; }
sanitizer=''
for candidate in "${COMPUTE_SANITIZER:-}" "$folder/compute-sanitizer" "$(command -v compute-sanitizer)" \
  /usr/local/cuda/bin/compute-sanitizer; do
  [[ -f $candidate && -x $candidate ]] && { sanitizer=$candidate; break; }
done

output=$(mktemp)
trap 'rm -f "$output"' EXIT
passed=0 failed=0 skipped=0 rows=()

# report WHAT OUTCOME: one row of the record.
report() {
  rows+=("| $1 | $2 | $((SECONDS - started)) s |")
  echo "$1: $2, $((SECONDS - started)) s"
}

# out_of_time WHAT: whether the budget is spent; then WHAT is skipped.
out_of_time() {
  ((budget > 0 && SECONDS >= budget)) || return
  started=$SECONDS
  skipped=$((skipped + 1))
  report "$1" "skipped: begun after $budget s"
}

# run_tests WHAT SELECTION: the tests themselves, counted one by one.
run_tests() {
  out_of_time "$1" && return
  started=$SECONDS
  "$tests" "$2" >"$output" 2>&1
  local code=$? counts
  counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$output" | tail -1)
  if [[ -z $counts || ($code -ne 0 && $code -ne 77 && $counts == *' 0 failed'*) ]]; then
    tail -40 "$output"
    failed=$((failed + 1))
    report "$1" "**did not finish**, exit code $code"
    return
  fi
  local p f s
  read -r p _ f _ s _ <<<"$counts"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  ((f == 0)) || cat "$output"
  report "$1" "$counts; $(grep -oE '[0-9]+ assertions' "$output" | tail -1)"
}

# run_sanitizer WHAT TOOL SELECTION: one run of $program under compute-sanitizer, counted as one. Environment as the
# caller sets it.
run_sanitizer() {
  out_of_time "$1" && return
  started=$SECONDS
  if [[ ! $sanitizer ]]; then
    skipped=$((skipped + 1))
    report "$1" 'skipped: no compute-sanitizer'
    return
  fi
  timeout -k 10 "$limit" "$sanitizer" --tool "$2" --error-exitcode 99 "$program" "$3" >"$output" 2>&1
  local code=$? summary
  summary=$(grep -E 'SUMMARY' "$output" | tail -1 | sed 's/^=* *//')
  if ((code == 77)); then
    skipped=$((skipped + 1))
    report "$1" "skipped: $(grep -E '^skipped, ' "$output" | head -1 | sed 's/^skipped, \(.*\): .*/\1/')"
  elif ((code == 0)) && [[ $summary == *'SUMMARY: 0 '* ]]; then # hazards that are warnings leave the code 0
    passed=$((passed + 1))
    report "$1" "$summary; $(grep -E '^All tests passed' "$output")"
  else
    failed=$((failed + 1))
    tail -40 "$output"
    case $code in
      124 | 137) report "$1" "**not complete after $limit s**" ;;
      *) report "$1" "**failed**, exit code $code; ${summary:-no summary}" ;;
    esac
  fi
}

begun=$(date -u +%Y-%m-%d)
for step in "${steps[@]}"; do
  program=$tests
  case $step in
    tests) run_tests 'tests' '[gpu]~[soak]' ;;
    soak) run_tests 'soak' '[soak]' ;;
    memcheck) NF4_TEST_MEMORY=apart run_sanitizer 'memcheck, small and deep' memcheck '[small],[deep]' ;;
    initcheck) NF4_TEST_MEMORY=unwritten run_sanitizer 'initcheck, small' initcheck '[small]' ;;
    synccheck) run_sanitizer 'synccheck, small and deep' synccheck '[small],[deep]' ;;
    racecheck)
      # Rings of stages are handed on by one lane's arrival at an mbarrier, after a __syncwarp that orders the others
      # before it. racecheck does not follow such a chain, so in its build every lane arrives (kernels/ptx.cuh).
      program=$folder/nf4_tests_racecheck
      for variant in ${NF4_TEST_VARIANT:-$("$tests" --list-variants)}; do
        case $variant in # Only products walk deep; gemm.tiled has one way through K, and is the slowest here.
          gemm.tiled) selection='[small]' ;;
          gem*) selection='[small],[deep]' ;;
          *) selection='[small]' ;;
        esac
        NF4_TEST_VARIANT=$variant run_sanitizer "racecheck, $variant" racecheck "$selection"
      done
      ;;
  esac
done

counts="$passed passed, $failed failed, $skipped skipped"
if [[ $record ]]; then
  device=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1)
  {
    echo "# GPU tests, ${device:-no GPU}, $begun"
    echo
    echo "Commit $commit; \`tests/gpu.sh ${steps[*]}\`, limit $limit s a run of a sanitizer" \
      "${sanitizer:+($("$sanitizer" --version | tail -1))}."
    echo
    echo '| what | outcome | time |'
    echo '| --- | --- | --- |'
    printf '%s\n' "${rows[@]}"
    echo
    echo "$counts"
  } >"$record"
fi
echo "$counts"
((failed == 0))
