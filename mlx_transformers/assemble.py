"""From a recipe to its parts, and the Python face: load_recipe, build, train, load."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from .core.errors import RecipeError
from .data.prepare import Prepared, prepare
from .data.tokenizers.load import load_tokenizer
from .data.tokenizers.tokenizer import Tokenizer
from .layers.counts import Counts, count, flops_per_token
from .models.sharing import check_parts
from .models.stack import layers_of, recompute_layers
from .optim.optimizer import ready
from .planning import settle
from .recipe.load import resolve
from .recipe.slot import KINDS
from .recipe.validate import typed
from .schema import Recipe
from .trainer.checkpoint import load as load_checkpoint
from .trainer.division import Division
from .trainer.evaluate import Evaluator
from .trainer.folder import find_checkpoint
from .trainer.parallel import ALONE, Layers, Ranks
from .trainer.restore import restore_model
from .trainer.shard import Sharded
from .trainer.step import Step

DRAFT_VOCAB_SIZE = 256
"""Vocabulary that a draft has where the recipe doesn't tell."""


def load_recipe(recipe: str | Path, set: Sequence[str] = ()) -> Recipe:
    """A recipe by path or name, its chain merged, typed and checked.

    Args:
        recipe: "recipes/mistral_tiny.toml", or "mistral_tiny".
        set: "path=value" strings, the last diff of the chain.

    Raises:
        RecipeError: it can't be read, merged or typed.
    """
    resolved = resolve(recipe, set)
    out = typed(Recipe, resolved)
    out._resolved = resolved
    return out


def build_model(recipe: Recipe, tokenizer: Tokenizer) -> Any:
    """The model of a recipe with the weights its seed gives.

    Raises:
        RecipeError: its sizes don't go together, or its vocabulary is smaller than the
            tokenizer's.
    """
    given = getattr(recipe.model, "vocab_size", None)
    if given is not None and given < tokenizer.vocab_size:
        raise RecipeError(
            f"model.vocab_size = {given} is smaller than the tokenizer's {tokenizer.vocab_size}: "
            "leave model.vocab_size out, or make it larger."
        )
    mx.random.seed(recipe.train.seed)
    return _model(recipe, tokenizer.vocab_size)


def told_vocab_size(recipe: Recipe) -> int | None:
    """The vocabulary as far as the recipe tells it, before its text is read."""
    given = getattr(recipe.model, "vocab_size", None)
    text = getattr(recipe.data.tokenizer, "vocab_size", None)
    return given or (text and text + len(recipe.data.batch.controls()))


def draft_model(recipe: Recipe) -> Any:
    """The model of a recipe before its text is read, to look at and to check.

    Where only the text would tell the vocabulary, it is `DRAFT_VOCAB_SIZE`. Weights are lazy, so
    this costs next to nothing.

    Raises:
        RecipeError: its sizes don't go together.
    """
    return _model(recipe, told_vocab_size(recipe) or DRAFT_VOCAB_SIZE)


def _model(recipe: Recipe, vocab_size: int) -> Any:
    try:
        model = recipe.model.build(vocab_size)
    except RecipeError as error:
        name = f"{recipe.resolved.name}: " if recipe.resolved else ""
        raise RecipeError(f"{name}{error}") from None
    if recipe.train.recompute != "none":
        count = len(layers_of(model))
        chosen = recipe.train.recomputed(count)
        outside = [i for i in chosen if not 0 <= i < count]
        if outside:
            raise RecipeError(
                f"train.recompute names block {outside[0]}, but the model has blocks 0 to "
                f"{count - 1}."
            )
        recompute_layers(model, frozenset(chosen))
    return model


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
    _check_classes(recipe, data)
    model = build_model(recipe, data.tokenizer)
    recipe = settle(recipe, model, ranks.processes)
    counts, flops = count(model), flops_per_token(model, recipe.train.seq_len)
    objective = recipe.objective.build()
    optimizer = build_optimizer(recipe, model, ranks)
    frozen = _frozen(recipe, data.tokenizer)
    carry = "starts" in recipe.data.batch.gives  # type: ignore[attr-defined]
    division = dividing(recipe, ranks)
    step = Step(model, objective, optimizer, recipe.train, frozen, ranks, carry, division)
    evaluator = Evaluator(
        model,
        objective,
        step.roles,
        data.bytes_per_token("valid") if recipe.data.batch.covers_text else None,
        step.dtype,
        step.ema,
        ranks,
        getattr(recipe.objective, "unit", "token"),
    )
    return Built(recipe, data, model, step, evaluator, counts, flops)


