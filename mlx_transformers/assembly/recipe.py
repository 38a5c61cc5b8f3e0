"""The typed recipe: the tables of a recipe file, and the checks between them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, model_validator

from ..chat.config import Tools
from ..compress.dynamic import Sparse
from ..compress.training import Prune, Quantize
from ..core.errors import RecipeError
from ..data.config import Data
from ..data.curriculum import Curriculum
from ..data.kinds import BatchKind
from ..layers.adapters.adapter import AdapterKind
from ..layers.packed import Packed
from ..memory.cost import Cost
from ..models.model import ModelKind
from ..objectives.objective import ObjectiveKind
from ..optim.kinds import OptimizerKind
from ..recipe.config import Config
from ..recipe.load import Resolved, resolve
from ..recipe.slot import KINDS, Slot
from ..recipe.validate import typed
from ..trainer.config import Checkpoints, Eval, Log, Train
from ..trainer.source import SourceKind, Stream
from . import registry as registry  # fills the slots before any schema is built
from .growth import Grow, check_stages, grown_kind
from .optimizer_checks import check_offload, check_optimizer, check_transfer
from .row_checks import check_rows
from .sizes import check_model_sizes, check_step_sizes


class Recipe(Config):
    """A whole run: model, objective, data, optimizer, and the settings of the trainer."""

    model: Annotated[ModelKind, Slot("model")]
    """The architecture."""
    adapt: Annotated[AdapterKind, Slot("adapt")] | None = None
    """Adapters that are trained in place of the model's own weights; none trains the model."""
    objective: Annotated[ObjectiveKind, Slot("objective")]
    """The loss that is minimised."""
    data: Data
    """The text, its tokenizer, and what a batch is."""
    source: Annotated[SourceKind, Slot("source")] = Stream()
    """Source of the batches: the prepared data, or what the model itself generates."""
    curriculum: Curriculum | None = None
    """The order of the training rows, from easy to hard."""
    train: Train
    """Length, batch size, precision and numerical safety of training."""
    optim: Annotated[OptimizerKind, Slot("optim")]
    """The optimizer and its schedule."""
    eval: Eval
    """Interval and size of evaluations."""
    checkpoint: Checkpoints
    """Interval and number of checkpoints."""
    quantize: Quantize | None = None
    """Quantization-aware training of linear layers."""
    prune: Prune | None = None
    """Gradual pruning of linear layers."""
    sparse: Sparse | None = None
    """Dynamic sparse training of linear layers."""
    packed: Packed | None = None
    """Weights that are stored in few bits; none in a model that is trained whole."""
    grow: list[Grow] = Field(default_factory=list)
    """Stages in which the model grows while it is trained. `[model]` is the first of them."""
    log: Log = Log()
    """Reports, samples and trackers during the run."""
    cost: Cost = Cost()
    """Power and factors by which the energy of the run is counted."""
    tools: Tools = Tools()
    """Tools that the trained model may call while it answers."""

    _resolved: Resolved | None = PrivateAttr(None)
    _first: ModelKind | None = PrivateAttr(None)

    @property
    def resolved(self) -> Resolved | None:
        """The merged tables, and the recipe that set each key; None if made in Python."""
        return self._resolved

    def replace(self, **tables: Any) -> "Recipe":
        """Return a recipe with other tables, such as a `model` made in Python, checked as a whole.

        Raises:
            RecipeError: its model grows, so that `model` is one of several.
            ValidationError: the tables don't go together.
        """
        if self.grow:
            raise RecipeError(
                "Tables can't be replaced beside [[grow]], whose stages belong to one model: "
                "write the changes into the recipe's file, or give them to load_recipe."
            )
        return Recipe(**(dict(self) | tables))

    def stage(self, step: int, saved: bool = False) -> "Recipe":
        """Return the recipe with the model that trains at a step; the recipe if nothing grows.

        Args:
            step: steps that are done.
            saved: whether the model is that of a checkpoint, which is saved before it grows.
        """
        if self._first is None:
            return self
        model = self._first
        for growth in self.grow:
            if growth.at < step or (growth.at == step and not saved):
                model = grown_kind(model, growth)
        return self.model_copy(update={"model": model})

    @property
    def averaged(self) -> bool:
        """Whether a run is judged by an average of its weights, and not by those it trains."""
        return self.train.ema is not None or self.optim.averages

    @model_validator(mode="after")
    def _optimizer_is_supplied(self) -> "Recipe":
        check_optimizer(self.optim, self.objective, self.train)
        check_transfer(self.model, self.optim)
        tables = {"[prune]": self.prune, "[sparse]": self.sparse, "[[grow]]": self.grow}
        set_tables = {name: bool(table) for name, table in tables.items()}
        check_offload(self.optim, self.train, self.checkpoint, set_tables)
        return self

    @model_validator(mode="after")
    def _sizes_are_possible(self) -> "Recipe":
        check_model_sizes(self.model)
        check_step_sizes(self.train, self.eval)
        return self

    @model_validator(mode="after")
    def _batch_suits_objective(self) -> "Recipe":
        needs = set(self.objective.requires)
        if missing := sorted(needs - set(self.source.gives(self.data.batch))):
            kinds = KINDS["batch"].items()
            suited = [
                n for n, kind in kinds if issubclass(kind, BatchKind) and needs <= {*kind.gives}
            ]
            raise ValueError(
                f"objective '{self.objective.kind}' reads the array '{missing[0]}', which batches "
                f"of kind '{self.data.batch.kind}' don't have. Kinds of data.batch that do: "
                f"{', '.join(suited)}."
            )
        return self

    @property
    def masks_weights(self) -> bool:
        """Whether masks are trained beside the weights: `[sparse]`, or movement pruning."""
        return self.sparse is not None or (
            self.prune is not None and self.prune.movement is not None
        )

    @model_validator(mode="after")
    def _connections_are_whole(self) -> "Recipe":
        if not self.masks_weights:
            return self
        train, optim = self.train, self.optim
        conflicts = {
            "[adapt]": self.adapt is not None,
            "[packed]": self.packed is not None,
            "[prune]": self.prune is not None and self.sparse is not None,
            "an average of the weights (train.ema, schedule_free)": self.averaged,
            "train.noise_scale": train.noise_scale,
            "train.shard_optimizer": train.shard_optimizer,
            "train.tensor_parallel": train.tensor_parallel > 1,
            f"optim.kind = '{optim.kind}' as it is set": self.sparse and not optim.pointwise,
        }
        if wrong := [name for name, is_set in conflicts.items() if is_set]:
            table = "prune.movement" if self.sparse is None else "sparse"
            raise ValueError(
                f"{table} masks single weights and their moments, and doesn't go with "
                f"{' and '.join(wrong)}: leave one of them out."
            )
        if self.sparse is None:
            return self
        if self.sparse.every >= train.steps and self.sparse.method != "static":
            raise ValueError(
                f"sparse.every = {self.sparse.every} is as long as the run (train.steps = "
                f"{train.steps}), so no connection would change: take less, or method = 'static'."
            )
        return self

    @model_validator(mode="after")
    def _stages_grow(self) -> "Recipe":
        tables = {
            "adapt": self.adapt,
            "packed": self.packed,
            "prune": self.prune,
            "sparse": self.sparse,
        }
        conflicts = [f"[{name}]" for name, table in tables.items() if table is not None]
        if "starts" in self.data.batch.gives:
            conflicts.append(f"data.batch.kind = '{self.data.batch.kind}'")
        check_stages(self.model, self.grow, self.train.steps, self.optim, conflicts)
        return self

    @model_validator(mode="after")
    def _rows_can_be_chosen(self) -> "Recipe":
        check_rows(self.source, self.data, self.train, self.curriculum)
        return self

    @model_validator(mode="after")
    def _row_fits_context(self) -> "Recipe":
        context = self.model.context()
        if context is not None and self.train.seq_len > context:
            raise ValueError(
                f"train.seq_len = {self.train.seq_len} exceeds model.max_seq_len = {context}: "
                "shorten the rows or give the model a longer context."
            )
        return self


