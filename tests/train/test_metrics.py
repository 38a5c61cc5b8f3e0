"""Every number of a report, from first principles."""

import json
import math
import time

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.layers.counts import count, flops_per_token
from mlx_transformers.trainer.evaluate import Evaluator
from mlx_transformers.trainer.metrics import (
    TRAINER_KEYS,
    Window,
    format_metric,
    memory,
    training_metrics,
    validation_metrics,
)

from . import tiny


class Clock:
    """A clock that tests move."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def metrics(loss, tokens, finite=True, rate=1e-3, **more):
    found = {"loss": loss, "tokens": tokens, "finite": finite, "learning_rate": rate} | more
    return {name: mx.array(value) for name, value in found.items()}


def test_losses_are_weighted_by_the_tokens_of_their_step():
    window = Window(1.0, None)
    window.add(metrics(2.0, 10.0, grad_norm=1.0), 12)
    window.add(metrics(5.0, 30.0, grad_norm=3.0, rate=2e-3), 30)
    report = window.read()
    assert report["train_loss"] == pytest.approx((2 * 10 + 5 * 30) / 40)
    assert report["grad_norm"] == pytest.approx(2.5)
    assert report["learning_rate"] == pytest.approx(2e-3)
    assert "mfu" not in report


def test_skipped_steps_count_and_do_not_weigh():
    window = Window(1.0, None)
    window.add(metrics(2.0, 10.0, balance=1.5), 10)
    window.add(metrics(float("nan"), 10.0, finite=False, balance=float("inf")), 10)
    assert window.pending()[0] == 1
    report = window.read()
    assert report["train_loss"] == 2.0
    assert report["balance"] == 1.5
    assert report["skipped"] == 1
    assert window.pending()[0] == 0
    window.add(metrics(float("nan"), 10.0, finite=False), 10)
    assert math.isnan(window.read()["train_loss"])


def test_speed_is_tokens_over_seconds_without_pauses(clock):
    window = Window(flops_per_token=50.0, peak_flops=1000.0)
    for tokens in (60, 40):
        window.add(metrics(1.0, 1.0), tokens)
        clock.now += 4.0
    clock.now += 7.0
    window.pause(7.0)
    clock.now += 2.0
    assert window.pending() == (0, 10.0)
    report = window.read()
    assert report["seconds"] == 10.0
    assert report["tokens_per_s"] == 10.0
    assert report["mfu"] == pytest.approx(10.0 * 50.0 / 1000.0)
    clock.now += 5.0
    window.add(metrics(1.0, 1.0), 10)
    assert window.read()["tokens_per_s"] == 2.0


def test_a_share_above_the_whole_is_no_figure(clock):
    window = Window(flops_per_token=50.0, peak_flops=100.0)
    window.add(metrics(1.0, 1.0), 10)
    clock.now += 1.0
    assert "mfu" not in window.read()


def test_memory_is_what_mlx_holds():
    mx.reset_peak_memory()
    before = memory()
    block = mx.zeros((1 << 20,)) + 1
    mx.eval(block)
    after = memory()
    assert after["active_gib"] - before["active_gib"] == pytest.approx(2**22 / 2**30, rel=0.05)
    assert after["peak_gib"] >= after["active_gib"]
    assert after["process_gib"] > after["active_gib"]
    assert after["process_gib"] < 64


def test_flops_of_a_dense_model_by_hand(tmp_path):
    """D 16, F 24, V 20-odd, T 16: the tied table multiplies once; the mean token sees 8.5 keys."""
    built = tiny.built(tmp_path)
    vocab = built.tokenizer.vocab_size
    block = 4 * 16 * 16 + 3 * 16 * 24 + 2 * 16
    weights = 2 * block + 16 + vocab * 16
    assert built.counts.total == built.counts.active == weights
    expected = 6 * weights + 2 * 12 * 16 * 8.5
    assert flops_per_token(built.model, 16) == pytest.approx(expected)


def test_flops_of_grouped_queries_and_a_window_by_hand(tmp_path):
    """One key/value head of width 8; of 16 tokens the first three see 1, 2, 3 keys, others 4."""
    sets = ("model.block.mixer.n_kv_heads=1", "model.block.mixer.window=4")
    built = tiny.built(tmp_path, *sets)
    block = 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24 + 2 * 16
    weights = 2 * block + 16 + built.tokenizer.vocab_size * 16
    keys = (1 + 2 + 3 + 13 * 4) / 16
    expected = 6 * weights + 2 * 12 * 16 * keys
    assert flops_per_token(built.model, 16) == pytest.approx(expected)


def test_flops_of_experts_count_the_two_that_a_token_meets(tmp_path):
    built = tiny.built(tmp_path, tiny.moe(), "model.head.tied=false")
    vocab = built.tokenizer.vocab_size
    shared = 4 * 16 * 16 + 4 * 16 + 2 * 16
    expert = 3 * 16 * 16
    assert built.counts.total == 2 * (shared + 4 * expert) + 16 + 2 * vocab * 16
    active = 2 * (shared + 2 * expert) + 16 + 2 * vocab * 16
    assert count(built.model).active == active
    expected = 6 * (active - vocab * 16) + 2 * 12 * 16 * 8.5
    assert flops_per_token(built.model, 16) == pytest.approx(expected)


def test_log_records_carry_the_names_that_scripts_read(tmp_path):
    result = tiny.run(tmp_path, "log.every=2", "eval.every=3", name="a")
    rows = list(result.folder.records())
    reports = [row for row in rows if "train_loss" in row]
    evaluations = [row for row in rows if "val_loss" in row]
    assert [row["step"] for row in reports] == [2, 4, 6]
    assert [row["step"] for row in evaluations] == [3, 6]
    for row in reports:
        assert {"tokens_per_s", "peak_gib", "learning_rate", "mfu", "grad_norm"} <= row.keys()
        assert row["tokens"] == row["step"] * 4 * 16
    for row in evaluations:
        assert {"val_bpb", "val_ppl"} <= row.keys()
    seconds = [row["seconds_total"] for row in reports]
    assert seconds == sorted(seconds)
    assert all(np.isfinite(row["loader_tokens_per_s"]) for row in reports)


def test_reported_seconds_add_up_to_the_steps_and_not_to_the_evaluations(tmp_path, monkeypatch):
    """Evaluation takes ten pretended seconds a time; none of them are the steps'."""
    plain, offset = time.perf_counter, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: plain() + offset[0])
    call = Evaluator.__call__

    def slow(self, batches):
        offset[0] += 10.0
        return call(self, batches)

    monkeypatch.setattr(Evaluator, "__call__", slow)
    result = tiny.run(tmp_path, "eval.every=1", name="a")
    assert offset[0] == 60.0
    assert result.progress.seconds < 10.0


