"""Multi-token prediction, slot `ahead`: blocks that predict tokens beyond the next one."""

from abc import abstractmethod
from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.context import Context
from ..recipe.config import Kind
from .block import Block
from .kinds import NormKind, State


class MultiTokenKind(Kind):
    """Slot `ahead`: layers behind the model that predict tokens beyond the next one."""

    @abstractmethod
    def build(self, dim: int, max_seq_len: int, norm: NormKind, block: Block) -> "MtpModule":
        """The module; `norm` and `block` are the model's own."""

    @abstractmethod
    def blocks(self, block: Block) -> list[Block]:
        """The block of each step, of a model whose last block is `block`."""


class Mtp(MultiTokenKind):
    """Multi-token prediction by a chain of n blocks: the k-th predicts the token after k others.

    `h^k_i = block(M [norm(h^{k-1}_i); norm(embed(t_{i+k}))])` and
    `p(t_{i+k+1}) = head(norm(h^k_i))` with the model's own embedding and head; DeepSeek-AI 2024
    (DeepSeek-V3), section 2.2, equations 21 to 23. Each step reads the true token in between, so
    prediction stays causal. h^0 is the input of the model's head, as in the code that runs the
    published weights. Generation uses its first block as a draft, on request.
    """

    kind: Literal["mtp"] = "mtp"
    n: int = Field(1, ge=1)
    """Tokens that are predicted beyond the next one, D in the paper."""
    block: Block | None = None
    """Block of each step; none means a copy of the model's last one."""

    def build(self, dim: int, max_seq_len: int, norm: NormKind, block: Block) -> "MtpModule":
        return MtpModule(self.n, dim, max_seq_len, norm, self.block or block)

    def blocks(self, block: Block) -> list[Block]:
        return [self.block or block] * self.n


class MtpModule(nn.Module):
    """`(h [B, T, D], embedded [B, T, D], passes) -> [[B, T - k, D] for k in 1..n]`.

    Attributes:
        chain: the steps, in order.
    """

    def __init__(self, n: int, dim: int, max_seq_len: int, norm: NormKind, block: Block) -> None:
        super().__init__()
        self.chain = [MtpStep(dim, max_seq_len, norm, block) for _ in range(n)]

    def __call__(self, h: mx.array, embedded: mx.array, passes: list[Context]) -> list[mx.array]:
        """Compute the head's input for each further token.

        Args:
            h: the head's input for the next token, at each position.
            embedded: the embedded token at each position.
            passes: for each step the context of a pass over all but the last k positions.
        """
        inputs = []
        for step, ctx in zip(self.chain, passes, strict=True):
            embedded = embedded[:, 1:]
            h = step(h[:, :-1], embedded, ctx)
            inputs.append(step.norm(h))
        return inputs


class MtpStep(nn.Module):
    """`(h [B, T, D], embedded [B, T, D], ctx) -> [B, T, D]`; the head reads its `norm`."""

    def __init__(self, dim: int, max_seq_len: int, norm: NormKind, block: Block) -> None:
        super().__init__()
        self.hidden_norm, self.word_norm = norm.build(dim), norm.build(dim)
        # The two halves of M: M [a; b] = M_a a + M_b b.
        self.of_hidden = nn.Linear(dim, dim, bias=False)
        self.of_word = nn.Linear(dim, dim, bias=False)
        self.block = block.build(dim, max_seq_len)
        self.norm = norm.build(dim)

    def __call__(self, h: mx.array, embedded: mx.array, ctx: Context) -> mx.array:
        return self.block(self._joined(h, embedded), ctx)

    def step(
        self, h: mx.array, embedded: mx.array, state: State, ctx: Context
    ) -> tuple[mx.array, State]:
        """`__call__` for the next T positions of every row, and the block's new decode state."""
        return self.block.step(self._joined(h, embedded), state, ctx)

    def _joined(self, h: mx.array, embedded: mx.array) -> mx.array:
        joined: mx.array = self.of_hidden(self.hidden_norm(h))
        return joined + self.of_word(self.word_norm(embedded))
