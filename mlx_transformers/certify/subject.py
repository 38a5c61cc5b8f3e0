"""The model that a certificate is about: a run, or a recipe as a run of random weights.

Measurements take a few rows of the recipe's own text in float32. Everything that they build has the
weights of one checkpoint.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..assembly.build import Built, build
from ..assembly.recipe import Recipe, load_recipe
from ..assembly.run_data import run_data, trained_on, with_own_tokenizer
from ..assembly.streams import training_feed
from ..core.device import facts
from ..data.prepared import Prepared
from ..layers.adapters.weights import base_weights, own_weights, restore_base
from ..layers.parameter import parameters_of
from ..models.model import Model
from ..recipe.toml import to_toml
from ..runs import checkpoint
from ..runs.checkpoint import step_of
from ..runs.folder import RunFolder, create
from ..runs.frozen import read_base, save_base
from ..runs.progress import Progress
from ..runs.weights import run_weights
from ..trainer.loop import arrays
from ..trainer.traced import compiling

ROWS = 4
"""Rows of the batch on which a model is measured."""
LONGEST = 256
"""Most tokens of a row."""
NOISE = 0.02
"""Standard deviation of what is added to new weights, so that none is at a start of zeros."""
ROUTERS = ("router.balance_loss", "router.z_loss", "router.jitter")
"""Keys of routers whose effect depends on all rows of a batch."""

Batch = dict[str, mx.array]


@dataclass
class Subject:
    """A model to be measured.

    Attributes:
        folder: its run.
        checkpoint: the checkpoint whose weights are measured.
        work: an empty folder for files of the measurements.
    """

    folder: RunFolder
    checkpoint: Path
    work: Path

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe, at the size of the measurements."""
        return self._recipe()

    @cached_property
    def data(self) -> Prepared:
        """The prepared text."""
        return run_data(self.recipe, trained_on(self.checkpoint))

    @cached_property
    def plain(self) -> Built:
        """The recipe as it is, without dropout."""
        return self.built(*self.still)

    @cached_property
    def still(self) -> list[str]:
        """The overrides that switch off what differs from batch to batch by design: the masks of
        dropout, and the balancing losses and noise of routers."""
        return [f"{path}=0.0" for path in _of_batches(tables(self.recipe))]

    @cached_property
    def batch(self) -> Batch:
        """The first batch of its training."""
        feed = training_feed(self.plain)
        try:
            return arrays(next(iter(feed.preview(1))))
        finally:
            feed.close()

    def built(self, *sets: str) -> Built:
        """Build the recipe with some keys changed, and with the weights of the checkpoint.

        Raises:
            RecipeError: the keys don't fit the recipe.
        """
        built = build(self._recipe(*sets), self.data)
        if built.recipe.adapt is not None:
            restore_base(built.model, read_base(self.checkpoint))
        weights = run_weights(self.checkpoint, built.recipe.averaged)
        built.step.train_state.start_from(weights)
        return built

    def _recipe(self, *sets: str) -> Recipe:
        keys = {override.partition("=")[0] for override in sets}
        usual = sizes(load_recipe(self.folder.recipe))
        remaining = [override for override in usual if override.partition("=")[0] not in keys]
        recipe = load_recipe(self.folder.recipe, [*remaining, *sets])
        return with_own_tokenizer(recipe.stage(step_of(self.checkpoint), saved=True), self.folder)


def sizes(recipe: Recipe) -> list[str]:
    """The overrides that bring a recipe to the size and precision of the measurements."""
    fixed = [
        "train.batch_schedule=[]",
        "train.accumulate=1",
        "train.microbatch='given'",
        "train.recompute='none'",
    ]
    fixed += ["train.dtype='float32'", "train.tensor_parallel=1", "train.shard_optimizer=false"]
    fixed.append("train.offload_optimizer=false")  # its steps equal those in memory to the bit
    fixed += [f"train.batch_size={ROWS}", f"eval.batch_size={ROWS}"]
    if recipe.train.noise_scale:
        fixed.append("train.noise_scale=false")  # one microbatch has none to compare
    if recipe.sparse is not None and recipe.sparse.method != "static":
        fixed.append("sparse.every=1")  # so that connections change within a few steps
    if "tokens" in recipe.source.gives(recipe.data.batch):
        unit = recipe.data.batch.row_unit
        length = min(recipe.train.seq_len, max(unit, LONGEST // unit * unit))
        fixed.append(f"train.seq_len={length}")
        if warmup := recipe.train.seq_len_warmup:
            fixed.append(f"train.seq_len_warmup.start={min(warmup.start, length - 1)}")
            fixed.append("train.seq_len_warmup.shapes=2")
    return fixed


def tables(recipe: Recipe) -> dict[str, Any]:
    """The merged tables of a recipe that was read from a file."""
    assert recipe.resolved is not None
    return recipe.resolved.data


def _of_batches(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        path = f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping):
            yield from _of_batches(value, path)
        elif ("drop" in key or path.endswith(ROUTERS)) and isinstance(value, float) and value > 0:
            yield path


def subject_of_recipe(recipe: str, sets: Sequence[str], work: Path) -> Subject:
    """Write a run of a recipe with random weights, and return it.

    Raises:
        MlxtError: the recipe can't be read or built.
    """
    loaded = load_recipe(recipe, sets)
    folder = create(None, Path(recipe).stem, work / "subject")
    folder.describe(to_toml(tables(loaded)), facts())
    small = load_recipe(folder.recipe, sizes(loaded)).stage(0, saved=True)
    built = build(small, run_data(small, None))
    disturb(built.model)
    folder.keep_tokenizer(built.tokenizer.save)
    save_base(folder.path, base_weights(built.model))
    state = Progress().to_dict() | {"data": None}
    trees = built.step.train_state.trees()
    trees["model"] = own_weights(built.model)
    saved = checkpoint.save(folder.checkpoints, 0, trees, state, best=True)
    return Subject(folder, saved, work)


def disturb(model: Model) -> None:
    """Add noise to trained parameters: a difference in what starts at zero would not be seen."""
    trained = dict(tree_flatten(model.trainable_parameters()))
    for i, parameter in enumerate(parameters_of(model)):
        if parameter.role != "own" and parameter.path in trained:
            noise = mx.random.normal(parameter.array.shape, key=mx.random.key(i))
            parameter.module[parameter.name] = parameter.array + NOISE * noise
    mx.eval(model.parameters())


@contextmanager
def eager() -> Iterator[None]:
    """Leave compilation out while a block runs: it changes nothing that the block measures."""
    was = compiling()
    mx.disable_compile()
    try:
        yield
    finally:
        if was:
            mx.enable_compile()
