"""The placeholder of a picture in a prompt, and the tokens that stand for its patches."""

import numpy as np

from ..tokenizers.tokenizer import Tokenizer

PLACEHOLDER = "<image>"
"""The place of a picture in the text of a prompt."""


def placed(tokenizer: Tokenizer, text: str, image_token: int) -> list[int]:
    """Return the tokens of a prompt, with one image token for each placeholder."""
    first, *rest = text.split(PLACEHOLDER)
    tokens = [*tokenizer.prefix, *tokenizer.encode(first)]
    for part in rest:
        tokens += [image_token, *tokenizer.encode(part)]
    return tokens


def expanded(tokens: np.ndarray, image_token: int, patches: int) -> np.ndarray:
    """Return the tokens of a prompt with each image token repeated for every patch."""
    counts = np.where(tokens == image_token, patches, 1)
    return np.repeat(tokens, counts)
