#!/bin/sh
# Checks that the program $1 can be carried to another machine: it needs the C library and the driver alone, looks for
# neither in a place of its own, and starts.
set -eu
fail() { echo "$*" >&2; exit 1; }
dynamic=$(readelf -dW "$1")

! echo "$dynamic" | grep -Eq 'RPATH|RUNPATH' || fail "has a search path: $dynamic"
for library in $(echo "$dynamic" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p'); do
  case $library in
    libc.so.* | libm.so.* | libpthread.so.* | libdl.so.* | librt.so.* | ld-linux* | libcuda.so.1) ;;
    *) fail "needs $library" ;;
  esac
done
"$1" --help >/dev/null
