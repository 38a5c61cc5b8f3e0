"""Rules of mixers in tools/reference_groups with options of the published code, by definition."""

import math
from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest
from ops.compare import assert_close, draw, numpy64
from reference_adapt.numeric import Options
from reference_groups.case import Arrays, Case
from reference_groups.gated import delta
from reference_groups.low_rank import lsh, performer
from reference_groups.scans import ssd
from reference_groups.sparse import local_blocks, selected_blocks
from reference_groups.state_space import mega_ema, s4_kernel, s4d_kernel

T, K = 6, 4


def case(inputs: Arrays, options: Options, params: Arrays | None = None) -> Case:
    return Case("case", {"options": options}, inputs, params or {}, {})


def softmax(x: np.ndarray) -> np.ndarray:
    weights: np.ndarray = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def state_space(n_ssm: int = 2, channels: int = 1) -> Arrays:
    """Parameters of S4D with two features and two complex states each."""
    return {"A_real": 0.3 * draw(1, n_ssm, 2), "A_imag": mx.abs(draw(2, n_ssm, 2)),
            "B": draw(3, 1, n_ssm, 2, 2), "C": draw(4, channels, 2, 2, 2),
            "inv_dt": 0.3 * draw(5, 2, 1) - 1.0, "D": draw(6, channels, 2)}  # fmt: skip


def s4d_by_sums(params: Arrays, a: np.ndarray, dt: np.ndarray) -> np.ndarray:
    """The kernels `[C, H, T]` by their definition, with zero-order hold."""
    b, c = (numpy64(params[name]) @ np.array([1, 1j]) for name in "BC")
    step = dt * a
    gain = b[0] * c * np.expm1(step) / a
    return 2 * (gain[..., None] * np.exp(step[..., None] * np.arange(T))).sum(axis=-2).real


@pytest.mark.parametrize(
    ("option", "of"),
    [
        ({"real_transform": "relu"}, lambda x: np.maximum(x, 0) + 1e-4),
        ({"real_transform": "sigmoid"}, lambda x: 1 / (1 + np.exp(-x))),
        ({"real_transform": "softplus"}, lambda x: np.log1p(np.exp(x))),
    ],
)
def test_real_parts_of_s4d_follow_the_transform_of_the_options(
    option: Options, of: Callable[[np.ndarray], np.ndarray]
) -> None:
    p = state_space()
    got = s4d_kernel(case({"u": draw(7, 1, 2, T)}, {"disc": "zoh", **option}, p))["kernel"]
    a = -of(numpy64(p["A_real"])) - 1j * numpy64(p["A_imag"])
    assert_close(got, s4d_by_sums(p, a, np.exp(numpy64(p["inv_dt"])))[0], 1e-4)


def test_channels_of_s4d_have_a_c_and_a_d_of_their_own_and_may_share_a_state_matrix() -> None:
    p, u = state_space(n_ssm=1, channels=3), draw(7, 2, 2, T)
    found = s4d_kernel(case({"u": u}, {"disc": "zoh"}, p))
    a = -np.exp(numpy64(p["A_real"])) - 1j * numpy64(p["A_imag"])
    kernels = s4d_by_sums(p, a, np.exp(numpy64(p["inv_dt"])))
    assert_close(found["kernel"], kernels, 1e-4)
    rows, lag = numpy64(u), np.arange(T)[:, None] - np.arange(T)
    toeplitz = np.where(lag >= 0, kernels[..., np.maximum(lag, 0)], 0.0)
    y = np.einsum("chts,bhs->bcht", toeplitz, rows) + numpy64(p["D"])[..., None] * rows[:, None]
    assert_close(found["y"], y, 1e-4)


def test_a_limit_of_the_band_leaves_out_modes_that_turn_too_fast() -> None:
    p, u = state_space(), draw(7, 1, 2, T)
    p["A_imag"] = mx.array([[1.0, 20.0], [1.0, 20.0]])
    slow = {**p, "C": p["C"] * mx.array([1.0, 0.0])[:, None]}
    got = s4d_kernel(case({"u": u}, {"disc": "zoh", "bandlimit": 1.0}, p))
    assert_close(got["kernel"], s4d_kernel(case({"u": u}, {"disc": "zoh"}, slow))["kernel"], 1e-6)


def test_a_kernel_shorter_than_the_length_of_its_c_is_its_beginning() -> None:
    p = {**state_space(), "P": draw(8, 1, 2, 2, 2), "C_tilde": draw(9, 1, 2, 2, 2)}
    whole = s4_kernel(case({"u": draw(7, 1, 2, T)}, {}, p))["kernel"]
    part = s4_kernel(case({"u": draw(7, 1, 2, T - 2)}, {"l_max": T}, p))["kernel"]
    assert_close(part, numpy64(whole)[:, : T - 2], 1e-5)


def test_a_truncated_average_of_mega_reads_the_last_tokens_alone() -> None:
    p = {name: draw(i, 2, 3, 1) for i, name in enumerate(("alpha", "delta"))}
    p |= {"beta": draw(3, 2, 3), "gamma": draw(4, 2, 3), "omega": draw(5, 2)}
    u = draw(6, 1, T, 2)
    cut = mega_ema(case({"u": u}, {"truncation": 3}, p))["y"]
    assert_close(cut[:, :3], numpy64(mega_ema(case({"u": u}, {}, p))["y"])[:, :3], 1e-5)
    recent = mega_ema(case({"u": u[:, T - 3 :]}, {}, p))["y"]
    assert_close(cut[:, -1], numpy64(recent)[:, -1], 1e-5)


