#!/usr/bin/env bash
# Holds the symbols that the library $1 exports against the functions that the header $2 declares: the same, both ways.
set -euo pipefail
export LC_ALL=C
declared=$(sed -n 's/^NF4_API .*[ *]\(nf4_[a-z0-9_]*\)(.*/\1/p' "$2" | sort)
exported=$(nm -D --defined-only "$1" | awk '$2 != "A" {print $3}' | sed 's/@.*//' | sort) # A: a version's name
diff -u --label declared <(echo "$declared") --label exported <(echo "$exported")
echo "$(wc -l <<<"$declared") functions, declared and exported"
