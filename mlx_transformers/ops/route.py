"""Sparse expert matmuls: each token meets only the experts chosen for it, and none is dropped.

A `Dispatch` is made once per layer from the choices `[N, k]`; then rows `[N * k, 1, D]` sorted by
expert flow through as many expert matmuls as the layer has, and `combine` brings them home.
"""

import mlx.core as mx

from .device import on_cpu, wide


class Dispatch:
    """The permutation that sorts (token, choice) pairs by expert, and back. Static shapes."""

    def __init__(self, choice: mx.array, n_experts: int):
        """`choice` `[N, k]` integer: the experts of each token."""
        self.n_tokens, self.k = choice.shape
        self.n_experts = n_experts
        flat = mx.stop_gradient(choice).reshape(-1)
        order = mx.argsort(flat)
        self.token = order // self.k
        self.expert = flat[order]
        self.inverse = mx.argsort(order)

    def gather(self, x: mx.array) -> mx.array:
        """Rows of x `[N, D]`, one for every (token, choice), sorted by expert."""
        return x[self.token][:, None]

    def linear(self, rows: mx.array, weight: mx.array, bias: mx.array | None = None) -> mx.array:
        """`row @ weight[expert]^T + bias[expert]` with weight `[E, F, D]` and bias `[E, F]`."""
        dtype = rows.dtype
        a, b = (wide(rows), wide(weight)) if on_cpu() else (rows, weight)
        out = mx.gather_mm(
            a, b.swapaxes(-1, -2), rhs_indices=self.expert, sorted_indices=True
        ).astype(dtype)
        return out if bias is None else out + bias[self.expert][:, None]

    def combine(self, rows: mx.array, gates: mx.array) -> mx.array:
        """`[N, D]`: each token's rows, weighted by its gates `[N, k]`, summed."""
        mine = rows[self.inverse].reshape(self.n_tokens, self.k, -1)
        return (mine * gates[..., None].astype(mine.dtype)).sum(axis=1)


class DispatchDense:
    """The twin of `Dispatch`: every expert on every token, unchosen ones weighted by zero."""

    def __init__(self, choice: mx.array, n_experts: int):
        """`choice` `[N, k]` integer: the experts of each token."""
        self.chosen = (choice[..., None] == mx.arange(n_experts)).astype(mx.float32)
        self.n_experts = n_experts

    def gather(self, x: mx.array) -> mx.array:
        """x `[N, D]` once for every expert, `[E, N, D]`."""
        return mx.broadcast_to(x, (self.n_experts, *x.shape))

    def linear(self, rows: mx.array, weight: mx.array, bias: mx.array | None = None) -> mx.array:
        """`row @ weight[e]^T + bias[e]` for every expert e, `[E, N, F]`."""
        out = rows @ weight.swapaxes(-1, -2)
        return out if bias is None else out + bias[:, None]

    def combine(self, rows: mx.array, gates: mx.array) -> mx.array:
        """`[N, D]`: every expert's row times the gate it was given, which may be zero."""
        share = (gates[..., None] * self.chosen.astype(gates.dtype)).sum(axis=1)
        return mx.einsum("end,ne->nd", rows, share.astype(rows.dtype))
