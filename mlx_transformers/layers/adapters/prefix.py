"""Prefix tuning: trained keys and values ahead of those of every attention layer."""

from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.errors import RecipeError, RunError
from ...core.score_bias import DistanceBias
from ...ops.masks import Mask
from ..mixers.attention import AttentionMixer
from ..parameter import Role
from ..positions.position import Position
from .adapter import AdapterKind
from .shifted import ShiftedPosition
from .switch import Adaptation, Added, Switch
from .targets import layer_of, replace_module


class Prefix(AdapterKind):
    """Trained keys and values of virtual tokens, which every token of a row sees.

    Li & Liang 2021, "Prefix-Tuning: Optimizing Continuous Prompts for Generation", section 4. Keys
    are used as they are, without rotation; the tokens of a row begin at position `length`.
    """

    kind: Literal["prefix"] = "prefix"
    length: int = Field(16, ge=1)
    """Virtual tokens P."""
    layers: list[int] | None = None
    """Numbers of the layers of a stack that have a prefix; none means all."""

    def attach(self, model: nn.Module, adaptation: Adaptation) -> None:
        modules = sorted(model.named_modules(), key=lambda item: item[0])
        mixers = [(path, m) for path, m in modules if isinstance(m, AttentionMixer)]
        chosen = [m for path, m in mixers if self.layers is None or layer_of(path) in self.layers]
        if not chosen:
            raise RecipeError(
                "adapt.kind = 'prefix' puts keys and values before those of attention, and no "
                "layer that adapt.layers names has mixer.kind = 'attention'."
            )
        for mixer in chosen:
            mixer.prefix = PrefixKeys(self.length, mixer, adaptation.switch)
        for path, module in modules:
            if isinstance(module, Position):
                shifted = ShiftedPosition(module, self.length, adaptation.switch)
                replace_module(model, path, shifted)
        _shorten(model, self.length)


def _shorten(model: nn.Module, length: int) -> None:
    """Take the positions of the virtual tokens off the context of a model whose positions end.

    Raises:
        RecipeError: no position is left.
    """
    context = getattr(model, "max_seq_len", None)
    towers = (model, *(model.get(name) for name in ("decoder", "language")))
    positions = [tower.get("position") for tower in towers if isinstance(tower, nn.Module)]
    if context is None or all(_admits(position, context) for position in positions):
        return
    if length >= context:
        raise RecipeError(
            f"adapt.length = {length} virtual tokens take all {context} positions of the model: "
            "take fewer."
        )
    model.max_seq_len = context - length


def _admits(position: object, length: int) -> bool:
    """Whether a position has `length` places; what is none has no end."""
    try:
        if isinstance(position, Position):
            position.admit(length)
    except RunError:
        return False
    return True


class PrefixKeys(Added):
    """Keys and values `[G, P, K]` ahead of those of a layer."""

    roles: ClassVar[dict[str, Role]] = {"k": "table", "v": "table"}

    def __init__(self, length: int, mixer: AttentionMixer, switch: Switch) -> None:
        super().__init__()
        shape = (mixer.n_kv_heads, length, mixer.head_dim)
        self.k, self.v = (0.5 * mx.random.normal(shape) for _ in range(2))
        self.switch = switch

    def __call__(
        self,
        q: mx.array,
        k: mx.array,
        v: mx.array,
        mask: Mask,
        bias: mx.array | DistanceBias | None,
    ) -> tuple[mx.array, mx.array, Mask]:
        """Keys and values `[B, G, P + S, K]` with the prefix ahead, and the mask of both."""
        if not self.switch.on:
            return k, v, mask
        if bias is not None:
            raise RecipeError(
                "adapt.kind = 'prefix' has no distance to its keys, and the model's positions add "
                "a bias by distance to the scores: take another kind of adapter."
            )
        keys, values = (
            mx.concatenate([mx.broadcast_to(own, (len(q), *own.shape)).astype(y.dtype), y], axis=2)
            for own, y in ((self.k, k), (self.v, v))
        )
        length, size, n = q.shape[2], k.shape[2], self.k.shape[1]
        seen = mask.array(length, size)
        seen = mx.full((1, 1, length, size), True) if seen is None else seen
        seen = seen if seen.ndim == 4 else seen[None, None]
        seen = mx.broadcast_to(seen, (*seen.shape[:2], length, size))
        ahead = mx.full((*seen.shape[:3], n), True)
        return keys, values, Mask(allowed=mx.concatenate([ahead, seen], axis=-1))
