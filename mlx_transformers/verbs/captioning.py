"""Prompts with a picture, for language models that see, and their captions of held-out pictures."""

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..core.errors import DataError, RunError
from ..data.pictures.preprocess import read_resized
from ..data.pictures.prompt import PLACEHOLDER, expanded, placed
from ..data.tokenizers.tokenizer import Tokenizer
from ..decode.engine import Engine
from ..decode.sample import Sampling
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
    patches = model.see_count(pixels)
    tokens = np.array(placed(tokenizer, prompt, model.image_token))
    return expanded(tokens, model.image_token, patches).tolist(), {"pixels": pixels}


def _pixels(model: VlmModel, image: Path) -> np.ndarray:
    """The picture of a file at the size that a model reads."""
    try:
        return read_resized(image, model.image_size, model.channels)
    except DataError as error:
        raise RunError(f"--image {error}") from None


def written(
    engine: Engine, pixels: mx.array | None, prompts: Sequence[Sequence[int]], end: int, limit: int
) -> list[list[int]]:
    """Return the likeliest token after token for each prompt, up to `end`, of at most `limit`."""
    engine.start(prompts, given={} if pixels is None else {"pixels": pixels})
    rows: list[list[int]] = [[] for _ in prompts]
    going = set(range(len(prompts)))
    for tokens in engine.tokens(limit):
        for i in sorted(going):
            if tokens[i] == end:
                going.remove(i)
            else:
                rows[i].append(tokens[i])
        if not going:
            break
    return rows


def greedy(model: VlmModel, tokenizer: Tokenizer) -> Engine:
    """The engine of `written`."""
    vocab_size = min(model.vocab_size, tokenizer.vocab_size)
    return Engine(model, sampling=Sampling(temp=0.0), vocab_size=vocab_size)
