"""Refuses optimizers that the rest of a recipe can't supply with what they need."""

import math

from ..layers.heads import LmHead
from ..layers.init import MuP
from ..models.decoder import Decoder
from ..models.model import ModelKind
from ..objectives.objective import ChunkedKind, ObjectiveKind
from ..optim.kinds import OptimizerKind
from ..optim.width import WidthTransfer
from ..trainer.config import Train


def check_optimizer(optim: OptimizerKind, objective: ObjectiveKind, train: Train) -> None:
    """Raise ValueError, naming the key and the cure, where an optimizer has no place in a run."""
    named = f"optim.kind = '{optim.kind}'"
    curvature = optim.curvature
    if curvature and curvature.by == "labels" and not isinstance(objective, ChunkedKind):
        raise ValueError(
            f"{named} draws labels from predictions over a vocabulary, which objective "
            f"'{objective.kind}' doesn't have: take 'sophia_h', whose estimate needs no labels."
        )
    if optim.periodic and (train.shard_optimizer or train.tensor_parallel > 1):
        key = "shard_optimizer" if train.shard_optimizer else "tensor_parallel"
        raise ValueError(
            f"{named} reads the state of all parameters, of which a process has a part with "
            f"train.{key}: leave that out, or take 'adamw'."
        )
    if optim.averages and train.ema is not None:
        raise ValueError(
            f"{named} keeps an average of the weights itself, so that train.ema would average the "
            "points that it only visits: remove train.ema."
        )


def check_transfer(model: ModelKind, optim: OptimizerKind) -> None:
    """Check that initial weights and learning rates follow μP for one width, or neither does.

    Raises:
        ValueError: one does without the other; the message names the key and the cure.
    """
    init = dict(model).get("init")
    drawn = init.base_dim if isinstance(init, MuP) else None
    rated = optim.base_dim if isinstance(optim, WidthTransfer) else None
    if drawn is None and rated is None:
        return
    if rated is None and not isinstance(optim, WidthTransfer):
        raise ValueError(
            f"model.init.kind = 'mup' needs learning rates by width, and optim.kind = "
            f"'{optim.kind}' has none: take 'adamw', 'adam' or 'lion' with optim.base_dim = "
            f"{drawn}."
        )
    if drawn != rated:
        raise ValueError(
            "μP scales both initial weights and learning rates: set model.init.kind = 'mup', and "
            "model.init.base_dim and optim.base_dim to one number (now "
            f"{drawn or 'unset'} and {rated or 'unset'})."
        )
    if not isinstance(model, Decoder):
        raise ValueError(
            f"μP (optim.base_dim) is for decoders, not for model.kind = '{model.kind}': remove it."
        )
    assert rated is not None
    wanted, head = rated / model.dim, model.head
    scaled = not isinstance(head, LmHead) or math.isclose(head.scale, wanted, rel_tol=1e-3)
    if isinstance(head, LmHead) and head.tied and not scaled:
        raise ValueError(
            "With μP the logits of a tied head are divided by the width, since its table is the "
            f"embedding's: set model.head.scale = {wanted:g} (base_dim / dim), or "
            "model.head.tied = false."
        )
