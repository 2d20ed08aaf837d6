"""QLoRA with peft: trains adapters on a model in NF4 with nested scales. Nothing in it knows of the package nf4; with
that installed, forward and backward run on libnf4.

    python3 qlora_peft.py MODEL TEXT.txt
"""

import pathlib
import sys

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

STEPS, BATCH, LENGTH = 50, 4, 256


def main(name, text):
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(name, quantization_config=config, device_map={"": 0})
    model = prepare_model_for_kbit_training(model)
    model = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    model.print_trainable_parameters()

    tokens = AutoTokenizer.from_pretrained(name)(pathlib.Path(text).read_text(), return_tensors="pt")["input_ids"][0]
    if len(tokens) <= LENGTH:
        sys.exit(f"{text} has {len(tokens)} tokens; expected more than {LENGTH}")
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=2e-4)
    for step in range(STEPS):
        starts = torch.randint(len(tokens) - LENGTH, (BATCH,)).tolist()
        batch = torch.stack([tokens[start : start + LENGTH] for start in starts]).to(model.device)
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}")
    model.save_pretrained("adapter")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
