"""A run made of another one by changing its weights: quantized, pruned.

The source is a run, one of its checkpoints, a published folder or a GGUF file. It is only read; the
new run appears complete, or not at all.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..assembly.published import CONFIG, full_model_table
from ..assembly.recipe import Recipe, load_recipe
from ..assembly.saved import load
from ..core.device import facts
from ..core.errors import RunError
from ..core.paths import expanded
from ..core.task import described
from ..core.tree import Tree
from ..data.tokenizers.tokenizer import Tokenizer
from ..layers.packed import packed_layers
from ..models.model import Model
from ..recipe.load import resolve_data
from ..recipe.toml import to_toml
from ..recipe.validate import typed
from ..runs import checkpoint
from ..runs.checkpoint import step_of
from ..runs.folder import RUNS, RunFolder, check_new, create, find_checkpoint
from ..runs.progress import Progress
from .import_run import import_run, staged


@dataclass(frozen=True)
class Origin:
    """The source of a new run.

    Attributes:
        where: its path, as messages name it.
        folder: its run; a temporary one where it is a published model.
        checkpoint: the checkpoint whose weights are taken.
        recipe: its recipe.
        tokenizer: its tokenizer.
        kept: whether the folder outlives the change.
    """

    where: str
    folder: RunFolder
    checkpoint: Path
    recipe: Recipe
    tokenizer: Tokenizer
    kept: bool = True

    def model(self) -> Model:
        """Load its model, each time a new one."""
        return load(self.checkpoint)[0]

    def plain_model(self, verb: str) -> Model:
        """Load its model, whose weights `verb` changes.

        Raises:
            RunError: they are packed.
        """
        model = self.model()
        if next(packed_layers(model), None) is not None:
            raise RunError(
                f"{self.where} is quantized: {verb} the model that it was made of, and quantize "
                "the result."
            )
        return model

    def recipe_with(self, model: dict[str, Any]) -> Recipe:
        """Return its recipe with another `[model]` table."""
        assert self.recipe.resolved is not None
        return typed(
            Recipe, resolve_data({**self.recipe.resolved.data, "model": model}, self.where)
        )


@contextmanager
def origin_of(source: str, root: Path = RUNS) -> Iterator[Origin]:
    """Open the source of a new run; one that is no run is imported into a temporary folder.

    Raises:
        MlxtError: there is no such source, or it can't be read.
    """
    path = expanded(source)
    published = (path / CONFIG).is_file() and not (path / "recipe.toml").is_file()
    if path.suffix == ".gguf" or published:
        with tempfile.TemporaryDirectory() as temporary:
            folder = import_run(path, "source", Path(temporary), say=lambda _: None)
            yield replace(_origin(str(path), str(folder.path), root), kept=False)
        return
    yield _origin(source, source, root)


def _origin(where: str, run: str, root: Path) -> Origin:
    folder, saved = find_checkpoint(run, root)
    model, tokenizer = load(saved)
    if "causal_lm" not in model.tasks:
        raise RunError(
            f"{where} is {described(model.tasks)}. What a change does to a model is measured by "
            "its next tokens: take a run of a decoder."
        )
    recipe = load_recipe(folder.recipe).stage(step_of(saved), saved=True)
    if recipe.adapt is not None:
        raise RunError(
            f"{where} has adapters on weights that are another run's: `mlxt fuse {run}` makes a "
            "model of both, which can be changed."
        )
    return Origin(where, folder, saved, recipe, tokenizer)


def write_run(
    origin: Origin,
    name: str | None,
    stem: str,
    changes: Mapping[str, Any],
    weights: Tree,
    about: Mapping[str, Any],
    root: Path = RUNS,
) -> RunFolder:
    """Write a new run with changed weights, at step 0.

    Args:
        origin: the source.
        name: the run's name; None takes `stem`, with a number if that is taken.
        stem: the usual name.
        changes: tables of the recipe that replace the source's.
        weights: the parameters.
        about: facts on the change, kept in environment.json.
        root: the folder of runs.

    Raises:
        RunError: a run of that name exists.
    """
    check_new(name, root)
    folder = create(name, stem, root)
    with folder.locked(), staged(folder) as partial:
        recipe = resolve_data(_table(origin, folder, changes), origin.where)
        typed(Recipe, recipe)
        header = f"# Made of {origin.where}.\n"
        made_of = {"source": str(origin.checkpoint.resolve())} if origin.kept else {}
        partial.describe(header + to_toml(recipe.data), facts() | made_of | dict(about))
        partial.keep_tokenizer(origin.tokenizer.save)
        config = origin.folder.path / CONFIG
        if config.is_file() and "model" not in changes:
            shutil.copyfile(config, partial.path / CONFIG)
        state = Progress().to_dict() | {"data": None}
        checkpoint.save(partial.checkpoints, 0, {"model": weights}, state, best=True)
    return folder


def _table(origin: Origin, folder: RunFolder, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The source's resolved recipe with changes, and with the tokenizer of the new run."""
    resolved = origin.recipe.resolved
    table: dict[str, Any] = dict(resolved.data) if resolved else {}
    data, train = dict(table["data"]), dict(table["train"])
    saved = data["tokenizer"].get("kind") == "saved"
    if saved or origin.recipe.data.tokenizer.trained_on != "nothing":
        data["tokenizer"] = {"kind": "saved", "path": str(folder.tokenizer)}
    train.pop("ema", None)
    if "packed" in changes and origin.recipe.masks_weights:
        del table["sparse" if origin.recipe.sparse else "prune"]  # packed weights are frozen
    if table.pop("grow", None):
        table["model"] = origin.recipe.model.model_dump(exclude_none=True)
    return {**table, "data": data, "train": train, **changes}


def model_table(origin: Origin, model: Model) -> dict[str, Any]:
    """Return the resolved `[model]` table of a source, with the size of its vocabulary."""
    return full_model_table(origin.recipe.model, model.vocab_size)
