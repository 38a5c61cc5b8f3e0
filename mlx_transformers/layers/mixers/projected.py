"""Mixers of H heads whose queries, keys and values are linear layers of the residual stream."""

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.errors import RecipeError, RunError
from ..kinds import MixerKind, State
from ..linear import ResidualLinear


class ProjectedHeads(MixerKind):
    """Fields of a mixer with H heads of width K."""

    n_heads: int = Field(ge=1)
    """Query heads H."""
    head_dim: int | None = Field(None, ge=1)
    """Width K of a head; none means dim / n_heads."""
    bias: bool = False
    """Whether queries, keys and values have a bias."""
    out_bias: bool = False
    """Whether the output projection has a bias."""

    def width_of_head(self, dim: int) -> int:
        """Width K of a head, for a residual stream of width `dim`.

        Raises:
            RecipeError: none is given, and the heads don't divide the width.
        """
        if self.head_dim is None and dim % self.n_heads:
            raise RecipeError(
                f"mixer.n_heads = {self.n_heads} does not divide model.dim = {dim}, so no head "
                "width follows. Choose a divisor, or set mixer.head_dim."
            )
        return self.head_dim or dim // self.n_heads

    def check(self, dim: int) -> None:
        """Raise RecipeError if the numbers of heads don't fit each other or the width."""
        self.width_of_head(dim)


class GroupedHeads(ProjectedHeads):
    """Fields of a mixer whose key/value heads may serve several query heads each."""

    n_kv_heads: int | None = Field(None, ge=1)
    """Key/value heads G, a divisor of n_heads; none means as many as queries, 1 multi-query."""

    @property
    def kv_heads(self) -> int:
        """Key/value heads G."""
        return self.n_kv_heads or self.n_heads

    def check(self, dim: int) -> None:
        super().check(dim)
        if self.n_heads % self.kv_heads:
            raise RecipeError(
                f"mixer.n_kv_heads = {self.n_kv_heads} does not divide mixer.n_heads = "
                f"{self.n_heads}: every key/value head serves the same number of query heads."
            )


class ProjectedMixer(nn.Module):
    """The linear layers of q, k, v and o, and the heads between them.

    Args:
        config: the mixer's table.
        dim: width D of the residual stream.
        shared: whether queries serve as keys too, without a projection of their own.
        kv_heads: heads of keys and values; none means H.
        values: whether values have a projection of their own.
    """

    def __init__(
        self,
        config: ProjectedHeads,
        dim: int,
        *,
        shared: bool = False,
        kv_heads: int | None = None,
        values: bool = True,
    ) -> None:
        super().__init__()
        config.check(dim)
        self.n_heads, self.head_dim = config.n_heads, config.width_of_head(dim)
        width, narrow = (n * self.head_dim for n in (self.n_heads, kv_heads or self.n_heads))
        self.q = nn.Linear(dim, width, bias=config.bias)
        if not shared:
            self.k = nn.Linear(dim, narrow, bias=config.bias)
        if values:
            self.v = nn.Linear(dim, narrow, bias=config.bias)
        self.o = ResidualLinear(width, dim, bias=config.out_bias)

    def _heads(self, y: mx.array) -> mx.array:
        """`[B, T, H * K]` as heads `[B, H, T, K]`."""
        return y.reshape(*y.shape[:2], -1, self.head_dim).transpose(0, 2, 1, 3)

    def _merge(self, y: mx.array) -> mx.array:
        """The output `[B, T, D]` of heads `[B, H, T, K]`."""
        out: mx.array = self.o(y.transpose(0, 2, 1, 3).flatten(-2))
        return out


class WholeSequence(ProjectedMixer):
    """A mixer each of whose outputs needs the whole sequence."""

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Raise RunError: there is no past without a future."""
        raise RunError(
            "This mixer needs the whole sequence for each of its outputs, so it can't decode token "
            "by token. Use it in an encoder."
        )

    def step(self, x: mx.array, state: State, ctx: object) -> tuple[mx.array, State]:
        """Raise RunError, as `init_state`."""
        raise RunError("This mixer can't decode token by token. Use it in an encoder.")
