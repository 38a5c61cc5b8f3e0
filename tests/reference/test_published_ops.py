"""Operations of tools/reference_ops against their definitions."""

import mlx.core as mx
import numpy as np
import pytest
from ops.compare import assert_close, assert_same_gradients, draw, numpy64
from ops.test_state_space import diagonal_of, parameters
from reference_groups.depth import exit_layer
from reference_groups.experts import second_place_loss
from reference_ops.complex_scan import complex_recurrence, complex_selective_scan
from reference_ops.dplr_kernel import dplr_kernel, truncated, untruncated
from reference_ops.hyena import decay_window, hyena, long_convolution, position_features
from reference_ops.integers import Grid, fake_quantize
from reference_ops.multimodal_rope import multimodal_positions, section_angles
from reference_ops.pruning import structured_mask
from reference_ops.ttt import ttt_linear, ttt_linear_naive

from mlx_transformers.ops.complex import Complex
from mlx_transformers.ops.dplr import discretize_dplr, dplr_system
from mlx_transformers.ops.linear_recurrence import linear_recurrence_naive
from mlx_transformers.ops.selective_scan import selective_scan
from mlx_transformers.ops.state_space import run_system_naive

B, H, T, K = 2, 2, 7, 3


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_ttt_in_its_dual_form_is_gradient_descent_token_by_token(batch: int) -> None:
    def run(form: object) -> object:
        def of(*arrays: mx.array) -> mx.array:
            *rest, W, c = arrays
            out, last = form(*rest, (W, c), batch=batch)
            return mx.concatenate([out.flatten(), *(x.flatten() for x in last)])

        return of

    rows = [draw(i, B, H, T, K) for i in range(3)]
    rates, scale = mx.abs(draw(3, B, H, T, 1)) * 0.1, 1 + 0.1 * draw(4, H, K)
    state = [0.3 * draw(5, B, H, K, K), draw(6, B, H, 1, K)]
    arrays = [*rows, rates, scale, draw(7, H, K), *state]
    assert_same_gradients(run(ttt_linear), run(ttt_linear_naive), arrays, 1e-4)


def test_hyena_is_gates_and_convolutions_in_turn() -> None:
    gates, v = [draw(i, B, T, K) for i in range(3)], draw(3, B, T, K)
    filters, skips = draw(4, 2, K, T), draw(5, 2, K)
    z = numpy64(v)
    for gate, kernel, skip in zip(gates[:0:-1], numpy64(filters), numpy64(skips), strict=True):
        z = z * numpy64(gate)
        z = skip * z + np.stack(
            [sum(kernel[:, t - s] * z[:, s] for s in range(t + 1)) for t in range(T)], axis=1
        )
    assert_close(hyena(gates, v, filters, skips), z * numpy64(gates[0]))


def test_filters_of_hyena_fade_and_their_positions_turn() -> None:
    window = numpy64(decay_window(5, 9, 4))
    assert (np.diff(window, axis=0) < 0).all()
    assert (np.diff(window[1:], axis=1) < 0).all()
    assert_close(window[0], np.ones(4))
    features = numpy64(position_features(8, 5))
    assert_close(features[:, 1:3] ** 2 + features[:, 3:] ** 2, np.ones((8, 2)))
    assert_close(features[:, 0], np.linspace(0, 1, 8))


def test_a_long_convolution_is_the_recurrence() -> None:
    make, u = diagonal_of(*parameters()), draw(1, B, T, 3)
    y = long_convolution(u.swapaxes(1, 2), make(T).kernel).swapaxes(1, 2)
    assert_close(y, run_system_naive(make, u)[0])


@pytest.mark.parametrize("length", [7, 8])
@pytest.mark.parametrize("rank", [1, 2])
def test_the_kernel_by_cauchy_sums_is_that_by_powers(rank: int, length: int) -> None:
    p, low = parameters(), draw(3, rank, 3, 2, 2)

    def parts(p: tuple[mx.array, ...]) -> tuple[Complex, ...]:
        return Complex(-mx.exp(p[0]), p[1]), Complex.of(p[5]), Complex.of(p[2]), Complex.of(p[3])

    def by_cauchy(*p: mx.array) -> mx.array:
        a, low, b, c = parts(p)
        step, _ = discretize_dplr(a, low, b, mx.exp(p[4]))
        return dplr_kernel(a, low, b, truncated(c, step, length), mx.exp(p[4]), length)

    def by_powers(*p: mx.array) -> mx.array:
        return dplr_system(*parts(p), mx.exp(p[4]))(length).kernel

    assert_same_gradients(by_cauchy, by_powers, [*p, low], bound=3e-5)


def test_a_trained_kernel_gives_its_state_space_back() -> None:
    p = parameters()
    a, low, c = Complex(-mx.exp(p[0]), p[1]), Complex.of(draw(3, 1, 3, 2, 2)), p[3]
    step, _ = discretize_dplr(a, low, Complex.of(p[2]), mx.exp(p[4]))
    back = untruncated(truncated(Complex.of(c), step, 6), step, 6)
    assert_close(back.pairs(), c, bound=1e-4)


def test_complex_states_without_imaginary_parts_are_twice_the_real_scan() -> None:
    u, dt, a = draw(1, B, T, 6), mx.abs(draw(2, B, T, 6)), -mx.exp(draw(3, 6, K))
    b, c = draw(4, B, T, 2, K), draw(5, B, T, 2, K)
    real, last = selective_scan(u, dt, a, b, c)
    pairs = [mx.stack([x, mx.zeros_like(x)], axis=-1) for x in (a, b, c)]
    y, states = complex_selective_scan(u, dt, *pairs)
    assert_close(y, 2 * real)
    assert_close(states[..., 0], last)


