"""The stages of a run whose model grows: tables `[[grow]]` of a recipe."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from ..layers.kinds import ExpertKind
from ..models.decoder import Decoder
from ..models.model import ModelKind
from ..optim.kinds import OptimizerKind
from ..recipe.config import Config
from .sizes import check_model_sizes

CARRIED = {
    "adam": {"m": 1, "v": 2, "largest": 2},
    "adamw": {"m": 1, "v": 2, "largest": 2},
    "lion": {"m": 1},
    "sgd": {"v": 1},
    "muon": {"m": 1, "v": 1},
}
"""Optimizers whose state grows with the weights, and the power of the gradient in each moment."""


class Grow(Config):
    """A stage of a run whose model grows, with its optimizer state (Gong et al. 2019; Chen et al.
    2016). `[model]` is the model at step 0; the verb `grow` makes the same of a finished run."""

    at: int = Field(ge=1)
    """The step before which the model grows."""
    n_layers: int | None = Field(None, ge=1)
    """Its layers from here on; none keeps them."""
    hidden_dim: int | None = Field(None, ge=1)
    """Width of its ffns; none keeps it."""
    method: Literal["identity", "stack", "interpolate"] = "identity"
    """New layers: copies that add nothing yet, a stack of stacks, or a twin beside each layer."""

    @model_validator(mode="after")
    def _grows_something(self) -> "Grow":
        if self.n_layers is None and self.hidden_dim is None:
            raise ValueError("nothing grows: give n_layers, hidden_dim or both.")
        return self


def grown_kind(model: ModelKind, stage: Grow) -> ModelKind:
    """Return the model of a stage.

    Raises:
        ValueError: the model can't grow, or the stage makes something smaller.
    """
    if not isinstance(model, Decoder) or model.blocks or model.block.ffn is None:
        raise ValueError(
            f"grow: a model of kind '{model.kind}' as it is set can't grow: decoders whose layers "
            "are all of one [model.block] with an ffn can."
        )
    block, changes = model.block, dict[str, Any]()
    if stage.hidden_dim is not None:
        kind = model.block.ffn
        width = dict(kind).get("hidden_dim")
        if not isinstance(kind, ExpertKind) or not isinstance(width, int):
            raise ValueError(
                f"grow: hidden_dim widens ffns that can be stacked, such as 'mlp' and 'glu', and "
                f"block.ffn.kind = '{kind.kind}' isn't one: take n_layers alone."
            )
        _check_larger(stage.at, "hidden_dim", stage.hidden_dim, width)
        wide = model.block.ffn.model_copy(update={"hidden_dim": stage.hidden_dim})
        changes["block"] = block.model_copy(update={"ffn": wide})
    if stage.n_layers is not None:
        _check_larger(stage.at, "n_layers", stage.n_layers, model.n_layers)
        if stage.method == "identity" and model.n_distinct is not None:
            raise ValueError(
                "grow: n_distinct repeats layers with the same weights, so that no layer adds "
                "nothing: take method = 'stack'."
            )
        if stage.method == "identity" and block.placement != "pre":
            raise ValueError(
                f"grow: block.placement = '{block.placement}' norms the residual stream, so no "
                "layer adds nothing to it: take method = 'stack' or 'interpolate'."
            )
        changes["n_layers"] = stage.n_layers
    return model.model_copy(update=changes)


def _check_larger(at: int, key: str, new: int, old: int) -> None:
    if new <= old:
        raise ValueError(
            f"grow: {key} = {new} at step {at} doesn't grow the model, which has {old} by then: a "
            "model only grows. Take more, or remove the key."
        )


def check_stages(
    model: ModelKind, stages: Sequence[Grow], steps: int, optim: OptimizerKind, conflicts: list[str]
) -> None:
    """Check that each stage grows the model before, in order, within the run.

    Args:
        model: the model at step 0.
        stages: its growth.
        steps: steps of the run.
        optim: the optimizer, whose state has to grow too.
        conflicts: keys of the recipe that don't go with growth and are set.

    Raises:
        ValueError: they don't; the message names the key and the cure.
    """
    if not stages:
        return
    before = 0
    for stage in stages:
        if stage.at <= before:
            raise ValueError(
                f"grow: a stage at step {stage.at} comes after one at step {before}: sort them."
            )
        before, model = stage.at, grown_kind(model, stage)
        try:
            check_model_sizes(model)
        except ValueError as error:
            raise ValueError(f"grow, at step {stage.at}: {error}") from None
    if before >= steps:
        raise ValueError(
            f"grow: the stage at step {before} is never reached, since train.steps = {steps}."
        )
    if optim.kind not in CARRIED or dict(optim).get("state", "float32") == "int8":
        raise ValueError(
            f"grow carries the optimizer's state over, and that of optim.kind = '{optim.kind}' as "
            f"it is set can't grow. Take one of {', '.join(CARRIED)}, without 8-bit state."
        )
    if conflicts:
        raise ValueError(f"grow doesn't go with {' and '.join(conflicts)}: leave one of them out.")
