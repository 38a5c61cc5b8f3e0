"""Learning-rate schedules: the learning rate as an array expression of the update's number.

Symbols: `s` is the number of the update, from 0 (`optimizer.step` before the update); `w` is
`warmup`; `n` is the number of updates of the run; `p = (s - w) / (n - w)`, clipped to [0, 1], is
the progress after the warm-up; `f` is `final_fraction`.

Most schedules begin with a warm-up, `(s + 1) / w` for `s < w`: the first update uses `1 / w` of the
peak, never 0, and update `w - 1` uses the peak. With `warmup_from` the first update uses that
fraction of the peak, and update `w` the peak. Without a warm-up the first update uses the peak.
The final value is reached at `s = n`, one after the last update, so no update is spent at a
learning rate of 0; it stays beyond the end. A run that is shorter than its warm-up never reaches
the peak.
"""

import math
from abc import abstractmethod
from itertools import pairwise
from typing import Literal

import mlx.core as mx
from pydantic import Field, model_validator

from .kinds import Schedule, ScheduleKind


class Warmup(ScheduleKind):
    """Base of the schedules with a warm-up, followed by `after`."""

    warmup: int = Field(default=0, ge=0)
    """Updates of warm-up; the last of them uses the peak."""
    warmup_from: float | None = Field(default=None, ge=0.0, le=1.0)
    """Fraction of the peak at the first update, and then the peak is reached one update later;
    none begins at `1 / warmup`."""
    warmup_shape: Literal["linear", "cosine", "sqrt"] = "linear"
    """Shape of the warm-up: `q`, `(1 - cos(pi q)) / 2` or `1 - sqrt(1 - q)` of its progress q."""

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
                fraction = mx.where(s < self.warmup, self._rise(s), fraction)
            return learning_rate * fraction

        return rate

    def _rise(self, s: mx.array) -> mx.array:
        """Return the fraction of the peak at update `s` of the warm-up."""
        start = self.warmup_from
        q = mx.minimum((s + (1.0 if start is None else 0.0)) / self.warmup, 1.0)
        if self.warmup_shape == "cosine":
            q = 0.5 * (1.0 - mx.cos(math.pi * q))
        elif self.warmup_shape == "sqrt":
            q = 1.0 - mx.sqrt(1.0 - q)
        return q if not start else start + (1.0 - start) * q


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


class Polynomial(Warmup):
    """Polynomial decay: `f + (1 - f) (1 - p)^power`; the power 1 is `linear`."""

    kind: Literal["polynomial"] = "polynomial"
    final_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Learning rate at the end, as a fraction of the peak."""
    power: float = Field(default=2.0, gt=0.0)
    """Exponent of the decay."""

    def after(self, s: mx.array, n: int) -> mx.array:
        f = self.final_fraction
        return f + (1.0 - f) * mx.power(1.0 - self.progress(s, n), self.power)


class Cosine(Warmup):
    """Cosine decay: `f + (1 - f) (1 + cos(2 pi cycles p)) / 2`.

    Loshchilov & Hutter 2017, equation 5, where half a cycle is the whole run.
    """

    kind: Literal["cosine"] = "cosine"
    final_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Lowest learning rate, as a fraction of the peak."""
    cycles: float = Field(default=0.5, gt=0.0)
    """Periods of the cosine; half a period falls once, and a whole one rises to the peak again."""

    def after(self, s: mx.array, n: int) -> mx.array:
        return _half_cosine(2.0 * self.cycles * self.progress(s, n), self.final_fraction)


class Exponential(Warmup):
    """Exponential decay: `factor^(s - w)`."""

    kind: Literal["exponential"] = "exponential"
    factor: float = Field(gt=0.0, le=1.0)
    """Learning rate of an update divided by that of the update before."""

    def after(self, s: mx.array, n: int) -> mx.array:
        return mx.power(self.factor, mx.maximum(s - self.warmup, 0.0))


