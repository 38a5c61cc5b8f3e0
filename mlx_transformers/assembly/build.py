"""Builds everything that a recipe describes: model, data, optimizer, objective, compiled step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from mlx.optimizers import Optimizer

from ..core.backend import settle_walk
from ..core.errors import RecipeError
from ..core.paths import expanded
from ..data.prepare import prepare
from ..data.prepared import Prepared
from ..data.tokenizers.tokenizer import Tokenizer
from ..distributed.processes import SINGLE, Ranks, TensorParallelGroup
from ..distributed.tensor_parallel import TensorParallel
from ..distributed.zero import Sharded
from ..layers.counts import Counts, count, flops_per_token
from ..layers.freeze import freeze
from ..models.model import Model
from ..objectives.objective import PICTURES, Objective
from ..optim.kinds import ready
from ..runs.folder import RUNS
from ..runs.tensors import digest
from ..trainer.evaluate import Evaluator
from ..trainer.offload import OffloadedStep
from ..trainer.parallel_rows import ParallelRows
from ..trainer.source import FrozenModel
from ..trainer.state import TrainState
from ..trainer.step import Step
from .checks import check_classes, check_model
from .model import build_model
from .parallel import parallel_rows, settle_as_before
from .picture_checks import check_picture_tokens, check_pictures
from .plan import resolve_auto
from .recipe import Recipe
from .saved import load


def needs_state(recipe: Recipe, trains: bool) -> bool:
    """Return whether a run's optimizer state is needed: to train, or as an average of weights."""
    return trains or recipe.optim.averages


def build_optimizer(
    recipe: Recipe, model: Model, ranks: Ranks = SINGLE, trains: bool = True
) -> Optimizer:
    """Build a recipe's optimizer and its state, sharded over ranks with `train.shard_optimizer`.

    State that is sharded with the layers, or kept in a file, stays lazy: only a part of it will be
    in the memory of a process. Where nothing trains there is none.

    Raises:
        RecipeError: several processes would keep their state in a file.
    """
    config = recipe.train
    optim = recipe.optim
    if not needs_state(recipe, trains):
        return optim.split(model, config.steps)
    if config.offload_optimizer and ranks.processes > 1:
        raise RecipeError(
            "train.offload_optimizer is for one process, and several train together here: leave "
            "it out, and set train.shard_optimizer = true."
        )
    if config.offload_optimizer or isinstance(ranks, TensorParallelGroup):
        lazy = optim.split(model, config.steps)
        lazy.init(model.trainable_parameters())
        return lazy
    if not config.shard_optimizer or ranks.world == 1:
        return optim.build(model, config.steps)
    return ready(Sharded(lambda: optim.split(model, config.steps), ranks), model)


def step_class(place: bool | str, scratch: Path) -> Callable[..., Step]:
    """Return the class of the training step for `train.offload_optimizer`, with its folder.

    Raises:
        RecipeError: there is no such folder.
    """
    if not place:
        return Step
    folder = scratch if isinstance(place, bool) else expanded(place)
    if not isinstance(place, bool) and not folder.is_dir():
        raise RecipeError(
            f"train.offload_optimizer = '{place}': there is no such folder. Make it, or set true: "
            "the disk of the run's folder."
        )
    return partial(OffloadedStep, folder=folder)


def build_objective(recipe: Recipe, ranks: Ranks = SINGLE) -> Objective[Model]:
    """Build a recipe's objective, whose `tasks` `check_model` compares with the model's."""
    return cast("Objective[Model]", recipe.objective.build_among(ranks))


@dataclass
class Built:
    """Everything a recipe describes, ready to run."""

    recipe: Recipe
    data: Prepared
    model: Model
    step: Step
    evaluator: Evaluator
    counts: Counts
    """Number of parameters, over all processes."""
    flops_per_token: float
    """Floating-point operations of training per token, over all processes."""
    frozen: dict[str, FrozenModel] = field(default_factory=dict)
    """Models that the source reads, by role."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the data was prepared with."""
        return self.data.tokenizer

    def keep_streams(self, earlier: int | None) -> None:
        """Compute rows in as many CPU streams as the run's earlier steps, if there were any."""
        processes = self.step.train_state.ranks.processes
        settle_as_before(self.step.parallel, self.recipe, earlier, processes)

    def inputs(self) -> dict[str, Any]:
        """Fingerprints of what a run reads beside its recipe: data, and frozen models by role.

        A checkpoint keeps them, so that a resume finds out where one has changed.
        """
        roles = self.step.loss.roles.items()
        models: dict[str, Model] = {role: m for role, m in roles if role != "model"}
        models |= {role: loaded.model for role, loaded in self.frozen.items()}
        frozen = {role: digest(model.parameters()) for role, model in models.items()}
        return {"data": self.data.fingerprint} | ({"frozen": frozen} if frozen else {})


