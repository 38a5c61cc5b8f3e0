"""A prompt with its completion, as rewards read it, and the frozen models that judge it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.nn as nn

from ..data.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True)
class Response:
    """A prompt with a completion that the policy has written.

    Attributes:
        prompt: its text.
        completion: its text, without the end token.
        prompt_tokens: tokens of the prompt.
        tokens: tokens of the completion, the end token included.
        ended: whether the end token ended it, rather than the limit.
        record: the fields of the row that the prompt comes from.
    """

    prompt: str
    completion: str
    prompt_tokens: list[int]
    tokens: list[int]
    ended: bool
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Judge:
    """A frozen model that is read but not trained, and its tokenizer."""

    model: nn.Module
    tokenizer: Tokenizer
