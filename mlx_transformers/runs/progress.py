"""Training progress: the numbers in a checkpoint's state.json."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass
class Progress:
    """The counters that a resumed run continues from.

    Attributes:
        step: optimizer steps done.
        tokens: tokens trained on.
        seconds: wall-clock time of the steps, over all starts of the run.
        skipped: steps that changed nothing because a gradient was not finite.
        best_loss: best value of the objective's ranking metric, a validation loss unless it names
            another; None before the first evaluation.
        best_step: the step of it.
        stale_evals: evaluations since then.
        cursor: position of the data stream.
        cpu_streams: CPU streams that shared the rows of the last step's batches; None before it.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0
    best_loss: float | None = None
    best_step: int = 0
    stale_evals: int = 0
    cursor: dict[str, Any] = field(default_factory=dict)
    cpu_streams: int | None = None

    def stopped_early(self, patience: int | None) -> bool:
        """Whether `patience` evaluations in a row brought no better loss."""
        return patience is not None and self.stale_evals >= patience

    def to_dict(self) -> dict[str, Any]:
        """A dict that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Progress":
        """Make from `to_dict`'s result; other keys are ignored."""
        names = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in names})
