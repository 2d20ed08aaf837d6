#!/usr/bin/env bash
# Runs each fuzzer for $1 seconds (300 if not given), and prints a table of its executions and of the lines that its
# inputs reach. With a second argument it also writes the inputs that reach all of that
# to seeds/TARGET.zip in that folder.
set -euo pipefail
seconds=${1:-300}
seeds=${2:+$(realpath -e -- "$2")}
cd "$(dirname "$0")/../.."

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz
cmake --preset fuzz -B build/fuzz-coverage -DNF4_SANITIZE=fuzzer-no-link \
  -DCMAKE_CXX_FLAGS='-fprofile-instr-generate -fcoverage-mapping' >/dev/null
cmake --build build/fuzz-coverage --target fuzz_{operations,queries,tuning,safetensors}

# Which files a target is there to reach, as a regular expression.
declare -A reaches=(
  [operations]='src/(absmax|check|gemm|pack|select|unpack|host/.*)\.cpp'
  [queries]='src/(check|format|handle|registry|select|status|variants)\.cpp'
  [tuning]='src/tuning\.cpp'
  [safetensors]='bench/checkpoint/safetensors\.cpp'
)
rows=()
for target in operations queries tuning safetensors; do
  corpus=build/fuzz/tests/fuzz/corpus/$target
  echo "fuzz_$target, $seconds s"
  log=$(build/fuzz/tests/fuzz/fuzz_$target -max_total_time="$seconds" -timeout=10 -print_final_stats=1 \
    -verbosity=1 "$corpus" $(ls -d tests/fuzz/seeds/$target 2>/dev/null) 2>&1) || { tail -50 <<<"$log"; exit 1; }
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' <<<"$log")

  program=build/fuzz-coverage/tests/fuzz/fuzz_$target
  LLVM_PROFILE_FILE=$program.profraw $program -runs=0 "$corpus" >/dev/null 2>&1
  llvm-profdata merge -o $program.profdata $program.profraw
  files=$(git ls-files src bench | grep -E "^(${reaches[$target]})$")
  lines=$(llvm-cov report $program -instr-profile=$program.profdata $files |
    awk '$1 == "TOTAL" { printf "%d of %d (%s)", $8 - $9, $8, $10 }')
  rows+=("| fuzz_$target | $runs | $(ls "$corpus" | wc -l) | $lines |")

  if [[ $seeds ]]; then
    fewest=$(mktemp -d)
    build/fuzz/tests/fuzz/fuzz_$target -merge=1 -use_counters=0 -max_len=128 "$fewest" "$corpus" >/dev/null 2>&1
    rm -f "$seeds/$target.zip"
    (cd "$fewest" && cmake -E tar cf "$seeds/$target.zip" --format=zip -- *)
    rm -r "$fewest"
  fi
done
echo '| target | executions | inputs kept | lines reached of the files it is for |'
echo '| --- | --- | --- | --- |'
printf '%s\n' "${rows[@]}"
