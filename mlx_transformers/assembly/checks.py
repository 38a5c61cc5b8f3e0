"""Checks between the parts of a recipe: model against objective, data and processes."""

from typing import Any

from ..core.errors import RecipeError
from ..core.loss import VAL_LOSS, Best
from ..data.prepare import Prepared
from ..models.sharing import check_parts
from ..recipe.config import Kind
from ..recipe.slot import KINDS
from .recipe import Recipe


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


def best_of(objective: Kind | type[Kind]) -> Best:
    """The metric by which an objective ranks checkpoints: the validation loss by default."""
    found: Best = getattr(objective, "best", VAL_LOSS)
    return found


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


def check_classes(recipe: Recipe, data: Prepared) -> None:
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
