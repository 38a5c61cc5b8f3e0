"""The recipe that fine-tunes a model for a task on the user's own data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..assembly.recipe import Recipe
from ..core.errors import RunError, unknown
from ..core.task import Task
from ..data.prepare import Progress as Preparing
from ..data.prepare import prepare
from ..recipe.load import resolve_data
from ..recipe.merge import Table
from ..recipe.toml import to_toml
from ..recipe.validate import typed

EPOCHS = 3
"""Passes over the training rows."""
SEQ_LEN = 256
"""Tokens of the longest rows, where the model's own context is longer."""
BATCH, MIN_STEPS = 16, 30
CLASSIFIER: Table = {"kind": "classifier", "n_classes": 2, "dropout": 0.1}


@dataclass(frozen=True)
class TaskKind:
    """A task.

    Attributes:
        model: the task of the models that can learn it.
        objective: kind of the objective.
        batch: kind of the batches.
        parts: the head and the pool that it needs, where the model hasn't one of that kind.
    """

    model: Task
    objective: str
    batch: str
    parts: Mapping[str, Table] = field(default_factory=dict)


TASKS = {
    "classification": TaskKind("encode", "classify", "labeled", {"pool": CLASSIFIER}),
    "tagging": TaskKind("encode", "tag", "tagged", {"head": {"kind": "tags", "n_classes": 2}}),
    "answers": TaskKind(
        "encode",
        "answer",
        "answers",
        {"head": {"kind": "tags", "n_classes": 2}},
    ),
    "embedding": TaskKind(
        "encode",
        "contrastive",
        "contrastive",
        {"pool": {"kind": "sentence", "reads": "mean"}},
    ),
    "masked": TaskKind("encode", "mlm", "mlm"),
    "text": TaskKind("causal_lm", "clm", "rows"),
    "translation": TaskKind("seq2seq", "seq2seq", "pairs"),
    "summarization": TaskKind("seq2seq", "seq2seq", "pairs"),
}
"""Values of `--task`."""


def usual_task(tasks: frozenset[Task], model: Mapping[str, Any]) -> str:
    """Return the task that a model was trained for.

    Raises:
        RunError: none of `TASKS` is for such a model.
    """
    if "encode" not in tasks:
        names = (name for name in ("text", "translation") if TASKS[name].model in tasks)
        if name := next(names, None):
            return name
        raise RunError(
            f"A model of kind '{model.get('kind')}' has no usual recipe: import and finetune write "
            "one for models that encode, continue or translate texts. A run of such a model is "
            "trained further with a recipe of your own: mlxt finetune RUN RECIPE."
        )
    kinds = {slot: (model.get(slot) or {}).get("kind") for slot in ("head", "pool")}
    if kinds["head"] in ("mlm", "lm"):
        return "masked"
    if kinds["head"] == "tags":
        return "tagging"
    return "classification" if kinds["pool"] == "classifier" else "embedding"


def task_recipe(
    source: str,
    model: Table,
    tasks: frozenset[Task],
    tokenizer: Path,
    task: str | None,
    data: str,
    start: str | None = None,
    progress: Preparing | None = None,
) -> str:
    """Return the text of a recipe that fine-tunes a model on data; the data is prepared for it.

    Args:
        source: where the model comes from, for the first line.
        model: its resolved `[model]` table.
        tasks: its tasks.
        tokenizer: the folder of its tokenizer.
        task: a name in `TASKS`; None takes that of the model.
        data: path of the data.
        start: the token that targets begin with.
        progress: called while the data is prepared.

    Raises:
        MlxtError: an unknown task, one that the model can't learn, or data that lacks its fields.
    """
    name = task or usual_task(tasks, model)
    kind = _task_kind(source, name, model, tasks)
    table = {key: value for key, value in model.items() if key not in ("head", "pool")}
    slots = _slots(source, kind, model)
    tables = _rest(kind, model, tokenizer, data, start)
    recipe: Recipe = typed(Recipe, resolve_data({"model": table | slots, **tables}, source))
    prepared = prepare(recipe.data, progress=progress)
    for slot, part in slots.items():
        if "n_classes" in part and name != "answers" and prepared.labels:
            slots[slot] = part | {"n_classes": len(prepared.labels)}
    windows = kind.objective in ("clm", "mlm")
    rows = prepared.count("train", "tokens" if windows else "documents")
    rows = rows // tables["train"]["seq_len"] if windows else rows
    steps = max(MIN_STEPS, math.ceil(EPOCHS * rows / BATCH))
    tables["train"]["steps"] = steps
    tables["optim"]["schedule"]["warmup"] = steps // 10
    tables["eval"] = tables["checkpoint"] = {"every": max(10, steps // 5)}
    resolved = resolve_data({"model": table | slots, **tables}, source)
    typed(Recipe, resolved)
    header = f"# Fine-tunes {source} for {name} on {data}: {EPOCHS} epochs.\n"
    return header + to_toml(resolved.data)


def _task_kind(source: str, name: str, model: Table, tasks: frozenset[Task]) -> TaskKind:
    """Return a task that the model can learn.

    Raises:
        RunError: the task is unknown, or one for other models.
    """
    if name not in TASKS:
        raise RunError(unknown("task", name, TASKS))
    if TASKS[name].model not in tasks:
        suited = [task_name for task_name, candidate in TASKS.items() if candidate.model in tasks]
        raise RunError(
            f"{source} can't learn the task '{name}': it is a model of the kind "
            f"'{model['kind']}', whose tasks are {', '.join(suited)}."
        )
    return TASKS[name]


def _slots(source: str, kind: TaskKind, model: Table) -> dict[str, Table]:
    """Return the head and the pool for a task: the model's own where they are of its kind.

    Raises:
        RunError: the task needs an MLM head, and the model has none.
    """
    slots: dict[str, Table] = {slot: model[slot] for slot in ("head", "pool") if model.get(slot)}
    if kind.parts:
        return {
            slot: slots[slot]
            if slot in slots and slots[slot]["kind"] == part["kind"]
            else dict(part)
            for slot, part in kind.parts.items()
        }
    if kind.objective == "mlm" and slots.get("head", {}).get("kind") != "mlm":
        raise RunError(f"{source} has no head that predicts masked tokens, as 'masked' needs.")
    return {"head": slots["head"]}


def _rest(kind: TaskKind, model: Table, tokenizer: Path, data: str, start: str | None) -> Table:
    """Return the tables beside `[model]`, with the number of steps left open."""
    batch: Table = {"kind": kind.batch}
    if start is not None and kind.batch == "pairs":
        batch["start"] = start
    seq_len = min(SEQ_LEN, model.get("max_seq_len") or SEQ_LEN)
    return {
        "objective": {"kind": kind.objective},
        "data": {
            "path": data,
            "tokenizer": {"kind": "saved", "path": str(tokenizer)},
            "batch": batch,
        },
        "train": {"steps": 1, "batch_size": BATCH, "seq_len": seq_len},
        "optim": {
            "kind": "adamw",
            "learning_rate": float(f"{min(5e-4, 0.02 / model['dim']):.1g}"),
            "schedule": {"kind": "linear", "warmup": 0},
        },
        "eval": {"every": 100},
        "checkpoint": {"every": 100},
    }
