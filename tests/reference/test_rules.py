"""Rules of tools/reference_groups with options that differ from the usual ones, by definition."""

import math
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from ops.compare import assert_close, draw, numpy64
from reference_adapt import distillation, losses, numeric, policy_losses
from reference_adapt.numeric import Options
from reference_groups.case import Arrays, Case
from reference_groups.long_filters import product_keys
from reference_groups.low_rank import based, cosformer
from reference_groups.retention import xpos
from reference_groups.state_space import s4d_kernel

T, K = 6, 4


def case(inputs: Arrays, options: Options, params: Arrays | None = None) -> Case:
    return Case("case", {"options": options}, inputs, params or {}, {})


def test_the_normaliser_of_cosformer_is_held_above_a_bound_and_not_moved() -> None:
    x = mx.abs(draw(1, T, 1, K)) * 0.003
    names = (f"{name}_proj.weight" for name in "qkv")
    out = cosformer(
        case({"query": x}, {"heads": 1, "act": "relu"}, dict.fromkeys(names, mx.eye(K)))
    )
    rows = numpy64(x)[:, 0]
    angle = 0.5 * math.pi * np.arange(1, T + 1) / T
    turned = np.concatenate([rows * np.sin(angle)[:, None], rows * np.cos(angle)[:, None]], axis=1)
    weights = turned @ turned.T
    want = weights @ rows / np.maximum(weights.sum(axis=1, keepdims=True), 1e-6)
    assert_close(out["out"][:, 0] * 100, want * 100)


@pytest.mark.parametrize("offset", [1, 2])
def test_xpos_with_an_offset_turns_the_last_rows_of_a_longer_sequence(offset: int) -> None:
    rows = {name: draw(i, 1, T + offset, K) for i, name in enumerate("qk")}
    last = {name: x[:, offset:] for name, x in rows.items()}
    every = xpos(case(rows, {"scale_base": 64}))
    some = xpos(case(last, {"scale_base": 64, "offset": offset}))
    for name in ("q_rot", "k_rot"):
        assert_close(some[name], every[name][:, offset:])


def test_the_scale_of_based_is_in_its_scores() -> None:
    q, k, v = (draw(i, 1, 1, T, K) for i in range(3))
    out = based(case({"q": q, "k": k, "v": v}, {"scale": 0.3, "normalised": False}))
    scores = 0.3 * numpy64(q)[0, 0] @ numpy64(k)[0, 0].T
    assert_close(out["o"][0, 0], np.tril(1 + scores + scores**2 / 2) @ numpy64(v)[0, 0])


def test_product_keys_that_are_combined_leave_their_weights_out() -> None:
    params = {
        "keys": draw(1, 1, 3, 2, K),
        "to_queries.weight": draw(2, 2 * K, K),
        "values.weight": draw(3, 9, K),
        "maybe_concat_combine.2.weight": mx.eye(K),
    }
    x = draw(4, 1, 1, K)
    out = product_keys(case({"x": x}, {"topk": 1}, params))
    halves = (numpy64(x)[0, 0] @ numpy64(params["to_queries.weight"]).T).reshape(2, K)
    best = [int((numpy64(params["keys"])[0, :, i] @ halves[i]).argmax()) for i in range(2)]
    assert_close(out["out"][0, 0], numpy64(params["values.weight"])[3 * best[0] + best[1]])


def test_the_kernel_of_dss_divides_each_mode_by_its_sum() -> None:
    n = 2
    params = {"A_real": draw(1, 1, n), "A_imag": draw(2, 1, n), "B": draw(3, 1, 1, n, 2),
              "C": draw(4, 1, 1, n, 2), "inv_dt": mx.array([[-1.0]]), "D": mx.zeros(1)}  # fmt: skip
    kernel = s4d_kernel(case({"u": draw(5, 1, 1, T)}, {"disc": "dss"}, params))["kernel"]
    real = {name: numpy64(x) for name, x in params.items()}
    a = -np.exp(real["A_real"][0]) - 1j * real["A_imag"][0]
    b, c = (real[x][0, 0] @ np.array([1, 1j]) for x in "BC")
    modes = np.exp(math.exp(-1) * a[:, None] * np.arange(T))
    assert_close(kernel[0], ((b * c / a / modes.sum(axis=1)) @ modes).real, 1e-4)


def test_options_left_out_have_the_published_values(tmp_path: Path) -> None:
    inputs = {"logps": draw(1, 2, T), "ref_logps": draw(2, 2, T), "mask": mx.ones((2, T)),
              "kl_logps": draw(3, 2, T), "ref_kl_logps": draw(4, 2, T), "kl_mask": mx.ones((2, T)),
              "label": mx.array([1, 0])}  # fmt: skip
    arrays = {f"in.{name}": array for name, array in inputs.items()}
    mx.save_safetensors(str(tmp_path / "expected.safetensors"), arrays)
    told = {"loss_type": "kto", "beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0}
    options = {"told": told, "silent": {}, "other": {"beta": 0.3}}
    variants = [{"name": k, "options": v, "outputs": ["loss"]} for k, v in options.items()]
    meta = {"source": "trl.trainer.kto_trainer", "inputs": list(inputs), "variants": variants}
    got = numeric.run(tmp_path, meta, losses.RULES)
    assert got["silent.loss"].item() == got["told.loss"].item() != got["other.loss"].item()


def test_a_ratio_may_rise_as_far_as_it_may_fall_unless_the_options_say() -> None:
    assert policy_losses.bounds_of({"epsilon_low": 0.3}) == {"low": 0.3, "high": 0.3}
    assert policy_losses.bounds_of({"epsilon_low": 0.3, "epsilon_high": 0.5})["high"] == 0.5


def test_the_batch_mean_without_labels_is_over_rows() -> None:
    x = {"student_logits": draw(1, 2, T, K), "teacher_logits": draw(2, 2, T, K)}
    total = distillation.gkd({"beta": 0.3, "reduction": "sum"}, x)["loss"]
    assert_close(distillation.gkd({"beta": 0.3}, x)["loss"], numpy64(total) / 2)
