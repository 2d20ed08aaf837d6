"""Makes golden.bin: weights, and what bitsandbytes packs and unpacks them to on a CUDA device.

Needs torch with CUDA and bitsandbytes 0.50. Run: python3 make_golden.py golden.bin

A record is a line "name dtype count" and then count little-endian values. tests/golden.cpp reads it.
"""
import sys

import bitsandbytes
import bitsandbytes.functional as F
import torch

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
BLOCKSIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
NAMES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.uint8: "u8"}


def write(file, name, tensor):
    tensor = tensor.detach().cpu().contiguous().flatten()
    file.write(f"{name} {NAMES[tensor.dtype]} {tensor.numel()}\n".encode())
    file.write(tensor.view(torch.uint8).numpy().tobytes())


def main(path):
    torch.manual_seed(20261122)
    with open(path, "wb") as file:
        write(file, "dynamic_map", F.create_dynamic_map())
        for blocksize in BLOCKSIZES:
            size = max(2 * blocksize, 1024) + 37  # a partial last block, and an odd size
            for name, dtype in DTYPES.items():
                w = (torch.randn(size, device="cuda") * 0.02).to(dtype)
                codes, state = F.quantize_4bit(w, blocksize=blocksize, quant_type="nf4")
                key = f"{name}/{blocksize}"
                write(file, f"{key}/w", w)
                write(file, f"{key}/codes", codes)
                write(file, f"{key}/absmax", state.absmax)
                write(file, f"{key}/unpacked", F.dequantize_4bit(codes, state))
        # Nested: enough blocks for more than one group of 256 scales, the last one partial.
        w = torch.randn(64 * 600 + 5, device="cuda").to(torch.bfloat16) * 0.02
        codes, state = F.quantize_4bit(w, blocksize=64, quant_type="nf4", compress_statistics=True)
        _, plain = F.quantize_4bit(w, blocksize=64, quant_type="nf4")
        write(file, "nested/codes", codes)
        write(file, "nested/absmax", plain.absmax)
        write(file, "nested/absmax_codes", state.absmax)
        write(file, "nested/absmax2", state.state2.absmax)
        write(file, "nested/map", state.state2.code)
        write(file, "nested/offset", state.offset.to(torch.float32).reshape(1))
        write(file, "nested/unpacked", F.dequantize_4bit(codes, state))
    print(f"{path}: made by bitsandbytes {bitsandbytes.__version__}, torch {torch.__version__}, "
          f"{torch.cuda.get_device_name()}")


if __name__ == "__main__":
    main(sys.argv[1])