def dividing(recipe: Recipe, ranks: Ranks) -> Division | None:
    """How processes that share layers divide the model, when their run begins."""
    if not isinstance(ranks, Layers):
        return None
    return Division(ranks, lambda model: recipe.optim.build(model, recipe.train.steps))


def check_division(recipe: Recipe, model: Any) -> None:
    """Whether `train.tensor_parallel` processes can share the layers of a recipe's model.

    Raises:
        RecipeError: they can't; names the key, and what to do.
    """
    if recipe.train.tensor_parallel == 1:
        return
    check_parts(recipe.model, model, recipe.train.tensor_parallel)
    if not recipe.optim.pointwise:  # type: ignore[attr-defined]
        raise RecipeError(
            f"optim.kind = '{recipe.optim.kind}' as it is set looks at whole arrays, of which a "
            "process has a part with train.tensor_parallel: take 'adamw', 'adam', 'lion' or 'sgd', "
            "and no optim.state = 'int8'."
        )


def check_model(recipe: Recipe) -> None:
    """Raises RecipeError where the model is none that the objective trains."""
    asked, model = recipe.objective, recipe.model
    does = {name: getattr(kind, "does", None) for name, kind in KINDS["model"].items()}
    trains = getattr(asked, "trains", does.values())
    if does[model.kind] not in trains:
        suited = [name for name, what in does.items() if what in trains]
        raise RecipeError(
            f"objective '{asked.kind}' can't train a model of kind '{model.kind}'. Kinds that it "
            f"trains: {', '.join(suited)}."
        )
    for slot, kinds in getattr(asked, "parts", {}).items():
        found = getattr(getattr(model, slot, None), "kind", None)
        if found not in kinds:
            has = f"is of kind '{found}'" if found else "is absent"
            wanted = " or ".join(f"'{kind}'" for kind in kinds)
            raise RecipeError(
                f"objective '{asked.kind}' reads model.{slot}, which {has}: set "
                f"model.{slot}.kind = {wanted}."
            )


def _check_classes(recipe: Recipe, data: Prepared) -> None:
    """Raises RecipeError where the data has more classes than the model tells apart, or the
    objective others than it has."""
    slot = getattr(recipe.objective, "answers", None)
    if slot is None:
        return
    told = getattr(recipe.model, slot).n_classes
    needed, labels = getattr(recipe.objective, "n_classes", told), data.labels
    if told != needed:
        raise RecipeError(
            f"objective '{recipe.objective.kind}' reads {needed} classes of model.{slot}: set "
            f"model.{slot}.n_classes = {needed}, not {told}."
        )
    if told < len(labels):
        names = ", ".join(labels[:8]) + (", …" if len(labels) > 8 else "")
        raise RecipeError(
            f"model.{slot}.n_classes = {told}, but the data has {len(labels)} classes: {names}."
        )


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


def load(run: str | Path | None = None) -> tuple[Any, Tokenizer]:
    """The model and tokenizer of a run: its best checkpoint, or the one named.

    Args:
        run: a run's name or folder, a checkpoint's folder, or None for the newest run.

    Raises:
        RunError: there is no such run.
        CheckpointError: its checkpoint is damaged.
    """
    folder, checkpoint = find_checkpoint(run)
    recipe = load_recipe(folder.recipe)
    tokenizer = load_tokenizer(folder.tokenizer)
    model = build_model(recipe, tokenizer)
    name = "ema" if recipe.train.ema else "model"
    trees, _ = load_checkpoint(checkpoint, only=[name])
    restore_model(model, trees["ema"]["average"] if recipe.train.ema else trees["model"])
    mx.eval(model.parameters())
    return model, tokenizer