def test_a_complex_recurrence_is_one_of_matrices() -> None:
    a, b, h = draw(1, B, 5, K, 2), draw(2, B, 5, K, 2), draw(3, B, K, 2)

    def naive(a: mx.array, b: mx.array, h: mx.array) -> mx.array:
        rows = [mx.stack([a[..., 0], -a[..., 1]], -1), mx.stack([a[..., 1], a[..., 0]], -1)]
        turn, out = mx.stack(rows, axis=-2), []
        for t in range(a.shape[1]):
            h = (turn[:, t] @ h[..., None])[..., 0] + b[:, t]
            out.append(h)
        return mx.stack(out, axis=1)

    assert_same_gradients(complex_recurrence, naive, [a, b, h], bound=3e-5)
    real = [mx.stack([x, mx.zeros_like(x)], -1) for x in (a[..., 0], b[..., 0], h[..., 0])]
    want = linear_recurrence_naive(a[..., 0], b[..., 0], h[..., 0])
    assert_close(complex_recurrence(*real)[..., 0], want)


def test_each_frequency_turns_by_its_own_coordinate() -> None:
    places = mx.array([[[1]], [[0]], [[0]]])
    plain = section_angles(places, [1, 2, 1])[0, 0, 0]
    mixed = section_angles(places, [2, 1, 1], interleaved=True)[0, 0, 0]
    assert (plain != 0).tolist() == [True, False, False, False]
    assert (mixed != 0).tolist() == [True, False, False, True]


def test_text_goes_on_behind_the_largest_coordinate_of_a_picture() -> None:
    kinds = np.array([[0, 0, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0]])
    valid = np.array([[1, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1]])
    places, deltas = multimodal_positions(kinds, [[(1, 4, 4)]], valid=valid, merge=2)
    assert places[:, 0].T.tolist()[2:] == [[2, 2, 2], [2, 2, 3], [2, 3, 2], [2, 3, 3], [4, 4, 4]]
    assert places[0, 1].tolist() == [0, 0, 0, 1, 2, 3, 4]
    assert deltas.tolist() == [[-2], [0]]
    with pytest.raises(ValueError, match="no grid"):
        multimodal_positions(kinds, [[]])


def test_text_goes_on_behind_the_sides_of_a_film_that_lasts_longer() -> None:
    kinds = np.array([[0, 2, 2, 2, 0]])
    run = {"grids": [[], [(3, 2, 2)]], "merge": 2, "pace": [2.0]}
    behind, delta = multimodal_positions(kinds, **run)
    sides, other = multimodal_positions(kinds, **run, resume="sides")
    assert behind[0, 0].tolist() == [0, 1, 3, 5, 6]
    assert sides[0, 0].tolist() == [0, 1, 3, 5, 2]
    assert (delta.item(), other.item()) == (2, 1)


def test_the_loss_of_second_choices_leaves_the_first_out() -> None:
    probs = mx.array([[[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]])
    first, second = mx.array([[[1.0, 0, 0], [0, 0, 1]]]), mx.array([[[0.0, 1, 0], [0, 1, 0]]])
    mean = (0.3 / 0.5 + 0.3 / 0.5) / 2
    assert float(second_place_loss(second, probs, first)) == pytest.approx(0.5 * 3 * mean)


def test_a_row_leaves_the_stack_at_its_first_confident_layer() -> None:
    sure = mx.array([[False, False, True], [True, False, True], [False, False, True]])
    assert exit_layer(sure).tolist() == [1, 2, 0]


def test_gradients_of_integers_pass_straight_through() -> None:
    x = mx.array([-3.0, -0.4, 0.2, 9.0])
    scale, zero = mx.array(0.5), mx.array(0.0)
    grads = mx.grad(lambda x, s: fake_quantize(x, s, zero, -4, 7).sum(), argnums=(0, 1))(x, scale)
    assert grads[0].tolist() == [0, 1, 1, 0]
    assert grads[1].item() == pytest.approx(-4 + (-0.5 + 0.4) / 0.5 + (0 - 0.2) / 0.5 + 7)


def test_scales_too_small_for_a_reciprocal_in_float16_give_codes() -> None:
    scale, zero = mx.array(1e-5, mx.float16), mx.array(0, mx.float16)
    wanted = mx.array([-4, 0, 2, 7])
    x = (wanted * scale.astype(mx.float32)).astype(mx.float16)
    grid = Grid(scale, zero, -4, 7)
    assert mx.array_equal(grid.codes(x), wanted)
    y = fake_quantize(x, scale, zero, -4, 7)
    assert y.dtype == mx.float16
    assert mx.allclose(y, x)
    grads = mx.grad(lambda x, scale: fake_quantize(x, scale, zero, -4, 7).sum(), argnums=(0, 1))(
        x, scale
    )
    assert grads[0].tolist() == [1, 1, 1, 1]
    assert mx.isfinite(grads[1])


def test_rows_of_the_smallest_norms_are_masked() -> None:
    weight = mx.array([[3.0, 4.0], [1.0, 1.0], [0.0, 6.0]])
    assert structured_mask(weight, 1).tolist() == [[True, True], [False, False], [True, True]]
