"""`mlxt think`: the accuracy of a run on questions against test-time compute."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import RunError
from .completion import run_names
from .few_shot import FORM, form_option, seed_option, shot_list, unescaped
from .modes import refuse_unread
from .options import AsJson, Run, user_path
from .terminal import print_table

if TYPE_CHECKING:
    from ..verbs.questions.think import Point

Form = Annotated[str, form_option()]
Seed = Annotated[int, seed_option()]
File = Annotated[
    Path,
    typer.Option(
        "--questions",
        parser=user_path,
        help="The questions, a .jsonl file: question (or prompt) and answer.",
        metavar="FILE",
        show_default=False,
    ),
]
Samples = Annotated[
    str | None,
    typer.Option(
        help="Numbers of answers that one is chosen from, as in 1,2,4,8,16.",
        metavar="N,N",
        show_default=False,
    ),
]
Budgets = Annotated[
    str | None,
    typer.Option(
        help="Numbers of tokens that a chain of thought may have, as in 0,16,32; needs --chains.",
        metavar="N,N",
        show_default=False,
    ),
]
RewardRun = Annotated[
    str | None,
    typer.Option(
        "--reward",
        help="A run with model.pool.kind = 'scalar', by which the best answer is chosen, too.",
        metavar="RUN",
        show_default=False,
        autocompletion=run_names,
    ),
]
Chained = Annotated[
    bool, typer.Option("--chains", help="Answers are chains of thought: 'The answer is ...'.")
]
MaxTokens = Annotated[
    int,
    typer.Option(help="The most tokens of a sampled answer with its chain.", metavar="N", min=1),
]
Temp = Annotated[float, typer.Option(help="Temperature of the samples.", min=0)]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Questions to ask.", metavar="N", show_default="all of them"),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        parser=user_path,
        help="Draw the curve into a new .svg or .png file, too.",
        metavar="FILE",
        show_default=False,
    ),
]


BUDGETED = ("questions", "run", "budgets", "reward", "chains", "form", "limit", "plot", "as_json")
"""Parameters that --budgets reads; of --reward its own error says more."""


def think(
    ctx: typer.Context,
    questions: File,
    run: Run = None,
    samples: Samples = None,
    budgets: Budgets = None,
    reward: RewardRun = None,
    chains: Chained = False,
    form: Form = FORM,
    max_tokens: MaxTokens = 200,
    temp: Temp = 0.7,
    seed: Seed = 0,
    limit: Limit = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Measure accuracy against test-time compute: samples, or tokens of a chain of thought.

    --samples draws several answers, of which a vote or a reward model chooses one; --budgets limits
    the length of chains of thought.
    """
    from ..verbs.questions.think import Thinking, compute_curve

    if plot is not None and (plot.exists() or plot.suffix not in (".svg", ".png")):
        raise RunError(f"--plot {plot}: name a new file that ends with .svg or .png.")
    if plot is not None and not plot.parent.is_dir():
        raise RunError(f"--plot {plot}: there is no folder {plot.parent}. Make it first.")
    if budgets is not None and samples is None:
        refuse_unread(ctx, BUDGETED, "--budgets")
    how = Thinking(
        () if samples is None else tuple(shot_list(samples, "--samples")),
        () if budgets is None else tuple(shot_list(budgets, "--budgets")),
        reward,
        chains,
        unescaped(form),
        max_tokens,
        temp,
        seed,
    )
    points = compute_curve(run, questions, how, limit)
    if as_json:
        print(json.dumps([asdict(point) for point in points]))
    else:
        _print(points, "samples" if how.samples else "budget")
    if plot is not None:
        _draw(points, plot, bool(how.samples))


def _print(points: "list[Point]", amount: str) -> None:
    """Print the points as a table."""
    rows = [
        (
            point.rule,
            str(point.amount),
            f"{point.tokens:.1f}",
            f"{point.accuracy.value:.4f}",
            f"{point.accuracy.low:.4f} to {point.accuracy.high:.4f}",
        )
        for point in points
    ]
    print_table(("chosen by", amount, "tokens", "accuracy", "95 % CI"), rows, right=(1, 2, 3))


def _draw(points: "list[Point]", file: Path, sampled: bool) -> None:
    """Plot the accuracy against the amount of compute, one line per rule."""
    from ..report.plot import measure_curves

    curves: dict[str, dict[int, float]] = {}
    for point in points:
        curves.setdefault(point.rule, {})[point.amount] = point.accuracy.value
    across = "samples of an answer" if sampled else "tokens of a chain of thought"
    measure_curves(curves, file, across, "accuracy", log_x=sampled)
