"""Batch sources: the stream of the data, and a source and an objective that live in this file."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.assembly.recipe import Recipe
from mlx_transformers.assembly.streams import training_feed
from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RunError
from mlx_transformers.core.loss import Best, Loss
from mlx_transformers.core.task import Task
from mlx_transformers.data.kinds import BatchKind
from mlx_transformers.objectives.chunked_loss import ChunkedLoss
from mlx_transformers.objectives.objective import Arrays, ChunkedKind, VocabularyModel
from mlx_transformers.recipe.slot import CLOSED, KINDS, fill
from mlx_transformers.report.runs import report
from mlx_transformers.runs import checkpoint as ck
from mlx_transformers.trainer.source import Batch, Feed, RunParts, SourceKind

from . import tiny


class Rollouts(SourceKind):
    """Sequences that the model samples, rewarded for each second letter of the alphabet."""

    kind: Literal["rollouts of a test"] = "rollouts of a test"
    length: int = 4
    """T, tokens sampled for a row."""

    def gives(self, batch: BatchKind) -> tuple[str, ...]:
        return ("tokens", "weights", "advantages", "reward")

    def feed(self, parts: RunParts, cursor: Mapping[str, Any]) -> Feed:
        return RolloutFeed(self.length, parts, cursor.get("batches", 0))

    def held_out(self, parts: RunParts, batches: int | None) -> list[Batch]:
        feed = RolloutFeed(self.length, parts, 10**6)
        return feed.preview(batches or 1)


class RolloutFeed:
    """Batch k depends on the seed, on k and on the weights that the model has when it is made."""

    shapes = 1
    tokens_per_s = float("nan")

    def __init__(self, length: int, parts: RunParts, done: int) -> None:
        self.length, self.done = length, done
        self.model, self.seed, self.rows = (
            parts.models["model"], parts.train.seed, parts.train.batch_size,
        )  # fmt: skip
        self.first, self.wanted = parts.data.tokenizer.encode("ab")

    @property
    def cursor(self) -> dict[str, Any]:
        return {"batches": self.done}

    def __next__(self) -> Batch:
        self.done += 1
        return self._sample(self.done - 1)

    def preview(self, n: int) -> list[Batch]:
        return [self._sample(self.done + i) for i in range(n)]

    def stats(self) -> dict[str, Any]:
        return {}

    def sample(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _sample(self, number: int) -> Batch:
        tokens = mx.full((self.rows, 1), self.first)
        for key in mx.random.split(mx.random.key(self.seed * 2**21 + number), self.length):
            logits = self.model(tokens, Context())[:, -1]
            tokens = mx.concatenate([tokens, mx.random.categorical(logits, key=key)[:, None]], 1)
        reward = (tokens[:, 1:] == self.wanted).astype(mx.float32)
        return {
            "tokens": tokens,
            "weights": mx.ones(reward.shape),
            "advantages": reward - reward.mean(),
            "reward": reward,
        }


class Reinforce(ChunkedKind):
    """`-log p(token) · advantage`; Williams 1992."""

    kind: Literal["reinforce of a test"] = "reinforce of a test"
    requires: ClassVar[tuple[str, ...]] = ("tokens", "advantages", "reward")
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm"})
    best: ClassVar[Best] = Best("val_reward", "max")

    def build(self) -> "Reinforce":
        return self

    def __call__(self, models: Mapping[str, VocabularyModel], batch: Arrays, ctx: Context) -> Loss:
        model, tokens, weights = models["model"], batch["tokens"], batch["weights"]
        h = model.hidden(model.embedded({"tokens": tokens[:, :-1]}, ctx), ctx)
        log_p = ChunkedLoss.of(self).log_probs(model, h, tokens[:, 1:])
        loss = -(log_p * batch["advantages"] * weights).sum()
        reward = (batch["reward"] * weights).sum()
        return Loss(loss, weights.sum(), {"loss": loss, "reward": reward})


@pytest.fixture
def toy() -> Iterator[tuple[str, ...]]:
    """The two kinds in their slots while a test runs; the settings of a run with them."""
    CLOSED.difference_update({"source", "objective"})
    fill("source", Rollouts)
    fill("objective", Reinforce)
    Recipe.model_rebuild(force=True)
    yield (
        'source={kind="rollouts of a test"}',
        'objective={kind="reinforce of a test"}',
        "model.embed.dropout=0.0",
        "model.block.dropout=0.0",
        "train.batch_size=16",
        "train.seq_len=4",
        "optim.learning_rate=2e-2",
        'optim.schedule={kind="constant"}',
        "eval.every=10",
        "eval.batches=1",
        "checkpoint.every=20",
    )
    del KINDS["source"]["rollouts of a test"], KINDS["objective"]["reinforce of a test"]
    Recipe.model_rebuild(force=True)


def rows(result):
    """The records of a run's log."""
    return [json.loads(line) for line in result.folder.log.read_text().splitlines()]


