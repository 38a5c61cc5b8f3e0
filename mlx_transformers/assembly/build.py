"""Builds everything that a recipe describes: model, data, optimizer, objective, compiled step."""

from dataclasses import dataclass
from typing import Any

from ..core.errors import RecipeError
from ..data.prepare import Prepared, prepare
from ..data.tokenizers.tokenizer import Tokenizer
from ..distributed.processes import ALONE, Layers, Ranks
from ..distributed.tensor_parallel import Division
from ..distributed.zero import Sharded
from ..layers.counts import Counts, count, flops_per_token
from ..layers.freeze import freeze
from ..optim.optimizer import ready
from ..trainer.evaluate import Evaluator
from ..trainer.state import TrainState
from ..trainer.step import Step
from .checks import check_classes, check_model
from .model import build_model
from .plan import settle
from .recipe import Recipe
from .saved import load


def build_optimizer(recipe: Recipe, model: Any, ranks: Ranks = ALONE) -> Any:
    """The optimizer of a recipe, its state made; shared out if the recipe says so.

    That of a model whose layers will be shared out is not evaluated: it will have a part of it.
    """
    config = recipe.train
    optim: Any = recipe.optim
    if isinstance(ranks, Layers):
        lazy = optim.split(model, config.steps)
        lazy.init(model.trainable_parameters())
        return lazy
    if not config.shard_optimizer or ranks.world == 1:
        return optim.build(model, config.steps)
    return ready(Sharded(lambda: optim.split(model, config.steps), ranks), model)


@dataclass
class Built:
    """Everything a recipe describes, ready to run."""

    recipe: Recipe
    data: Prepared
    model: Any
    step: Step
    evaluator: Evaluator
    counts: Counts
    """Parameters of the model, all processes together."""
    flops_per_token: float
    """Operations to train on a token, all processes together."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the data was prepared with."""
        return self.data.tokenizer


def build(recipe: Recipe, data: Prepared | None = None, ranks: Ranks = ALONE) -> Built:
    """The model, data, optimizer, objective and compiled step of a recipe.

    Prepares the data when that has not been done yet. `ranks` are the processes that train it.
    """
    check_model(recipe)
    data = data or prepare(recipe.data)
    check_classes(recipe, data)
    model = build_model(recipe, data.tokenizer)
    recipe = settle(recipe, model, ranks.processes)
    counts, flops = count(model), flops_per_token(model, recipe.train.seq_len)
    objective = recipe.objective.build()
    optimizer = build_optimizer(recipe, model, ranks)
    frozen = _frozen(recipe, data.tokenizer)
    carry = "starts" in recipe.data.batch.gives  # type: ignore[attr-defined]
    division = dividing(recipe, ranks)
    state = TrainState(model, optimizer, recipe.train, ranks, carry, division)
    step = Step(state, objective, recipe.train, frozen)
    evaluator = Evaluator(
        step.loss,
        data.bytes_per_token("valid") if recipe.data.batch.covers_text else None,
        state.ema,
        ranks,
        getattr(recipe.objective, "unit", "token"),
    )
    return Built(recipe, data, model, step, evaluator, counts, flops)


def dividing(recipe: Recipe, ranks: Ranks) -> Division | None:
    """How processes that share layers divide the model, when their run begins."""
    if not isinstance(ranks, Layers):
        return None
    return Division(ranks, lambda model: _frozen_optimizer(recipe, model))


def _frozen_optimizer(recipe: Recipe, model: Any) -> Any:
    """Build the optimizer of a model whose layers were sharded into new modules, none frozen."""
    freeze(model, recipe.train.freeze)
    return recipe.optim.build(model, recipe.train.steps)


def _frozen(recipe: Recipe, tokenizer: Tokenizer) -> dict[str, Any]:
    """The models that the objective reads and doesn't train, by role: a teacher.

    Raises:
        RecipeError: one was trained with another tokenizer.
    """
    found = {}
    for role, run in getattr(recipe.objective, "frozen", dict)().items():
        found[role], theirs = load(run)
        if theirs.fingerprint() != tokenizer.fingerprint():
            raise RecipeError(
                f"objective.{role} = '{run}' was trained with another tokenizer, so its tokens "
                "mean something else. Give both the same data, tokenizer and data.batch."
            )
        found[role].freeze()
    return found
