"""Constitutional AI: the policy criticises its own completions and revises them.

Bai et al. 2022, "Constitutional AI: Harmlessness from AI Feedback", sections 3 and 4.
"""

import string
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import mlx.core as mx
import numpy as np
from pydantic import AfterValidator, Field

from ..core.context import Context
from ..core.errors import RecipeError
from ..models.model import Decodable
from ..recipe.config import Config
from .response import Judge, Response
from .rewards import Reward, RewardKind

Complete = Callable[[Sequence[str], int], list[str]]
"""Continues texts, the second argument being a number that seeds the draws."""


ROWS = 32
"""Texts that a model judges at once."""


def template(*fields: str) -> AfterValidator:
    """Check that a template is text with these fields in braces, and no others."""

    def check(text: str) -> str:
        try:
            names = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        except ValueError as error:
            raise ValueError(f"the template can't be read: {error}") from None
        if unknown := sorted(names - set(fields)):
            raise ValueError(
                f"the template has the field {{{unknown[0]}}}; it may have "
                f"{', '.join('{' + name + '}' for name in fields)}. Write braces themselves twice."
            )
        if "completion" not in names:
            raise ValueError("the template lacks {completion}, the text that it is about.")
        return text

    return AfterValidator(check)


class Revise(Config):
    """Completions are criticised and revised by the policy itself, each time under a principle
    that is drawn by the seed; the last revision takes the place of the completion."""

    principles: list[str] = Field(min_length=1)
    """The constitution."""
    critique: Annotated[str, template("prompt", "completion", "principle")]
    """Template of the text that the policy continues with a critique."""
    revision: Annotated[str, template("prompt", "completion", "principle", "critique")]
    """Template of the text that the policy continues with a revision."""
    rounds: int = Field(1, ge=1)
    """Number of critiques and revisions."""

    def __call__(
        self, responses: Sequence[Response], complete: Complete, seed: Sequence[int]
    ) -> list[str]:
        """The revised completions.

        Args:
            responses: the completions.
            complete: continues texts with the policy.
            seed: seeds the draws of principles.
        """
        texts = [response.completion for response in responses]
        for number in range(self.rounds):
            drawn = np.random.default_rng([*seed, number]).integers(
                len(self.principles), size=len(texts)
            )
            fields = [
                {"prompt": a.prompt, "completion": text, "principle": self.principles[i]}
                for a, text, i in zip(responses, texts, drawn, strict=True)
            ]
            critiques = complete([self.critique.format(**field) for field in fields], 2 * number)
            requests = [
                self.revision.format(**field, critique=critique.strip())
                for field, critique in zip(fields, critiques, strict=True)
            ]
            revised = complete(requests, 2 * number + 1)
            texts = [new.strip() or old for new, old in zip(revised, texts, strict=True)]
        return texts


class PrincipleReward(RewardKind):
    """How well a completion keeps the principles in the judgement of a model (RLAIF): the mean over
    principles of `log p(yes) - log p(no)` after the template."""

    kind: Literal["principle"] = "principle"
    run: str
    """The run that judges, by name or folder: that which the policy started from, for its own
    judgement."""
    principles: list[str] = Field(min_length=1)
    """The constitution."""
    template: Annotated[str, template("prompt", "completion", "principle")]
    """Text after which the model says yes or no."""
    yes: str = "Yes"
    """The answer of a completion that keeps the principle; its first token counts."""
    no: str = "No"
    """The answer of one that doesn't; its first token counts."""

    def frozen(self) -> str:
        return self.run

    def build(self, judge: Judge | None) -> Reward:
        assert judge is not None, "a principle reward has a run"
        model, tokenizer = judge.model, judge.tokenizer
        if not isinstance(model, Decodable):
            raise RecipeError(f"The run '{self.run}' generates no text, so it can't judge.")
        first, second = ([*tokenizer.encode(text)][:1] for text in (self.yes, self.no))
        if not first or not second or first == second:
            raise RecipeError(
                f"The answers {self.yes!r} and {self.no!r} begin with the same token or have none: "
                "choose others."
            )

        def margins(texts: list[list[int]]) -> np.ndarray:
            ctx = Context()
            x = model.embedded({"tokens": mx.array(texts)}, ctx)
            out = model.unembedding()
            assert out is not None, "a model that generates has a head"
            logits = out.logits(model.hidden(x, ctx)[:, -1]).astype(mx.float32)
            return np.array(logits[:, first[0]] - logits[:, second[0]])

        def reward(responses: Sequence[Response]) -> list[float]:
            texts = [
                self.template.format(prompt=a.prompt, completion=a.completion, principle=principle)
                for a in responses
                for principle in self.principles
            ]
            requests = [
                [*tokenizer.prefix, *tokenizer.encode(text)][-model.max_seq_len :] for text in texts
            ]
            rewards = np.zeros(len(requests))
            for places in _alike(requests):
                rewards[places] = margins([requests[place] for place in places])
            return [float(mean) for mean in rewards.reshape(len(responses), -1).mean(axis=1)]

        return reward


def _alike(texts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Places of texts of one length, at most ROWS at a time: they need no padding."""
    by_length: dict[int, list[int]] = {}
    for place, text in enumerate(texts):
        by_length.setdefault(len(text), []).append(place)
    return [
        places[start : start + ROWS]
        for places in by_length.values()
        for start in range(0, len(places), ROWS)
    ]
