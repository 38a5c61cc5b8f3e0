"""A fitted scaling law: as text, Markdown, JSON and a picture."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..runs.durable import replace_text
from ..score import scaling_fit
from ..score.scaling_fit import Fit, Interval, Points
from ..score.scaling_laws import Array
from .plot import measure_curves

FILE = "scale.json"
HOUR = 3600.0


@dataclass(frozen=True)
class Trained:
    """A finished run of the grid: its size, its length, and its validation loss (nats)."""

    run: str
    dim: int
    steps: int
    parameters: float
    tokens: float
    loss: float
    tokens_per_s: float | None


@dataclass(frozen=True)
class Prediction:
    """The loss of a run that was not made, with its 95 % interval."""

    parameters: float
    tokens: float
    loss: float
    interval: Interval

    def sentence(self) -> str:
        """The prediction in words."""
        low, high = self.interval
        return (
            f"loss {self.loss:.3f} (95 % interval {low:.3f} to {high:.3f}) with "
            f"{self.parameters / 1e6:,.3g} M parameters and {self.tokens / 1e6:,.3g} M tokens."
        )


@dataclass
class Scaling:
    """A law, the runs that it was fitted to, and what it predicts.

    Attributes:
        runs: the runs of the grid.
        points: their sizes, lengths and losses.
        fit: the law.
        fits: its bootstrapped values, `[n, 5]`.
        flops: budgets whose best size is computed.
        checked: a prediction, and the run that was made after it.
    """

    runs: list[Trained]
    points: Points
    fit: Fit
    fits: Array
    flops: list[float]
    checked: tuple[Prediction, Trained] | None = None

    def predicted(self, parameters: float, tokens: float) -> Prediction:
        """Predict the loss of a run."""
        interval = scaling_fit.predict(self.points, self.fits, parameters, tokens)
        loss = float(self.fit.law.loss(parameters, tokens))
        return Prediction(parameters, tokens, loss, interval)

    def sentences(self) -> list[str]:
        """The law, the best size for each budget, and the error of a checked prediction."""
        law = self.fit.law
        formula = (
            f"L = {law.E:.3f} + {law.A:.4g} / N^{law.alpha:.3f} + {law.B:.4g} / D^{law.beta:.3f}, "
            f"fitted to {len(self.runs)} runs."
        )
        return [formula, *(self._budgets() if law.falls else [self._flat()]), *self._check()]

    def _budgets(self) -> list[str]:
        exponents = [scaling_fit.law_of(row).exponent for row in self.fits]
        low, high = scaling_fit.interval(np.asarray(exponents))
        growth = (
            f"The best size grows with the budget to the power {self.fit.law.exponent:.2f} "
            f"(95 % interval {low:.2f} to {high:.2f})."
        )
        return [growth, *map(self._budget, self.flops)]

    def _flat(self) -> str:
        law = self.fit.law
        exponents = {"size": law.alpha, "length": law.beta}
        what = " or ".join(name for name, value in exponents.items() if value <= 0)
        return (
            f"By this law the loss doesn't fall with {what}, so that no budget has a best size. "
            "Train longer runs, and give --widths and --steps that are further apart."
        )

    def _budget(self, flops: float) -> str:
        n, d, loss = (float(x) for x in self.fit.law.optimum(flops))
        speeds = [6 * r.parameters * r.tokens_per_s for r in self.runs if r.tokens_per_s]
        hours = f", {flops / max(speeds) / HOUR:,.1f} hours at these runs' best" if speeds else ""
        return (
            f"{flops:.3g} flops: {n / 1e6:,.3g} M parameters and {d / 1e6:,.3g} M tokens "
            f"({d / n:.1f} tokens a parameter), loss {loss:.3f}{hours}."
        )

    def _check(self) -> list[str]:
        if self.checked is None:
            return []
        prediction, run = self.checked
        low, high = prediction.interval
        inside = "within" if low <= run.loss <= high else "outside"
        return [
            f"Checked by {run.run}: predicted {prediction.loss:.3f}, got {run.loss:.3f}, off by "
            f"{run.loss - prediction.loss:+.3f}, {inside} the interval."
        ]

    def rows(self) -> list[list[str]]:
        """A row for every run: its size, its loss, and the law's."""
        return [
            [
                run.run,
                f"{run.parameters / 1e6:,.3f}",
                f"{run.tokens / 1e6:,.3f}",
                f"{run.loss:.3f}",
                f"{float(self.fit.law.loss(run.parameters, run.tokens)):.3f}",
            ]
            for run in self.runs
        ]

    def write(self, folder: Path) -> list[Path]:
        """Write scale.json and scale.md."""
        files = [folder / "scale.json", folder / "scale.md"]
        table = {
            "runs": [asdict(run) for run in self.runs],
            "law": asdict(self.fit.law),
            "objective": self.fit.objective,
            "bootstrap": self.fits.tolist(),
        }
        if self.checked is not None:
            prediction, run = self.checked
            table["checked"] = {"prediction": asdict(prediction), "run": asdict(run)}
        replace_text(files[0], json.dumps(table, indent=1) + "\n")
        heads = [*TITLES]
        lines = ["| " + " | ".join(r) + " |" for r in (heads, ["---"] * 5, *self.rows())]
        text = "\n".join(lines) + "\n\n" + "\n".join(f"- {each}" for each in self.sentences())
        replace_text(files[1], text + "\n")
        return files

    def plot(self, path: Path) -> Path:
        """Draw the loss over training flops, measured and fitted, for every size.

        Raises:
            RunError: matplotlib is not installed.
        """
        curves: dict[str, dict[float, float]] = {}
        for run in sorted(self.runs, key=lambda r: (r.parameters, r.tokens)):
            name = f"{run.parameters / 1e6:,.3g} M"
            cost = 6 * run.parameters * run.tokens
            curves.setdefault(name, {})[cost] = run.loss
            law = float(self.fit.law.loss(run.parameters, run.tokens))
            curves.setdefault(f"{name}, law", {})[cost] = law
        axes = ("training flops", "validation loss (nats)")
        return measure_curves(curves, path, *axes, log_x=True, log_y=True)


TITLES = ("run", "parameters (M)", "tokens (M)", "val loss", "law")
"""Titles of the columns of `rows`."""
