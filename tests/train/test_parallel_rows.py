"""A batch in parts on several CPU streams: the same step, or no parts at all."""

import ctypes
import os

import mlx.core as mx
import pytest

from mlx_transformers.assembly import build, plan
from mlx_transformers.assembly.job import job
from mlx_transformers.assembly.parallel import parallel_rows
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core import backend, blas, cpu_streams
from mlx_transformers.core.context import Context
from mlx_transformers.core.cpu_streams import CHOICE, WALK, WIDE
from mlx_transformers.core.errors import RunError
from mlx_transformers.core.loss import Loss
from mlx_transformers.objectives import chunked_loss
from mlx_transformers.trainer import parallel_rows as parallel
from mlx_transformers.trainer.forward import Forward
from mlx_transformers.trainer.step import Step

from . import tiny
from .test_step import PLAIN, SGD, arrays, batch, distance, moved, train, vocab

NO_DROPOUT = ("model.embed.dropout=0.0", "model.block.dropout=0.0")
LAYER_DROP = "model.depth={{kind='layer_drop', rate={}, by='row', over_depth='linear'}}"
LORA = "adapt={{kind='lora', rank=2, dropout={}, targets=['mixer.q']}}"


@pytest.fixture
def two_streams(monkeypatch):
    """A machine with two CPU streams."""
    monkeypatch.setattr(backend.prepare(), "cpu_streams", 2)


@pytest.fixture
def seen(monkeypatch):
    """The rows and the stream of each part that is computed."""
    found, plain = [], Step._sums

    def sums(self, rows, key):
        found.append((len(rows["tokens"]), mx.default_stream(mx.cpu)))
        return plain(self, rows, key)

    monkeypatch.setattr(Step, "_sums", sums)
    return found


@pytest.mark.parametrize("count", [2, 4])
def test_parts_of_ragged_rows_are_the_whole_batch(tmp_path, monkeypatch, seen, count):
    sets = (*PLAIN, *SGD, "train.batch_size=8")
    whole = tiny.built(tmp_path, *sets)
    batches = [batch(vocab(whole), rows=8, seed=s) for s in range(3)]
    expected = train(whole, batches)
    seen.clear()
    monkeypatch.setattr(backend.prepare(), "cpu_streams", count)
    split = tiny.built(tmp_path, *sets)
    got = train(split, batches)
    assert [rows for rows, _ in seen] == [8 // count] * 3 * count
    assert len({str(stream) for _, stream in seen}) == count
    for a, b in zip(expected, got, strict=True):
        assert b == pytest.approx(a, abs=2e-6)
    assert distance(whole, split) < 2e-6
    assert moved(whole, tiny.built(tmp_path, *PLAIN, *SGD))


@pytest.mark.compiled
@pytest.mark.parametrize(
    "sets",
    [("train.accumulate=2",), ("train.recompute='all'", "objective.chunk=8")],
    ids=["accumulated", "recomputed"],
)
def test_a_compiled_step_in_parts_is_traced_once_and_is_the_whole_one(
    tmp_path, two_streams, seen, sets
):
    sets, count = (*NO_DROPOUT, *sets), 2 if "train.accumulate=2" in sets else 1
    split, whole = tiny.built(tmp_path, *sets), tiny.built(tmp_path, *sets)
    whole.step.parallel = parallel.ParallelRows()
    batches = [batch(vocab(split), 4 * count, seed=s) for s in range(3)]
    got = train(split, batches, count)
    assert {rows for rows, _ in seen} == {2}
    assert split.step.traces == split.step.declared_traces
    for a, b in zip(train(whole, batches, count), got, strict=True):
        assert b == pytest.approx(a, abs=1e-5)
    assert distance(whole, split) < 1e-4


def test_adapters_without_dropout_are_trained_in_parts(tmp_path, two_streams, seen):
    built = tiny.built(tmp_path, *NO_DROPOUT, LORA.format(0.0))
    train(built, [batch(vocab(built))])
    assert [rows for rows, _ in seen] == [2, 2]


def test_parts_together_hold_the_logits_of_one_chunk(tmp_path, monkeypatch, two_streams):
    chunks, plain = [], chunked_loss.linear_cross_entropy

    def recorded(*args, chunk, **options):
        chunks.append(chunk)
        return plain(*args, chunk=chunk, **options)

    monkeypatch.setattr(chunked_loss, "linear_cross_entropy", recorded)
    built = tiny.built(tmp_path, *NO_DROPOUT, "objective.chunk=8")
    whole = batch(vocab(built))
    parts = built.step.parallel
    parts.check(built.step.loss, arrays(whole))
    chunks.clear()
    built.step.gradient([arrays(whole)], mx.random.split(mx.random.key(0), 1))
    assert chunks == [4, 4]
    parts.settle(1)
    built.step.rebuild()
    built.step.gradient([arrays(whole)], mx.random.split(mx.random.key(0), 1))
    assert chunks == [4, 4, 8]


@pytest.mark.parametrize(
    ("sets", "why"),
    [
        (("model.block.dropout=0.1",), "random numbers"),
        ((*NO_DROPOUT, LAYER_DROP.format(0.2), "train.batch_size=8"), "random numbers"),
        ((*NO_DROPOUT, LAYER_DROP.format(1e-6)), "random numbers"),
        ((*NO_DROPOUT, LORA.format(0.5)), "random numbers"),
        ((*NO_DROPOUT, tiny.moe()), "losses that compare the tokens"),
        ((*NO_DROPOUT, "train.dtype='float16'"), "float16"),
        ((*NO_DROPOUT, "train.noise_scale=true", "train.accumulate=2"), "noise scale"),
        ((*NO_DROPOUT, "train.offload_optimizer=true"), "page by page"),
        ((*NO_DROPOUT, "train.batch_size=3"), "2 equal parts"),
    ],
    ids=[
        "dropout",
        "layer drop",
        "layer drop that drops next to nothing",
        "dropout of adapters",
        "experts",
        "float16",
        "noise",
        "offload",
        "odd",
    ],
)
def test_a_batch_that_is_more_than_its_rows_is_computed_whole(
    tmp_path, two_streams, seen, sets, why
):
    built = tiny.built(tmp_path, *sets)
    count, rows = built.recipe.train.accumulate, built.recipe.train.batch_size
    tokens = tiny.tokens((rows * count, 17), vocab(built))
    train(built, [arrays({"tokens": tokens})], count)
    assert why in built.step.parallel.why
    assert [found for found, _ in seen] == [rows] * count


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("multimodal/clip_tiny", "batch"),
        ("recurrent/awd_lstm_tiny", "carries its state"),
        ("align/grpo_tiny", "Rollouts are generated"),
    ],
)
def test_recipes_whose_rows_belong_together_want_one_stream(two_streams, name, why):
    found = parallel_rows(load_recipe(name))
    assert found.wanted == 1
    assert why in found.why


