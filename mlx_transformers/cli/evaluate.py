"""`mlxt eval`: measure a run on its validation split, at a task, or with the lm-eval harness."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..core.errors import RunError
from .evaluate_options import (
    Analogies,
    Batches,
    BeamCount,
    Chains,
    EmbedderRun,
    Form,
    HarnessTasks,
    Judge,
    Lengths,
    Limit,
    Pick,
    Pool,
    Questions,
    Seed,
    Sets,
    Shots,
    Shuffles,
    Similarities,
    Task,
    TaskFolders,
    Votes,
    WithTools,
    choose_mode,
)
from .few_shot import FORM, few_shot, shot_list, tool_use, unescaped
from .options import AsJson, Run
from .preparing import watch
from .terminal import print_table
from .word_lists import word_list

if TYPE_CHECKING:
    from ..score.interval import Score
    from ..verbs.lm_eval import Metrics
    from ..verbs.tasks.task import TaskOptions


def evaluate(
    ctx: typer.Context,
    run: Run = None,
    batches: Batches = None,
    task: Task = None,
    beams: BeamCount = None,
    lengths: Lengths = None,
    judge: Judge = None,
    tasks: HarnessTasks = None,
    shots: Shots = None,
    limit: Limit = None,
    task_folder: TaskFolders = None,
    questions: Questions = None,
    pool: Pool = None,
    pick: Pick = "random",
    embedder: EmbedderRun = None,
    chains: Chains = False,
    votes: Votes = 1,
    shuffles: Shuffles = 0,
    seed: Seed = 0,
    form: Form = FORM,
    tools: WithTools = False,
    analogies: Analogies = None,
    similarities: Similarities = None,
    set: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Measure a run: loss, perplexity and bits per byte, or the metrics of a task.

    Without --task, --tasks, --questions, --analogies and --similarities it measures the loss.
    """
    mode = choose_mode(ctx)
    if mode is None:
        _loss(run, batches, set or [], as_json)
    elif mode == "task":
        assert task is not None, "a mode's option was given"
        _task(run, task, batches, _task_options(beams, lengths, judge), as_json, set or [])
    elif mode == "tasks":
        assert tasks is not None, "a mode's option was given"
        numbers = [None] if shots is None else shot_list(shots)
        _harness(run, tasks, numbers, limit, task_folder or [], as_json)
    elif mode in ("questions", "tools"):
        assert questions is not None, "a mode's option was given"
        if mode == "tools":
            tool_use(run, questions, limit, set or [], as_json)
            return
        settings = {
            "pick": pick,
            "chains": chains,
            "votes": votes,
            "shuffles": shuffles,
            "seed": seed,
            "form": unescaped(form),
        }
        few_shot(run, questions, shots, settings, pool, embedder, limit, as_json)
    else:
        file = analogies or similarities
        assert file is not None, "a mode's option was given"
        word_list(run, mode, file, as_json)


def _loss(run: str | None, batches: int | None, set: list[str], as_json: bool) -> None:
    """Print the loss on the validation split, and the metrics computed from it."""
    from ..verbs.evaluate import evaluate as measure

    with watch() as progress:
        checkpoint, values = measure(run, batches, progress=progress, set=set)
    if as_json:
        print(json.dumps({"checkpoint": str(checkpoint), **values}))
        return
    print(f"{checkpoint}")
    for line in _loss_lines(values):
        print(f"  {line}")


def _harness(
    run: str | None,
    tasks: str,
    shots: Sequence[int | None],
    limit: int | None,
    folders: list[Path],
    as_json: bool,
) -> None:
    """Print the metrics of tasks of the lm-evaluation-harness."""
    from ..verbs.lm_eval import evaluate_tasks

    names = [name.strip() for name in tasks.split(",")]
    if not all(names):
        raise RunError(f"--tasks {tasks}: give names with commas between, e.g. piqa,hellaswag.")
    for n in shots:
        metrics = evaluate_tasks(run, names, shots=n, limit=limit, folders=folders)
        if as_json:
            print(json.dumps(metrics if len(shots) == 1 else {"shots": n} | metrics, default=str))
            continue
        if len(shots) > 1:
            print(f"examples in the prompt: {n}")
        _show_harness(metrics)


def _show_harness(metrics: "dict[str, Metrics]") -> None:
    """Print a row for each metric of each task."""
    rows = []
    for task, values in metrics.items():
        for key, value in values.items():
            metric, _, kind = key.partition(",")
            if isinstance(value, float | int) and not metric.endswith("_stderr") and kind:
                error = values.get(f"{metric}_stderr,{kind}")
                standard_error = f"{error:.4f}" if isinstance(error, float) else ""
                rows.append((task, metric, kind, f"{value:.4f}", standard_error))
    print_table(("task", "metric", "filter", "value", "standard error"), rows, right=(3, 4))


def _loss_lines(values: dict[str, float]) -> list[str]:
    """A line for each metric of an evaluation."""
    from ..core.loss import UNITS
    from ..trainer.metrics import metric_title, validation_metrics

    unit = next(unit for unit in UNITS if f"val_{unit}s" in values)
    metrics = validation_metrics(values)
    loss = metrics.pop("loss")
    return [
        f"{'loss':<13} {loss:.4f} nats per {unit}",
        *(f"{metric_title(name):<13} {value:,.4f}" for name, value in metrics.items()),
        f"{'measured on':<13} {values[f'val_{unit}s']:,.0f} {unit}s",
    ]


def _task(
    run: str | None,
    task: str,
    batches: int | None,
    options: "TaskOptions | None",
    as_json: bool,
    set: list[str],
) -> None:
    """Print the metrics of a task, each with its interval."""
    from ..verbs.tasks.measure import measure

    with watch() as progress:
        result = measure(run, task, batches=batches, options=options, progress=progress, set=set)
    if as_json:
        print(json.dumps(asdict(result) | {"checkpoint": str(result.checkpoint)}))
        return
    print(f"{result.checkpoint}")
    _show(result.scores, result.examples)
    for group in result.groups:
        last = " or more" if group.last is None else f" to {group.last}"
        print(f"\nsources of {group.first}{last} words")
        _show(group.scores, group.examples)


def _task_options(
    beams: int | None, lengths: str | None, judge: str | None
) -> "TaskOptions | None":
    """Return the options of --task; None if none was given."""
    from ..decode.beam import Beams
    from ..verbs.tasks.task import GREEDY, TaskOptions

    if beams is None and lengths is None and judge is None:
        return None
    search = GREEDY if beams is None else Beams(beams)
    return TaskOptions(search, () if lengths is None else _numbers(lengths), judge)


def _show(scores: "list[Score]", examples: int) -> None:
    for score in scores:
        interval = f"{score.low:.4f} to {score.high:.4f}"
        print(f"  {score.name:<15} {score.value:.4f}   95 % CI {interval}")
    print(f"  measured on     {examples:,} examples")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise RunError(
            f"--lengths {text}: give whole numbers with commas between, e.g. 5,10,20."
        ) from None
