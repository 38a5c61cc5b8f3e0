"""What a generation was: how long, how fast, how large, and why it ended."""

from dataclasses import dataclass
from typing import Literal

EndReason = Literal["stop", "stop string", "length", "context", "unfinished"]
"""An end-of-document token, a stop string, max_tokens reached, the model's context full; or it
hasn't ended: the caller may still ask for more."""


@dataclass(frozen=True)
class Stats:
    """The numbers of one generation.

    Attributes:
        prompt_tokens: tokens of the prompt.
        prompt_tokens_per_s: prompt tokens by the time to the first new token, compilation of the
            step included; none before that.
        generated_tokens: tokens drawn, an end-of-text token included.
        generation_tokens_per_s: tokens after the first, by the time after the first; none
            before the second.
        peak_gib: the most memory that arrays took in this process so far, in GiB.
        cache_bytes: bytes of the decode state (keys and values, or what a layer keeps instead).
        end_reason: why it ended.
    """

    prompt_tokens: int
    prompt_tokens_per_s: float | None
    generated_tokens: int
    generation_tokens_per_s: float | None
    peak_gib: float
    cache_bytes: int
    end_reason: EndReason

    def line(self) -> str:
        """One line for people."""
        return (
            f"prompt: {_pace(self.prompt_tokens, self.prompt_tokens_per_s)}; "
            f"generation: {_pace(self.generated_tokens, self.generation_tokens_per_s)}, "
            f"{_WORDS[self.end_reason]}; cache: {self.cache_bytes / 2**20:.2f} MiB; "
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