@pytest.mark.parametrize("padding", [0, 2], ids=["no padding", "rows of padding first"])
def test_a_loss_that_couples_rows_without_saying_so_is_found_out(tmp_path, padding):
    built = tiny.built(tmp_path, *NO_DROPOUT)
    plain = built.step.loss.objective

    def coupled(models, rows, ctx: Context) -> Loss:
        found = plain(models, rows, ctx)
        return Loss(found.total * found.weight, found.weight, found.parts)

    rows = batch(vocab(built))
    rows["weights"] = mx.where(mx.arange(4)[:, None] < padding, 0.0, rows["weights"])
    assert parallel.why_whole(built.step.loss, rows, 2) == ""
    found = parallel.why_whole(Forward(built.model, coupled), rows, 2)
    assert "depends on the other rows" in found


def test_a_batch_of_padding_shows_nothing_and_is_computed_whole(tmp_path):
    built = tiny.built(tmp_path, *NO_DROPOUT)
    rows = batch(vocab(built))
    rows["weights"] = mx.where(mx.arange(4)[:, None] < 3, 0.0, rows["weights"])
    assert "Fewer than two rows" in parallel.why_whole(built.step.loss, rows, 2)


def draws(built) -> bool:
    """Whether a training pass of a run draws random numbers, by its own record."""
    ctx = Context(key=mx.random.key(0), scalars={"progress": mx.array(0.5)})
    built.step.loss(built.model.trainable_parameters(), batch(vocab(built)), ctx)
    return ctx.collected.draws.any


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (NO_DROPOUT, False),
        ((*NO_DROPOUT, "train.recompute='all'"), False),
        ((*NO_DROPOUT, "model.block.ffn.dropout=0.1", "train.recompute='all'"), True),
        ((*NO_DROPOUT, "model.block.mixer.dropout=0.1"), True),
        ((*NO_DROPOUT, "model.block.mixer={kind='local_attention', n_heads=2, window=4}"), False),
        (
            (
                *NO_DROPOUT,
                "model.block.mixer={kind='local_attention', n_heads=2, window=4, dropout=0.1}",
            ),
            True,
        ),
    ],
)
def test_a_pass_records_whether_it_draws(tmp_path, sets, expected):
    assert draws(tiny.built(tmp_path, *sets)) == expected


