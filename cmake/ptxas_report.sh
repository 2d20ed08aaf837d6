#!/usr/bin/env bash
# Runs a compilation by nvcc, the arguments, whose last is the object file, and keeps what `ptxas -v` reports of each
# kernel in a file beside the object, OBJECT.ptxas. Everything else that nvcc says is passed on.
set -uo pipefail
report=${*: -1}.ptxas
messages=$("$@" 2>&1 >/dev/null)
code=$?
kernel='^(ptxas info|    [0-9]+ bytes stack frame)'
grep -E "$kernel" <<<"$messages" >"$report"
grep -vE "$kernel" <<<"$messages" | sed '/^$/d' >&2
exit $code
