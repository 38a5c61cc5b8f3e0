"""Training goldens: a batch, and the losses of ten steps of torch's AdamW on it."""

from typing import Any

import numpy as np
import torch
from draw import tokens
from torch.nn import functional

TRAINED = ("llama", "gpt2", "bert", "t5", "mixtral", "gemma3", "deepseek_v2")
"""The goldens that hold it, one of each line: tests/parity/test_training.py trains them as well."""
STEPS, ROWS, LENGTH, PADDING = 10, 2, 12, 3
RATE, DECAY = 1e-3, 0.1
MASK = 3
"""A token that `tokens` never draws; it stands for what a masked model has to tell."""
HIDDEN = (1, 4, 5, 9)


def training(model: Any) -> dict[str, np.ndarray]:
    """A batch and `train_losses [10]`, each of the weights before its step; nothing is dropped."""
    arrays = batch(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss(model, {name: torch.tensor(array) for name, array in arrays.items()})
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return arrays | {"train_losses": np.array(losses)}


def batch(model: Any) -> dict[str, np.ndarray]:
    """Token ids, and what is to be told of them: the next one, a hidden one, or a target."""
    config = model.config
    ids = tokens(7, config.vocab_size, (ROWS, LENGTH)).astype(np.int64)
    if config.is_encoder_decoder:
        valid = np.ones((ROWS, LENGTH), np.int64)
        ids[1, -PADDING:], valid[1, -PADDING:] = config.pad_token_id, 0
        target = tokens(8, config.vocab_size, (ROWS, LENGTH - 2)).astype(np.int64)
        target[:, 0] = config.decoder_start_token_id
        return {"train_source_ids": ids, "train_source_mask": valid, "train_target_ids": target}
    if "Causal" in type(model).__name__ or "LMHead" in type(model).__name__:
        return {"train_ids": ids}
    seen = ids.copy()
    seen[:, HIDDEN] = MASK
    return {"train_ids": ids, "train_seen_ids": seen}


def loss(model: Any, given: dict[str, torch.Tensor]) -> torch.Tensor:
    """The mean of `-log p` over what is to be told."""
    if "train_target_ids" in given:
        target = given["train_target_ids"]
        found = model(
            input_ids=given["train_source_ids"],
            attention_mask=given["train_source_mask"],
            decoder_input_ids=target[:, :-1],
        )
        return functional.cross_entropy(found["logits"].flatten(0, 1), target[:, 1:].flatten())
    ids = given["train_ids"]
    if "train_seen_ids" not in given:
        said = model(input_ids=ids[:, :-1])["logits"]
        return functional.cross_entropy(said.flatten(0, 1), ids[:, 1:].flatten())
    told = given["train_seen_ids"] != ids
    return functional.cross_entropy(
        model(input_ids=given["train_seen_ids"])["prediction_logits"][told], ids[told]
    )
