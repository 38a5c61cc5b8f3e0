"""The typed recipe: what the tables of a recipe file mean, and what must agree between them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import PrivateAttr, model_validator

from ..data.config import Data
from ..recipe.config import Config, Kind
from ..recipe.load import Resolved, resolve
from ..recipe.slot import KINDS, Slot
from ..recipe.validate import typed
from ..trainer.config import Checkpoints, Eval, Log, Train
from . import registry as registry  # fills the slots before any schema is built


class Recipe(Config):
    """Everything a run is: a model, an objective, data, an optimizer, and the trainer's habits."""

    model: Annotated[Kind, Slot("model")]
    """The architecture."""
    objective: Annotated[Kind, Slot("objective")]
    """What is minimised."""
    data: Data
    """What it learns from."""
    train: Train
    """How long, how much at once, and with what care."""
    optim: Annotated[Kind, Slot("optim")]
    """The optimizer and its schedule."""
    eval: Eval
    """When and on how much the model is measured."""
    checkpoint: Checkpoints
    """When the run is saved, and what is kept."""
    log: Log = Log()
    """What is written while the run goes on."""

    _resolved: Resolved | None = PrivateAttr(None)

    @property
    def resolved(self) -> Resolved | None:
        """The tables as merged, with the recipe that set each key; None if made in Python."""
        return self._resolved

    @model_validator(mode="after")
    def _batch_suits_objective(self) -> "Recipe":
        needs = set(getattr(self.objective, "needs", ()))
        if missing := sorted(needs - set(self.data.batch.gives)):
            kinds = KINDS["batch"].items()
            suited = [name for name, kind in kinds if needs <= set(getattr(kind, "gives", ()))]
            raise ValueError(
                f"objective '{self.objective.kind}' reads the array '{missing[0]}', which batches "
                f"of kind '{self.data.batch.kind}' don't have. Kinds of data.batch that do: "
                f"{', '.join(suited)}."
            )
        return self

    @model_validator(mode="after")
    def _row_fits_context(self) -> "Recipe":
        context = getattr(self.model, "max_seq_len", None)
        if context is not None and self.train.seq_len > context:
            raise ValueError(
                f"train.seq_len = {self.train.seq_len} exceeds model.max_seq_len = {context}: "
                "shorten the rows or give the model a longer context."
            )
        return self


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
