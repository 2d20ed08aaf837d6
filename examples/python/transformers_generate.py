"""A script for transformers and bitsandbytes as it always was. With the package nf4 installed it is faster: no line of
it knows. NF4_DISABLE=1 runs it without.

    python3 transformers_generate.py MODEL "a prompt"
"""

import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig


def main(name, prompt):
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForCausalLM.from_pretrained(name, quantization_config=config, device_map={"": 0})
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    model.generate(**inputs, max_new_tokens=2)  # the first call loads kernels
    torch.cuda.synchronize()
    start = time.perf_counter()
    output = model.generate(**inputs, max_new_tokens=64, do_sample=False)
    torch.cuda.synchronize()
    count = output.shape[1] - inputs["input_ids"].shape[1]
    print(tokenizer.decode(output[0], skip_special_tokens=True))
    print(f"{count / (time.perf_counter() - start):.1f} tokens per second")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
