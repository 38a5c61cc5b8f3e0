"""Learning-rate schedules: the learning rate as an array expression of the update's number.

Symbols: `s` is the number of the update, from 0 (`optimizer.step` before the update); `w` is
`warmup`; `n` is the number of updates of the run; `p = (s - w) / (n - w)`, clipped to [0, 1], is
the progress after the warm-up; `f` is `final_fraction`.

Every schedule but the slanted triangle begins with a linear warm-up, `(s + 1) / w` for `s < w`: the
first update uses `1 / w` of the peak, never 0, and update `w - 1` uses the peak. Without a warm-up
the first update uses the peak. The final value is reached at `s = n`, one after the last update, so
no update is spent at a learning rate of 0; it stays beyond the end. A run that is shorter than its
warm-up never reaches the peak.
"""

import math
from abc import abstractmethod
from itertools import pairwise
from typing import Literal

import mlx.core as mx
from pydantic import Field, model_validator

from .kinds import Schedule, ScheduleKind


class Warmup(ScheduleKind):
    """Base of the schedules with a linear warm-up, followed by `after`."""

    warmup: int = Field(default=0, ge=0)
    """Updates of linear warm-up; the last of them uses the peak."""

    @abstractmethod
    def after(self, s: mx.array, n: int) -> mx.array:
        """Return the fraction of the peak at update `s` (float32) after the warm-up."""

    def progress(self, s: mx.array, n: int) -> mx.array:
        """Return `p`: 0 at the end of the warm-up, 1 at the end of the run."""
        return mx.clip((s - self.warmup) / max(n - self.warmup, 1), 0.0, 1.0)

    def build(self, learning_rate: float, total_steps: int) -> Schedule:
        def rate(step: mx.array) -> mx.array:
            s = step.astype(mx.float32)
            fraction = self.after(s, total_steps)
            if self.warmup > 0:
                fraction = mx.where(s < self.warmup, (s + 1.0) / self.warmup, fraction)
            return learning_rate * fraction

        return rate


class Constant(Warmup):
    """Constant at the peak: `1`."""

    kind: Literal["constant"] = "constant"

    def after(self, s: mx.array, n: int) -> mx.array:
        return mx.ones_like(s)


class Linear(Warmup):
    """Linear decay: `1 - (1 - f) p`."""

    kind: Literal["linear"] = "linear"
    final_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Learning rate at the end, as a fraction of the peak."""

    def after(self, s: mx.array, n: int) -> mx.array:
        return 1.0 - (1.0 - self.final_fraction) * self.progress(s, n)


class Cosine(Warmup):
    """Cosine decay: `f + (1 - f) (1 + cos(pi p)) / 2` (Loshchilov & Hutter 2017, eq. 5)."""

    kind: Literal["cosine"] = "cosine"
    final_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Learning rate at the end, as a fraction of the peak."""

    def after(self, s: mx.array, n: int) -> mx.array:
        return _half_cosine(self.progress(s, n), self.final_fraction)


