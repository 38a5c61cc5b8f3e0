"""Refuses optimizers that the rest of a recipe can't supply with what they need."""

from ..objectives.objective import ChunkedKind, ObjectiveKind
from ..optim.kinds import OptimizerKind
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
