"""Refuses optimizers that the rest of a recipe can't supply with what they need."""

import math

from ..layers.heads import LmHead
from ..layers.init import MuP
from ..models.decoder import Decoder
from ..models.model import ModelKind
from ..objectives.objective import ChunkedKind, ObjectiveKind
from ..optim.kinds import OptimizerKind
from ..optim.low_precision_state import LowPrecisionState
from ..optim.width import WidthTransfer
from ..trainer.config import Checkpoints, Train


def check_optimizer(optim: OptimizerKind, objective: ObjectiveKind, train: Train) -> None:
    """Raise ValueError, naming the key and the cure, where an optimizer has no place in a run."""
    option = f"optim.kind = '{optim.kind}'"
    curvature = optim.curvature
    if curvature and curvature.by == "labels" and not isinstance(objective, ChunkedKind):
        raise ValueError(
            f"{option} draws labels from predictions over a vocabulary, which objective "
            f"'{objective.kind}' doesn't have: take 'sophia_h', whose estimate needs no labels."
        )
    if optim.periodic and (train.shard_optimizer or train.tensor_parallel > 1):
        key = "shard_optimizer" if train.shard_optimizer else "tensor_parallel"
        raise ValueError(
            f"{option} reads the state of all parameters, of which a process has a part with "
            f"train.{key}: leave that out, or take 'adamw'."
        )
    if optim.averages and train.ema is not None:
        raise ValueError(
            f"{option} keeps an average of the weights itself, so that train.ema would average the "
            "points that it only visits: remove train.ema."
        )


def check_offload(
    optim: OptimizerKind, train: Train, checkpoint: Checkpoints, others: dict[str, bool]
) -> None:
    """Check that the optimizer state of a recipe can be kept in a file, page by page.

    Args:
        optim: the table `[optim]`.
        train: the table `[train]`.
        checkpoint: the table `[checkpoint]`.
        others: tables of the recipe that need the state of all parameters at once, by name, and
            whether it has them.

    Raises:
        ValueError: something needs all of it in memory; names it, and the cure.
    """
    if not train.offload_optimizer:
        return
    key = f"optim.kind = '{optim.kind}'"
    cure = "leave it out, or train.offload_optimizer."
    if optim.periodic:
        raise ValueError(
            f"{key} reads the state of all parameters, of which train.offload_optimizer has a "
            "part in memory: take 'adamw', 'lion', 'muon' or another whose update is per "
            "parameter, or leave train.offload_optimizer out."
        )
    if isinstance(optim, LowPrecisionState) and optim.state != "float32":
        raise ValueError(
            f"optim.state = '{optim.state}' is rounded by random numbers that are drawn for all "
            "parameters in turn, and train.offload_optimizer updates a part of them at a time: "
            "leave optim.state out, since the moments take no memory there."
        )
    if checkpoint.in_background:
        raise ValueError(
            "checkpoint.async holds all optimizer state in memory while it is written, which "
            f"train.offload_optimizer keeps on the disk: {cure}"
        )
    others = others | {
        "train.shard_optimizer": train.shard_optimizer,
        "train.tensor_parallel": train.tensor_parallel > 1,
        "train.noise_scale": train.noise_scale,
    }
    if clash := next((name for name, is_set in others.items() if is_set), None):
        raise ValueError(
            f"{clash} works on all parameters, their gradients or their state at once, of which "
            f"train.offload_optimizer has a part in memory: {cure}"
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
    head_scale, head = rated / model.dim, model.head
    scaled = not isinstance(head, LmHead) or math.isclose(head.scale, head_scale, rel_tol=1e-3)
    if isinstance(head, LmHead) and head.tied and not scaled:
        raise ValueError(
            "With μP the logits of a tied head are divided by the width, since its table is the "
            f"embedding's: set model.head.scale = {head_scale:g} (base_dim / dim), or "
            "model.head.tied = false."
        )
