"""Pictures and spectra of sound, as inputs of goldens of vision and speech models."""

from typing import Any

import numpy as np
from draw import tokens

LENGTH = 10
"""Tokens of a row of text."""


def perceived(model: Any) -> dict[str, np.ndarray] | None:
    """The inputs of a model that sees or listens; None for a model of text alone."""
    config = model.config
    if hasattr(config, "image_token_index"):
        ids = tokens(1, config.image_token_index, (2, LENGTH))
        ids[:, 1 : 1 + config.image_seq_length] = config.image_token_index
        return {"input_ids": ids, "pixel_values": pictures(config.vision_config)}
    if hasattr(config, "vision_config"):
        ids = tokens(1, config.text_config.vocab_size, (3, LENGTH))
        ids[:, -1] = config.text_config.eos_token_id
        return {"input_ids": ids, "pixel_values": pictures(config.vision_config)}
    if model.main_input_name == "pixel_values":
        masked = hasattr(config, "mask_ratio")
        patches = (config.image_size // config.patch_size) ** 2
        noise = {"noise": np.random.default_rng(2).random((2, patches), np.float32)}
        return {"pixel_values": pictures(config)} | (noise if masked else {})
    if model.main_input_name == "input_features":
        shape = (2, config.num_mel_bins, 2 * config.max_source_positions)
        target = tokens(2, config.vocab_size, (2, LENGTH - 3))
        return {"input_features": drawn(shape), "decoder_input_ids": target}
    return None


def pictures(config: Any) -> np.ndarray:
    """Two pictures."""
    return drawn((2, config.num_channels, config.image_size, config.image_size))


def drawn(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers from a normal distribution."""
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)
