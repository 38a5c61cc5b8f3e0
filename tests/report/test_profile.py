"""A profile adds up, counts what it says it counts, and leaves its measuring to the machine."""

import json
from dataclasses import asdict
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from cli.conftest import RECIPE
from mlx.utils import tree_flatten

from mlx_transformers.assembly.build import Built, build
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.assembly.streams import training_feed
from mlx_transformers.core.errors import RunError
from mlx_transformers.profile.decoding import contexts
from mlx_transformers.profile.machine import Peaks
from mlx_transformers.profile.measure import Profile, measure
from mlx_transformers.profile.step import PARTS, StepTimer, TimedFeed, step_bytes
from mlx_transformers.profile.timing import Spread, in_turns
from mlx_transformers.report.profiles import part_rows, write_profile
from mlx_transformers.trainer.parallel_rows import ParallelRows

from .reading import Reading

PATTERN = """
[model.blocks.near.mixer]
window = 4
[model.blocks.far.mixer]
"""


@pytest.fixture
def built(home: Path) -> Built:
    """A tiny recipe of two kinds of block, near, far, near, and two microbatches."""
    (home / "tiny.toml").write_text(RECIPE + PATTERN)
    sets = ["model.n_layers=3", 'model.pattern=["near","far"]', "train.accumulate=2"]
    return build(load_recipe("tiny", sets))


def test_a_spread_is_median_and_quartiles() -> None:
    values = [3.0, 9.0, 1.0, 4.0, 7.0, 5.0]
    found = Spread.of(values)
    assert np.allclose([found.low, found.median, found.high], np.percentile(values, [25, 50, 75]))
    assert Spread.of([2.0, 1.0]) == Spread(1.5, 1.0, 2.0)


def test_tasks_take_turns_and_the_first_round_is_not_counted() -> None:
    order: list[str] = []
    tasks = {name: (lambda name=name: order.append(name)) for name in "ab"}
    found = in_turns(tasks, 3)
    assert "".join(order) == "abababab"
    assert [len(found[name]) for name in "ab"] == [3, 3]


@pytest.mark.compiled
def test_a_profile_adds_up_and_says_what_the_model_is(built: Built, tmp_path: Path) -> None:
    found = measure(built, steps=4)
    speed = found.speed
    assert set(speed.parts_s) == set(PARTS)
    assert sum(part.median for part in speed.parts_s.values()) == pytest.approx(speed.step_s.median)
    assert speed.tokens_per_step == 2 * 2 * 16
    assert 64 / speed.step_s.high <= speed.tokens_per_s.median <= 64 / speed.step_s.low
    assert speed.traces == speed.declared_traces == 3
    assert [(b.part, b.kind, b.count) for b in found.blocks if b.whole] == [
        ("near", "attention + glu", 2),
        ("far", "attention + glu", 1),
    ]
    assert found.parameters == built.counts.total
    assert json.loads(json.dumps(asdict(found)))["speed"]["traces"] == 3
    check_page(found, tmp_path / "profile.html")


def check_page(found: Profile, path: Path) -> None:
    words = Reading(write_profile(found, "mlxt profile tiny", path)).words
    assert {"summary", "parts", "blocks", "decode", "command"} <= set(words)
    assert part_rows(found)[-1][-1] == "100.0%"
    for part in PARTS:
        assert part in words["parts"]


def test_decoding_counts_its_cache_and_what_a_token_reads(built: Built) -> None:
    row, many = measure(built, steps=2).decoding[-2:]
    assert row.context == many.context == built.model.max_seq_len == 16
    assert (row.batch, many.batch) == (1, 32)
    near, far = 4, 16  # slots of a window, and of a whole context
    assert row.cache_bytes == (2 * near + far) * 2 * 16 * 4
    assert many.cache_bytes == 32 * row.cache_bytes
    assert many.token_bytes - many.cache_bytes == row.token_bytes - row.cache_bytes
    weights = sum(value.size for _, value in tree_flatten(built.model.parameters()))
    assert row.token_bytes == 4 * weights + row.cache_bytes  # the table is the head too
    assert contexts(256) == [32, 64, 128, 256]
    assert contexts(16) == [4, 8, 16]


def test_a_step_moves_its_weights_and_optimizer_at_the_least(built: Built) -> None:
    weights = sum(value.nbytes for _, value in tree_flatten(built.model.parameters()))
    optimizer = sum(
        value.nbytes for _, value in tree_flatten(built.step.train_state.optimizer.state)
    )
    forward_and_backward = 2 * weights * built.recipe.train.accumulate
    gradients = 2 * weights
    assert step_bytes(built.step) == (
        forward_and_backward + gradients + 2 * optimizer + 2 * weights
    )


@pytest.mark.parametrize("streams", [1, 2])
def test_the_parts_of_a_step_are_its_loss_and_its_gradients(
    built: Built, monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    """What is timed is what is trained: the same loss, the same gradients, untouched weights."""
    step = built.step
    monkeypatch.setattr(step, "parallel", ParallelRows(streams))
    timer = StepTimer(step, TimedFeed(training_feed(built)))
    step.parallel.check(step.loss, timer._batches[0])
    assert step.parallel.streams == streams
    batch, key = timer._batches[0], mx.random.key(3)
    before = {name: mx.array(value) for name, value in tree_flatten(step.model.parameters())}
    wanted = step._gradients(batch, key)
    loss, grads = timer._gradients(batch, key)
    assert mx.allclose(loss, wanted["parts"]["loss"], rtol=1e-5)
    assert mx.allclose(timer._forward(batch, key), loss, rtol=1e-5)
    for (name, ours), (_, theirs) in zip(
        tree_flatten(grads), tree_flatten(wanted["grads"]), strict=True
    ):
        assert mx.allclose(ours, theirs, rtol=1e-4, atol=1e-5), name
    for name, value in tree_flatten(step.model.parameters()):
        assert mx.array_equal(value, before[name]), name
    timer.feed.stream.close()


@pytest.mark.skipif(mx.metal.is_available(), reason="Metal records here")
def test_a_gpu_trace_is_refused_before_anything_is_measured(built: Built) -> None:
    def fail(text: str) -> None:
        raise AssertionError(text)

    with pytest.raises(RunError, match="which this machine doesn't have"):
        measure(built, capture_to=Path("step.gputrace"), say=fail)


def test_too_few_steps_are_refused(built: Built) -> None:
    with pytest.raises(RunError, match="at least 2"):
        measure(built, steps=1)


@pytest.mark.parametrize(
    ("products", "flop_per_s", "others", "share", "reason"),
    [
        ([90.0, 100.0, 95.0], 50.0, None, 0.5, None),
        ([90.0, 100.0], 101.0, None, None, "ran at 101% of the reference product"),
        ([100.0, 40.0, 95.0], 50.0, None, None, "fell to 40% of its best while measuring: other"),
        ([100.0, 40.0, 95.0], 50.0, 0.9, None, "other processes took 90% of the cores' time"),
        ([100.0, 40.0, 95.0], 50.0, 0.0, None, "the processor's clock fell"),
    ],
)
def test_a_disturbed_reference_product_gives_no_mfu(
    products: list[float],
    flop_per_s: float,
    others: float | None,
    share: float | None,
    reason: str | None,
) -> None:
    peaks = Peaks(mx.float32)
    peaks.products = products
    found, why = peaks.utilization(flop_per_s, others)
    assert found == share
    assert (why is None) if reason is None else (reason in (why or ""))
