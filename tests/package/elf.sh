#!/bin/sh
# Checks what the library file $1 asks of a system: its SONAME, a stack that is not executable, no search path of its
# own, and no library but those that every Linux has. CUDA's runtime is linked in and the driver loaded when needed, so
# that the same file serves a machine without a GPU.
set -eu
fail() { echo "$*" >&2; exit 1; }
dynamic=$(readelf -dW "$1")

echo "$dynamic" | grep -q 'SONAME.*\[libnf4\.so\.1\]' || fail "SONAME is not libnf4.so.1: $dynamic"
readelf -lW "$1" | grep 'GNU_STACK' | grep -vq 'RWE' || fail "the stack would be executable"
! echo "$dynamic" | grep -Eq 'RPATH|RUNPATH' || fail "has a search path: $dynamic"
for library in $(echo "$dynamic" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p'); do
  case $library in
    libc.so.* | libm.so.* | libstdc++.so.* | libgcc_s.so.* | libpthread.so.* | libdl.so.* | librt.so.* | ld-linux*) ;;
    *) fail "needs $library" ;;
  esac
done
