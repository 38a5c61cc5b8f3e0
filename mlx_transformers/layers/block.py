"""The block of every stack: a mixer, an optional ffn, and the residual connections around them.

sequential       x = residual(x, mixer);  [x = residual(x, cross);]  [x = residual(x, ffn)]
parallel         x = residual(x, mixer + ffn)             one norm feeds both (GPT-J, PaLM, Phi)
parallel_norms   x = x + mixer(norm(x)) + ffn(norm(x))    each has its own (NeoX, Falcon 40B)
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.footprint import FLOAT32_BYTES, ActivationShape
from ..core.shapes import BTD
from ..recipe.slot import Slot
from .ffn_chunks import in_chunks
from .kinds import (
    CrossMixerKind,
    ExpertKind,
    FfnKind,
    MixerKind,
    NormKind,
    PositionKind,
    RecurrentFfnKind,
    SplitKind,
    State,
)
from .projected import Projected
from .residual import Residual, ResidualOptions
from .route import Route
from .sharding import part_of, shard_module

Mix = Callable[[mx.array], mx.array]

BRANCH = ResidualOptions(placement="post")
"""The residual connection of a branch beside the block."""

SHARED = ("mixer", "cross", "ffn")
"""The slots whose work tensor-parallel processes split."""


class Block(ResidualOptions):
    """One layer of a stack."""

    arrangement: Literal["sequential", "parallel", "parallel_norms"] = "sequential"
    """Whether the ffn follows the mixer or runs beside it, on the mixer's norm or its own."""
    norm: Annotated[NormKind, Slot("norm")]
    """The normalisation of the block."""
    ffn_norm: Annotated[NormKind, Slot("norm")] | None = None
    """The ffn's own normalisation; none means the same as `norm` (ModernBERT's first block)."""
    position: Annotated[PositionKind, Slot("position")] | None = None
    """Positions of this block alone; none means those of the stack (Gemma 3: local blocks)."""
    mixer: Annotated[MixerKind, Slot("mixer")]
    """Moves information between positions."""
    cross: Annotated[MixerKind, Slot("mixer")] | None = None
    """Cross attention to the encoder's output, between mixer and ffn; only in the decoder of an
    encoder-decoder."""
    ffn: Annotated[FfnKind, Slot("ffn")] | None = None
    """Transforms each position on its own; none means a block of a mixer alone (Mamba)."""
    ffn_chunk: int | None = Field(None, ge=1)
    """Positions that the ffn computes at once, and again in the backward pass, so that its hidden
    features are in memory for no more of them (Reformer); none means all."""
    branch: Annotated[MixerKind, Slot("mixer")] | None = None
    """A mixer beside the whole block whose output joins the block's, `norm(y + branch(x))` (the
    convolution of DeBERTa v2's first block)."""
    route: Route | None = None
    """Mixture of Depths: the share of the tokens that the block runs on; none means all."""

    @model_validator(mode="after")
    def _wiring_exists(self) -> "Block":
        if self.arrangement == "parallel_norms" and self.placement != "pre":
            raise ValueError(
                "arrangement = 'parallel_norms' goes with placement = 'pre': two norms before, "
                "none after."
            )
        if self.arrangement == "parallel_norms" and self.layer_scale is not None:
            raise ValueError("layer_scale goes with arrangement = 'sequential' or 'parallel'.")
        if self.arrangement == "parallel" and self.ffn_norm is not None:
            raise ValueError(
                "arrangement = 'parallel' has one norm for mixer and ffn, so ffn_norm has no "
                "effect: unset it, or choose 'parallel_norms'."
            )
        if self.ffn is None and self.arrangement != "sequential":
            raise ValueError(
                f"arrangement = '{self.arrangement}' puts an ffn beside the mixer, but there is no "
                "ffn: set ffn, or choose 'sequential'."
            )
        if self.ffn is None and self.ffn_norm is not None:
            raise ValueError("ffn_norm has no effect without ffn: set ffn, or unset ffn_norm.")
        if self.ffn_chunk is not None and not isinstance(self.ffn, ExpertKind):
            kind = "none" if self.ffn is None else f"'{self.ffn.kind}'"
            raise ValueError(
                f"ffn_chunk goes with an ffn that computes each position on its own, such as 'mlp' "
                f"or 'glu', and ffn.kind is {kind}: unset ffn_chunk."
            )
        if self.cross is not None and self.arrangement != "sequential":
            raise ValueError("cross goes with arrangement = 'sequential'.")
        if self.cross is not None and not isinstance(self.cross, CrossMixerKind):
            raise ValueError(
                f"cross.kind = '{self.cross.kind}' doesn't read the encoder's output. Use "
                "'cross_attention'."
            )
        return self

    @model_validator(mode="after")
    def _routed_tokens_can_be_left_out(self) -> "Block":
        if self.route is None:
            return self
        if not self.mixer.skips_tokens:
            raise ValueError(
                f"route leaves tokens out, which mixer.kind = '{self.mixer.kind}' as it is set "
                "doesn't allow. Use 'attention' without a window."
            )
        if self.branch is not None or isinstance(self.ffn, RecurrentFfnKind):
            raise ValueError(
                "route leaves tokens out, so the block can't have a branch or an ffn that reads "
                "neighbouring tokens: unset route, or choose another ffn."
            )
        return self

    def build(self, dim: int, max_seq_len: int) -> "BlockModule":
        """The module, for a residual stream of width `dim`."""
        return BlockModule(self, dim, max_seq_len)

    def part(self, dim: int, n: int) -> "Block":
        """The block as one of `n` tensor-parallel processes builds it.

        Raises:
            RecipeError: mixer, cross or ffn can't be split, or not evenly.
        """
        slots: dict[str, SplitKind | None] = {name: getattr(self, name) for name in SHARED}
        return self.model_copy(
            update={name: part_of(name, kind, dim, n) for name, kind in slots.items() if kind}
        )

    @property
    def rewinds(self) -> bool:
        """Whether its decode state can go back to an earlier position (`MixerKind.rewinds`)."""
        more = (self.cross, self.branch, self.route)
        stateless = not isinstance(self.ffn, RecurrentFfnKind) and not any(more)
        return self.mixer.rewinds and stateless

    @property
    def sublayers(self) -> list[SplitKind]:
        """The kinds on the residual stream, one after the other."""
        return [part for part in (self.mixer, self.cross, self.ffn) if part is not None]

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the forward saves for its backward."""
        if self.route is None:
            return self._saved_bytes(dim, at)
        k = self.route.tokens(at.length)
        inside = self._saved_bytes(dim, replace(at, length=k)) + dim * at.itemsize
        return inside * k / at.length + 8 * FLOAT32_BYTES

    def _saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the block runs on."""
        parts = self.sublayers
        inside = sum(part.saved_bytes(dim, at) for part in parts)
        if self.ffn is not None and self.ffn_chunk is not None:
            inside += dim * at.itemsize - self.ffn.saved_bytes(dim, at)  # the chunks of its input
        around = [self._saved_around(part, dim, at) for part in parts]
        if self.branch is not None:
            inside += self.branch.saved_bytes(dim, at)
            inside += BRANCH.residual_bytes(self.norm, dim, at)
        if self.arrangement == "parallel":
            return inside + around[0] - dim * at.itemsize  # mixer and ffn read the same input
        return inside + sum(around)

    def _saved_around(self, part: SplitKind, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the residual connection of a sublayer saves."""
        alone = self.arrangement == "sequential" and not (part is self.ffn and self.ffn_chunk)
        return self.residual_bytes(self.norm, dim, at, projected=part.projects_first and alone)

    def flops(self, dim: int, length: int) -> float:
        """Forward operations of matrix products per token beyond two for each weight."""
        parts = [*self.sublayers, *([self.branch] if self.branch else [])]
        share = 1.0 if self.route is None else self.route.tokens(length) / length
        position_flops = 0.0 if self.position is None else self.position.flops(dim, length)
        return position_flops + share * sum(
            part.flops(dim, round(share * length)) for part in parts
        )


class BlockModule(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`, and the same one step at a time for decoding.

    Its decode state is a dict of the states of its `mixer`, `cross` and `branch`, of an `ffn` that
    has one, and of the tokens that a routed block has run on (`seen`).
    """

    def __init__(self, config: Block, dim: int, max_seq_len: int) -> None:
        super().__init__()
        self.config, self.dim = config, dim
        self.mixer = config.mixer.build(dim)
        if config.ffn is not None:
            self.ffn = config.ffn.build(dim)
        self.arrangement = config.arrangement
        if config.route is not None:
            self.route = config.route.build(dim)
        if config.position is not None:
            self.position = config.position.build(dim, max_seq_len)
        if config.branch is not None:
            self.branch = config.branch.build(dim)
            self.branch_residual = Residual(BRANCH, config.norm, dim)
        if self.arrangement == "parallel":
            self.residual = Residual(config, config.norm, dim)
            return
        self.mixer_residual = Residual(config, config.norm, dim)
        if config.ffn is not None:
            self.ffn_residual = Residual(config, config.ffn_norm or config.norm, dim)
        if isinstance(config.cross, CrossMixerKind):
            self.cross = config.cross.build(dim)
            self.cross_residual = Residual(config, config.norm, dim)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        return self.route(x, ctx, self._whole) if "route" in self else self._whole(x, ctx)

    def _whole(self, x: mx.array, ctx: Context) -> mx.array:
        """The block on every token of `x`."""
        ctx = self._with_position(ctx)
        return self._run(x, ctx, lambda name: self._over(name, ctx))

    def idle_parameters(self) -> int:
        """Parameters that a token doesn't meet on average, where the block is routed."""
        if self.config.route is None:
            return 0
        n_parameters = sum(value.size for _, value in tree_flatten(self.parameters()))
        return round(n_parameters * (1 - self.config.route.capacity))

    def shard(self, group: mx.distributed.Group) -> None:
        """Keep this process's part of mixer, cross and ffn, and exchange with the others.

        Raises:
            RecipeError: one of them can't be split, or not evenly.
        """
        part = self.config.part(self.dim, group.size())
        for name in SHARED:
            if name in self:
                self[name] = shard_module(getattr(part, name).build(self.dim), self[name], group)
        self.config = part

    def init_state(
        self, batch: int, length: int, dtype: mx.Dtype, memory: mx.array | None = None
    ) -> State:
        """The decode state for `batch` rows of at most `length` tokens that read `memory`."""
        state: State = {"mixer": self.mixer.init_state(batch, length, dtype)}
        if "cross" in self:
            state["cross"] = self.cross.project_memory(memory)
        if "branch" in self:
            state["branch"] = self.branch.init_state(batch, length, dtype)
        if isinstance(self.config.ffn, RecurrentFfnKind):
            state["ffn"] = self["ffn"].init_state(batch, length, dtype)
        if "route" in self:
            state["seen"] = mx.zeros((batch, length), mx.bool_)
        return state

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue every row by the T tokens of `x`; returns the output and the new state."""
        after: State = {}

        def block(x: mx.array, ctx: Context) -> mx.array:
            ctx = self._with_position(ctx)
            return self._run(x, ctx, lambda name: self._stepping(name, state, after, ctx))

        if "route" not in self:
            return block(x, ctx), after
        y, seen = self.route.step(x, state["seen"], ctx, block)
        return y, after | {"seen": seen}

    def _stepping(self, name: str, state: State, after: State, ctx: Context) -> Mix:
        """The function of a sublayer over a step, which leaves its new state in `after`."""
        if name not in state:
            return self._over(name, ctx)

        def mix(h: mx.array) -> mx.array:
            out: tuple[mx.array, State] = self[name].step(h, state[name], ctx)
            y, after[name] = out
            return y

        return mix

    def added(self, name: str, x: BTD, ctx: Context) -> BTD:
        """The update that the sublayer `name`, mixer or ffn, adds to a residual stream x."""
        ctx = self._with_position(ctx)
        residual: Residual = self[f"{name}_residual"]
        return residual.added(x, self._over(name, ctx), ctx)

    def added_step(self, name: str, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """`added` for the next T tokens of every row, and the block's new state."""
        ctx, after = self._with_position(ctx), dict(state)
        residual: Residual = self[f"{name}_residual"]
        return residual.added(x, self._stepping(name, state, after, ctx), ctx), after

    def _over(self, name: str, ctx: Context) -> Mix:
        """The function of a sublayer over a whole sequence, or of one without a decode state."""
        chunk = self.config.ffn_chunk
        if name == "ffn" and chunk is not None:
            return lambda h: in_chunks(self.ffn, h, chunk, ctx)
        if name == "mixer" and ctx.collected.observer is not None:
            return lambda h: self._observed_mixer(h, ctx)
        kind: SplitKind | None = getattr(self.config, name)
        if kind is not None and kind.projects_first and ctx.training:
            return Projected(self[name], ctx)
        return lambda h: self[name](h, ctx)

    def _observed_mixer(self, h: mx.array, ctx: Context) -> mx.array:
        """The mixer, whose input and output are shown."""
        h = ctx.collected.observe("mixer_input", h)
        return ctx.collected.observe("mixer_output", self.mixer(h, ctx))

    def _with_position(self, ctx: Context) -> Context:
        """The context with this block's own positions, if it has any."""
        return replace(ctx, position=self.position) if "position" in self else ctx

    def _run(self, x: mx.array, ctx: Context, mixing: Callable[[str], Mix]) -> mx.array:
        """Run mixer, cross and ffn, and the branch beside them.

        Args:
            mixing: the function of a sublayer by its name, over a sequence or a step.
        """
        y = self._sublayers(x, ctx, mixing)
        if "branch" not in self:
            return y
        return self.branch_residual(y, lambda _: mixing("branch")(x), ctx)

    def _sublayers(self, x: mx.array, ctx: Context, mixing: Callable[[str], Mix]) -> mx.array:
        mix, ffn = mixing("mixer"), mixing("ffn")
        if self.arrangement == "parallel":
            return self.residual(x, lambda h: mix(h) + ffn(h), ctx)
        if self.arrangement == "parallel_norms":
            y = mix(self.mixer_residual.before(x))
            return self.mixer_residual.join(x, y + ffn(self.ffn_residual.before(x)), ctx)
        x = self.mixer_residual(x, mix, ctx)
        if "cross" in self:
            x = self.cross_residual(x, mixing("cross"), ctx)
        return self.ffn_residual(x, ffn, ctx) if "ffn" in self else x
