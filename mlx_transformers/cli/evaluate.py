"""`mlxt eval`: measure a run on its validation split, at a task, or with the lm-eval harness."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import RunError
from ..core.task import MEASURED
from .few_shot import (
    DEFAULTS,
    FORM,
    Chains,
    EmbedderRun,
    Form,
    Pick,
    Pool,
    Questions,
    Seed,
    Shuffles,
    Votes,
    WithTools,
    few_shot,
    shot_list,
    tool_use,
)
from .options import AsJson, Run, Sets
from .preparing import watch
from .terminal import print_table
from .word_lists import Analogies, Similarities, word_list

if TYPE_CHECKING:
    from ..score.interval import Score
    from ..verbs.lm_eval import Metrics

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
        help=f"Compute the metrics of a task on the run's own data instead: {', '.join(MEASURED)}.",
        metavar="TASK",
        show_default=False,
    ),
]
BeamCount = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Beams of the search, in tasks whose model writes text.",
        show_default="1, greedy decoding",
    ),
]
Lengths = Annotated[
    str | None,
    typer.Option(
        help="Also give the metrics of a task that writes by the length of the source in words: "
        "5,10,20 makes four groups, the last of 20 words and more.",
        metavar="N,N",
        show_default=False,
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        help="The run of a CLIP model that finds the text of each drawing, in the task 'drawings'.",
        metavar="RUN",
        show_default=False,
    ),
]
HarnessTasks = Annotated[
    str | None,
    typer.Option(
        "--tasks",
        help="Measure with tasks of the lm-evaluation-harness (pip install lm-eval), as "
        "in --tasks lambada_openai,hellaswag.",
        metavar="A,B",
        show_default=False,
    ),
]
Shots = Annotated[
    str | None,
    typer.Option(
        help="Examples in the prompts of --tasks or --questions, as in 0,1,2,4,8.",
        metavar="N,N",
        show_default="each task's own; 0 for --questions",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Examples of each of --tasks, or questions.",
        metavar="N",
        show_default="all of them",
    ),
]
TaskFolders = Annotated[
    list[Path] | None,
    typer.Option(
        "--task-folder",
        help="A folder with task files (YAML) for --tasks; repeatable.",
        metavar="FOLDER",
        show_default=False,
    ),
]


def evaluate(
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

    --task measures on the run's data, --questions on a file, --tasks with the harness.
    """
    settings = (pick, chains, votes, shuffles, seed, form)
    others = (tasks, task, batches, beams, lengths, judge, shots, pool, embedder)
    if analogies or similarities:
        more = (*others, tools, set, task_folder, questions, limit, settings != DEFAULTS)
        return word_list(run, analogies, similarities, not any(more), as_json)
    if tools:
        if questions is None or settings != DEFAULTS or any(o is not None for o in others):
            raise RunError("--tools goes with --questions, --limit, --set and --json alone.")
        return tool_use(run, questions, limit, set or [], as_json)
    if questions is not None:
        if tasks or task or set or any(o is not None for o in (batches, beams, lengths, judge)):
            raise RunError("--questions goes with --shots, --limit and its own options alone.")
        shown = shot_list(shots or "0")
        return few_shot(run, questions, shown, settings, pool, embedder, limit, as_json)
    if pool or embedder or settings != DEFAULTS:
        raise RunError(
            "--pool, --pick, --chains and the like are for --questions: give it with them."
        )
    if tasks is not None:
        if set or any(o is not None for o in (task, batches, beams, lengths, judge)):
            raise RunError("--task, --judge, --batches and the like don't go with --tasks.")
        numbers = [None] if shots is None else shot_list(shots)
        return _harness(run, tasks, numbers, limit, task_folder or [], as_json)
    if shots is not None or limit is not None or task_folder:
        raise RunError("--shots and --limit are for --tasks and --questions: give one of them.")
    if task is not None:
        return _task(run, task, batches, beams, lengths, judge, as_json, set or [])
    if any(option is not None for option in (beams, lengths, judge)):
        raise RunError("--beams, --lengths and --judge are for a task: give --task with them.")
    return _loss(run, batches, set or [], as_json)


def _loss(run: str | None, batches: int | None, set: list[str], as_json: bool) -> None:
    """Print the loss on the validation split, and what is computed with it."""
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
        found = evaluate_tasks(run, names, shots=n, limit=limit, folders=folders)
        if as_json:
            print(json.dumps(found if len(shots) == 1 else {"shots": n} | found, default=str))
            continue
        if len(shots) > 1:
            print(f"examples in the prompt: {n}")
        _show_harness(found)


def _show_harness(found: "dict[str, Metrics]") -> None:
    rows = []
    for task, values in found.items():
        for key, value in values.items():
            metric, _, kind = key.partition(",")
            if isinstance(value, float | int) and not metric.endswith("_stderr") and kind:
                error = values.get(f"{metric}_stderr,{kind}")
                shown = f"{error:.4f}" if isinstance(error, float) else ""
                rows.append((task, metric, kind, f"{value:.4f}", shown))
    print_table(("task", "metric", "filter", "value", "standard error"), rows, right=(3, 4))


def _loss_lines(values: dict[str, float]) -> list[str]:
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
    judge: str | None,
    as_json: bool,
    set: list[str],
) -> None:
    """Metrics of a task, each with its interval."""
    from ..decode.beam import Beams
    from ..verbs.tasks.measure import measure
    from ..verbs.tasks.task import GREEDY, TaskOptions

    options = None
    if any(option is not None for option in (beams, lengths, judge)):
        search = GREEDY if beams is None else Beams(beams)
        options = TaskOptions(search, () if lengths is None else _numbers(lengths), judge)
    with watch() as progress:
        found = measure(run, task, batches=batches, options=options, progress=progress, set=set)
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
        print(f"  {score.name:<15} {score.value:.4f}   95 % CI {between}")
    print(f"  measured on     {examples:,} examples")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise RunError(
            f"--lengths {text}: give whole numbers with commas between, e.g. 5,10,20."
        ) from None
