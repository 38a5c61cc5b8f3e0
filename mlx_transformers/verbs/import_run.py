"""Makes a run of a published model: its recipe, its tokenizer and a checkpoint of step 0."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..assembly.adapted import read_adapter
from ..assembly.published import CONFIG, Published, read_source, target_start
from ..assembly.recipe import Recipe
from ..core.device import facts
from ..core.messages import LogFn
from ..core.task import Task
from ..data.tokenizers.numbers import NumberTokenizer
from ..data.tokenizers.tokenizer import Tokenizer
from ..layers.adapters.weights import base_weights, own_weights
from ..layers.packed import stored
from ..recipe.load import resolve_data
from ..recipe.toml import to_toml
from ..recipe.validate import typed
from ..runs import checkpoint
from ..runs.durable import replace_text
from ..runs.folder import IMPORTING, RUNS, RunFolder, check_new, create
from ..runs.frozen import save_base
from ..runs.progress import Progress
from .task_recipe import TASKS, usual_task

CORPORA = {
    "classify": "sentiment",
    "tag": "entities",
    "contrastive": "bible_paraphrases",
}
"""A built-in corpus for an objective that needs more than text."""
SEQ_LEN = 512
"""Longest rows in an imported run's recipe."""
WHOLE: frozenset[Task] = frozenset({"see", "rebuild"})
"""Tasks whose rows are pictures, as long as they are."""


def import_run(
    source: Path,
    name: str | None = None,
    root: Path = RUNS,
    say: LogFn = print,
    adapter: Path | None = None,
    packed: bool = False,
    text_only: bool = False,
) -> RunFolder:
    """Make a run of a published model: its recipe, its tokenizer, and a checkpoint of step 0.

    Args:
        source: a folder with a config.json and safetensors, or a GGUF file.
        name: the run's name; None takes the folder's, with a number if that is taken.
        root: the folder of runs.
        say: prints a sentence on keys of config.json that no code reads, and on tokens that the
            model lacks.
        adapter: a folder of PEFT, mlx-lm or the library adapters; the run has the model as its
            frozen base.
        packed: whether quantized weights of a GGUF file stay packed where that is exact.
        text_only: whether the run has the language model of a model that also sees, alone.

    Raises:
        MlxtError: the model or its tokenizer can't be read, or a run of that name exists. Then
            nothing is left behind.
    """
    check_new(name, root)
    found, tokenizer = read_source(source, packed, text_only)
    tokenizer = tokenizer or NumberTokenizer(found.table["vocab_size"])
    config, adapted = found.config, None
    if adapter is not None:
        read = read_adapter(found, adapter)
        found, adapted = read.base, read.table
    folder = create(name, _stem(source if adapter is None else adapter), root)
    with folder.locked(), staged(folder) as partial:
        _write(partial, folder, found, tokenizer, str(source), adapted)
    if unread := config.passed_over():
        say(f"Keys of config.json that no known code reads were passed over: {', '.join(unread)}.")
    if found.left_out:
        parts = sorted({".".join(name.split(".")[:2]) for name in found.left_out})
        more = " ..." if len(parts) > 3 else ""
        say(
            "Imported the language model alone; tensors left out: "
            f"{len(found.left_out):,} ({', '.join(parts[:3])}{more})."
        )
    if (rows := found.table["vocab_size"]) < tokenizer.vocab_size:
        say(
            f"The tokenizer has {tokenizer.vocab_size:,} tokens and the model {rows:,}: those from "
            f"{rows:,} on are never drawn."
        )
    if config.data.get("auto_map"):
        say(
            "config.json names code of its own (auto_map). It isn't run: the model is built as the "
            f"{found.family.name} of transformers."
        )
    return folder