class Steps(Warmup):
    """Step decay: `factor^k` after k drops, every so many updates or at given ones."""

    kind: Literal["steps"] = "steps"
    factor: float = Field(default=0.1, gt=0.0, le=1.0)
    """Learning rate after a drop divided by that before."""
    every: int | None = Field(default=None, ge=1)
    """Updates between drops, after the warm-up."""
    at: tuple[int, ...] = Field(default=(), strict=False)
    """Updates at which the learning rate drops."""

    @model_validator(mode="after")
    def _drops_somewhere(self) -> "Steps":
        if (self.every is None) == (not self.at):
            raise ValueError("A schedule of steps drops every so many updates or at some of them: "
                             "set `every` or `at`, not both.")  # fmt: skip
        return self

    def after(self, s: mx.array, n: int) -> mx.array:
        if self.every is not None:
            drops = mx.floor(mx.maximum(s - self.warmup, 0.0) / self.every)
        else:
            drops = (s >= mx.array(self.at, mx.float32)).sum().astype(mx.float32)
        return mx.power(self.factor, drops)


class OneCycle(ScheduleKind):
    """One cycle: a rise from `start_fraction` to the peak and a fall to `final_fraction` (Smith &
    Topin 2019), as torch's OneCycleLR.

    The rise ends at update `rise_fraction · n - 1`, the fall at the last update. With three phases
    the fall mirrors the rise down to `start_fraction`, and a third phase ends the run.
    """

    kind: Literal["one_cycle"] = "one_cycle"
    rise_fraction: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Length of the rise as a fraction of the run."""
    start_fraction: float = Field(default=1 / 25, ge=0.0, le=1.0)
    """Learning rate at the first update, as a fraction of the peak."""
    final_fraction: float = Field(default=1 / 25e4, ge=0.0, le=1.0)
    """Learning rate at the last update, as a fraction of the peak."""
    shape: Literal["cosine", "linear"] = "cosine"
    """Shape of each phase."""
    three_phases: bool = False
    """Whether the fall stops at `start_fraction` before a third phase."""

    @model_validator(mode="after")
    def _phases_fit(self) -> "OneCycle":
        if self.three_phases and self.rise_fraction >= 0.5:
            raise ValueError("Three phases need a rise_fraction below 0.5: the fall takes as long.")
        return self

    def phases(self, n: int) -> list[tuple[float, float]]:
        """Return the last update of every phase, and the fraction of the peak there."""
        rise = self.rise_fraction * n - 1
        if not self.three_phases:
            return [(rise, 1.0), (n - 1, self.final_fraction)]
        return [
            (rise, 1.0),
            (2 * self.rise_fraction * n - 2, self.start_fraction),
            (n - 1, self.final_fraction),
        ]

    def build(self, learning_rate: float, total_steps: int) -> Schedule:
        phases = self.phases(total_steps)

        def rate(step: mx.array) -> mx.array:
            s = step.astype(mx.float32)
            begin, low, fraction = 0.0, self.start_fraction, mx.zeros_like(s)
            for number, (end, high) in enumerate(phases):
                q = mx.clip((s - begin) / max(end - begin, 1e-9), 0.0, 1.0)
                if self.shape == "cosine":
                    q = 0.5 * (1.0 - mx.cos(math.pi * q))
                phase_value = low + (high - low) * q
                fraction = (
                    phase_value if number == 0 else mx.where(s <= begin, fraction, phase_value)
                )
                begin, low = end, high
            return learning_rate * fraction

        return rate


class CosineRestarts(Warmup):
    """Cosine decay with warm restarts, SGDR (Loshchilov & Hutter 2017, section 3).

    The updates after the warm-up are divided into `cycles`, each `growth` times as long as the
    one before (`T_mult` of the paper), rounded to whole updates. With `length` (`T_0`) the first
    cycle has so many updates instead, and cycles follow each other to the end of the run.
    """

    kind: Literal["cosine_restarts"] = "cosine_restarts"
    final_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Learning rate at the end of every cycle, as a fraction of the peak."""
    cycles: int = Field(default=1, ge=1)
    """Number of cycles; 1 is the kind `cosine`."""
    growth: float = Field(default=1.0, ge=1.0)
    """Length of a cycle divided by that of the previous one."""
    length: int | None = Field(default=None, ge=1)
    """Updates of the first cycle, in place of `cycles`."""
    whole: bool = True
    """Whether cycles begin at whole updates."""

    @model_validator(mode="after")
    def _one_count(self) -> "CosineRestarts":
        if self.length is not None and self.cycles != 1:
            raise ValueError("length repeats cycles to the end of the run: leave cycles out.")
        return self

    def bounds(self, n: int) -> list[float]:
        """Return the first update of every cycle, and the end of the last."""
        if self.length is not None:
            edges, cycle = [float(self.warmup)], float(self.length)
            while edges[-1] <= n:
                edges.append(edges[-1] + cycle)
                cycle *= self.growth
            return edges
        lengths = [self.growth**i for i in range(self.cycles)]
        span = max(n - self.warmup, self.cycles)
        starts = [span * sum(lengths[:i]) / sum(lengths) for i in range(self.cycles + 1)]
        return [self.warmup + (round(at) if self.whole else at) for at in starts]

    def after(self, s: mx.array, n: int) -> mx.array:
        bounds = self.bounds(n)
        fraction = mx.ones_like(s)
        for start, end in pairwise(bounds):
            p = mx.clip((s - start) / (end - start or 1), 0.0, 1.0)
            fraction = mx.where(s < start, fraction, _half_cosine(p, self.final_fraction))
        return fraction


