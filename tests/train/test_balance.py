"""Routers that are balanced by a bias: what moves it, and when."""

import mlx.core as mx
import numpy as np
import pytest

from . import tiny

ROUTER = '{kind="sigmoid", top_k=2, normalize=true, speed=0.01}'
EXPERT = '{kind="glu", hidden_dim=16, activation="silu"}'
MOE = f'model.block.ffn={{kind="moe", n_experts=4, expert={EXPERT}, router={ROUTER}}}'


def biases(built) -> np.ndarray:  # type: ignore[no-untyped-def]
    layers = built.model.stack.layers()
    return np.stack([np.asarray(layer.ffn.router.balance) for layer in layers])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_step_moves_the_bias_of_every_expert_by_the_speed(tmp_path, accumulate) -> None:  # type: ignore[no-untyped-def]
    built = tiny.built(tmp_path, MOE, f"train.accumulate={accumulate}")
    tokens = tiny.tokens((4, 17), built.tokenizer.vocab_size, 0)
    assert (biases(built) == 0).all()
    for index in range(3):
        before = biases(built)
        metrics = built.step([{"tokens": mx.array(tokens)}] * accumulate, index)
        mx.eval(metrics, built.step.state)
        moved = np.abs(biases(built) - before)
        np.testing.assert_allclose(moved[moved > 0], 0.01, atol=1e-6)
        assert (moved > 0).any(axis=1).all()
        sizes = {name: value.size for name, value in metrics.items() if value.ndim}
        assert sizes == {"expert_load/0": 4, "expert_load/1": 4}


def test_a_step_that_is_not_finite_moves_nothing(tmp_path) -> None:  # type: ignore[no-untyped-def]
    built = tiny.built(tmp_path, MOE)
    tokens = mx.array(tiny.tokens((4, 17), built.tokenizer.vocab_size, 0))
    bad = {"tokens": tokens, "weights": mx.full((4, 16), float("nan"))}
    mx.eval(built.step([bad], 0), built.step.state)
    assert (biases(built) == 0).all()


def test_a_bias_is_kept_in_checkpoints_and_is_no_trained_weight(tmp_path) -> None:  # type: ignore[no-untyped-def]
    built = tiny.built(tmp_path, MOE)
    assert (
        "balance" in built.step.train_state.trees()["model"]["stack"]["blocks"][0]["ffn"]["router"]
    )
    trained = built.model.trainable_parameters()["stack"]["blocks"][0]["ffn"]["router"]
    assert set(trained) == {"gate"}
