"""Prompts with a picture, for vision-language models: `mlxt generate --image`."""

from pathlib import Path

import mlx.core as mx
import numpy as np

from ..core.errors import DataError, RunError
from ..data.pictures.preprocess import read_resized
from ..data.pictures.prompt import PLACEHOLDER, expanded, placed
from ..data.tokenizers.tokenizer import Tokenizer
from ..models.model import Arrays, Model
from ..models.vlm import VlmModel


def with_picture(
    model: Model, tokenizer: Tokenizer, prompt: str, image: Path | None
) -> tuple[list[int] | str, Arrays | None]:
    """Return a prompt as tokens, and the pixels that they refer to; without a picture the prompt.

    The picture is resized to the size that the model reads, whatever its ratio.

    Raises:
        RunError: the model reads no pictures, the prompt has a placeholder without a picture or the
            other way round, or the picture can't be read.
    """
    count = prompt.count(PLACEHOLDER)
    if not isinstance(model, VlmModel):
        if image is None:
            return prompt, None
        raise RunError(
            f"--image {image}: this run's model reads and writes text alone. Train one that "
            "describes pictures (mlxt train recipes/multimodal/llava_tiny.toml), or one that draws "
            "too (recipes/multimodal/chameleon_tiny.toml), and name it with --run."
        )
    if image is None:
        if count:
            raise RunError(f"The prompt has {PLACEHOLDER}, and there is no picture: --image FILE.")
        return prompt, None
    if count != 1:
        raise RunError(
            f"--image {image} is one picture, and the prompt has {PLACEHOLDER} {count} times: "
            "write it once, where the picture stands."
        )
    pixels = mx.array(_pixels(model, image)[None].astype(np.int32))
    patches = model.image_token_count(pixels)
    tokens = np.array(placed(tokenizer, prompt, model.image_token))
    return expanded(tokens, model.image_token, patches).tolist(), {"pixels": pixels}


def _pixels(model: VlmModel, image: Path) -> np.ndarray:
    """The picture of a file at the size that a model reads."""
    try:
        return read_resized(image, model.image_size, model.channels)
    except DataError as error:
        raise RunError(f"--image {error}") from None
