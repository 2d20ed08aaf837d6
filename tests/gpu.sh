#!/usr/bin/env bash
# All that is tested on a machine with a GPU: the tests, NVIDIA's compute-sanitizer over calls that reach every kernel,
# and the soak, 100 reruns of each variant and config that must give the same bits. Ends with a line that counts what
# passed, failed and was skipped, and exits with 0 if nothing failed.
#
#   bash tests/gpu.sh [options] [STEP ...]    steps: tests memcheck initcheck synccheck racecheck soak; without: all
#     --bundle FOLDER    run the nf4_tests that lies there, with golden/ beside it, instead of building one; racecheck
#                        runs nf4_tests_racecheck, which the preset `racecheck` builds
#     --record FILE      write the outcome there, as Markdown
#     --jobs N           runs at a time, half as many as processors if not given: most of the time goes by on the host,
#                        where every result is compared with an oracle
#     --limit SECONDS    for one run, 500 if not given; one that takes longer has failed
#     --budget SECONDS   for everything: what has not begun by then is skipped, and the record says so
#
# NF4_TEST_VARIANT limits all of it to one variant. compute-sanitizer is looked for in $COMPUTE_SANITIZER, the bundle,
# PATH and /usr/local/cuda; without it its runs are skipped.
set -uo pipefail
usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 2; }

bundle='' record='' limit=500 budget=0 jobs=$((($(nproc) + 1) / 2)) steps=()
while (($#)); do
  case $1 in
    --bundle) bundle=$(realpath -e -- "$2") || exit 2; shift ;;
    --record) record=$(realpath -- "$2"); shift ;;
    --jobs) jobs=$2; shift ;;
    --limit) limit=$2; shift ;;
    --budget) budget=$2; shift ;;
    tests | soak | memcheck | initcheck | synccheck | racecheck) steps+=("$1") ;;
    *) usage ;;
  esac
  shift