class CosineRestarts(Warmup):
    """Cosine decay with warm restarts, SGDR (Loshchilov & Hutter 2017, section 3).

    The updates after the warm-up are divided into `cycles`, each `growth` times as long as the
    one before (`T_mult` of the paper), rounded to whole updates.
    """

    kind: Literal["cosine_restarts"] = "cosine_restarts"
    final_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Learning rate at the end of every cycle, as a fraction of the peak."""
    cycles: int = Field(default=1, ge=1)
    """Number of cycles; 1 is the kind `cosine`."""
    growth: float = Field(default=1.0, ge=1.0)
    """Length of a cycle divided by that of the previous one."""

    def bounds(self, n: int) -> list[int]:
        """Return the first update of every cycle, and the end of the last."""
        lengths = [self.growth**i for i in range(self.cycles)]
        span = max(n - self.warmup, self.cycles)
        return [
            self.warmup + round(span * sum(lengths[:i]) / sum(lengths))
            for i in range(self.cycles + 1)
        ]

    def after(self, s: mx.array, n: int) -> mx.array:
        bounds = self.bounds(n)
        fraction = mx.ones_like(s)
        for start, end in pairwise(bounds):
            p = mx.clip((s - start) / max(end - start, 1), 0.0, 1.0)
            fraction = mx.where(s < start, fraction, _half_cosine(p, self.final_fraction))
        return fraction


class InverseSqrt(Warmup):
    """The schedule of the Transformer: `sqrt(w / (s + 1))` (Vaswani et al. 2017, section 5.3).

    The paper's `d^-0.5 min(t^-0.5, t w^-1.5)` with `t = s + 1` peaks at `(d w)^-0.5` at the end of
    the warm-up. Here the peak is `learning_rate`, independent of the model's width. Without a
    warm-up, `w` counts as 1. The length of the run has no effect.
    """

    kind: Literal["inverse_sqrt"] = "inverse_sqrt"

    def after(self, s: mx.array, n: int) -> mx.array:
        return mx.sqrt(max(self.warmup, 1) / (s + 1.0))


class Wsd(Warmup):
    """Warm-up, stable, decay (WSD; MiniCPM: Hu et al. 2024, section 4).

    With `q`, clipped to [0, 1], the progress of the last `decay_fraction` of the run:
    `linear`: `1 - (1 - f) q`; `exponential`: `f^q`, the paper's form; `sqrt`:
    `1 - (1 - f) sqrt(q)` (Hägele et al. 2024, section 3).
    """

    kind: Literal["wsd"] = "wsd"
    final_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Learning rate at the end, as a fraction of the peak."""
    decay_fraction: float = Field(default=0.1, ge=0.0, le=1.0)
    """Length of the decay as a fraction of the run."""
    shape: Literal["linear", "exponential", "sqrt"] = "linear"
    """Shape of the decay."""

    @model_validator(mode="after")
    def _exponential_has_an_end(self) -> "Wsd":
        if self.shape == "exponential" and self.final_fraction == 0.0:
            raise ValueError("An exponential decay never reaches 0: set final_fraction above 0.")
        return self

    def after(self, s: mx.array, n: int) -> mx.array:
        length = round(self.decay_fraction * n)
        if length == 0:
            return mx.ones_like(s)
        q = mx.clip((s - (n - length)) / length, 0.0, 1.0)
        f = self.final_fraction
        if self.shape == "exponential":
            return mx.power(f, q)
        return 1.0 - (1.0 - f) * (mx.sqrt(q) if self.shape == "sqrt" else q)


class SlantedTriangular(ScheduleKind):
    """Slanted triangular schedule (ULMFiT: Howard & Ruder 2018, section 3.3, eq. 3).

    With `cut = floor(n · cut_fraction)`, at least 1, and `r` the ratio, at update `s`:

        p = s / cut  for s < cut,  else  1 - (s - cut) / (n - cut)
        rate = peak · (1 + p (r - 1)) / r

    The paper writes `cut (1 / cut_fraction - 1)` for `n - cut`, which differs by the rounding of
    `cut` alone. It begins and ends at `1 / r` of the peak.
    """

    kind: Literal["slanted_triangular"] = "slanted_triangular"
    cut_fraction: float = Field(default=0.1, gt=0.0, lt=1.0)
    """Length of the rise as a fraction of the run."""
    ratio: float = Field(default=32.0, gt=1.0)
    """Peak divided by the lowest learning rate."""

    def build(self, learning_rate: float, total_steps: int) -> Schedule:
        cut = max(1, math.floor(total_steps * self.cut_fraction))

        def rate(step: mx.array) -> mx.array:
            s = step.astype(mx.float32)
            fall = 1.0 - mx.clip((s - cut) / max(total_steps - cut, 1), 0.0, 1.0)
            p = mx.where(s < cut, s / cut, fall)
            return learning_rate * (1.0 + p * (self.ratio - 1.0)) / self.ratio

        return rate


def _half_cosine(p: mx.array, final_fraction: float) -> mx.array:
    return final_fraction + (1.0 - final_fraction) * 0.5 * (1.0 + mx.cos(math.pi * p))
