"""State spaces: token by token = by chunks = convolution with the kernel, with gradients."""

from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.complex import Complex
from mlx_transformers.ops.dplr import dplr_system
from mlx_transformers.ops.hippo import Measure, diagonal, dplr, rank_correction, transition
from mlx_transformers.ops.state_space import (
    MakeSystem,
    diagonal_system,
    run_system,
    run_system_naive,
)

from .compare import assert_close, assert_same_gradients, draw

B, T, H, N = 2, 11, 3, 4
SEGMENTS = mx.array([[0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0], [5] * T])


def parameters(seed: int = 0) -> list[mx.array]:
    """log -Re A, Im A, B, C, log dt of H features."""
    half = (H, N // 2)
    return [
        0.3 * draw(seed, *half),
        draw(seed + 1, *half),
        draw(seed + 2, *half, 2),
        draw(seed + 3, *half, 2),
        0.3 * draw(seed + 4, H, 1) - 1,
    ]


def diagonal_of(*p: mx.array, method: str = "zoh") -> MakeSystem:
    a = Complex(-mx.exp(p[0]), p[1])
    return diagonal_system(a, Complex.of(p[2]), Complex.of(p[3]), mx.exp(p[4]), method)


def dplr_of(*p: mx.array) -> MakeSystem:
    a = Complex(-mx.exp(p[0]), p[1])
    low = Complex.of(draw(9, 2, H, N // 2, 2))
    return dplr_system(a, low, Complex.of(p[2]), Complex.of(p[3]), mx.exp(p[4]))


SYSTEMS: dict[str, Callable[..., MakeSystem]] = {
    "zoh": diagonal_of,
    "bilinear": lambda *p: diagonal_of(*p, method="bilinear"),
    "dplr": dplr_of,
}


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["whole", "packed"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_chunks_are_the_recurrence(name: str, segments: mx.array | None) -> None:
    make = SYSTEMS[name]

    def outputs(run: Callable[..., tuple[mx.array, mx.array]]) -> Callable[..., mx.array]:
        def both(u: mx.array, state: mx.array, *p: mx.array) -> mx.array:
            y, last = run(make(*p), u, state, segments)
            return mx.concatenate([y.flatten(), last.flatten()])

        return both

    args = [draw(1, B, T, H), draw(2, B, H, N), *parameters()]
    chunked = outputs(lambda *a: run_system(*a, chunk=4))
    assert_same_gradients(chunked, outputs(run_system_naive), args, bound=3e-5)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_sequence_continued_from_its_state_is_the_whole(name: str) -> None:
    make, u = SYSTEMS[name](*parameters()), draw(1, B, T, H)
    whole, last = run_system(make, u, chunk=4)
    first, state = run_system(make, u[:, :5], chunk=4)
    second, after = run_system(make, u[:, 5:], state, chunk=3)
    assert_close(mx.concatenate([first, second], axis=1), whole)
    assert_close(after, last)


@pytest.mark.parametrize("measure", ["legs", "legt", "lagt", "fout"])
def test_hippo_matrices_are_normal_plus_low_rank(measure: Measure) -> None:
    a, b = transition(measure, 8)
    p = rank_correction(measure, 8)
    normal = a + p.T @ p
    np.testing.assert_allclose(normal @ normal.T, normal.T @ normal, atol=1e-9)
    form = dplr(measure, 8)
    # the transfer function of both forms, at a point to the right of all eigenvalues
    s, c = 0.7 + 0.3j, b
    direct = c @ np.linalg.solve(s * np.eye(8) - a, b)
    both = [np.concatenate([z, z.conj()], axis=-1) for z in form]
    inner = np.diag(both[0]) - both[1].T @ both[1].conj()
    assert direct == pytest.approx(both[2].conj() @ np.linalg.solve(s * np.eye(8) - inner, both[2]))


def test_the_starts_of_diagonal_matrices_are_those_of_the_paper() -> None:
    assert diagonal("lin", 8).tolist() == [-0.5 - 1j * np.pi * n for n in range(4)]
    assert diagonal("real", 8).tolist() == [-1, -2, -3, -4]
    inv = -8 / np.pi * (8 / (2 * np.arange(4) + 1) - 1)
    np.testing.assert_allclose(diagonal("inv", 8).imag, inv)