done
((${#steps[@]})) || steps=(tests racecheck memcheck initcheck synccheck soak) # racecheck's longest run takes longest

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

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
begun=0

# outcome NUMBER WHAT PASSED FAILED SKIPPED DETAIL: what a run has come to, for the summary, and a line on the terminal.
outcome() {
  printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$2" "$3" "$4" "$5" "$((SECONDS - started))" "$6" >"$work/$1.outcome"
  echo "$2: $6, $((SECONDS - started)) s"
  (($4 == 0)) || tail -40 "$work/$1.log"
}

# run_tests NUMBER WHAT SELECTION: tests, counted one by one.
run_tests() {
  timeout -k 10 "$limit" "$tests" "$3" >"$work/$1.log" 2>&1
  local code=$? p f s
  read -r p _ f _ s _ < <(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$work/$1.log" | tail -1)
  if [[ -z ${p:-} || ($code -ne 0 && $code -ne 77 && $f == 0) ]]; then
    outcome "$1" "$2" 0 1 0 "**did not finish**, exit code $code: $3"
  elif ((f > 0)); then
    outcome "$1" "$2" "$p" "$f" "$s" "**failed**: $3"
  else
    outcome "$1" "$2" "$p" 0 "$s" "$(grep -oE '[0-9]+ assertions' "$work/$1.log" | tail -1)"
  fi
}

# run_sanitizer NUMBER WHAT TOOL PROGRAM SELECTION: one run under compute-sanitizer, counted as one. Environment as the
# caller sets it.
run_sanitizer() {
  if [[ ! $sanitizer ]]; then
    outcome "$1" "$2" 0 0 1 'skipped: no compute-sanitizer'
    return
  fi
  timeout -k 10 "$limit" "$sanitizer" --tool "$3" --error-exitcode 99 "$4" "$5" >"$work/$1.log" 2>&1
  local code=$? summary
  summary=$(grep -E 'SUMMARY' "$work/$1.log" | head -1 | sed 's/^=* *//')
  if ((code == 77)); then
    outcome "$1" "$2" 0 0 1 "skipped: $(grep -E '^skipped, ' "$work/$1.log" | head -1 | sed 's/^skipped, \(.*\): .*/\1/')"
  elif ((code == 0)) && [[ $summary == *'SUMMARY: 0 '* ]]; then # hazards that are warnings leave the code 0
    outcome "$1" "$2" 1 0 0 "$summary; $(grep -oE '[0-9]+ assertions' "$work/$1.log" | tail -1)"
  elif ((code == 124 || code == 137)); then
    outcome "$1" "$2" 0 1 0 "**not complete after $limit s**"
  else
    grep -E '^=+ .*(Error|Warning|hazard|Barrier)' "$work/$1.log" | sort | uniq -c | sort -rn | head -5
    outcome "$1" "$2" 0 1 0 "**failed**, exit code $code; ${summary:-no summary}"
  fi
}

# begin FUNCTION WHAT ...: a run beside others, once there is room for it.
begin() {
  while (($(jobs -rp | wc -l) >= jobs)); do wait -n; done
  begun=$((begun + 1))
  started=$SECONDS
  if ((budget > 0 && SECONDS >= budget)); then
    outcome "$(printf '%03d' $begun)" "$2" 0 0 1 "skipped: begun after $budget s"
  else
    "$1" "$(printf '%03d' $begun)" "${@:2}" &
  fi
}

# Names of the tests of a selection; a comma in a name would begin another selection.
names() { "$tests" --list-test-names-only "$1" | sed '/^$/d; s/,/\\,/g'; }
variants() { [[ ${NF4_TEST_VARIANT:-} ]] && echo "$NF4_TEST_VARIANT" || "$tests" --list-variants; }

day=$(date -u +%Y-%m-%d)
for step in "${steps[@]}"; do
  case $step in
    tests)
      # Those that go through all variants take long: a run for each variant.
      long='^(gemm: (all pairs|many rows\\, CUDA)|gemm_group: every variant)'
      while read -r name; do
        for variant in $(variants | grep '^gem'); do NF4_TEST_VARIANT=$variant begin run_tests tests "$name"; done
      done < <(names '[gpu]~[soak]' | grep -E "$long")
      while read -r name; do begin run_tests tests "$name"; done < <(names '[gpu]~[soak]' | grep -vE "$long")
      ;;
    soak) while read -r name; do begin run_tests soak "$name"; done < <(names '[soak]') ;;
    memcheck) NF4_TEST_MEMORY=apart begin run_sanitizer 'memcheck, small and deep' memcheck "$tests" '[small],[deep]' ;;
    initcheck)
      # Of gemm_transposed it takes for unwritten what is there and right: cuBLAS seems to write by copies (TMA) that it
      # does not see. The variant without cuBLAS has a run of its own.
      NF4_TEST_MEMORY=unwritten begin run_sanitizer 'initcheck, small' initcheck "$tests" '[small]~small: gemm_transposed*'
      NF4_TEST_MEMORY=unwritten NF4_TEST_VARIANT=gemm_transposed.tiled \
        begin run_sanitizer 'initcheck, gemm_transposed.tiled' initcheck "$tests" 'small: gemm_transposed*'
      ;;
    synccheck)
      for variant in $(variants); do
        NF4_TEST_VARIANT=$variant begin run_sanitizer "synccheck, $variant" synccheck "$tests" '[small],[deep]'
      done
      ;;
    racecheck)
      # Rings of stages are handed on by one lane's arrival at an mbarrier, after a __syncwarp that orders the others
      # before it. racecheck does not follow such a chain, so in its build every lane arrives (kernels/device/ptx.cuh). It is
      # slow, and goes variant by variant.
      for variant in $(variants); do
        NF4_TEST_VARIANT=$variant begin run_sanitizer "racecheck, $variant" racecheck "${tests}_racecheck" '[small]'
      done
      ;;
  esac
done
wait

# A row for each kind of run, and what failed by name.
summary=$(cat "$work"/*.outcome | awk -F'\t' '
  !($1 in runs) { order[++kinds] = $1 }
  { runs[$1]++; passed[$1] += $2; failed[$1] += $3; skipped[$1] += $4; if ($5 + 0 > longest[$1] + 0) longest[$1] = $5
    if ($6 ~ /^[0-9]+ assertions$/) assertions[$1] += $6
    else if ($6 != "") detail[$1] = detail[$1] "; " $6 }
  END {
    for (i = 1; i <= kinds; ++i) {
      k = order[i]
      printf "| %s | %d passed, %d failed, %d skipped%s%s | %s s |\n", k, passed[k], failed[k], skipped[k],
        assertions[k] ? "; " assertions[k] " assertions" : "", detail[k], longest[k] + 0
      p += passed[k]; f += failed[k]; s += skipped[k]
    }
    printf "%d passed, %d failed, %d skipped\n", p, f, s
  }')
counts=$(tail -1 <<<"$summary")
if [[ $record ]]; then
  device=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1)
  {
    echo "# GPU tests, ${device:-no GPU}, $day"
    echo
    echo "Commit $commit; \`tests/gpu.sh ${steps[*]}\`, $jobs runs at a time, $SECONDS s in all" \
      "${sanitizer:+($("$sanitizer" --version | tail -1))}."
    echo
    echo '| what | outcome | longest run |'
    echo '| --- | --- | --- |'
    sed '$d' <<<"$summary"
    echo
    echo "$counts"
  } >"$record"
fi
echo "$counts"
[[ $counts == *' 0 failed'* ]]
