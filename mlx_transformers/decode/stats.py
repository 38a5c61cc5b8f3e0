"""Figures of a generation: length, speed, memory, and why it ended."""

from dataclasses import dataclass
from typing import Literal

EndReason = Literal["stop", "stop string", "length", "context", "unfinished"]
"""An end-of-text token, a stop string, max_tokens reached, the model's context full; or the
generation is still going on."""


@dataclass(frozen=True)
class Stats:
    """Figures of one generation.

    Attributes:
        prompt_tokens: tokens of the prompt.
        prompt_tokens_per_s: prompt tokens divided by the seconds to the first new token,
            compilation of the step included; None before that.
        generated_tokens: tokens drawn, an end-of-text token included.
        generation_tokens_per_s: tokens after the first, divided by the seconds after the first;
            None before the second.
        peak_gib: peak MLX memory of this process so far, GiB.
        cache_bytes: bytes of the decode state (KV cache, or recurrent states).
        end_reason: why it ended.
        layers_per_token: mean number of layers that tokens were predicted after, where decoding
            leaves the stack early.
        tokens_per_step: mean number of tokens that a step of the model gave, with a draft.
    """

    prompt_tokens: int
    prompt_tokens_per_s: float | None
    generated_tokens: int
    generation_tokens_per_s: float | None
    peak_gib: float
    cache_bytes: int
    end_reason: EndReason
    layers_per_token: float | None = None
    tokens_per_step: float | None = None

    def line(self) -> str:
        """The figures in one line."""
        layers = self.layers_per_token
        exits = "" if layers is None else f"layers per token: {layers:.2f}; "
        if self.tokens_per_step is not None:
            exits += f"tokens per step of the model: {self.tokens_per_step:.2f}; "
        return (
            f"prompt: {_pace(self.prompt_tokens, self.prompt_tokens_per_s)}; "
            f"generation: {_pace(self.generated_tokens, self.generation_tokens_per_s)}, "
            f"{_WORDS[self.end_reason]}; {exits}cache: {self.cache_bytes / 2**20:.2f} MiB; "
            f"peak memory: {self.peak_gib:.3f} GiB"
        )


_WORDS: dict[EndReason, str] = {
    "stop": "ended by the model",
    "stop string": "ended by a stop string",
    "length": "ended by the limit of tokens",
    "context": "ended by the model's context",
    "unfinished": "interrupted",
}


def _pace(tokens: int, per_s: float | None) -> str:
    count = f"{tokens:,} token" if tokens == 1 else f"{tokens:,} tokens"
    return count if per_s is None else f"{count}, {per_s:,.1f} tokens/s"