@pytest.fixture
def letters(tmp_path):
    """The recipe beside a text of two letters."""
    path = tiny.write(tmp_path)
    (tmp_path / "text.txt").write_text("abba" * 200)
    return path


def test_a_policy_learns_from_what_it_samples(tmp_path, toy, letters):
    result = tiny.run(tmp_path, *toy, "train.steps=40", name="a")
    rewards = dict(tiny.records(result, "val_reward"))
    assert tiny.records(result, "reward")[0][1] < 0.75
    assert rewards[40] > 0.9
    assert result.progress.best_step == max(rewards, key=rewards.__getitem__)
    assert ck.load(result.folder.best())[1]["best_loss"] == max(rewards.values())


def test_sampling_goes_on_to_the_bit_where_a_run_was_stopped(tmp_path, toy, letters):
    whole = tiny.run(tmp_path, *toy, "train.steps=40", name="whole")
    tiny.run(tmp_path, *toy, "train.steps=20", name="a")
    ended = tiny.run(tmp_path, *toy, "train.steps=40", name="a", resume="auto")
    files = [(r.folder.newest() / "model.safetensors").read_bytes() for r in (whole, ended)]
    assert files[0] == files[1]


def test_a_metric_that_no_one_listed_is_shown_and_reported(tmp_path, toy, letters, capsys):
    result = tiny.run(tmp_path, *toy, "train.steps=20", name="a")
    shown = capsys.readouterr().out
    last = rows(result)[-1]
    assert f"Val reward {last['val_reward']:.3f}" in shown
    assert "Train reward" in shown
    page = report([result.folder.path]).read_text()
    assert "validation reward, best" in page
    assert "Reward, training and validation" in page


def test_an_objective_that_ranks_by_what_it_does_not_report_is_told(
    tmp_path, toy, letters, monkeypatch
):
    monkeypatch.setattr(Reinforce, "best", Best("val_return", "max"))
    with pytest.raises(RunError, match=r"ranks checkpoints by 'val_return'.*val_reward"):
        tiny.run(tmp_path, *toy, "train.steps=20", name="a")


def test_a_preview_is_what_comes_next(tmp_path):
    feed = training_feed(tiny.built(tmp_path))
    for _ in range(3):
        ahead = feed.preview(2)
        assert np.array_equal(ahead[0]["tokens"], next(feed)["tokens"])
    feed.close()


def test_a_feed_opened_at_a_cursor_gives_what_would_have_followed(tmp_path):
    parts = tiny.built(tmp_path)
    whole = training_feed(parts)
    next(whole)
    rest = training_feed(parts, whole.cursor)
    assert np.array_equal(next(whole)["tokens"], next(rest)["tokens"])
    assert whole.cursor == rest.cursor
    whole.close()
    rest.close()


@pytest.mark.parametrize("direction", ["min", "max"])
def test_nan_is_never_the_best(direction):
    best = Best("val_loss", direction)
    better, worse = (1.0, 2.0) if direction == "min" else (2.0, 1.0)
    assert best.improves(worse, None)
    assert best.improves(better, worse)
    assert not best.improves(worse, better)
    assert not best.improves(float("nan"), worse)
    assert not best.improves(float("nan"), None)
