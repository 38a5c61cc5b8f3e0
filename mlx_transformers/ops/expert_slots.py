"""Experts with a capacity: tokens of a group take slots of experts, and a full expert drops them.

Slots make the work of all experts equal: C rows each, computed as one batched matrix product.

    slots = token_choice(choice, routed, n_experts, capacity)
    rows = slots.gather(x)                                              # [E, G * C, D]
    y = slots.combine(stacked_linear(relu(stacked_linear(rows, up)), down), gates)  # [G, T, D]
"""

import math
from dataclasses import dataclass
from typing import Literal

import mlx.core as mx

from .custom_vjp import custom_vjp
from .device import upcast

Rounding = Literal["down", "up", "even_share"]


def expert_capacity(
    tokens: int,
    n_experts: int,
    factor: float,
    *,
    rounding: Rounding = "down",
    minimum: int = 1,
) -> int:
    """Slots of an expert for a group: `factor · tokens / n_experts`, as an integer.

    Fedus et al. 2021 (Switch), equation 3. Codes round it in their own ways: `down` to
    `max(min(T, int(T f / E)), minimum)` (mesh and ST-MoE, whose minimum is 4), `up` to
    `ceil(T f / E)` (flaxformer), `even_share` to `int(f ceil(T / E))` (fairscale).
    """
    if rounding == "even_share":
        return max(int(factor * math.ceil(tokens / n_experts)), minimum)
    share = tokens * factor / n_experts
    slots = math.ceil(share) if rounding == "up" else int(share)
    return max(min(tokens, slots), minimum)


@dataclass(frozen=True)
class Slots:
    """The slots of E experts that the T tokens of each of G groups have taken.

    Attributes:
        token: `[G, E, C]`, the number of the token in each slot, -1 in an empty one.
        row: `[G, T, K]`, the row among all `E * G * C` of a token's j-th slot, -1 where it has
            none. K is the choices of a token, or E where experts choose.
    """

    token: mx.array
    row: mx.array

    def gather(self, x: mx.array) -> mx.array:
        """The tokens of x `[G, T, D]` in their slots, `[E, G * C, D]`.

        The rows of empty slots have no meaning and get no gradient. The gradient gathers the rows
        of each token: a scatter would add them in the order in which a GPU's threads arrive.
        """
        G, T, D = x.shape
        E = self.token.shape[1]
        source = mx.maximum(self.token, 0) + mx.arange(G)[:, None, None] * T
        source = source.transpose(1, 0, 2).reshape(-1)

        def backward(
            primals: tuple[mx.array, mx.array, mx.array], cotangent: mx.array, _: mx.array
        ) -> tuple[mx.array, mx.array, mx.array]:
            x, source, row = primals
            total = sum(_rows(upcast(cotangent), row[..., j]) for j in range(row.shape[-1]))
            dx = mx.array(total).reshape(x.shape).astype(x.dtype)
            return dx, mx.zeros_like(source), mx.zeros_like(row)

        rows: mx.array = custom_vjp(lambda x, source, row: x[source], backward)(
            x.reshape(G * T, D), source, self.row.reshape(G * T, -1)
        )
        return rows.reshape(E, -1, D)

    def linear(self, rows: mx.array, weight: mx.array, bias: mx.array | None = None) -> mx.array:
        """`stacked_linear`: each expert on its own rows."""
        return stacked_linear(rows, weight, bias)

    def combine(self, rows: mx.array, gates: mx.array) -> mx.array:
        """`[G, T, D]`: each token's rows, weighted by its gates `[G, T, K]`, summed; zero where it
        has no slot."""
        flat = rows.reshape(-1, rows.shape[-1])
        y: mx.array = custom_vjp(_combine, _combine_backward)(flat, gates, self.row)
        return y

    def kept(self) -> mx.array:
        """`[G, T, K]`, whether a choice has a slot."""
        return self.row >= 0


def stacked_linear(rows: mx.array, weight: mx.array, bias: mx.array | None = None) -> mx.array:
    """`row @ weight[e]^T + bias[e]` for rows `[E, S, D]`, weight `[E, F, D]`, bias `[E, F]`."""
    out = rows @ weight.swapaxes(-1, -2)
    return out if bias is None else out + bias[:, None]


