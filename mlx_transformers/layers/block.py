"""The block of every stack: a mixer, an ffn, and the residual wiring around them.

sequential       x = residual(x, mixer);  [x = residual(x, cross);]  x = residual(x, ffn)
parallel         x = residual(x, mixer + ffn)             one norm feeds both (GPT-J, PaLM, Phi)
parallel_norms   x = x + mixer(norm(x)) + ffn(norm(x))    each has its own (NeoX, Falcon 40B)
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.footprint import ActivationShape
from ..recipe.config import Config, Kind
from ..recipe.slot import Slot
from .residual import Placement, Residual, residual_saved_bytes
from .shared import fill, part_of

Mix = Callable[[mx.array], mx.array]

SHARED = ("mixer", "cross", "ffn")
"""The slots whose work processes can share."""


class Block(Config):
    """One layer of a stack."""

    placement: Placement
    """Where the norms stand: `pre`, `post`, `sandwich`, `reordered` or `pre_skip`."""
    arrangement: Literal["sequential", "parallel", "parallel_norms"] = "sequential"
    """Whether the ffn follows the mixer or stands beside it, with the mixer's norm or its own."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the output of mixer and ffn, before it joins the residual stream."""
    skip: float = Field(1.0, gt=0)
    """Multiplies the residual stream before a layer's output joins it (DeepNorm's α)."""
    scale: float = Field(1.0, gt=0)
    """Multiplies a layer's output before it joins the residual stream (Granite, MiniCPM)."""
    norm: Annotated[Kind, Slot("norm")]
    """The normalisation of this block."""
    ffn_norm: Annotated[Kind, Slot("norm")] | None = None
    """The ffn's own normalisation; none means the same as `norm` (ModernBERT's first block)."""
    position: Annotated[Kind, Slot("position")] | None = None
    """Positions of this block alone; none means the stack's (Gemma 3's local blocks)."""
    mixer: Annotated[Kind, Slot("mixer")]
    """What moves information between positions."""
    cross: Annotated[Kind, Slot("mixer")] | None = None
    """What reads the encoder's output, between mixer and ffn; none in all but a decoder of two."""
    ffn: Annotated[Kind, Slot("ffn")]
    """What transforms each position on its own."""
    branch: Annotated[Kind, Slot("mixer")] | None = None
    """A second reading of the block's input that joins its output, `norm(y + branch(x))` (the
    convolution of DeBERTa v2's first block); none in all others."""

    @model_validator(mode="after")
    def _wiring_exists(self) -> "Block":
        if self.arrangement == "parallel_norms" and self.placement != "pre":
            raise ValueError(
                "arrangement = 'parallel_norms' goes with placement = 'pre': two norms before, "
                "none after."
            )
        if self.arrangement == "parallel" and self.ffn_norm is not None:
            raise ValueError(
                "arrangement = 'parallel' has one norm for mixer and ffn, so ffn_norm has no "
                "effect: unset it, or choose 'parallel_norms'."
            )
        if self.cross is not None and self.arrangement != "sequential":
            raise ValueError("cross goes with arrangement = 'sequential'.")
        if self.cross is not None and self.cross.kind != "cross_attention":
            raise ValueError(
                f"cross.kind = '{self.cross.kind}' doesn't read the encoder's output. Use "
                "'cross_attention'."
            )
        return self

    def build(self, dim: int, max_seq_len: int) -> "BlockModule":
        return BlockModule(self, dim, max_seq_len)

    def part(self, dim: int, n: int) -> "Block":
        """The block of one of `n` processes that share the work of its mixer, cross and ffn.

        Raises:
            RecipeError: one of them can't be divided, or not evenly.
        """
        slots = {name: getattr(self, name) for name in SHARED}
        return self.model_copy(
            update={name: part_of(name, kind, dim, n) for name, kind in slots.items() if kind}
        )

    @property
    def sublayers(self) -> list[Kind]:
        """What stands on the residual stream, one after the other."""
        return [part for part in (self.mixer, self.cross, self.ffn) if part is not None]

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the block keeps for its backward."""
        parts = self.sublayers
        inside = sum(part.saved_bytes(dim, at) for part in parts)  # type: ignore[attr-defined]
        around = residual_saved_bytes(self.norm, self.placement, self.dropout, dim, at)
        if self.branch is not None:
            inside += self.branch.saved_bytes(dim, at)  # type: ignore[attr-defined]
            inside += residual_saved_bytes(self.norm, "post", 0.0, dim, at)
        if self.arrangement == "parallel":
            return inside + around - dim * at.itemsize  # mixer and ffn read the same input
        return inside + len(parts) * around


class BlockModule(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`, and the same one step at a time for decoding.

    Its decode state is the mixer's, or a table of them (`mixer`, `cross`, `branch`) where there are
    several.
    """

    def __init__(self, config: Block, dim: int, max_seq_len: int) -> None:
        super().__init__()
        self.config, self.dim = config, dim
        self.mixer = config.mixer.build(dim)
        self.ffn = config.ffn.build(dim)
        self.arrangement = config.arrangement
        if config.position is not None:
            self.position = config.position.build(dim, max_seq_len)
        if config.branch is not None:
            self.branch = config.branch.build(dim)
            self.branch_residual = Residual(dim, config.norm, "post", 0.0)

        def residual(norm: Kind) -> Residual:
            return Residual(dim, norm, config.placement, config.dropout, config.skip, config.scale)

        if self.arrangement == "parallel":
            self.residual = residual(config.norm)
            return
        self.mixer_residual = residual(config.norm)
        self.ffn_residual = residual(config.ffn_norm or config.norm)
        if config.cross is not None:
            self.cross = config.cross.build(dim)
            self.cross_residual = residual(config.norm)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        ctx = self._placed(ctx)
        return self._whole(x, ctx, lambda name: lambda h: self[name](h, ctx))

    def share(self, group: mx.distributed.Group) -> None:
        """Keep this process's part of the mixer, cross and ffn, and exchange with the others.

        Raises:
            RecipeError: one of them can't be divided, or not evenly.
        """
        part = self.config.part(self.dim, group.size())
        for name in SHARED:
            if name in self:
                self[name] = fill(getattr(part, name).build(self.dim), self[name], group)

    def init_state(
        self, batch: int, length: int, dtype: mx.Dtype, memory: mx.array | None = None
    ) -> Any:
        """The decode state for `batch` rows of at most `length` tokens that read `memory`."""
        parts = {"mixer": self.mixer.init_state(batch, length, dtype)}
        if "cross" in self:
            parts["cross"] = self.cross.remember(memory)
        if "branch" in self:
            parts["branch"] = self.branch.init_state(batch, length, dtype)
        return parts if len(parts) > 1 else parts["mixer"]

    def step(self, x: mx.array, state: Any, ctx: Context) -> tuple[mx.array, Any]:
        """Continue every row by the T tokens of `x`; returns the output and the new state."""
        ctx = self._placed(ctx)
        parts = state if "cross" in self or "branch" in self else {"mixer": state}
        after: dict[str, Any] = {}

        def stepping(name: str) -> Mix:
            def mix(h: mx.array) -> mx.array:
                y, after[name] = self[name].step(h, parts[name], ctx)
                return y

            return mix

        y = self._whole(x, ctx, stepping)
        return y, after if len(after) > 1 else after["mixer"]

    def _placed(self, ctx: Context) -> Context:
        """The pass with this block's own positions, if it has any."""
        return replace(ctx, position=self.position) if "position" in self else ctx

    def _whole(self, x: mx.array, ctx: Context, part: Callable[[str], Mix]) -> mx.array:
        """Mixer, cross and ffn, and the branch beside them; `part` names one that is to run."""
        y = self._wire(x, ctx, part)
        if "branch" not in self:
            return y
        return self.branch_residual(y, lambda _: part("branch")(x), ctx)

    def _wire(self, x: mx.array, ctx: Context, part: Callable[[str], Mix]) -> mx.array:
        mix = part("mixer")
        if self.arrangement == "parallel":
            return self.residual(x, lambda h: mix(h) + self.ffn(h, ctx), ctx)
        if self.arrangement == "parallel_norms":
            y = mix(self.mixer_residual.before(x))
            return self.mixer_residual.join(x, y + self.ffn(self.ffn_residual.before(x), ctx), ctx)
        x = self.mixer_residual(x, mix, ctx)
        if "cross" in self:
            x = self.cross_residual(x, part("cross"), ctx)
        return self.ffn_residual(x, lambda h: self.ffn(h, ctx), ctx)