@contextmanager
def staged(folder: RunFolder) -> Iterator[RunFolder]:
    """Yield a folder inside a run's, whose files become the run's own at the end.

    The recipe is moved last: without it the run doesn't exist, and a later import of the name takes
    the folder over. If the body fails, the run's folder is removed.

    Raises:
        RunError: another process has made this run since its folder was created.
    """
    folder.clear()  # a kill may have come between two of the renames below
    partial = RunFolder(folder.path / IMPORTING)
    try:
        partial.path.mkdir()
        yield partial
        for path in sorted(partial.path.iterdir(), key=lambda path: path == partial.recipe):
            os.rename(path, folder.path / path.name)
        partial.path.rmdir()
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise


def _write(
    staged: RunFolder,
    folder: RunFolder,
    found: Published,
    tokenizer: Tokenizer,
    source: str,
    adapt: dict[str, Any] | None,
) -> None:
    """Write a run into `staged`; `folder` is where it will be, `adapt` its table of adapters."""
    objective, corpus, batch = _task(found)
    length = found.model.max_seq_len
    rest = {
        "objective": objective,
        "data": {
            "corpus": corpus,
            "batch": batch,
            "tokenizer": _tokenizer_table(tokenizer, folder),
        },
        "train": {
            "steps": 1000,
            "batch_size": 8,
            "seq_len": length if found.model.tasks & WHOLE else min(SEQ_LEN, length),
        },
        "optim": {"kind": "adamw", "learning_rate": 1e-5},
        "eval": {"every": 100},
        "checkpoint": {"every": 100},
    }
    if found.packed is not None:
        rest["packed"] = found.packed.model_dump(exclude_none=True)
    if adapt is not None:
        rest["adapt"] = adapt
    recipe = resolve_data({"model": found.table, **rest}, source)
    typed(Recipe, recipe)  # raises now what a later verb would
    header = f"# Imported from {source}: a {found.family.name} of {found.config.where}.\n"
    staged.describe(header + to_toml(recipe.data), facts() | {"imported": source})
    staged.keep_tokenizer(tokenizer.save)
    replace_text(staged.path / CONFIG, json.dumps(found.config.data, indent=2) + "\n")
    state = Progress().to_dict() | {"data": None}
    dtype = "float32" if found.packed is None else found.packed.dtype
    weights = stored(found.model, dtype) if adapt is None else own_weights(found.model)
    save_base(staged.path, base_weights(found.model))
    checkpoint.save(staged.checkpoints, 0, {"model": weights}, state, best=True)


def _task(found: Published) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Return the objective that suits a model, a built-in corpus, and the batches."""
    table, tasks = found.table, found.model.tasks
    if "see" in tasks:
        return {"kind": "classify_pictures"}, "digits", {"kind": "pictures"}
    if "listen" in tasks:
        batch = {"kind": "transcripts", "n_mels": table["encoder"]["embed"]["n_mels"]}
        return {"kind": "transcribe"}, "spoken", batch
    if tasks & {"match", "rebuild"}:
        vision, biased = table["vision"], table.get("logit_bias") is not None
        batch = {"size": vision["image_size"], "channels": vision["embed"]["channels"]}
        corpus = "icons" if batch["channels"] == 1 else "emoji_pictures"
        if "rebuild" in tasks:
            return {"kind": "mae"}, corpus, batch | {"kind": "images"}
        batch |= {"kind": "image_text", "frame": "end_filled" if biased else "start_end"}
        return {"kind": "clip", "loss": "sigmoid" if biased else "softmax"}, corpus, batch
    task = TASKS[usual_task(tasks, table)]
    kind = "span_corruption" if task.objective == "seq2seq" else task.batch
    corpus = CORPORA.get(task.objective, "stdlib")
    return {"kind": task.objective}, corpus, {"kind": kind, **_start(found)}


def _start(found: Published) -> dict[str, str]:
    start = target_start(found)
    return {} if start is None else {"start": start}


def _tokenizer_table(tokenizer: Tokenizer, folder: RunFolder) -> dict[str, Any]:
    """Return the recipe's table of the tokenizer, whose file is in the run's folder."""
    if isinstance(tokenizer, NumberTokenizer):
        return {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size}
    return {"kind": "saved", "path": str(folder.tokenizer)}


def _stem(source: Path) -> str:
    return source.resolve().name.removesuffix(".gguf")
