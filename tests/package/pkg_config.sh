#!/bin/sh
# Builds consumer/use.c with the C compiler $1 by pkg-config against the installed prefix $2, libraries in $3 below it,
# linked shared or static as $4 says, and runs it.
set -eu
here=$(dirname "$0")
export PKG_CONFIG_PATH="$2/$3/pkgconfig"
case $4 in
  shared) flags=$(pkg-config --cflags --libs nf4) ;;
  static) flags=$(pkg-config --static --define-variable=library=nf4_static --cflags --libs nf4) ;;
esac
program="$2/use_c.pkg_config_$4"
# shellcheck disable=SC2086 # flags are words
"$1" -std=c99 -Wall -Wextra -Werror "$here/consumer/use.c" $flags -o "$program"
if [ "$4" = static ]; then
  ! readelf -dW "$program" | grep -q 'NEEDED.*libnf4' || { echo "linked to the shared library" >&2; exit 1; }
fi
LD_LIBRARY_PATH="$2/$3" "$program"
