"""`mlxt eval`."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import RunError
from .options import AsJson
from .preparing import watch

if TYPE_CHECKING:
    from ..score.interval import Score

Run = Annotated[
    str | None,
    typer.Argument(
        help="A run's name or folder, or one of its checkpoints.",
        metavar="RUN",
        show_default="the newest run in ./runs",
    ),
]
Batches = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Batches to measure on, spread evenly.",
        metavar="N",
        show_default="the whole split",
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        help="Measure with the metrics of a task instead: classification, masked, tagging, "
        "answers, translation, summarization.",
        metavar="TASK",
        show_default=False,
    ),
]
BeamCount = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Sequences kept by the search of a task that writes.",
        show_default="1, the likeliest token each time",
    ),
]
Lengths = Annotated[
    str | None,
    typer.Option(
        help="Measure a task that writes also by words of the source: 5,10,20 makes four "
        "groups, the last of 20 words and more.",
        metavar="N,N",
        show_default=False,
    ),
]


def evaluate(
    run: Run = None,
    batches: Batches = None,
    task: Task = None,
    beams: BeamCount = None,
    lengths: Lengths = None,
    as_json: AsJson = False,
) -> None:
    """Measure a run on its validation split: loss, perplexity, bits per byte; or at a task."""
    if task is not None:
        _task(run, task, batches, beams, lengths, as_json)
        return
    if beams is not None or lengths is not None:
        raise RunError("--beams and --lengths are for the texts of a task: give --task with them.")
    from ..verbs.evaluate import evaluate as measure

    with watch() as progress:
        checkpoint, values = measure(run, batches, progress=progress)
    if as_json:
        print(json.dumps({"checkpoint": str(checkpoint), **values}))
        return
    print(f"{checkpoint}")
    for line in _said(values):
        print(f"  {line}")


def _said(values: dict[str, float]) -> list[str]:
    """A line for each metric of an evaluation."""
    from ..core.loss import UNITS
    from ..trainer.metrics import metric_title, validation_metrics

    unit = next(unit for unit in UNITS if f"val_{unit}s" in values)
    found = validation_metrics(values)
    loss = found.pop("loss")
    return [
        f"{'loss':<13} {loss:.4f} nats per {unit}",
        *(f"{metric_title(name):<13} {value:,.4f}" for name, value in found.items()),
        f"{'measured on':<13} {values[f'val_{unit}s']:,.0f} {unit}s",
    ]


def _task(
    run: str | None,
    task: str,
    batches: int | None,
    beams: int | None,
    lengths: str | None,
    as_json: bool,
) -> None:
    """Metrics of a task, each with its interval."""
    from ..decode.beam import Beams
    from ..verbs.tasks import GREEDY, Writing, measure

    writing = None
    if beams is not None or lengths is not None:
        search = GREEDY if beams is None else Beams(beams)
        writing = Writing(search, () if lengths is None else _numbers(lengths))
    with watch() as progress:
        found = measure(run, task, batches=batches, writing=writing, progress=progress)
    if as_json:
        print(json.dumps(asdict(found) | {"checkpoint": str(found.checkpoint)}))
        return
    print(f"{found.checkpoint}")
    _show(found.scores, found.examples)
    for group in found.groups:
        last = " or more" if group.last is None else f" to {group.last}"
        print(f"\nsources of {group.first}{last} words")
        _show(group.scores, group.examples)


def _show(scores: "list[Score]", examples: int) -> None:
    for score in scores:
        between = f"{score.low:.4f} to {score.high:.4f}"
        print(f"  {score.name:<15} {score.value:.4f}   95% of draws: {between}")
    print(f"  measured on     {examples:,} examples")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise RunError(
            f"--lengths {text}: give whole numbers with commas between, e.g. 5,10,20."
        ) from None