@pytest.mark.parametrize(
    ("one_stream", "why"),
    [("Only Linux has several.", "Only Linux"), ("", "GPU")],
)
def test_streams_that_are_asked_for_in_vain_are_told(tmp_path, monkeypatch, one_stream, why):
    recipe, report = tiny.recipe(tmp_path), backend.prepare()
    monkeypatch.setattr(report, "one_stream", one_stream)
    monkeypatch.setattr(report, "cpu_streams", 1)
    assert parallel_rows(recipe).notices == []
    monkeypatch.setenv(CHOICE, "2")
    [notice] = parallel_rows(recipe).notices
    assert CHOICE in notice
    assert why in notice


def test_a_user_who_asked_for_nothing_is_told_nothing(tmp_path, monkeypatch, two_streams):
    recipe = tiny.recipe(tmp_path, "train.dtype='float16'")
    found = parallel_rows(recipe)
    assert "float16" in found.why
    assert found.notices == []
    monkeypatch.setenv(CHOICE, "2")
    assert "float16" in parallel_rows(recipe).notices[0]


def test_streams_that_take_more_than_the_budget_are_left_out(tmp_path, monkeypatch, two_streams):
    sets = (*NO_DROPOUT, "train.batch_size=4")
    built = tiny.built(tmp_path, *sets)
    peak = plan.account(job(built.recipe, built.model)).peak
    memory = plan.Memory(1.0, 0.9 * peak, 2 * peak, cpu=True)
    monkeypatch.setattr(plan, "available_memory", lambda mac, model: memory)
    assert tiny.built(tmp_path, *sets).step.parallel.wanted == 1
    assert plan.plan(built.recipe, built.model).job.streams == 1
    monkeypatch.setenv(CHOICE, "2")
    assert tiny.built(tmp_path, *sets).step.parallel.wanted == 2


def test_smaller_microbatches_leave_room_for_streams(tmp_path, monkeypatch, two_streams):
    """The plan and the build judge once, after the microbatch was chosen."""
    sets = (*NO_DROPOUT, "train.batch_size=16", "train.microbatch=auto")
    recipe = tiny.recipe(tmp_path, *sets)
    built = tiny.built(tmp_path, *NO_DROPOUT, "train.batch_size=16")
    peak = plan.account(job(built.recipe, built.model)).peak
    memory = plan.Memory(1.0, 0.9 * peak, 2 * peak, cpu=True)
    monkeypatch.setattr(plan, "available_memory", lambda mac, model: memory)
    planned = plan.plan(recipe, built.model).job
    built = build.build(recipe)
    assert (planned.batch_size, planned.streams) == (8, 2)
    assert (built.recipe.train.batch_size, built.step.parallel.wanted) == (8, 2)


@pytest.mark.compiled
def test_held_out_rows_are_evaluated_in_parts_once_a_step_was(tmp_path, two_streams, monkeypatch):
    built = tiny.built(tmp_path, *NO_DROPOUT)
    rows = batch(vocab(built))
    whole, found = built.evaluator([rows]), []
    plain = built.evaluator._of_rows
    monkeypatch.setattr(
        built.evaluator,
        "_of_rows",
        lambda part, key: found.append(len(part["tokens"])) or plain(part, key),
    )
    built.step.parallel.check(built.step.loss, rows)
    assert built.evaluator([rows]) == pytest.approx(whole, rel=1e-5)
    assert found == [2, 2]


def test_several_processes_and_other_batches_are_left_alone(tmp_path, two_streams):
    assert parallel_rows(tiny.recipe(tmp_path)).wanted == 2
    assert parallel_rows(tiny.recipe(tmp_path), processes=2).wanted == 1
    assert not parallel.divides({"tokens": mx.zeros((4, 3)), "one": mx.zeros((1,))}, 2)
    assert not parallel.divides({"tokens": mx.zeros((4, 3)), "scalar": mx.array(1)}, 2)


