"""A run that begins with weights from elsewhere: what `mlxt finetune` does.

Weights are taken by name: the stack of a language model and that of a classifier are called the
same, their heads are not. Tokens have to mean what they meant, so the tokenizer is the source's.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from ..assembly.build import Built
from ..assembly.published import CONFIG, read_source
from ..assembly.recipe import Recipe, load_recipe
from ..core.cache import cache_folder
from ..core.errors import RunError
from ..data.prepare import Progress as Preparing
from ..data.tokenizers.load import load_tokenizer
from ..data.tokenizers.numbers import NumberTokenizer
from ..data.tokenizers.published import read_tokenizer
from ..runs.folder import RUNS, RunFolder, find_checkpoint
from ..runs.tensors import named_leaves
from ..runs.weights import run_weights
from .train import LogFn, Result, train

Weights = dict[str, mx.array]
SHOWN = 6
"""Names in a list of weights; the rest are counted."""


@dataclass(frozen=True)
class Source:
    """Where weights come from.

    Attributes:
        where: how to call it in a sentence.
        tokenizer: the folder of its tokenizer.
        read: its weights by name, and the size of its vocabulary.
    """

    where: str
    tokenizer: Path
    read: Callable[[], tuple[Weights, int]]


@dataclass(frozen=True)
class Taken:
    """What became of a source's weights.

    Attributes:
        weights: all of the new model, by name.
        whole: taken as they are.
        rows: taken as far as both vocabularies go.
        new: as the seed made them.
        left: the source's that the new model has no place for.
    """

    weights: Weights
    whole: list[str]
    rows: list[str]
    new: list[str]
    left: list[str]

    def sentence(self, where: str) -> str:
        """What was taken, what is new, and what was left behind."""
        taken = len(self.whole) + len(self.rows)
        said = [
            f"{taken} of {len(self.weights)} arrays come from {where}, and so does the tokenizer."
        ]
        for what, names in (
            ("As far as both vocabularies go", self.rows),
            ("New here", self.new),
            ("Left there", self.left),
        ):
            if names:
                said.append(f"{what}: {_listed(names)}.")
        return " ".join(said)


def finetune(
    source: str | Path,
    recipe: str | Path,
    *,
    set: Sequence[str] = (),
    name: str | None = None,
    resume: str | Path | None = None,
    root: Path = RUNS,
    say: LogFn = print,
    progress: Preparing | None = None,
) -> Result:
    """Train a recipe from the weights and with the tokenizer of a source.

    Every weight whose name and shape agree is taken, and one sentence says what is new and what
    was left. The source is only read; of a run that goes on (`resume`) not even its weights are.

    Args:
        source: a run or one of its checkpoints, a folder with config.json and safetensors, or a
            GGUF file.
        recipe: the path or name of a recipe.
        set: "path=value" strings, the last diff of the recipe.
        name, resume, root, say, progress: as for `verbs.train.train`.

    Raises:
        MlxtError: whatever can't be done, said in a sentence.
    """
    found = open_source(source, root)
    own = f'data.tokenizer={{ kind = "saved", path = {json.dumps(str(found.tokenizer))} }}'
    wanted = load_recipe(recipe, [*set, own])

    def init_weights(built: Built) -> None:
        weights, vocab_size = found.read()
        ours = dict(tree_flatten(built.model.parameters()))
        taken = take(weights, ours, (vocab_size, built.model.vocab_size))
        if not taken.whole:
            raise RunError(
                f"No weight of {found.where} has the name and the shape of one of this model's. "
                f"It has {_listed(_shapes(weights))}; this model {_listed(_shapes(ours))}. Give "
                "the recipe the source's sizes: mlxt show compares recipes."
            )
        built.step.train_state.start_from(tree_unflatten(list(taken.weights.items())))
        say(taken.sentence(found.where))

    return train(
        wanted,
        name=name,
        resume=resume,
        root=root,
        say=say,
        progress=progress,
        init_weights=init_weights,
    )


def open_source(source: str | Path, root: Path = RUNS) -> Source:
    """A run, a checkpoint or a published model as a source of weights, which are read later.

    Raises:
        MlxtError: there is no such run, or the published tokenizer can't be read.
    """
    path = Path(source).expanduser()
    published = (path / CONFIG).is_file() and not RunFolder(path).recipe.is_file()
    if published or (path.is_file() and path.suffix == ".gguf"):
        return _published(path)
    folder, saved = find_checkpoint(source, root)
    return Source(str(saved), folder.tokenizer, lambda: _of_run(folder, saved))


def take(theirs: Weights, ours: Weights, vocab_sizes: tuple[int, int]) -> Taken:
    """A model's weights where a source's of the same name and shape replace them.

    Of arrays that differ in their first dimension alone, where it is the vocabulary, the rows
    that both have are taken: control tokens come after all others.

    Args:
        theirs, ours: weights by name.
        vocab_sizes: theirs and ours.
    """
    weights, whole, rows = dict(ours), [], []
    for name, own in ours.items():
        other = theirs.get(name)
        if other is None:
            continue
        if other.shape == own.shape:
            weights[name] = other.astype(own.dtype)
            whole.append(name)
        elif other.shape[1:] == own.shape[1:] and (len(other), len(own)) == vocab_sizes:
            both = min(vocab_sizes)
            weights[name] = mx.concatenate([other[:both].astype(own.dtype), own[both:]])
            rows.append(name)
    taken = {*whole, *rows}
    new = [name for name in ours if name not in taken]
    return Taken(weights, whole, rows, new, [name for name in theirs if name not in taken])


def _of_run(folder: RunFolder, saved: Path) -> tuple[Weights, int]:
    recipe: Recipe = load_recipe(folder.recipe)
    weights = dict(named_leaves(run_weights(saved, recipe.train.ema is not None)))
    given = recipe.model.vocab_size
    return weights, given or load_tokenizer(folder.tokenizer).vocab_size


def _published(path: Path) -> Source:
    """Its tokenizer is kept in the cache, under its fingerprint, for the run's recipe to name."""

    def read() -> tuple[Weights, int]:
        found, _ = read_source(path)
        return dict(tree_flatten(found.model.parameters())), found.table["vocab_size"]

    tokenizer = read_tokenizer(path) if path.is_dir() else read_source(path)[1]
    tokenizer = tokenizer or NumberTokenizer(read()[1])
    kept = cache_folder() / "tokenizers" / tokenizer.fingerprint()[:16]
    tokenizer.save(kept)
    return Source(str(path), kept, read)


def _shapes(weights: Weights) -> list[str]:
    return [f"{name} {list(array.shape)}" for name, array in weights.items()]


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