def token_choice(
    choice: mx.array,
    routed: mx.array,
    n_experts: int,
    capacity: int,
    priority: mx.array | None = None,
) -> Slots:
    """Fill slots with the experts that tokens chose: all first choices, then all second ones, ...

    Args:
        choice: `[G, T, k]`, the experts of each token, the best one first.
        routed: `[G, T, k]`, whether a choice asks for a slot at all.
        n_experts: E.
        capacity: slots C of an expert for each group.
        priority: `[G, T]`, tokens of higher priority come first (batch-prioritised routing:
            Riquelme et al. 2021, V-MoE, section 4.1); None: in the order of the sequence (Fedus et
            al. 2021).
    """
    G, T, k = choice.shape
    choices_one_hot = (choice[..., None] == mx.arange(n_experts)) & routed[..., None]
    if priority is not None:
        order = mx.argsort(-mx.stop_gradient(priority), axis=-1)
        choices_one_hot = mx.take_along_axis(choices_one_hot, order[..., None, None], axis=1)
    ranked = choices_one_hot.transpose(0, 2, 1, 3).reshape(G, k * T, n_experts).astype(mx.int32)
    before = (mx.cumsum(ranked, axis=1) - ranked) * ranked
    place = before.sum(axis=-1).reshape(G, k, T).transpose(0, 2, 1)
    if priority is not None:
        place = mx.take_along_axis(place, mx.argsort(order, axis=-1)[..., None], axis=1)
    fits = routed & (place < capacity)
    group = mx.arange(G)[:, None, None] * capacity
    row = mx.where(fits, choice * (G * capacity) + group + place, -1).astype(mx.int32)
    return Slots(_tokens(row, G, n_experts, capacity), row)


def expert_choice(scores: mx.array, capacity: int) -> Slots:
    """Fill slots with the C best tokens of each expert, by scores `[G, T, E]`.

    Zhou et al. 2022 ("Mixture-of-Experts with Expert Choice Routing"), equation 2. A token has
    from 0 to E slots.
    """
    G, _, E = scores.shape
    token = mx.argsort(-mx.stop_gradient(scores), axis=1)[:, :capacity].transpose(0, 2, 1)
    group, expert = mx.arange(G)[:, None, None], mx.arange(E)[:, None]
    rows = expert * (G * capacity) + group * capacity + mx.arange(capacity)
    row = mx.full(scores.shape, -1, dtype=mx.int32).swapaxes(1, 2)
    row = mx.put_along_axis(row, token, rows.astype(mx.int32), axis=2)
    return Slots(token.astype(mx.int32), row.swapaxes(1, 2))


def token_choice_naive(
    choice: list[list[int]], routed: list[list[bool]], n_experts: int, capacity: int
) -> list[list[int]]:
    """The tokens in the slots of each expert for one group, token by token: the definition."""
    slots: list[list[int]] = [[] for _ in range(n_experts)]
    for j in range(len(choice[0])):
        for t, experts in enumerate(choice):
            if routed[t][j] and len(slots[experts[j]]) < capacity:
                slots[experts[j]].append(t)
    return [taken + [-1] * (capacity - len(taken)) for taken in slots]


def _tokens(row: mx.array, groups: int, n_experts: int, capacity: int) -> mx.array:
    """The token in each slot, `[G, E, C]`, from the rows of the tokens `[G, T, k]`."""
    n_rows = n_experts * groups * capacity
    number = mx.broadcast_to(mx.arange(row.shape[1])[:, None], row.shape)
    token = mx.full((n_rows + 1,), -1, dtype=mx.int32)
    token[mx.where(row >= 0, row, n_rows).reshape(-1)] = number.reshape(-1).astype(mx.int32)
    return token[:-1].reshape(n_experts, groups, capacity).transpose(1, 0, 2)


def _rows(rows: mx.array, which: mx.array) -> mx.array:
    """`rows[which]`, zeros where `which` is -1."""
    gathered = rows[mx.maximum(which, 0)]
    return mx.where((which >= 0)[..., None], gathered, mx.zeros((), rows.dtype))


def _combine(rows: mx.array, gates: mx.array, row: mx.array) -> mx.array:
    """`y[n] = sum over j of gates[n, j] · rows[row[n, j]]`, one choice after the other."""
    weighted = (
        _rows(rows, row[..., j]) * gates[..., j, None].astype(rows.dtype)
        for j in range(row.shape[-1])
    )
    total = next(weighted)
    for term in weighted:
        total = total + term
    return total


def _combine_backward(
    primals: tuple[mx.array, mx.array, mx.array], cotangent: mx.array, _: mx.array
) -> tuple[mx.array, mx.array, mx.array]:
    """A slot has one token at most, so the gradient of its row is that token's, weighted."""
    rows, gates, row = primals
    n_rows, k = rows.shape[0], row.shape[-1]
    flat = cotangent.reshape(-1, cotangent.shape[-1])
    slot = mx.where(row >= 0, row, n_rows).reshape(-1)
    pair = mx.full((n_rows + 1,), -1, dtype=mx.int32)
    pair[slot] = mx.arange(slot.size, dtype=mx.int32)
    pair = pair[:-1]
    weight = _rows(gates.reshape(-1, 1), pair).astype(flat.dtype)
    d_rows = flat[mx.maximum(pair, 0) // k] * weight
    products = [
        (upcast(cotangent) * _rows(rows, row[..., j])).sum(axis=-1, keepdims=True) for j in range(k)
    ]
    d_gates = mx.concatenate(products, axis=-1).astype(gates.dtype)
    return d_rows.astype(rows.dtype), d_gates, mx.zeros_like(row)
