"""`mlxt eval --questions`: a table of accuracy by the number of examples in the prompt."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from ..core.errors import RunError
from .terminal import print_table

FORM = "Question: {question}\\nAnswer: {answer}"


def form_option(panel: str | None = None) -> Any:
    """Return the option --form, under a heading of the help."""
    return typer.Option(
        help="The text of an example with {question} and {answer}; \\n is a line break.",
        metavar="TEXT",
        rich_help_panel=panel,
    )


def seed_option(panel: str | None = None) -> Any:
    """Return the option --seed, under a heading of the help."""
    return typer.Option(
        help="The seed of examples, orders and draws.", metavar="N", rich_help_panel=panel
    )


def unescaped(form: str) -> str:
    """Return --form with line breaks in the place of their escapes."""
    return form.replace("\\n", "\n")


def shot_list(text: str, option: str = "--shots") -> list[int]:
    """Return the numbers of an option, --shots by default.

    Raises:
        RunError: they are no list of whole numbers.
    """
    numbers = [number.strip() for number in text.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise RunError(f"{option} {text}: give whole numbers with commas between, e.g. 1,2,4,8.")
    return [int(number) for number in numbers]


def few_shot(
    run: str | None,
    file: Path,
    shots: str | None,
    settings: dict[str, Any],
    pool: Path | None,
    embedder: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Print the accuracy with each number of examples.

    `shots` is the value of --shots, `settings` are the fields of `FewShot`.
    """
    from ..verbs.questions.few_shot import FewShot, learning_curve

    options = FewShot(**settings)
    if embedder is not None and options.pick != "nearest":
        raise RunError("--embedder is for --pick nearest: give both.")
    numbers = [0] if shots is None else shot_list(shots)
    points = learning_curve(run, file, numbers, options, pool=pool, embedder=embedder, limit=limit)
    if as_json:
        print(json.dumps([asdict(point) for point in points]))
        return
    rows = [
        (str(p.shots), f"{p.accuracy.value:.4f}", f"{p.accuracy.low:.4f} to {p.accuracy.high:.4f}")
        for p in points
    ]
    print_table(("examples", "accuracy", "95 % CI"), rows, right=(0, 1))


def tool_use(run: str | None, file: Path, limit: int | None, set: list[str], as_json: bool) -> None:
    """Print the accuracy without tools and with them."""
    from ..verbs.questions.tool_use import with_and_without_tools

    results = with_and_without_tools(run, file, limit=limit, set=set)
    if as_json:
        print(json.dumps([asdict(result) for result in results]))
        return
    rows = [
        (
            "with" if result.tools else "without",
            f"{result.accuracy.value:.4f}",
            f"{result.accuracy.low:.4f} to {result.accuracy.high:.4f}",
            f"{result.called:.4f}",
        )
        for result in results
    ]
    print_table(("tools", "accuracy", "95 % CI", "called"), rows, right=(1, 3))
