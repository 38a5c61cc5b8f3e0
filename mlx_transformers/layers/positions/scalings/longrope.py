"""LongRoPE."""

from typing import Literal

import mlx.core as mx
import numpy as np
from pydantic import Field

from ....core.errors import RecipeError
from ...kinds import ScalingKind
from .scaling import plain_inv_freq, single


class LongRopeScaling(ScalingKind):
    """LongRoPE: a searched divisor per pair, one set for short and one for long sequences.

    Ding et al. 2024, equation 3 and section 3.3; Phi-3 (Abdin et al. 2024). The long set is
    used for sequences longer than `trained_len`.
    """

    kind: Literal["longrope"] = "longrope"
    trained_len: int = Field(ge=1)
    """The longest sequence of the short divisors, in tokens."""
    short: tuple[float, ...]
    """Divisors of the frequencies, one for each rotated pair."""
    long: tuple[float, ...]
    """The divisors beyond `trained_len`."""
    magnitude: float = Field(1.0, gt=0)
    """Factor of rotated queries and keys (Phi-3: √(1 + ln(factor) / ln(trained)))."""
    reread: bool = True
    """Whether cached keys are recomputed when decoding passes `trained_len` (Phi-3); otherwise they
    keep the rotation of the short set."""

    def inv_freq(self, theta: float, width: int, length: mx.array | int) -> mx.array:
        plain = plain_inv_freq(theta, width)
        for name, by in (("short", self.short), ("long", self.long)):
            if len(by) != len(plain):
                raise RecipeError(
                    f"position.scaling.{name} has {len(by)} divisors, but {len(plain)} pairs of "
                    "features are rotated. Give one for each."
                )
        short, long = (single(plain / np.array(by)) for by in (self.short, self.long))
        return mx.where(mx.array(length) > self.trained_len, long, short)

    def size(self) -> float:
        return self.magnitude

    @property
    def recompute_beyond(self) -> int | None:
        return self.trained_len if self.reread else None
