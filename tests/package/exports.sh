#!/usr/bin/env bash
# Holds the symbols that the library $1 exports against the functions that the header $2 declares: the same, both ways,
# each with the version of the release that its "Since" names. 1.0 and 1.1 share one.
set -euo pipefail
export LC_ALL=C
declared=$(awk '
  match($0, /Since 1\.[0-9]+\. \*\//) { minor = substr($0, RSTART + 8) + 0; said = 1 }
  match($0, /^NF4_API .*[ *]nf4_[a-z0-9_]*\(/) {
    name = substr($0, 1, RLENGTH - 1)
    sub(/.*[ *]/, "", name)
    print name (said ? (minor < 2 ? "@@NF4_1" : "@@NF4_1_" minor) : " lacks its Since")
    said = 0
  }' "$2" | sort)
exported=$(nm -D --defined-only "$1" | awk '$2 != "A" {print $3}' | sort) # A: a version's name
diff -u --label declared <(echo "$declared") --label exported <(echo "$exported")
echo "$(wc -l <<<"$declared") functions, declared and exported"
