"""Grouped matmuls of experts: each token uses its chosen experts only, and none is dropped.

A `Dispatch` is made once per layer from the choices `[N, k]`. It sorts the N * k (token, choice)
pairs by expert and lays them out in blocks of M rows, every block of one expert: an expert's last
block is padded with rows that are never read. The number of blocks depends on shapes alone, so
the layout changes from batch to batch and the compiled graph does not. `DispatchNaive` is the
twin: the same calls, every expert on every token.

    d = Dispatch(choice, n_experts)
    rows = d.gather(x)                                   # [blocks, M, D]
    rows = d.linear(glu(d.linear(rows, gate), d.linear(rows, up), "silu"), down)
    y = d.combine(rows, gates)                           # [N, D]
"""

import mlx.core as mx

from ..core.shapes import ND
from .custom_vjp import custom_vjp
from .device import on_cpu, upcast
from .lookup import lookup


class Dispatch:
    """The block and row of each (token, choice) pair, and the expert of each block."""

    def __init__(self, choice: mx.array, n_experts: int, block: int | None = None):
        """`choice` `[N, k]` integer: the experts of each token; one may come twice, or never.

        `block` is M. The GPU has a kernel for sorted single rows, hence 1; the CPU wants matrices.
        """
        self.n_tokens, self.k = choice.shape
        self.block = m = block or _best_block(choice.size, n_experts, on_cpu())
        pairs = choice.size
        n_blocks = (pairs + n_experts * (m - 1)) // m
        expert = mx.stop_gradient(choice).reshape(-1).astype(mx.int32)
        rank = mx.argsort(mx.argsort(expert)).astype(mx.int32)
        count = (expert[:, None] == mx.arange(n_experts)).sum(axis=0)
        room = (count + m - 1) // m * m
        ends = mx.cumsum(room)
        moved = (ends - room) - (mx.cumsum(count) - count)
        self.slot = rank + moved[expert]
        token = mx.arange(pairs, dtype=mx.int32) // self.k
        self.token = mx.zeros((n_blocks * m,), mx.int32).at[self.slot].add(token)
        past = (mx.arange(n_blocks)[:, None] * m >= ends).sum(axis=1)
        self.expert = mx.minimum(past, n_experts - 1)

    @staticmethod
    def n_rows(pairs: int, n_experts: int, cpu: bool) -> int:
        """Rows of all blocks for `pairs` of token and choice, padding included."""
        m = _best_block(pairs, n_experts, cpu)
        return (pairs + n_experts * (m - 1)) // m * m

    def gather(self, x: ND) -> mx.array:
        """Rows of x `[N, D]`, one for every (token, choice), as `[blocks, M, D]`.

        Its gradient gathers each token's k rows and sums them: a scatter would add them in the
        order in which a GPU's threads arrive, and in the rows' own dtype.
        """

        def backward(
            primals: tuple[mx.array, mx.array, mx.array], cotangent: mx.array, _: mx.array
        ) -> tuple[mx.array, mx.array, mx.array]:
            x, token, slot = primals
            per_choice = upcast(cotangent)[slot].reshape(self.n_tokens, self.k, -1)
            return per_choice.sum(axis=1).astype(x.dtype), mx.zeros_like(token), mx.zeros_like(slot)

        rows: mx.array = custom_vjp(lambda x, token, slot: x[token], backward)(
            x, self.token, self.slot
        )
        return rows.reshape(-1, self.block, x.shape[-1])

    def linear(self, rows: mx.array, weight: mx.array, bias: mx.array | None = None) -> mx.array:
        """`row @ weight[expert]^T + bias[expert]`: weight `[E, F, D]`, bias `[E, F]`."""
        if rows.dtype == mx.float64:  # gather_mm has no float64
            out = rows @ weight[self.expert].swapaxes(-1, -2)
        else:
            # on the CPU it has float32 alone
            a, b = (upcast(rows), upcast(weight)) if on_cpu() else (rows, weight)
            out = mx.gather_mm(
                a, b.swapaxes(-1, -2), rhs_indices=self.expert, sorted_indices=True
            ).astype(rows.dtype)
        return out if bias is None else out + lookup(bias, self.expert)[:, None]

    def spread(self, gates: mx.array) -> mx.array:
        """The gates `[N, k]` of the rows of `gather`, `[blocks, M, 1]`; 0 for padding."""
        of_rows = mx.zeros((self.token.shape[0],), gates.dtype).at[self.slot].add(gates.reshape(-1))
        return of_rows.reshape(-1, self.block, 1)

    def combine(self, rows: mx.array, gates: mx.array) -> ND:
        """`[N, D]`: each token's rows, weighted by its gates `[N, k]`, summed."""
        per_choice = rows.reshape(-1, rows.shape[-1])[self.slot].reshape(self.n_tokens, self.k, -1)
        return (per_choice * gates[..., None].astype(per_choice.dtype)).sum(axis=1)


def _best_block(pairs: int, n_experts: int, cpu: bool) -> int:
    """Rows per block: many suit matmuls on the CPU, but an expert's last block is padded."""
    if not cpu:
        return 1
    quarter = max(1, pairs // n_experts // 4)
    return min(64, 1 << quarter.bit_length() - 1)


class DispatchNaive:
    """The twin of `Dispatch`: every expert on every token, unchosen ones weighted by zero."""

    def __init__(self, choice: mx.array, n_experts: int):
        """`choice` `[N, k]` integer: the experts of each token."""
        self.chosen = choice[..., None] == mx.arange(n_experts)
        self.n_experts = n_experts

    def gather(self, x: mx.array) -> mx.array:
        """x `[N, D]` once for every expert, `[E, N, D]`."""
        return mx.broadcast_to(x, (self.n_experts, *x.shape))

    def linear(self, rows: mx.array, weight: mx.array, bias: mx.array | None = None) -> mx.array:
        """`row @ weight[e]^T + bias[e]` for every expert e, `[E, N, F]`."""
        out = rows @ weight.swapaxes(-1, -2)
        return out if bias is None else out + bias[:, None]

    def spread(self, gates: mx.array) -> mx.array:
        """The gates `[N, k]` of the rows of `gather`, `[E, N, 1]`; 0 where not chosen."""
        return (gates[..., None] * self.chosen.astype(gates.dtype)).sum(axis=1).T[..., None]

    def combine(self, rows: mx.array, gates: mx.array) -> ND:
        """`[N, D]`: every expert's row times the gate it was given, which may be zero."""
        share = (gates[..., None] * self.chosen.astype(gates.dtype)).sum(axis=1)
        return mx.einsum("end,ne->nd", rows, share.astype(rows.dtype))
