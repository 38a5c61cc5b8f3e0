"""Local attention: a window of the source."""

from typing import Annotated, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BS_, BTD, BTS
from ...recipe.slot import Slot
from ..kinds import AlignKind, Alignment, Project
from .align import MASKED, Align, AlignModule


class Local(Align):
    """Local attention: only source positions in a window around p_t, scored by another kind.

        monotonic    p_t = t
        predictive   p_t = S σ(vᵀ tanh(W h_t)),   a_t(s) = softmax(…) · exp(-(s - p_t)² / 2σ²)

    with σ half of the window; Luong et al. 2015, section 3.2. Beyond the end of the source the
    monotonic p_t stays at its last token. Sources must not be left-padded.
    """

    kind: Literal["local"] = "local"
    score: Annotated[AlignKind, Slot("align")]
    """The score of a query and a position in the window."""
    center: Literal["monotonic", "predictive"]
    """Choice of p_t: the paper's local-m or local-p."""
    window: int = Field(ge=1)
    """Positions on either side of p_t (the paper's D)."""

    @model_validator(mode="after")
    def _one_window(self) -> "Local":
        if isinstance(self.score, Local):
            raise ValueError("score is local itself: a window in a window is the smaller one.")
        return self

    def build(self, dim: int) -> "LocalAlign":
        return LocalAlign(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """The score's saved bytes, and four arrays over the window."""
        return self.score.saved_bytes(dim, at) + 4.0 * at.length * FLOAT32_BYTES

    def flops(self, dim: int, length: int) -> float:
        """Products of the score: all source positions are scored, and the window masks them."""
        return self.score.flops(dim, length)


class LocalAlign(AlignModule):
    """Attention weights inside the window; with the Gaussian they sum to less than 1."""

    def __init__(self, config: Local, dim: int) -> None:
        super().__init__()
        self.window = config.window
        self.of: Alignment = config.score.build(dim)
        if config.center == "predictive":
            self.place = nn.Linear(dim, dim, bias=False)
            self.v = nn.Linear(dim, 1, bias=False)

    @property
    def query(self) -> mx.array | None:
        return self.of.query

    def make_keys(self, memory: mx.array) -> mx.array:
        return self.of.make_keys(memory)

    def __call__(
        self,
        h: BTD,
        keys: BS_,
        valid: mx.array | None = None,
        offset: mx.array | int = 0,
        project: Project | None = None,
    ) -> BTS:
        batch, width = keys.shape[:2]
        if valid is None:
            valid = mx.ones((batch, width), mx.bool_)
        length = valid.sum(axis=1)[:, None].astype(mx.float32)
        center = self._center(h, length, offset)[..., None]
        away = mx.arange(width) - center
        near = valid[:, None] & (mx.abs(away) <= self.window)
        scores = mx.where(near, self.of.scores(h, keys, project), MASKED)
        weights = mx.softmax(scores, axis=-1)
        if "place" in self:
            weights = weights * mx.exp(-2.0 * mx.square(away / self.window))
        return weights.astype(h.dtype)

    def _center(self, h: mx.array, length: mx.array, offset: mx.array | int) -> mx.array:
        """p_t, `[B, T]` in float32."""
        if "place" in self:
            part = mx.sigmoid(self.v(mx.tanh(self.place(h)))[..., 0].astype(mx.float32))
            return length * part
        at = (mx.arange(h.shape[1]) + offset).astype(mx.float32)
        return mx.minimum(at[None], length - 1)
