"""Formats the results of a ladder: as a table, Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path

from ..runs.durable import replace_text
from ..trainer.metrics import metric_title


@dataclass(frozen=True)
class Rung:
    """The result of one recipe of a ladder.

    Attributes:
        recipe: its name.
        parameters: number of parameters.
        active_parameters: parameters that one token uses.
        tokens: training tokens of one run.
        val_loss: validation loss (nats per unit), mean over seeds.
        val_bpb: validation bits per byte, mean over seeds; None for tasks without.
        delta_bpb: its difference to the rung before; None for the first.
        tokens_per_s: training speed, median of reports.
        peak_gib: peak MLX memory of training.
        decode_tokens_per_s: speed of generation, one row; None for models that don't continue text.
        cache_bytes_per_token: decode state (KV cache) of a full context per token; None likewise.
        seconds: time in training steps, one run.
        metric: the metric that ranks the rungs.
        value, error: its mean over seeds, and the half width of its 95 % interval.
        delta, delta_error: the paired difference to the rung before, and its half width.
        seeds: seeds of the runs.
        lower_is_better: direction of the metric.
        runs: names of its runs, one per seed.
        tuned: the best of the values of a tuned key; None without.
        tried: the metric at each value that was tried.
    """

    recipe: str
    parameters: int
    active_parameters: int
    tokens: int
    val_loss: float
    val_bpb: float | None
    delta_bpb: float | None
    tokens_per_s: float
    peak_gib: float
    decode_tokens_per_s: float | None
    cache_bytes_per_token: float | None
    seconds: float
    metric: str = "val_bpb"
    value: float | None = None
    error: float | None = None
    delta: float | None = None
    delta_error: float | None = None
    seeds: tuple[int, ...] = ()
    lower_is_better: bool = True
    runs: tuple[str, ...] = ()
    tuned: str | None = None
    tried: dict[str, float] = field(default_factory=dict)


def read(text: str) -> list[Rung]:
    """Read ladder.json; files from before metrics were named rank by bits per byte."""
    names = {field.name for field in fields(Rung)}
    rungs = []
    for row in json.loads(text):
        old = {"value": row["val_bpb"], "delta": row["delta_bpb"], "runs": [row["recipe"]]}
        merged = old | {name: value for name, value in row.items() if name in names}
        lists = {name: tuple(merged.get(name, ())) for name in ("seeds", "runs")}
        rungs.append(Rung(**merged | lists))
    return rungs


TITLES = (
    "recipe",
    "parameters\nM",
    "active\nM",
    "val\n{metric}",
    "Δ before",
    "train\ntokens/s",
    "peak\nGiB",
    "decode\ntokens/s",
    "cache\nbytes/token",
)
"""Titles of the columns, of at most two lines; together at most 100 characters wide."""


def titles(rungs: Sequence[Rung]) -> list[str]:
    """Titles of the columns for these rungs."""
    columns = [title.format(metric=metric_title(rungs[0].metric)) for title in TITLES]
    return [*columns, "tuned"] if _tuned(rungs) else columns


def cells(rungs: Sequence[Rung]) -> list[list[str]]:
    """Format the columns of every rung."""
    return [
        [
            rung.recipe,
            f"{rung.parameters / 1e6:,.3f}",
            f"{rung.active_parameters / 1e6:,.3f}",
            _with_error(rung.value, rung.error, ".3f"),
            _with_error(rung.delta, rung.delta_error, "+.3f"),
            f"{rung.tokens_per_s:,.0f}",
            f"{rung.peak_gib:.2f}",
            _or_none(rung.decode_tokens_per_s),
            _or_none(rung.cache_bytes_per_token),
            *([rung.tuned or ""] if _tuned(rungs) else []),
        ]
        for rung in rungs
    ]


def _tuned(rungs: Sequence[Rung]) -> bool:
    return any(rung.tuned is not None for rung in rungs)


def _with_error(value: float | None, error: float | None, spec: str) -> str:
    if value is None:
        return ""
    return format(value, spec) + (f" ± {error:.3f}" if error is not None else "")


def _or_none(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def verdicts(rungs: Sequence[Rung]) -> list[str]:
    """A sentence for each difference that was measured on several seeds."""
    sentences = []
    for before, rung in pairwise(rungs):
        if rung.delta is None or rung.delta_error is None:
            continue
        what = f"{rung.recipe} against {before.recipe}: {rung.delta:+.3f} ± {rung.delta_error:.3f}"
        if abs(rung.delta) <= rung.delta_error:
            verdict = f"{len(rung.seeds)} seeds can't tell the two apart"
        else:
            verdict = "better" if (rung.delta < 0) == rung.lower_is_better else "worse"
        sentences.append(f"{what} {metric_title(rung.metric)}, {verdict}.")
    return sentences


def markdown(rungs: Sequence[Rung]) -> str:
    """Format the rungs as a Markdown table, numbers aligned to the right."""
    heads = [title.replace("\n", " ") for title in titles(rungs)]
    rule = ["---", *["---:"] * (len(heads) - 1)]
    rows = [heads, rule, *cells(rungs)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def write(folder: Path, rungs: Sequence[Rung]) -> list[Path]:
    """Write ladder.json, ladder.csv and ladder.md."""
    rows = [asdict(rung) for rung in rungs]
    files = [folder / f"ladder.{suffix}" for suffix in ("json", "csv", "md")]
    replace_text(files[0], json.dumps(rows, indent=2) + "\n")
    lines = io.StringIO()
    writer = csv.DictWriter(lines, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    replace_text(files[1], lines.getvalue())
    sentences = "".join(f"- {sentence}\n" for sentence in verdicts(rungs))
    text = markdown(rungs) + (f"\n{sentences}" if sentences else "")
    replace_text(files[2], text)
    return files
