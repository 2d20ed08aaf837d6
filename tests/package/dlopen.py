"""Loads the library named by the first argument, uses it and unloads it, many times over: nothing of it is left.

A failing call is among the uses, so that the thread's error message is there when the library goes. As for dlopen.c,
malloc's caches must be off.
"""

import _ctypes
import ctypes
import gc
import os
import sys

FIRST, ROUNDS = 20, 520  # in the first rounds the interpreter settles
path = os.path.realpath(sys.argv[1])


def use_once():
    library = ctypes.CDLL(path)
    handle = ctypes.c_void_p()
    assert library.nf4_create(ctypes.byref(handle), ctypes.c_int32(-1)) == 0
    values = (ctypes.c_float * 16)()
    assert library.nf4_codebook(values) == 0 and values[15] == 1.0
    assert library.nf4_codebook(None) != 0
    assert library.nf4_destroy(handle) == 0
    _ctypes.dlclose(library._handle)


class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]


mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo


def holdings():
    """Bytes of the heap in use, and open files."""
    gc.collect()  # each CDLL makes a class, which refers to itself
    return mallinfo().uordblks, len(os.listdir("/proc/self/fd"))


for i in range(ROUNDS):
    if i == FIRST:
        before = holdings()
    use_once()
after = holdings()
print(f"{ROUNDS - FIRST} rounds: heap {before[0]} to {after[0]} bytes, files {before[1]} to {after[1]}")
with open("/proc/self/maps", encoding="ascii") as maps:
    assert "libnf4" not in maps.read(), "still loaded"
# A leak would hold a block, of 16 bytes at the least, for every round.
assert after[0] < before[0] + 16 * (ROUNDS - FIRST) and after[1] <= before[1]
