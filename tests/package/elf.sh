#!/bin/sh
# Checks what the library file $1 asks of a system: its SONAME, a stack that is not executable, no search path of its
# own, and no library but those that every Linux has. CUDA's runtime is linked in and the driver loaded when needed, so
# that the same file serves a machine without a GPU. And what it is hardened with: nothing of its table of functions
# stays writable, all of it bound when the library is loaded; stack protector; checked calls of libc, unless it was built
# without optimization, as $2 being Debug tells. It holds no path of the folder $3, in which it was built.
set -eu
fail() { echo "$*" >&2; exit 1; }
dynamic=$(readelf -dW "$1")
segments=$(readelf -lW "$1")
needs=$(nm -D --undefined-only "$1")

echo "$dynamic" | grep -q 'SONAME.*\[libnf4\.so\.1\]' || fail "SONAME is not libnf4.so.1: $dynamic"
echo "$segments" | grep 'GNU_STACK' | grep -vq 'RWE' || fail "the stack would be executable"
! echo "$dynamic" | grep -Eq 'RPATH|RUNPATH' || fail "has a search path: $dynamic"
for library in $(echo "$dynamic" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p'); do
  case $library in
    libc.so.* | libm.so.* | libstdc++.so.* | libgcc_s.so.* | libpthread.so.* | libdl.so.* | librt.so.* | ld-linux*) ;;
    *) fail "needs $library" ;;
  esac
done
echo "$segments" | grep -q 'GNU_RELRO' || fail "no RELRO"
echo "$dynamic" | grep -q 'BIND_NOW' || fail "RELRO is partial: functions are bound when first called"
echo "$needs" | grep -q '__stack_chk_fail' || fail "no stack protector"
[ "$2" = Debug ] || echo "$needs" | grep -q '__memcpy_chk' || fail "no _FORTIFY_SOURCE"
! strings -a "$1" | grep -F "$3" || fail "holds paths of the folder that it was built in"
