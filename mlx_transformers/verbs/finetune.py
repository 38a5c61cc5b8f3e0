"""Fine-tuning: a new run that starts from the weights and the tokenizer of another model.

Weights are taken by name: the stack of a language model and that of a classifier have the same
names, their heads don't. Token ids have to keep their meaning, so the tokenizer is the source's.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..assembly.build import Built
from ..assembly.changed_options import changed_options
from ..assembly.checks import check_model
from ..assembly.published import CONFIG, full_model_table, read_source, target_start, typed_model
from ..assembly.recipe import Recipe, load_recipe
from ..assembly.saved import load
from ..core.cache import cache_folder
from ..core.errors import RunError
from ..core.messages import LogFn
from ..core.paths import expanded
from ..core.task import Task
from ..data.prepare import Progress as Preparing
from ..data.text_source import TextSource
from ..data.tokenizers.load import load_tokenizer
from ..data.tokenizers.numbers import NumberTokenizer
from ..data.tokenizers.published import read_tokenizer
from ..layers.adapters.merge import merge
from ..layers.adapters.weights import load_packed, plain_weights
from ..layers.packed import plain_parameters
from ..recipe.toml import toml_value
from ..runs.checkpoint import step_of
from ..runs.folder import RUNS, RunFolder, find_checkpoint
from ..runs.tensors import named_leaves
from ..runs.weights import run_weights
from .task_recipe import task_recipe
from .train import Result, train

Weights = dict[str, mx.array]
SHOWN = 6
"""Names in a list of weights; the rest are counted."""
ACCEPT = "--accept-changes"


@dataclass(frozen=True)
class Start:
    """Weights and settings that a new run takes from a source.

    Attributes:
        weights: its weights by name.
        model: its resolved `[model]` table, with the vocabulary.
        tasks: the tasks of its model.
        target_start: the token that targets begin with, in a model that writes targets.
        stored: packed weights as they are, for a new model that packs its own alike.
    """

    weights: Weights
    model: dict[str, Any]
    tasks: frozenset[Task]
    target_start: str | None = None
    stored: Weights = field(default_factory=dict)

    def without_helpers(self, where: str) -> "Start":
        """The part that is used once training is over: of ELECTRA its discriminator, of a masked
        autoencoder its vision tower; `where` names the source in messages."""
        kind, weights = typed_model(self.model, where).without_helpers(self.weights)
        return replace(
            self, weights=weights, model=full_model_table(kind, self.model["vocab_size"])
        )


@dataclass(frozen=True)
class Source:
    """A model whose weights and tokenizer a new run takes.

    Attributes:
        where: the source, as messages name it.
        tokenizer: the folder of its tokenizer.
        read: reads what it gives.
        pruned: whether its weights have zeros that stay.
        text: the text that it was trained on; None for a published model.
    """

    where: str
    tokenizer: Path
    read: Callable[[], Start]
    pruned: bool = False
    text: TextSource | None = None


@dataclass(frozen=True)
class Taken:
    """The weights of a new model, by where they come from.

    Attributes:
        weights: all of the new model, by name.
        whole: names of those taken from the source.
        rows: names of those taken for the tokens that both vocabularies have.
        new: names of those initialised by the seed.
        unused: names of the source's weights that the new model doesn't use.
    """

    weights: Weights
    whole: list[str]
    rows: list[str]
    new: list[str]
    unused: list[str]

    def sentence(self, where: str) -> str:
        """Return a message that lists taken, new and unused weights."""
        n_taken = len(self.whole) + len(self.rows)
        sentences = [
            f"{n_taken} of {len(self.weights)} arrays come from {where}, and so does the tokenizer."
        ]
        for what, names in (
            ("Taken for the tokens of both vocabularies", self.rows),
            ("Newly initialised", self.new),
            ("Unused", self.unused),
        ):
            if names:
                sentences.append(f"{what}: {_listed(names)}.")
        return " ".join(sentences)


def finetune(
    source: str | Path,
    recipe: str | Path | None = None,
    *,
    task: str | None = None,
    data: str | Path | None = None,
    accept_changes: bool = False,
    replay: float | None = None,
    set: Sequence[str] = (),
    name: str | None = None,
    resume: str | Path | None = None,
    root: Path = RUNS,
    say: LogFn = print,
    progress: Preparing | None = None,
) -> Result:
    """Train a recipe from the weights and with the tokenizer of a source.

    Every weight whose name and shape agree is taken; a message lists new and unused ones. The
    source is only read; a resumed run doesn't read its weights again.

    Args:
        source: a run or one of its checkpoints, a folder with config.json and safetensors, or a
            GGUF file.
        recipe: the path or name of a recipe; None writes one for `task` and `data`, into the
            working folder.
        task: a task of `verbs.task_recipe`; None takes the one that the model was trained for.
        data: the data of that recipe.
        accept_changes: take weights even if the recipe changes what they compute.
        replay: share of the rows from the source's own text, which is mixed in as `old`; of a
            source trained on a mixture, the text of its `[data]` alone.
        set: "path=value" strings, the last diff of the recipe.
        name, resume, root, say, progress: as for `verbs.train.train`.

    Raises:
        MlxtError: the source, the recipe or the data can't be used; the message says why.
    """
    start = open_source(source, root)
    if recipe is None:
        recipe = _write_recipe(start, task, data, say, progress)
    elif task is not None or data is not None:
        raise RunError("Give a recipe, or a task and data for which one is written, not both.")
    saved = json.dumps(str(start.tokenizer))
    changes = [*set, f'data.tokenizer={{ kind = "saved", path = {saved} }}']
    loaded = load_recipe(recipe, changes)
    if replay is not None:
        changes.append(_mixed_in(loaded, start, replay))
    if start.pruned and loaded.prune is None and loaded.sparse is None:
        changes.append("prune.sparsity=0.0")
        say("The source is pruned, and its zeros stay (prune.sparsity = 0).")
    loaded = load_recipe(recipe, changes)
    check_model(loaded)
    return train(
        loaded,
        name=name,
        resume=resume,
        root=root,
        say=say,
        progress=progress,
        init_weights=partial(_init_weights, start, accept_changes, say),
    )


def _init_weights(source: Source, accept_changes: bool, say: LogFn, built: Built) -> None:
    """Start a run from the weights of a source.

    Raises:
        RunError: none of them fits, or they would mean something else.
    """
    start = source.read()
    if start.model["kind"] != built.recipe.model.kind:
        start = start.without_helpers(source.where)
    ours = plain_weights(built.model)
    weights = take(start.weights, ours, (start.model["vocab_size"], built.model.vocab_size))
    if not weights.whole:
        raise RunError(
            f"No weight of {source.where} has the name and the shape of one of this model's. "
            f"It has {_listed(_shapes(start.weights))}; this model {_listed(_shapes(ours))}. "
            "Give the recipe the source's sizes: mlxt show compares recipes."
        )
    model = full_model_table(built.recipe.model, built.model.vocab_size)
    changes = changed_options(start.model, model, ours, [*weights.whole, *weights.rows])
    _check_meaning(source.where, changes, accept_changes, say)
    built.step.train_state.start_from_plain(weights.weights)
    if built.recipe.packed is not None:
        load_packed(built.model, start.stored)
    say(weights.sentence(source.where))


def _mixed_in(recipe: Recipe, source: Source, share: float) -> str:
    """Return the setting that adds the text of a source to the mixture of a recipe, as `old`.

    Raises:
        RunError: the source is no run, so its text isn't known.
    """
    if not 0 < share < 1:
        raise RunError(f"--replay {share:g} is a share: give a number between 0 and 1.")
    if source.text is None:
        raise RunError(
            f"{source.where} is a published model, so the text that it was trained on isn't known "
            "here: name one in a table [[data.mixture]] of the recipe, in place of --replay."
        )
    old = {"name": "old", "weight": share, **source.text.model_dump(exclude_defaults=True)}
    texts = [text.model_dump(exclude_defaults=True) for text in recipe.data.mixture]
    return f"data.mixture={toml_value([*texts, old])}"


def _write_recipe(
    source: Source,
    task: str | None,
    data: str | Path | None,
    say: LogFn,
    progress: Preparing | None,
) -> Path:
    """Write a recipe for a task into the working folder; one that is there already stays."""
    if data is None:
        raise RunError("Give a recipe, or data with --data FILE and perhaps a task with --task.")
    start = source.read()
    text = task_recipe(
        source.where,
        start.model,
        start.tasks,
        source.tokenizer,
        task,
        str(data),
        start.target_start,
        progress,
    )
    name = re.sub(r"[^\w.-]+", "_", Path(data).stem).strip("_.")  # of a glob, or of ".."
    stem = f"{name or 'data'}-{task or 'finetune'}"
    for number in range(1, 1000):
        path = Path(f"{stem}.toml" if number == 1 else f"{stem}-{number}.toml")
        if not path.exists():
            with open(path, "x", encoding="utf-8") as file:
                file.write(text)
            say(f"Recipe: {path}, written for this model and this data. Change it as you like.")
            return path
        if path.is_file() and path.read_bytes() == text.encode():
            say(f"Recipe: {path}, as it was written before.")
            return path
    raise RunError(f"There are 1,000 recipes called {stem} already: remove some.")


def _check_meaning(where: str, changes: list[str], accepted: bool, say: LogFn) -> None:
    """Refuse weights that the recipe would use otherwise, unless that is accepted.

    Raises:
        RunError: lists the keys.
    """
    if not changes:
        return
    listed = "; ".join(changes[:12]) + (f"; and {len(changes) - 12} more" if changes[12:] else "")
    if not accepted:
        raise RunError(
            f"The weights of {where} fit this recipe by name and shape, but mean something else "
            f"in it: {listed}. Give the recipe the source's values (--set model.KEY=VALUE), or "
            f"take the weights all the same with {ACCEPT}."
        )
    say(f"The recipe changes what the weights of {where} compute: {listed}.")


def open_source(source: str | Path, root: Path = RUNS) -> Source:
    """Return a run, a checkpoint or a published model as a source; its weights are read later.

    Raises:
        MlxtError: there is no such run, or the published tokenizer can't be read.
    """
    path = expanded(source)
    published = (path / CONFIG).is_file() and not RunFolder(path).recipe.is_file()
    if published or (path.is_file() and path.suffix == ".gguf"):
        return _published(path)
    folder, saved = find_checkpoint(source, root)
    recipe = load_recipe(folder.recipe)
    data = {key: value for key, value in recipe.data if key in TextSource.model_fields}
    return Source(
        str(saved),
        folder.tokenizer,
        cache(lambda: _of_run(folder, saved)),
        pruned=recipe.prune is not None or recipe.sparse is not None,
        text=TextSource(**data),
    )


def take(theirs: Weights, ours: Weights, vocab_sizes: tuple[int, int]) -> Taken:
    """Return a model's weights, replaced by a source's of the same name and shape.

    Of arrays whose first dimensions are the two vocabularies, the rows of the tokens that both
    have are taken: control tokens come after all others.

    Args:
        theirs, ours: weights by name.
        vocab_sizes: theirs and ours.
    """
    weights, whole, rows = dict(ours), [], []
    for name, our_array in ours.items():
        their_array = theirs.get(name)
        if their_array is None:
            continue
        if their_array.shape == our_array.shape:
            weights[name] = their_array.astype(our_array.dtype)
            whole.append(name)
        elif (
            their_array.shape[1:] == our_array.shape[1:]
            and (len(their_array), len(our_array)) == vocab_sizes
        ):
            both = min(vocab_sizes)
            weights[name] = mx.concatenate(
                [their_array[:both].astype(our_array.dtype), our_array[both:]]
            )
            rows.append(name)
    taken = {*whole, *rows}
    new = [name for name in ours if name not in taken]
    return Taken(weights, whole, rows, new, [name for name in theirs if name not in taken])


def _of_run(folder: RunFolder, saved: Path) -> Start:
    recipe = load_recipe(folder.recipe).stage(step_of(saved), saved=True)
    weights = _weights_of_run(recipe, saved)
    vocab_size = recipe.model.vocab_size or load_tokenizer(folder.tokenizer).vocab_size
    start = recipe.data.batch.model_dump().get("start")
    stored: Weights = {}
    if recipe.packed is not None:
        stored = dict(named_leaves(run_weights(saved, recipe.averaged)))
    return Start(
        weights, full_model_table(recipe.model, vocab_size), recipe.model.tasks, start, stored
    )


def _weights_of_run(recipe: Recipe, saved: Path) -> Weights:
    """The weights of a run by name; the adapters of an adapted one are merged into its base."""
    if recipe.packed is not None and recipe.adapt is None:
        return plain_parameters(load(saved)[0])
    if recipe.adapt is None:
        return dict(named_leaves(run_weights(saved, recipe.averaged)))
    model, _ = load(saved)
    merge(model)
    return plain_weights(model)


def _published(path: Path) -> Source:
    """Return a published model; its tokenizer goes to the cache, under its fingerprint."""

    @cache
    def read() -> Start:
        source, _ = read_source(path)
        model = typed_model(source.table, str(path))
        table = full_model_table(model, source.table["vocab_size"])
        weights = plain_parameters(source.model)
        stored = {} if source.packed is None else dict(tree_flatten(source.model.parameters()))
        return Start(weights, table, model.tasks, target_start(source), stored)

    tokenizer = read_tokenizer(path) if path.is_dir() else read_source(path)[1]
    tokenizer = tokenizer or NumberTokenizer(read().model["vocab_size"])
    folder = cache_folder() / "tokenizers" / tokenizer.fingerprint()[:16]
    tokenizer.save(folder)
    return Source(str(path), folder, read)


def _shapes(weights: Weights) -> list[str]:
    return [f"{name} {list(array.shape)}" for name, array in weights.items()]


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
