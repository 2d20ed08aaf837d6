"""Packs 100 million random weights of each dtype with libnf4 and with bitsandbytes on a CUDA device, and counts the differences.

Codes may differ only where w/absmax is within 4 ulp of a midpoint of the codebook, since bitsandbytes multiplies by an
approximate reciprocal; absmax and unpacked values must be the same bits. Exits with 1 otherwise.

Needs torch with CUDA and bitsandbytes 0.50. Run: NF4_LIBRARY=path/to/libnf4.so python3 compare_bitsandbytes.py
"""
import ctypes
import os
import sys

import bitsandbytes
import bitsandbytes.functional as F
import torch

COUNT = 100_000_000
DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
ULPS = 4


class Weight(ctypes.Structure):  # nf4_weight_t
    _fields_ = [("struct_size", ctypes.c_size_t), ("rows", ctypes.c_int64), ("cols", ctypes.c_int64),
                ("codes", ctypes.c_void_p), ("absmax", ctypes.c_void_p), ("blocksize", ctypes.c_int32),
                ("absmax_dtype", ctypes.c_int32), ("absmax_map", ctypes.c_void_p), ("absmax2", ctypes.c_void_p),
                ("absmax_offset", ctypes.c_void_p), ("absmax_blocksize", ctypes.c_int32), ("flags", ctypes.c_uint32)]


nf4 = ctypes.CDLL(os.environ["NF4_LIBRARY"])
nf4.nf4_last_error_message.restype = ctypes.c_char_p


def check(status):
    if status != 0:
        raise RuntimeError(nf4.nf4_last_error_message().decode())


def pointer(tensor):
    return ctypes.c_void_p(tensor.data_ptr())


def pack(handle, w, blocksize):
    codes = torch.empty((w.numel() + 1) // 2, dtype=torch.uint8, device="cuda")
    absmax = torch.empty(-(-w.numel() // blocksize), dtype=torch.float32, device="cuda")
    n = ctypes.c_int64(w.numel())
    check(nf4.nf4_pack(handle, pointer(codes), pointer(absmax), pointer(w), n, DTYPES[w.dtype], ctypes.c_int64(1), n,
                       blocksize, None, None))
    return codes, absmax


def unpack(handle, codes, absmax, blocksize, count, dtype):
    w = torch.empty(count, dtype=dtype, device="cuda")
    weight = Weight(ctypes.sizeof(Weight), 1, count, codes.data_ptr(), absmax.data_ptr(), blocksize, 0)
    check(nf4.nf4_unpack(handle, pointer(w), ctypes.c_int64(count), DTYPES[dtype], ctypes.byref(weight), None, None))
    return w


def nibbles(codes):
    return torch.stack((codes >> 4, codes & 15), dim=1).flatten()


def ulps_from_midpoint(w, absmax, blocksize, index):
    """Distance of w/absmax to the nearest midpoint, in units of that midpoint's last place."""
    values = torch.empty(16, dtype=torch.float32)
    check(nf4.nf4_codebook(pointer(values)))
    midpoints = ((values[1:].double() + values[:-1].double()) / 2).cuda()
    ratio = w[index].double() / absmax[index // blocksize].double()
    distance = (ratio[:, None] - midpoints).abs()
    nearest = distance.argmin(dim=1)
    ulp = 2.0 ** (midpoints[nearest].abs().log2().floor() - 23)
    return distance.gather(1, nearest[:, None])[:, 0] / ulp


def main():
    handle = ctypes.c_void_p()
    check(nf4.nf4_create(ctypes.byref(handle), 0))
    torch.manual_seed(1)
    failed = False
    print(f"bitsandbytes {bitsandbytes.__version__}, {torch.cuda.get_device_name()}, {COUNT} weights each")
    print("dtype blocksize: codes differing (farthest from a midpoint, ulp), absmax differing, unpacked differing")
    for dtype in DTYPES:
        w = (torch.randn(COUNT, device="cuda") * 0.02).to(dtype)
        for blocksize in (64, 4096):
            theirs, state = F.quantize_4bit(w, blocksize=blocksize, quant_type="nf4")
            theirs = theirs.flatten()
            ours, absmax = pack(handle, w, blocksize)
            index = (nibbles(ours) != nibbles(theirs)).nonzero()[:, 0]
            farthest = ulps_from_midpoint(w, absmax, blocksize, index).max().item() if index.numel() else 0.0
            absmax_differing = int((absmax != state.absmax).sum())
            unpacked = unpack(handle, theirs, state.absmax, blocksize, COUNT, dtype)
            their_unpacked = F.dequantize_4bit(theirs, state)
            unpacked_differing = int((unpacked != their_unpacked.flatten()).sum())
            print(f"{str(dtype)[6:]:8} {blocksize:5}: {index.numel()} ({farthest:.2f} ulp), {absmax_differing}, "
                  f"{unpacked_differing}")
            failed |= farthest > ULPS or absmax_differing > 0 or unpacked_differing > 0
    check(nf4.nf4_destroy(handle))
    print("FAILED" if failed else "passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
