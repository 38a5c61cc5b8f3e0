"""Measures a run at a task, in the metrics of its field: `mlxt eval --task`.

A task names the objectives and batches of the runs that it suits, predicts every held-out example
with the model, and scores the predictions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...assembly.build import Built
from ...assembly.streams import validation_stream
from ...core.errors import RunError, unknown
from ...data.prepare import Progress as Preparing
from ...runs.folder import RUNS
from ...score.interval import Score
from ..evaluate import open_run
from .drawings import caption, draw
from .encoders import answer, classify, contacts, fill, tag
from .pictures import describe, reconstruct, retrieve
from .seq2seq import summarize, transcribe, translate
from .task import Group, Measure, TaskOptions


@dataclass(frozen=True)
class Task:
    """A task that runs can be measured at.

    Attributes:
        measures: the function that measures a run, by the kinds of its objective and its batches.
        writes: whether it generates texts, so that beams and groups of lengths apply.
        draws: whether it generates pictures, which a CLIP model can judge.
    """

    measures: Mapping[tuple[str, str], Measure]
    writes: bool = False
    draws: bool = False


@dataclass(frozen=True)
class Measured:
    """The scores of a checkpoint at a task."""

    checkpoint: Path
    task: str
    examples: int
    scores: list[Score]
    groups: list[Group]


TASKS = {
    "classification": Task({("classify", "labeled"): classify}),
    "masked": Task({("mlm", "mlm"): fill}),
    "tagging": Task({("tag", "tagged"): tag}),
    "answers": Task({("answer", "answers"): answer}),
    "contacts": Task({("distogram", "alignments"): contacts}),
    "transcription": Task({("transcribe", "transcripts"): transcribe}, writes=True),
    "translation": Task({("seq2seq", "pairs"): translate}, writes=True),
    "summarization": Task({("seq2seq", "pairs"): summarize}, writes=True),
    "retrieval": Task({("clip", "image_text"): retrieve}),
    "captions": Task({("clm", "captions"): describe, ("mixed_modal", "mixed_modal"): caption}),
    "reconstruction": Task({("vqvae", "images"): reconstruct}),
    "drawings": Task({("mixed_modal", "mixed_modal"): draw}, draws=True),
}
"""Every task by name."""


def measure(
    run: str | Path | None,
    task: str,
    *,
    batches: int | None = None,
    options: TaskOptions | None = None,
    root: Path = RUNS,
    progress: Preparing | None = None,
    set: Sequence[str] = (),
) -> Measured:
    """Measure a run's best checkpoint, or the one named, at a task, on held-out data.

    Args:
        run: a run's name or folder, or one of its checkpoints; None is the newest run.
        task: one of `TASKS`.
        batches: number of batches, spread evenly over the split; None takes all.
        options: settings of generation and groups; None decodes greedily.
        root: the folder of runs.
        progress: called while the data is prepared.
        set: "path=value" strings that say where the data is now.

    Raises:
        MlxtError: there is no such task or run, or the run was trained for another one.
    """
    if task not in TASKS:
        raise RunError(unknown("task", task, TASKS))
    options = options or TaskOptions()
    if options.searches and not TASKS[task].writes:
        raise RunError(
            f"The task '{task}' writes no text by a search: beams and lengths have no effect. "
            "Leave them out."
        )
    if options.judge is not None and not TASKS[task].draws:
        raise RunError(f"The task '{task}' draws nothing that --judge could see: leave it out.")
    path, built = open_run(run, root, progress, set)
    predict_and_score = _measure_of(built, task)
    built.model.update(built.step.train_state.evaluated())
    built.model.eval()
    result = predict_and_score(built, validation_stream(built, batches), options)
    return Measured(path, task, result.examples, result.scores, result.groups)


def _measure_of(built: Built, name: str) -> Measure:
    """The function that measures a run at a task.

    Raises:
        RunError: the run was trained for another task.
    """
    trained_for = (built.recipe.objective.kind, built.recipe.data.batch.kind)
    if measure := TASKS[name].measures.get(trained_for):
        return measure
    suited = " or ".join(
        f"objective '{objective}' and data.batch '{batch}'"
        for objective, batch in TASKS[name].measures
    )
    alternatives = [task_name for task_name, task in TASKS.items() if trained_for in task.measures]
    hint = f" It can be measured at: {', '.join(alternatives)}." if alternatives else ""
    raise RunError(
        f"The task '{name}' is for runs with {suited}; this one has '{trained_for[0]}' and "
        f"'{trained_for[1]}'.{hint}"
    )