@pytest.mark.parametrize(
    ("width", "earlier", "left", "streams"),
    [(WIDE, False, None, 1), (WIDE, True, WIDE, 2), ("50", False, "50", 2)],
    ids=["first", "after another run", "a width of one's own"],
)
def test_a_run_with_its_optimizer_in_a_file_has_mlx_walk_graphs_deep(
    tmp_path, monkeypatch, width, earlier, left, streams
):
    report = backend.prepare()
    monkeypatch.setattr(report, "cpu_streams", 2)
    monkeypatch.setattr(report, "one_stream", "")
    monkeypatch.setattr(cpu_streams, "_settled", earlier)
    monkeypatch.setenv(WALK, width)
    tiny.built(tmp_path, *NO_DROPOUT, "train.offload_optimizer=true")
    assert (os.environ.get(WALK), report.cpu_streams) == (left, streams)


@pytest.mark.parametrize("value", ["0", "two", "-1", "1.5", "65", "²"])
def test_a_number_of_streams_that_is_none_is_refused(tmp_path, monkeypatch, value):
    monkeypatch.setenv(CHOICE, value)
    with pytest.raises(RunError, match=rf"{CHOICE} = '.*' is not a number of CPU streams"):
        tiny.built(tmp_path)


def test_a_run_of_one_stream_is_resumed_with_two(tmp_path, monkeypatch, seen):
    sets = (*NO_DROPOUT, "checkpoint.async=true", "optim.schedule={kind='constant'}")
    whole = tiny.run(tmp_path, *sets, "train.steps=4", name="whole")
    tiny.run(tmp_path, *sets, "train.steps=2", name="parts")
    monkeypatch.setattr(backend.prepare(), "cpu_streams", 2)
    monkeypatch.setenv(CHOICE, "2")
    seen.clear()
    parts = tiny.run(tmp_path, *sets, "train.steps=4", name="parts", resume="auto")
    assert {rows for rows, _ in seen} == {2}
    a, b = (dict(tiny.records(each, "train_loss")) for each in (whole, parts))
    assert b == pytest.approx(a, abs=1e-5)


@pytest.mark.parametrize("first", [1, 2])
def test_a_resumed_run_goes_on_in_as_many_parts_and_bit_for_bit(tmp_path, monkeypatch, seen, first):
    """Whatever this process would choose by itself, as memory and the first batch have it."""
    sets = (*NO_DROPOUT, "optim.schedule={kind='constant'}")
    report = backend.prepare()
    monkeypatch.setattr(report, "cpu_streams", first)
    whole = tiny.run(tmp_path, *sets, "train.steps=4", name="whole")
    tiny.run(tmp_path, *sets, "train.steps=2", name="parts")
    monkeypatch.setattr(report, "cpu_streams", 2)
    monkeypatch.setattr(plan, "budget_bytes", lambda: 1e15 if first == 1 else 1.0)
    seen.clear()
    parts = tiny.run(tmp_path, *sets, "train.steps=4", name="parts", resume="auto")
    assert seen[-1][0] == 4 // first
    assert tiny.records(parts, "train_loss") == tiny.records(whole, "train_loss")
    files = [run.folder.newest() / "model.safetensors" for run in (whole, parts)]
    a, b = (mx.load(str(file)) for file in files)
    assert all(mx.array_equal(a[name], b[name]) for name in a)


@pytest.fixture
def two_threads():
    """A machine where a matrix product has two threads."""
    process, before = ctypes.CDLL(None), blas.thread_counts()
    if not before:
        pytest.skip("no OpenBLAS multiplies here")
    for setter in before:
        getattr(process, setter)(2)
    yield blas.thread_counts()
    for setter, count in before.items():
        getattr(process, setter)(count)


@pytest.mark.parametrize("streams", [1, 2])
def test_a_run_in_parts_has_one_thread_from_its_dry_run_to_its_end(
    tmp_path, monkeypatch, two_threads, streams
):
    found, plain = [], Step.__call__

    def call(self, microbatches, index):
        found.append(blas.thread_counts())
        return plain(self, microbatches, index)

    monkeypatch.setattr(Step, "__call__", call)
    monkeypatch.setattr(backend.prepare(), "cpu_streams", streams)
    tiny.run(tmp_path, *NO_DROPOUT, "train.steps=2")
    threads = two_threads if streams == 1 else dict.fromkeys(two_threads, 1)
    assert found == [threads] * 3  # the dry run, and two steps
    assert blas.thread_counts() == two_threads


def test_products_have_one_thread_inside_the_block_and_their_own_after_it():
    found = blas.thread_counts()
    if not found:
        pytest.skip("no OpenBLAS multiplies here")
    with blas.single_threaded():
        assert set(blas.thread_counts().values()) == {1}
    assert blas.thread_counts() == found
