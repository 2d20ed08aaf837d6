#!/usr/bin/env bash
# Runs a compilation by nvcc, the arguments, whose last is the object file, and keeps what `ptxas -v` reports of each
# kernel in a file beside the object, OBJECT.ptxas. Everything else that nvcc says is passed on. ptxas has only a note,
# no warning, where it puts a wait behind each of a warpgroup's matrix instructions: here that is an error.
set -uo pipefail
report=${*: -1}.ptxas
messages=$("$@" 2>&1 >/dev/null)
code=$?
kernel='^(ptxas info|    [0-9]+ bytes stack frame)'
grep -E "$kernel" <<<"$messages" >"$report"
grep -vE "$kernel" <<<"$messages" | sed '/^$/d' >&2
if grep -E 'wgmma.* are serialized' "$report" >&2; then exit 1; fi
exit $code