def build(
    recipe: Recipe,
    data: Prepared | None = None,
    ranks: Ranks = SINGLE,
    scratch: Path = RUNS,
    trains: bool = True,
) -> Built:
    """Build the model, data, optimizer, objective and compiled step of a recipe.

    Args:
        recipe: the recipe.
        data: its prepared data; None prepares it.
        ranks: the processes that train it together.
        scratch: a folder on the disk for optimizer state that is not kept in memory.
        trains: whether it will be trained, or measured alone, without optimizer state.

    Raises:
        MlxtError: parts of the recipe don't fit each other, or the data can't be prepared.
    """
    check_model(recipe)
    data = data or prepare(recipe.data)
    check_classes(recipe, data)
    check_pictures(recipe, data.tokenizer)
    model = build_model(recipe, data.tokenizer)
    recipe, streams = resolve_auto(recipe, model, ranks.processes)
    settle_walk(deep=trains and bool(recipe.train.offload_optimizer))
    parallel = parallel_rows(recipe, ranks.processes)
    if parallel.wanted > streams:
        parallel = ParallelRows()
    counts, flops = count(model), flops_per_token(model, recipe.train.seq_len)
    objective = build_objective(recipe, ranks)
    optimizer = build_optimizer(recipe, model, ranks, trains)
    frozen = _frozen(recipe, data.tokenizer)
    shards = tensor_parallelism(recipe, ranks)
    sparse, train = recipe.sparse, recipe.train
    pruner = recipe.prune.build(model) if recipe.prune else None
    movement = pruner.movement() if pruner else None
    state = TrainState(
        model,
        optimizer,
        train,
        ranks,
        "starts" in recipe.source.gives(recipe.data.batch),
        shards,
        recipe.optim.averages,
        sparsity=sparse.build(model, train.seed, train.steps) if sparse else movement,
    )
    step = step_class(trains and train.offload_optimizer, scratch)(
        state,
        objective,
        recipe.train,
        frozen,
        recipe.optim.curvature,
        rounding=recipe.quantize.build(model) if recipe.quantize else None,
        projection=None if movement is not None else pruner,
        parallel=parallel,
    )
    read, evaluator = _read_by_source(recipe, data.tokenizer), _evaluator(recipe, data, step)
    return Built(recipe, data, model, step, evaluator, counts, flops, read)


def _evaluator(recipe: Recipe, data: Prepared, step: Step) -> Evaluator:
    """The evaluation of a step's model."""
    covers_text = recipe.source.covers_text(recipe.data.batch)
    return Evaluator(
        step.loss,
        bytes_per_token=data.bytes_per_token("valid") if covers_text else None,
        average=step.train_state.average,
        ranks=step.train_state.ranks,
        unit=recipe.objective.unit,
        parallel=step.parallel,
    )


def tensor_parallelism(recipe: Recipe, ranks: Ranks) -> TensorParallel | None:
    """Tensor parallelism of a recipe's model, or None if `ranks` don't share layers."""
    if not isinstance(ranks, TensorParallelGroup):
        return None
    return TensorParallel(ranks, lambda model: _frozen_optimizer(recipe, model))


def _frozen_optimizer(recipe: Recipe, model: Model) -> Optimizer:
    """Build the optimizer of a model whose layers were sharded into new modules, none frozen."""
    freeze(model, recipe.train.freeze)
    return recipe.optim.build(model, recipe.train.steps)


def _frozen(recipe: Recipe, tokenizer: Tokenizer) -> dict[str, Model]:
    """Load the frozen models of the objective by role, such as a teacher.

    Raises:
        RecipeError: one was trained with another tokenizer, or doesn't turn the recipe's pictures
            into tokens.
    """
    models: dict[str, Model] = {}
    for role, run in recipe.objective.frozen().items():
        model, theirs = load(run)
        if role == PICTURES:
            check_picture_tokens(recipe, run, model)
        else:
            _check_tokenizer(f"objective.{role} = '{run}'", theirs, tokenizer)
        model.freeze()
        models[role] = model
    return models


def _read_by_source(recipe: Recipe, tokenizer: Tokenizer) -> dict[str, FrozenModel]:
    """Load the models that the source reads, by role; rewards may have tokenizers of their own.

    Raises:
        RecipeError: the reference policy or the writer was trained with another tokenizer.
    """
    models: dict[str, FrozenModel] = {}
    for role, run in recipe.source.frozen().items():
        models[role] = FrozenModel(*load(run))
        if role in ("reference", "writer"):
            _check_tokenizer(f"source.{role} = '{run}'", models[role].tokenizer, tokenizer)
    return models


def _check_tokenizer(key: str, theirs: Tokenizer, ours: Tokenizer) -> None:
    if theirs.fingerprint() != ours.fingerprint():
        raise RecipeError(
            f"{key} was trained with another tokenizer, so its tokens mean something else. Give "
            "both the same data, tokenizer and data.batch."
        )
