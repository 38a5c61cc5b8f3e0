"""PEFT's LoRA step on torch for bench_lora.py: prints tokens/s and peak resident memory as JSON.

python peer_peft.py '{"dim": 512, ...}'    in an interpreter with torch, transformers and peft
"""

import json
import sys
import time

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from resident import peak_mib
from transformers import LlamaConfig, LlamaForCausalLM

WARMUP = 3


def main() -> None:
    size = json.loads(sys.argv[1])
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size["vocab"],
            hidden_size=size["dim"],
            intermediate_size=size["hidden_dim"],
            num_hidden_layers=size["layers"],
            num_attention_heads=size["heads"],
            num_key_value_heads=size["kv_heads"],
            tie_word_embeddings=True,
        )
    )
    lora = LoraConfig(r=size["rank"], lora_alpha=2 * size["rank"], target_modules="all-linear")
    model = get_peft_model(model, lora)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1)
    draw = np.random.default_rng(0)
    shape = (WARMUP + size["steps"], size["batch"], size["length"] + 1)
    began, loss = 0.0, torch.zeros(())
    for step, rows in enumerate(torch.from_numpy(draw.integers(0, size["vocab"], shape))):
        if step == WARMUP:
            began = time.perf_counter()
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - began
    tokens = size["steps"] * size["batch"] * size["length"]
    rss = peak_mib()
    print(json.dumps({"tokens_per_s": tokens / seconds, "rss_mib": rss, "loss": loss.item()}))


if __name__ == "__main__":
    main()