def _check_one_text(resolved: Resolved) -> None:
    """Refuse a corpus that a path or data set from before would replace without a word.

    A path is meant to replace a corpus that it inherits. The recipe of a run, which has no parent,
    sets both if its recipe did.

    Raises:
        RecipeError: `data.corpus` is set together with another text, or after it.
    """
    corpus = resolved.set_at("data.corpus")
    for key in ("data.path", "data.dataset"):
        text = resolved.set_at(key)
        if corpus is None or text is None or corpus < text or corpus == text == 0:
            continue
        raise RecipeError(
            f"data.corpus (set by {resolved.origin['data.corpus']}) and {key} (set by "
            f"{resolved.origin[key]}) are two texts. Remove one of them; one that is inherited is "
            f'removed by unset = ["{key}"].'
        )


def load_recipe(recipe: str | Path, set: Sequence[str] = ()) -> Recipe:
    """Load a recipe by path or name: merge its chain, type it, check it.

    With `[[grow]]` its model is the one at the end; `Recipe.stage` gives the others.

    Args:
        recipe: "recipes/mistral_tiny.toml", or "mistral_tiny".
        set: "path=value" strings, the last diff of the chain.

    Raises:
        RecipeError: it can't be read, merged or typed.
    """
    resolved = resolve(recipe, set)
    _check_one_text(resolved)
    out = typed(Recipe, resolved)
    out._resolved = resolved
    if not out.grow:
        return out
    first = out.model
    out._first = first
    return out.stage(out.train.steps)
