"""Rewards that a frozen model gives, slot `reward`: a reward model, or a classifier.

model        the number of a run with a pool of kind `scalar`
classifier   the probability of a class, by a run with a pool of kind `classifier`
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, cast

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.context import Context
from ..core.errors import RecipeError
from ..layers.pools import ClassifierModule, ScalarModule
from .response import Judge, Response
from .rewards import Reward, RewardKind

BATCH = 32
"""Completions that are judged at once."""
STEP = 32
"""Rows are padded to a multiple of this, so that few lengths are compiled."""


class Pooled(Protocol):
    """A model with a pool."""

    max_seq_len: int
    pool: nn.Module

    def embedded(self, batch: dict[str, mx.array], ctx: Context) -> mx.array: ...
    def features(self, x: mx.array, ctx: Context) -> mx.array: ...
    def pooled(self, x: mx.array, ctx: Context) -> mx.array: ...


class ModelReward(RewardKind):
    """The number that a reward model gives to prompt and completion (Ouyang et al. 2022)."""

    kind: Literal["model"] = "model"
    run: str
    """The reward model's run, by name or folder; its best checkpoint."""
    clip: float | None = Field(None, gt=0)
    """Rewards are cut at plus and minus this."""

    def frozen(self) -> str:
        return self.run

    def build(self, judge: Judge | None) -> Reward:
        assert judge is not None, "a model reward has a run"
        model = _pooled(judge, self.run, ScalarModule, "scalar")
        score = _scorer(model, judge)

        def reward(responses: Sequence[Response]) -> list[float]:
            rewards = score(responses)
            if self.clip is not None:
                rewards = mx.clip(rewards, -self.clip, self.clip)
            return cast(list[float], rewards.tolist())

        return reward


class ClassifierReward(RewardKind):
    """The probability of one class of prompt and completion, or of the completion alone."""

    kind: Literal["classifier"] = "classifier"
    run: str
    """The classifier's run, by name or folder; its best checkpoint."""
    label: int = Field(1, ge=0)
    """Number of the class, in the sorted order of the labels that it was trained on."""
    reads: Literal["completion", "both"] = "completion"
    """Whether it reads the completion alone, or prompt and completion."""

    def frozen(self) -> str:
        return self.run

    def build(self, judge: Judge | None) -> Reward:
        assert judge is not None, "a classifier reward has a run"
        model = _pooled(judge, self.run, ClassifierModule, "classifier")
        classes = judge_classes(model)
        if self.label >= classes:
            raise RecipeError(
                f"The classifier '{self.run}' has {classes} classes, 0 to {classes - 1}, and the "
                f"reward reads class {self.label}."
            )
        score = _scorer(model, judge, self.reads == "both")

        def reward(responses: Sequence[Response]) -> list[float]:
            rewards = mx.softmax(score(responses), axis=-1)[:, self.label]
            return cast(list[float], rewards.tolist())

        return reward


def judge_classes(model: Pooled) -> int:
    """Number of classes of a classifier."""
    assert isinstance(model.pool, ClassifierModule), "checked before"
    return int(model.pool.out.weight.shape[0])


def _pooled(judge: Judge, run: str, pool: type[nn.Module], kind: str) -> Pooled:
    model: Any = judge.model
    if not isinstance(dict(judge.model).get("pool"), pool):
        raise RecipeError(
            f"The run '{run}' has no pool of kind '{kind}', so it gives no reward: train one with "
            f"model.pool.kind = '{kind}'."
        )
    pooled: Pooled = model
    return pooled


def _scorer(
    model: Pooled, judge: Judge, both: bool = True
) -> Callable[[Sequence[Response]], mx.array]:
    """The outputs of the pool for completions, `[N, ...]` in float32."""

    def forward(tokens: mx.array, lengths: mx.array) -> mx.array:
        ctx = Context()
        ctx.layout = replace(ctx.layout, valid=mx.arange(tokens.shape[1]) < lengths[:, None])
        x = model.features(model.embedded({"tokens": tokens}, ctx), ctx)
        return model.pooled(x, ctx).astype(mx.float32)

    compiled = mx.compile(forward, inputs=judge.model.state)

    def score(responses: Sequence[Response]) -> mx.array:
        rows = [_tokens(judge, response, both)[-model.max_seq_len :] for response in responses]
        outputs = []
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            width = min(-(-max(map(len, part)) // STEP) * STEP, model.max_seq_len)
            part = part + part[:1] * (BATCH - len(part))
            filled = mx.array([row + [0] * (width - len(row)) for row in part], dtype=mx.int32)
            outputs.append(compiled(filled, mx.array([len(row) for row in part])))
            mx.eval(outputs)
        return mx.concatenate(outputs)[: len(rows)]

    return score


def _tokens(judge: Judge, response: Response, both: bool) -> list[int]:
    """The tokens of a completion as the judge's tokenizer writes them, its end of text included."""
    tokenizer = judge.tokenizer
    text = response.prompt + response.completion if both else response.completion
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    return [*tokenizer.prefix, *tokenizer.encode(text), *end]
