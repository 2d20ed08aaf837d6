"""Generates text with a model in NF4 in tensor parallel, one process for each GPU. Each process loads its part alone.

    torchrun --nproc-per-node 2 tensor_parallel.py MODEL "a prompt"
"""

import os
import sys
import time

import torch
import torch.distributed as dist
from transformers import AutoTokenizer, BitsAndBytesConfig

import nf4


def main(name, prompt):
    rank = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", device_id=torch.device("cuda", rank))
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    model = nf4.tensor_parallel(name, quantization_config=config, dtype=torch.bfloat16).eval()
    compiled = nf4.compile(model)
    tokenizer = AutoTokenizer.from_pretrained(name)
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    for _ in range(2):  # the first call compiles
        start = time.perf_counter()
        output = model.generate(**inputs, max_new_tokens=64, do_sample=False)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    if rank == 0:
        count = output.shape[1] - inputs["input_ids"].shape[1]
        print(tokenizer.decode(output[0], skip_special_tokens=True))
        print(f"{compiled}: {count / seconds:.1f} tokens per second, "
              f"{torch.cuda.memory_allocated() / 1e9:.1f} GB on each of {dist.get_world_size()} GPUs")  # fmt: skip
    torch.compiler.reset()  # NCCL waits for CUDA graphs that hold its operations
    dist.destroy_process_group()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
