"""PyTorch's side of `bench_vision.py`: transformers' ViT and Whisper, trained the usual way.

    TORCH_PYTHON tools/peer_torch_vision.py --sizes JSON [--steps 10] [--threads 1]

The optimizer is AdamW in its default form, gradients are set to None between steps, attention is
`F.scaled_dot_product_attention`. Prints one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch
from resident import peak_mib
from transformers import (
    ViTConfig,
    ViTForImageClassification,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

WARMUP, CLASSES = 3, 10
Draw = Callable[[], dict[str, torch.Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=json.loads, required=True)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model, draw = (vit if "image" in args.sizes else whisper)(args.sizes)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, weight_decay=0.05)
    batches = [draw() for _ in range(WARMUP + args.steps)]
    model.train()
    started = computed = 0.0
    for index, batch in enumerate(batches):
        if index == WARMUP:
            started, computed = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
    seconds, computed = time.perf_counter() - started, time.process_time() - computed
    rows = args.steps * args.sizes["batch"]
    found = {
        "per_s": rows / seconds,
        "per_cpu_s": rows / computed,
        "rss_mib": peak_mib(),
        "loss": loss.item(),
    }
    print(json.dumps(found))


def vit(sizes: dict[str, int]) -> tuple[Any, Draw]:
    """A ViT, and what draws a batch."""
    config = ViTConfig(
        hidden_size=sizes["dim"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        intermediate_size=sizes["hidden"],
        image_size=sizes["image"],
        patch_size=sizes["patch"],
        num_channels=1,
        num_labels=CLASSES,
        hidden_dropout_prob=0.0,
        attn_implementation="sdpa",
    )
    shape = (sizes["batch"], 1, sizes["image"], sizes["image"])

    def draw() -> dict[str, torch.Tensor]:
        labels = torch.randint(0, CLASSES, (sizes["batch"],))
        return {"pixel_values": torch.randn(shape), "labels": labels}

    return ViTForImageClassification(config), draw


def whisper(sizes: dict[str, int]) -> tuple[Any, Draw]:
    """Whisper, and what draws a batch."""
    config = WhisperConfig(
        vocab_size=sizes["vocab"],
        num_mel_bins=sizes["mels"],
        d_model=sizes["dim"],
        encoder_layers=sizes["layers"],
        decoder_layers=sizes["layers"],
        encoder_attention_heads=sizes["heads"],
        decoder_attention_heads=sizes["heads"],
        encoder_ffn_dim=sizes["hidden"],
        decoder_ffn_dim=sizes["hidden"],
        max_source_positions=sizes["frames"] // 2,
        max_target_positions=sizes["length"] + 1,
        dropout=0.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        attn_implementation="sdpa",
    )
    shape = (sizes["batch"], sizes["mels"], sizes["frames"])

    def draw() -> dict[str, torch.Tensor]:
        labels = torch.randint(0, sizes["vocab"], (sizes["batch"], sizes["length"]))
        return {"input_features": torch.randn(shape), "labels": labels}

    return WhisperForConditionalGeneration(config), draw


if __name__ == "__main__":
    main()