def test_the_metrics_of_an_objective_are_told_from_those_of_the_trainer(tmp_path):
    """Of any run: what it trains on beside the loss, and no number of the trainer's."""
    sets = (tiny.moe(), "objective.z_loss=0.1", "eval.every=3")
    rows = [json.loads(x) for x in tiny.run(tmp_path, *sets).folder.log.read_text().splitlines()]
    reports = [set(training_metrics(row)) for row in rows if "train_loss" in row]
    evaluations = [set(validation_metrics(row)) for row in rows if "val_loss" in row]
    assert {"loss", "z"} <= reports[0]
    assert all(found == reports[0] for found in reports)
    assert not reports[0] & TRAINER_KEYS
    assert evaluations[0] - {"ppl", "bpb"} == reports[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.14159, "3.142"), (0.0, "0.000"), (0.00012, "0.00012"), (123456.71, "123,456.7")],
)
def test_metrics_of_any_size_are_written_short(value, text):
    assert format_metric(value) == text
    assert format_metric(float("nan")) == "nan"


def test_lists_of_a_layer_are_averaged_element_by_element() -> None:
    window = Window(1.0, None)
    for load, tokens in (([1.0, 3.0], 1.0), ([2.0, 0.0], 3.0)):
        numbers = {"loss": 1.0, "learning_rate": 0.1, "tokens": tokens}
        metrics = {name: mx.array(value) for name, value in numbers.items()}
        window.add(metrics | {"expert_load/0": mx.array(load), "finite": mx.array(True)}, 8)
    assert window.read()["expert_load/0"] == [1.75, 0.75]
