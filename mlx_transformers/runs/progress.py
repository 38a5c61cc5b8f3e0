"""How far a run has come: what a checkpoint's state.json holds beside the arrays."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass
class Progress:
    """The numbers that a resumed run continues from.

    Attributes:
        step: optimizer steps done.
        tokens: tokens trained on.
        seconds: time spent in steps, over all sessions of the run.
        skipped: steps that changed nothing because a gradient was not finite.
        best_loss: lowest validation loss (nats per token), None before the first evaluation.
        best_step: the step of it.
        stale_evals: evaluations since then.
        cursor: where the data stream stands.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0
    best_loss: float | None = None
    best_step: int = 0
    stale_evals: int = 0
    cursor: dict[str, Any] = field(default_factory=dict)

    def stopped_early(self, patience: int | None) -> bool:
        """Whether as many evaluations in a row as `patience` brought nothing better."""
        return patience is not None and self.stale_evals >= patience

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Progress":
        """From `to_dict`; keys of other owners are left alone."""
        names = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in names})
