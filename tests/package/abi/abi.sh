#!/usr/bin/env bash
# Compares the ABI of the header in the include folder $3 with that of the release in the folder $2: its functions and
# types by abidiff, its constants and layouts one by one. $1 is a C compiler. New functions and constants are no
# difference, nor are fields at the end of the structs that have grown. With `--update` as $4 it makes what is in $2 anew
# instead.
set -euo pipefail
grown=nf4_problem_t  # which structs, as a regular expression; that their older sizes are taken, the old clients hold
compiler=$1 release=$2 include=$3
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# ABI of the header in the include folder $1, to $2.abi and $2.constants.
describe() {
  python3 "$here/stub.py" "$1/nf4/nf4.h" >"$work/stub.c"
  "$compiler" -std=c99 -g -shared -fPIC -I"$1" "$work/stub.c" -o "$work/libnf4.so.1"
  (cd "$work" && abidw --no-corpus-path --no-comp-dir-path --short-locs --out-file "$2.abi" libnf4.so.1)
  python3 "$here/constants.py" "$1/nf4/nf4.h" >"$work/constants.c"
  "$compiler" -std=c99 -I"$1" "$work/constants.c" -o "$work/constants"
  "$work/constants" >"$2.constants"
}

if [[ ${4:-} == --update ]]; then
  mkdir -p "$release/nf4"
  cp "$include/nf4/nf4.h" "$release/nf4/nf4.h"
  describe "$include" "$(realpath "$release")/nf4"
  exit
fi
describe "$include" "$work/new"
cat >"$work/growth" <<END
[suppress_type]
  type_kind = struct
  name_regexp = ^($grown)\$
  has_data_member_inserted_at = end
  has_size_change = yes
END
abidiff --no-added-syms --suppressions "$work/growth" "$release/nf4.abi" "$work/new.abi"
missing=$(awk -F ' = ' -v grown="^sizeof\\(($grown)\\)$" '
  NR == FNR { now[$0]; size[$1] = $2; next }
  $0 in now || ($1 ~ grown && size[$1] > $2) { next }
  { print }' "$work/new.constants" "$release/nf4.constants")
if [[ -n $missing ]]; then
  echo "no longer so:"
  echo "$missing"
  exit 1
fi
echo "$(wc -l <"$release/nf4.constants") constants, sizes and offsets as in ${release##*/}"
