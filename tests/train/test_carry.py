"""Truncated backpropagation in time: the state goes on from batch to batch, gradients do not."""

from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Collected, Context
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.distributed.processes import SINGLE
from mlx_transformers.trainer.carry import RecurrentCarry
from mlx_transformers.trainer.loop import arrays

from . import tiny

LSTM = (
    'model={kind="recurrent", dim=16, embed={kind="token"}, head={kind="lm", tied=true}, '
    'init={kind="normal", std=0.3}, '
    'stack={n_layers=2, hidden_dim=12, cell={kind="lstm"}}}'
)
STREAMS = (LSTM, "data.batch.kind='streams'", "train.seq_len=8", "train.batch_size=3")
STILL = ("optim={kind='sgd', learning_rate=1e-30}",)
DROPS = ("model.output_dropout=0.1", "model.stack.cell.weight_drop=0.2")


def batch(tokens: np.ndarray, starts: list[bool]) -> dict[str, mx.array]:
    return arrays({"tokens": tokens, "starts": np.array(starts, np.int32)})


@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=pytest.mark.compiled), 2])
def test_the_state_after_two_batches_is_that_after_their_text_in_one(tmp_path, accumulate):
    built = tiny.built(tmp_path, *STREAMS, *STILL, f"train.accumulate={accumulate}")
    text = tiny.tokens((3, 17), built.model.vocab_size)
    batches = [batch(text[:, :9], [True] * 3), batch(text[:, 8:], [False] * 3)]
    if accumulate == 1:
        for i, each in enumerate(batches):
            built.step([each], i)
    else:
        built.step(batches, 0)
    ctx = Context(collected=Collected(carried=built.model.carried_state(3)))
    built.model.hidden(built.model.embedded({"tokens": mx.array(text[:, :-1])}, ctx), ctx)
    found, expected = (
        tiny.leaves(built.step.train_state.carry.state["rows"]),
        tiny.leaves(ctx.collected.carried),
    )
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)


def test_the_loss_of_a_batch_is_that_of_its_text_after_what_was_carried(tmp_path):
    built = tiny.built(tmp_path, *STREAMS, *STILL)
    text = tiny.tokens((3, 17), built.model.vocab_size)
    built.step([batch(text[:, :9], [True] * 3)], 0)
    second = built.step([batch(text[:, 8:], [False] * 3)], 1)["loss"]
    logits = built.model(mx.array(text[:, :-1]))[:, 8:]
    targets = mx.array(text[:, 9:])[..., None]
    log_p = mx.take_along_axis(logits - mx.logsumexp(logits, -1, keepdims=True), targets, -1)
    assert float(second) == pytest.approx(-float(log_p.mean()), rel=1e-4)


def test_a_row_that_starts_anew_has_forgotten_and_its_neighbours_have_not(tmp_path):
    built = tiny.built(tmp_path, *STREAMS, *STILL)
    text = tiny.tokens((3, 9), built.model.vocab_size)
    built.step([batch(text, [True] * 3)], 0)
    begun = built.step.train_state.carry.before(mx.array([0, 1, 0]))
    for state in begun:
        for value in state.values():
            alive = np.abs(np.asarray(value)).max(axis=1) > 0
            assert alive.tolist() == [True, False, True]


def test_a_resumed_run_carries_on_bit_by_bit(tmp_path):
    sets = (*STREAMS, *DROPS, "checkpoint.every=2", "optim.schedule={kind='constant'}")
    whole = tiny.run(tmp_path, *sets, name="whole")
    tiny.run(tmp_path, *sets, "train.steps=4", name="a")
    ended = tiny.run(tmp_path, *sets, name="a", resume="auto")
    for name in ("model", "optimizer", "carry"):
        files = [(r.folder.newest() / f"{name}.safetensors").read_bytes() for r in (whole, ended)]
        assert files[0] == files[1], name
    assert tiny.records(ended, "train_loss") == tiny.records(whole, "train_loss")


def test_numbers_that_are_not_finite_are_not_carried(tmp_path):
    built = tiny.built(tmp_path, *STREAMS)
    carry = built.step.train_state.carry
    carry.keep([{k: v + float("nan") for k, v in s.items()} for s in carry.state["rows"]])
    assert all((value == 0).all() for value in tiny.leaves(carry.state).values())


def test_a_model_without_a_state_to_carry_is_an_error(tmp_path):
    with pytest.raises(RecipeError, match="this one has none"):
        tiny.built(tmp_path, "data.batch.kind='streams'")


def test_processes_that_share_the_rows_are_an_error(tmp_path):
    model = tiny.built(tmp_path, *STREAMS).model
    with pytest.raises(RecipeError, match="single process"):
        RecurrentCarry(model, 3, SimpleNamespace(world=2))
    assert RecurrentCarry(model, 3, SINGLE).state


def test_progress_goes_from_nothing_to_all(tmp_path):
    built = tiny.built(tmp_path, "train.steps=4")
    tokens = arrays({"tokens": tiny.tokens((4, 17), built.model.vocab_size)})
    seen = []
    for index in range(4):
        built.step([tokens], index)
        seen.append(float(built.step.train_state.clock["progress"]))
    assert seen == [0.0, 0.25, 0.5, 0.75]