class InverseSqrt(Warmup):
    """The schedule of the Transformer: `sqrt(w / (s + 1))` (Vaswani et al. 2017, section 5.3).

    The paper's `d^-0.5 min(t^-0.5, t w^-1.5)` with `t = s + 1` peaks at `(d w)^-0.5` at the end of
    the warm-up. Here the peak is `learning_rate`, independent of the model's width. Without a
    warm-up, `w` counts as 1. The length of the run has no effect. With `timescale` it is
    `sqrt(timescale / (s + timescale - w))`, which begins to fall from the peak itself.
    """

    kind: Literal["inverse_sqrt"] = "inverse_sqrt"
    timescale: int | None = Field(default=None, ge=1)
    """Updates after which the learning rate has fallen to `sqrt(1/2)` of the peak."""

    def after(self, s: mx.array, n: int) -> mx.array:
        if self.timescale is not None:
            shifted = mx.maximum(s - self.warmup, 0.0) + self.timescale
            return mx.sqrt(self.timescale / shifted)
        return mx.sqrt(max(self.warmup, 1) / (s + 1.0))


class Wsd(Warmup):
    """Warm-up, stable, decay (WSD; MiniCPM: Hu et al. 2024, section 4).

    With `q`, clipped to [0, 1], the progress of the last `decay_fraction` of the run:
    `linear`: `1 - (1 - f) q`; `cosine`: `f + (1 - f) (1 + cos(pi q)) / 2`; `exponential`: `f^q`,
    the paper's form; `sqrt`: `1 - (1 - f) sqrt(q)` (Hägele et al. 2024, section 3).
    """

    kind: Literal["wsd"] = "wsd"
    final_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Learning rate at the end, as a fraction of the peak."""
    decay_fraction: float = Field(default=0.1, ge=0.0, le=1.0)
    """Length of the decay as a fraction of the run."""
    stable: int | None = Field(default=None, ge=0)
    """Updates between the warm-up and the decay, which then takes `decay` updates wherever the
    run ends; none lets the decay end with the run."""
    decay: int | None = Field(default=None, ge=1)
    """Updates of the decay, in place of `decay_fraction`."""
    shape: Literal["linear", "cosine", "exponential", "sqrt"] = "linear"
    """Shape of the decay."""

    @model_validator(mode="after")
    def _exponential_has_an_end(self) -> "Wsd":
        if self.shape == "exponential" and self.final_fraction == 0.0:
            raise ValueError("An exponential decay never reaches 0: set final_fraction above 0.")
        return self

    def after(self, s: mx.array, n: int) -> mx.array:
        length = round(self.decay_fraction * n) if self.decay is None else self.decay
        if length == 0:
            return mx.ones_like(s)
        begin = n - length if self.stable is None else self.warmup + self.stable
        q = mx.clip((s - begin) / length, 0.0, 1.0)
        f = self.final_fraction
        if self.shape == "cosine":
            return _half_cosine(q, f)
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