def test_documents_of_mamba_2_start_with_an_empty_state() -> None:
    inputs = {"x": draw(1, 1, T, 2, 3), "dt": draw(2, 1, T, 2), "B": draw(3, 1, T, 1, K),
              "C": draw(4, 1, T, 1, K), "seq_idx": mx.array([[0, 0, 0, 1, 1, 1]])}  # fmt: skip
    got = ssd(case(inputs, {}, {"A_log": draw(5, 2)}))
    later = {name: x[:, 3:] for name, x in inputs.items()}
    want = ssd(case(later, {}, {"A_log": draw(5, 2)}))
    assert_close(got["out"][:, 3:], numpy64(want["out"]), 1e-5)
    assert_close(got["final_state"], numpy64(want["final_state"]), 1e-5)


def test_a_step_size_for_each_value_is_a_delta_rule_for_each() -> None:
    q, k, v = draw(1, 1, T, 2, K), draw(2, 1, T, 2, K), draw(3, 1, T, 2, 3)
    k = k / mx.linalg.norm(k, axis=-1, keepdims=True)
    beta, state = mx.sigmoid(draw(4, 1, T, 2, 3)), draw(5, 1, 2, K, 3)
    rows = {"q": q, "k": k}
    got = delta(case({**rows, "v": v, "beta": beta, "initial_state": state}, {}))
    for i in range(3):
        one = {**rows, "v": v[..., i, None], "beta": beta[..., i],
               "initial_state": state[..., i, None]}  # fmt: skip
        want = delta(case(one, {}))
        assert_close(got["o"][..., i], numpy64(want["o"])[..., 0], 1e-5)
        assert_close(got["final_state"][..., i], numpy64(want["final_state"])[..., 0], 1e-5)


def test_a_bias_of_local_attention_is_added_to_the_scores_of_each_block() -> None:
    q, k, v = (draw(i, 1, 1, 2, K) for i in range(3))
    bias = draw(4, 1, 2, 2)
    options: Options = {"window": 2, "look_backward": 0, "look_forward": 0}
    got = local_blocks(case({"q": q, "k": k, "v": v, "attn_bias": bias}, options))["out"]
    scores = numpy64(q)[0, 0] @ numpy64(k)[0, 0].T / math.sqrt(K) + numpy64(bias)[0]
    assert_close(got[0, 0], softmax(scores) @ numpy64(v)[0, 0], 1e-5)


def test_given_blocks_of_native_sparse_attention_are_the_ones_it_reads() -> None:
    q, k, v = (draw(i, 1, 4, 1, K) for i in range(3))
    inputs = {"q": q, "k": k, "v": v, "g_slc": mx.ones((1, 4, 1))}
    inputs["block_indices"] = mx.array([[0], [0], [1], [0]])[None, :, None]
    got = selected_blocks(case(inputs, {"block": 2, "blocks": 1}))["out"][0, 3, 0]
    scores = numpy64(k)[0, :2, 0] @ numpy64(q)[0, 3, 0] / math.sqrt(K)
    assert_close(got, softmax(scores) @ numpy64(v)[0, :2, 0], 1e-5)


def test_counts_of_native_sparse_attention_take_its_best_blocks() -> None:
    q, k, v = (draw(i, 1, 8, 1, K) for i in range(3))
    counts = mx.broadcast_to(mx.array([[1], [2]] * 4)[None], (1, 8, 1))
    inputs = {"q": q, "k": k, "v": v, "g_slc": mx.ones((1, 8, 1)), "block_counts": counts}
    chosen = selected_blocks(case(inputs, {"block": 2}))["block_indices"]
    assert [(row >= 0).sum().item() for row in chosen[0, :, 0]] == [1, 1, 1, 2, 1, 2, 1, 2]


def test_efficient_attention_normalises_queries_by_feature_and_keys_by_time() -> None:
    q, k, v = (draw(i, 1, 1, T, K) for i in range(3))
    got = performer(case({"q": q, "k": k, "v": v}, {"no_projection": True}))["out"][0, 0]
    queries, keys = softmax(numpy64(q)[0, 0]), softmax(numpy64(k)[0, 0].T).T
    scores = queries @ keys.T
    assert_close(got, scores / scores.sum(axis=1, keepdims=True) @ numpy64(v)[0, 0], 1e-5)


def test_without_a_hash_for_each_round_the_best_buckets_of_one_are_the_rounds() -> None:
    qk = mx.array([[[3.0, 1.0], [-1.0, 2.0], [-2.0, -1.0], [1.0, -3.0]]])
    options: Options = {"bucket_size": 1, "n_hashes": 2, "rehash_each_round": False}
    inputs = {"qk": qk, "v": qk, "rotations": mx.eye(2)[:, None]}
    buckets = lsh(case(inputs, options))["buckets"][0]
    assert buckets.tolist() == [[1, 2, 3, 0], [4 + 0, 4 + 1, 4 + 2, 4 + 3]]


def test_a_mask_of_pairs_of_hashed_attention_is_refused() -> None:
    with pytest.raises(LookupError, match="input_attn_mask"):
        lsh(
            case({"qk": draw(1, 1, 4, 2), "v": draw(2, 1, 4, 2), "input_attn_mask": mx.ones(1)}, {})
        )
