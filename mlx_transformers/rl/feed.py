"""The batches of rollouts: training, which can be resumed inside a rollout, and evaluation."""

import base64
import io
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..trainer.source import Batch, RunParts
from .sampling import EVAL_NUMBER, Sampler, check_flat

if TYPE_CHECKING:
    from .rollouts import Rollouts

Arrays = dict[str, np.ndarray]
KL_STEP = 0.2
"""Largest relative error of the KL that moves its coefficient (Ziegler et al. 2019, 2.2)."""


class RolloutFeed:
    """Batches of one rollout after the other.

    Rollout k depends on the seed, on k, and on the weights at its time. The cursor inside a rollout
    holds its rows, since the weights that made them are gone.
    """

    shapes = 1

    def __init__(self, config: "Rollouts", parts: RunParts, cursor: Mapping[str, Any]) -> None:
        self.config, self.parts = config, parts
        self._sampler = Sampler(config, parts, "train", greedy=False)
        self.number: int = cursor.get("rollout", 0)
        self.place: int = cursor.get("batch", 0)
        self.kl_weight: float = cursor.get("kl_weight", config.kl)
        self._rows: Arrays | None = None
        self._held: str | None = cursor.get("rows")
        if self._held is not None:
            self._rows = _unpacked(self._held)
        self._stats: list[dict[str, float]] = []
        self._sample = ""
        self._began = time.perf_counter()

    @property
    def per_rollout(self) -> int:
        """Batches of one rollout."""
        rows = self.config.signal.rows(self.config.prompts, self.config.group)
        return rows * self.config.epochs // self.parts.train.batch_size

    @property
    def tokens_per_s(self) -> float:
        """Sampled tokens per second of sampling; NaN before the first rollout."""
        rates = [stats["rollout_tokens_per_s"] for stats in self._stats]
        return rates[-1] if rates else float("nan")

    @property
    def cursor(self) -> dict[str, Any]:
        """Number of the rollout, place in it, coefficient of the KL, and the rows it still has."""
        cursor = {"rollout": self.number, "batch": self.place, "kl_weight": self.kl_weight}
        if not self.place or self._rows is None:
            return cursor
        if self._held is None:
            self._held = _packed(self._rows)
        return cursor | {"rows": self._held}

    def __next__(self) -> Batch:
        if self._rows is None:
            self._rows = self._made()
        batch = self._batch(self._rows, self.place)
        self.place += 1
        if self.place == self.per_rollout:
            self.number, self.place, self._rows, self._held = self.number + 1, 0, None, None
        return batch

    def preview(self, n: int) -> list[Batch]:
        """The next `n` batches without moving on; those past this rollout are its first again."""
        if self._rows is None:
            self._rows = self._made()
        return [self._batch(self._rows, (self.place + i) % self.per_rollout) for i in range(n)]

    def stats(self) -> dict[str, Any]:
        """Means over the rollouts since the last call, and the share of time that they took."""
        rows, self._stats = self._stats, []
        now = time.perf_counter()
        elapsed, self._began = now - self._began, now
        if not rows:
            return {}
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        seconds = means.pop("rollout_s") * len(rows)
        return means | {"rollout_share": min(seconds / max(elapsed, 1e-9), 1.0)}

    def sample(self) -> str:
        """A prompt with a completion of the last rollout, and its reward."""
        return self._sample

    def close(self) -> None:
        """Nothing runs in the background."""

    def _made(self) -> Arrays:
        """Sample rollout `number`, and set the coefficient of the KL for the next."""
        config = self.config
        first = self.number * config.prompts
        rollout = self._sampler(self.number, range(first, first + config.prompts), self.kl_weight)
        check_flat(config, rollout)
        self._stats.append(rollout.stats)
        self._sample = rollout.sample
        if config.kl_target is not None:
            error = np.clip(rollout.stats["reference_kl"] / config.kl_target - 1, -KL_STEP, KL_STEP)
            share = len(rollout.scored.rewards) / config.kl_horizon
            self.kl_weight = float(self.kl_weight * (1 + error * share))
        return config.signal.arrays(rollout.scored)

    def _batch(self, rows: Arrays, place: int) -> Batch:
        """Batch `place` of a rollout: rows in an order of their epoch."""
        n, size = len(rows["weights"]), self.parts.train.batch_size
        epoch, at = divmod(place * size, n)
        order = np.random.default_rng([self.parts.train.seed, self.number, epoch]).permutation(n)
        batch = {name: array[order[at : at + size]] for name, array in rows.items()}
        if "counted" in rows:
            step = size * self.parts.train.accumulate
            first = at // step * step
            mean = rows["counted"][order[first : first + step]].sum(axis=1).mean()
            batch["row_tokens"] = np.full(size, mean, np.float32)
        return batch


class EvalRollouts:
    """Batches of one completion of each prompt of the validation split, all of one shape."""

    def __init__(self, config: "Rollouts", parts: RunParts, batches: int | None) -> None:
        self.config, self.parts = config, parts
        grouped = config.signal.gives[0] != "tokens"
        self._sampler = Sampler(config, parts, "valid", greedy=not grouped)
        size = parts.eval_batch_size
        n = len(self._sampler.records)
        self._places = np.arange(n)
        if batches is not None and batches * size < n:
            self._places = np.arange(batches * size) * n // (batches * size)

    def __len__(self) -> int:
        return -(-len(self._places) // self.parts.eval_batch_size)

    def __iter__(self) -> Iterator[Batch]:
        size, signal = self.parts.eval_batch_size, self.config.signal
        places = [int(place) for place in self._places]
        for start in range(0, len(places), size):
            part = places[start : start + size]
            real = len(part)
            part = part + part[-1:] * (size - real)
            rollout = self._sampler(EVAL_NUMBER + start, part, self.config.kl)
            batch = signal.held_out(rollout.scored)
            batch["weights"] = batch["weights"].copy()
            batch["weights"][real:] = 0
            if "counted" in batch:
                mean = np.float32(batch["counted"].sum(axis=1).mean())
                batch["row_tokens"] = np.full(len(batch["weights"]), mean, np.float32)
            yield batch


def _packed(rows: Arrays) -> str:
    """Arrays as text that JSON can hold."""
    file = io.BytesIO()
    names = sorted(rows)
    np.savez_compressed(file, np.array(names), *(rows[name] for name in names))
    return base64.b85encode(file.getvalue()).decode()


def _unpacked(text: str) -> Arrays:
    with np.load(io.BytesIO(base64.b85decode(text))) as file:
        return {str(name): file[f"arr_{i}"] for i, name in enumerate(file["arr_0"], 1)}
