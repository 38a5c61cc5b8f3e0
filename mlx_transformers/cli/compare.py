"""`mlxt compare`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .completion import run_names
from .options import AsJson, Runs
from .terminal import print_table

if TYPE_CHECKING:
    from ..score.seeds import Estimate


def compare(
    run: Annotated[
        list[str],
        typer.Argument(
            help="Names or folders of runs.",
            metavar="RUN",
            show_default=False,
            autocompletion=run_names,
        ),
    ],
    runs: Runs = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Compare runs at their last evaluation, with intervals over seeds.

    Runs that differ by their seed alone are one group; differences are paired by seed, and their
    95 % intervals are Student's.
    """
    from ..trainer.metrics import metric_title
    from ..verbs.compare import compare as measure

    comparison = measure(run, runs)
    if as_json:
        print(json.dumps({"metric": comparison.best.metric, **asdict(comparison)}, indent=2))
        return
    titles = ("run", "seeds", "tokens", f"val {metric_title(comparison.best.metric)}", "Δ first")
    rows = [
        (
            group.name,
            ", ".join(map(str, group.values)),
            f"{group.tokens:,}",
            _shown(group.mean, ".4f"),
            "" if group.delta is None else _shown(group.delta, "+.4f"),
        )
        for group in comparison.groups
    ]
    print_table(titles, rows, right=(2, 3, 4))
    for sentence in comparison.verdicts():
        print(sentence)


def _shown(value: "Estimate", spec: str) -> str:
    return format(value.mean, spec) + ("" if value.error is None else f" ± {value.error:.4f}")
