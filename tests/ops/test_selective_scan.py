"""The selective scan: segment by segment = token by token, with gradients."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from mlx_transformers.ops.selective_scan import (
    selective_scan,
    selective_scan_naive,
)

from .compare import assert_close, assert_same_gradients, draw

B, T, D, N = 2, 11, 6, 3
STARTS = mx.array([[False] * 4 + [True] + [False] * 6, [False] * 11])
SHAPES = {
    "one group": [(B, T, 1, N), (B, T, 1, N)],
    "two groups": [(B, T, 2, N), (B, T, 2, N)],
    "B of the layer": [(D, N), (B, T, 2, N)],
    "C of the layer": [(B, T, 1, N), (D, N)],
}


def arguments(b: tuple[int, ...], c: tuple[int, ...]) -> list[mx.array]:
    dt = nn.softplus(draw(2, B, T, D))
    return [
        draw(1, B, T, D),
        dt,
        -mx.exp(draw(3, D, N)),
        draw(4, *b),
        draw(5, *c),
        draw(6, B, D, N),
    ]


@pytest.mark.parametrize("segment", [4, 16])
@pytest.mark.parametrize("starts", [None, STARTS], ids=["whole", "packed"])
@pytest.mark.parametrize("name", SHAPES)
def test_segments_are_the_recurrence(name: str, starts: mx.array | None, segment: int) -> None:
    def outputs(scan: Any, **options: int) -> Any:
        def both(*args: mx.array) -> mx.array:
            y, last = scan(*args[:5], state=args[5], starts=starts, **options)
            return mx.concatenate([y.flatten(), last.flatten()])

        return both

    fast, naive = outputs(selective_scan, segment=segment), outputs(selective_scan_naive)
    assert_same_gradients(fast, naive, arguments(*SHAPES[name]), bound=3e-5)


def test_a_step_of_zero_leaves_the_state() -> None:
    u, dt, a, b, c, state = arguments(*SHAPES["one group"])
    _, last = selective_scan(u, mx.zeros_like(dt), a, b, c, state=state)
    assert_close(last, state)


def test_a_sequence_continued_from_its_state_is_the_whole() -> None:
    u, dt, a, b, c, state = arguments(*SHAPES["two groups"])
    whole, last = selective_scan(u, dt, a, b, c, state=state)
    first, h = selective_scan(u[:, :5], dt[:, :5], a, b[:, :5], c[:, :5], state=state)
    second, after = selective_scan(u[:, 5:], dt[:, 5:], a, b[:, 5:], c[:, 5:], state=h)
    assert_close(mx.concatenate([first, second], axis=1), whole)
    assert_close(after, last)


def test_large_steps_forget_without_overflow() -> None:
    u, dt, a, b, c, state = arguments(*SHAPES["one group"])
    args = [u, dt * 200, a, b, c, state]

    def both(scan: Any) -> Any:
        return lambda *args: scan(*args[:5], state=args[5])[0]

    assert_same_gradients(both(selective_scan), both(selective_scan_naive), args, bound=3e-5)
