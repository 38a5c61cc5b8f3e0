"""Optimizer state in a file: the same run to the bit, a page of the state in memory at a time."""

import json
import subprocess
import sys

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten, tree_map

from mlx_transformers.assembly.streams import training_feed
from mlx_transformers.core.errors import MlxtError, RunError
from mlx_transformers.profile.step import PARTS, StepTimer, TimedFeed
from mlx_transformers.runs import stored
from mlx_transformers.runs.checkpoint import load
from mlx_transformers.runs.stored import Scratch, Stored
from mlx_transformers.trainer import offload
from mlx_transformers.trainer.dry_run import dry_run
from mlx_transformers.verbs.evaluate import open_run

from . import tiny
from .test_step import batch, train, vocab

PAGED = "train.offload_optimizer=true"
TOOL = tiny.ROOT / "tools" / "beyond_memory.py"
RATE = "learning_rate=1e-2, weight_decay=0.1"


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    """Several pages in a tiny model: none of them is larger than a matrix."""
    monkeypatch.setattr(offload, "PAGE_BYTES", 4096)


def in_memory(tree):
    return tree_map(lambda leaf: leaf.read() if isinstance(leaf, Stored) else leaf, tree)


def pair(tmp_path, *sets, accumulate=1, n_steps=4):
    """A built recipe with its state in memory and one with it in a file, after the same steps."""
    both = [tiny.built(tmp_path, *sets), tiny.built(tmp_path, *sets, PAGED)]
    batches = [batch(vocab(both[0]), 4 * accumulate, seed=s) for s in range(n_steps)]
    return both, [train(built, batches, accumulate) for built in both]


def assert_same(both):
    inside, paged = (in_memory(built.step.train_state.trees()) for built in both)
    assert tiny.same(inside, paged)


@pytest.mark.compiled
def test_compiled_steps_with_state_in_a_file_equal_those_in_memory(tmp_path):
    sets = ("train.ema=0.9", "train.accumulate=2", "train.clip={kind='norm', max_norm=0.1}")
    both, metrics = pair(tmp_path, *sets, accumulate=2)
    assert metrics[0] == metrics[1]
    assert metrics[0][-1]["grad_norm"] > 0.1, "clipped"
    assert_same(both)
    assert len(both[1].step.pages) > 5
    assert both[1].step.traces == 1


@pytest.mark.parametrize(
    "optim",
    [
        "{kind='sgd', learning_rate=0.1, momentum=0.9}",
        f"{{kind='lion', {RATE}}}",
        f"{{kind='lamb', {RATE}}}",
        f"{{kind='muon', {RATE}}}",
        "{kind='adafactor'}",
        f"{{kind='adamw', {RATE}, amsgrad=true, layer_factor=2.0}}",
    ],
)
def test_every_optimizer_whose_update_is_per_parameter_can_be_paged(tmp_path, optim):
    both, metrics = pair(tmp_path, f"optim={optim}")
    assert metrics[0] == metrics[1]
    assert_same(both)


@pytest.mark.parametrize(
    "sets",
    [
        ("train.dtype='float16'",),
        ("train.clip={kind='adaptive'}",),
        ("train.clip={kind='none'}", "train.freeze=['embed']"),
        (tiny.moe(),),
    ],
    ids=["float16", "adaptive", "frozen", "experts"],
)
def test_the_rest_of_a_step_is_that_in_memory(tmp_path, sets):
    both, metrics = pair(tmp_path, *sets)
    assert metrics[0] == metrics[1]
    assert_same(both)


def test_only_scalars_of_the_optimizer_are_arrays(tmp_path):
    built = tiny.built(tmp_path, PAGED)
    state = tree_flatten(built.step.train_state.optimizer.state)
    arrays = [leaf for _, leaf in state if isinstance(leaf, mx.array)]
    assert arrays
    assert all(leaf.size == 1 for leaf in arrays)
    weights = sum(x.nbytes for _, x in tree_flatten(built.model.trainable_parameters()))
    assert sum(leaf.nbytes for _, leaf in state if isinstance(leaf, Stored)) == 2 * weights


@pytest.mark.parametrize("spoiled", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_changes_no_page(tmp_path, spoiled):
    built = tiny.built(tmp_path, PAGED)
    rows = batch(vocab(built))
    train(built, [rows])
    before = tiny.leaves(in_memory(built.step.train_state.trees()))
    metrics = train(built, [rows | {"weights": mx.full(rows["weights"].shape, spoiled)}])
    assert not metrics[0]["finite"]
    assert tiny.same(in_memory(built.step.train_state.trees()), before)


def test_a_dry_run_leaves_the_file_as_it_was(tmp_path):
    built = tiny.built(tmp_path, PAGED)
    before = tiny.leaves(in_memory(built.step.train_state.trees()))
    rows = batch(vocab(built))
    dry_run(built.step, [rows])
    assert tiny.same(in_memory(built.step.train_state.trees()), before)
    train(built, [rows])
    assert not tiny.same(in_memory(built.step.train_state.trees()), before)


def test_a_dry_run_that_fails_leaves_a_step_that_trains(tmp_path):
    built = tiny.built(tmp_path, PAGED)
    before = tiny.leaves(in_memory(built.step.train_state.trees()))
    rows = batch(vocab(built))
    with pytest.raises(KeyError), built.step.undone():
        mx.eval(built.step([rows], 0)["no such metric"])
    assert tiny.same(in_memory(built.step.train_state.trees()), before)
    train(built, [rows])
    after = tiny.leaves(in_memory(built.step.train_state.trees()))
    moments = [name for name in after if name.startswith("optimizer.") and name.endswith(".m")]
    assert all((after[name] != before[name]).any() for name in moments)
    assert moments


def test_a_run_killed_and_resumed_ends_as_the_one_in_memory(tmp_path):
    """And may go from memory to the file and back; nothing is left of the file."""
    sets = ("train.ema=0.9", "checkpoint.every=2", "train.accumulate=2", "log.every=1")
    whole = tiny.run(tmp_path, *sets, name="whole")
    at = "mlx_transformers.runs.stored/Stored.write"
    n = len(tree_flatten(tiny.built(tmp_path).model.trainable_parameters()))
    # Made: gradients and two moments; restored: two; a dry run: gradients of two microbatches.
    for resumed, call in ((None, (3 + 2 + 4 * 4) * n + 3), ("auto", (3 + 2 + 2 + 4) * n + 3)):
        words = tiny.words(tmp_path, *sets, PAGED, name="a", resume=resumed)
        died = tiny.mlxt(tmp_path, *words, at=at, call=call)
        assert died.returncode == -9, died.stderr
    assert (tmp_path / "runs/a/checkpoints/last").read_text() == "step-000004\n"
    tiny.run(tmp_path, *sets, "train.steps=6", name="a", resume="auto")
    a, b = (
        {
            file.name: file.read_bytes()
            for file in (tmp_path / "runs" / name / "checkpoints/step-000006").glob("*.safetensors")
        }
        for name in ("a", "whole")
    )
    assert a == b
    losses = [
        [(row["step"], row.get("train_loss")) for row in map(json.loads, lines)]
        for lines in (
            (tmp_path / "runs" / name / "log.jsonl").read_text().splitlines()
            for name in ("a", "whole")
        )
    ]
    assert losses[0] == losses[1]
    assert whole.reason == "finished"
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["a", "whole"]


def test_a_run_is_measured_without_its_optimizer_state_or_the_disk_of_it(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    sets = (f"train.offload_optimizer='{disk}'", "train.steps=2", "train.ema=0.5")
    run = tiny.run(tmp_path, *sets, name="a")
    disk.rmdir()
    checkpoint, built = open_run(run.folder.path)
    state = tree_flatten(built.step.train_state.optimizer.state)
    assert all(leaf.size == 1 for _, leaf in state)
    trees = load(checkpoint, only=["model", "ema"])[0]
    assert tiny.same(built.step.train_state.evaluated(), trees["ema"]["average"])
    assert tiny.same(built.model.parameters(), trees["model"])


def test_gradients_are_timed_through_the_file(tmp_path):
    built = tiny.built(tmp_path, PAGED, "train.accumulate=2")
    timer = StepTimer(built.step, TimedFeed(training_feed(built)))
    timer._gradients = None  # would hold all of them in memory
    timer.round(2)
    assert timer.parts().keys() == set(PARTS)
    timer.feed.close()


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        ([f"optim={{kind='sophia_h', {RATE}}}"], r"sophia_h.*'adamw'.*leave train.offload"),
        ([f"optim={{kind='soap', {RATE}}}"], r"soap.*'adamw'"),
        (["optim={kind='schedule_free', learning_rate=1e-2}"], r"schedule_free.*'adamw'"),
        (["optim.state='int8'"], r"leave optim.state out"),
        (["checkpoint.async=true"], r"checkpoint.async holds all optimizer state"),
        (["train.shard_optimizer=true"], r"train.shard_optimizer works on all"),
        (["train.noise_scale=true", "train.microbatch=2"], r"train.noise_scale works on all"),
        (["prune={sparsity=0.5}"], r"\[prune\] works on all parameters"),
    ],
)
def test_what_needs_all_state_at_once_is_refused_with_the_cure(tmp_path, sets, told):
    with pytest.raises(MlxtError, match=told):
        tiny.recipe(tmp_path, PAGED, *sets)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(MlxtError, match=r"there is no such folder. Make it, or set true"):
        tiny.built(tmp_path, "train.offload_optimizer='/nowhere'")
    tiny.built(tmp_path, f"train.offload_optimizer='{tmp_path}'")


def test_a_full_disk_is_an_error_before_the_first_step(tmp_path, monkeypatch):
    with pytest.raises(RunError, match=r"are to be written.*another disk"):
        Scratch(tmp_path, 10**18)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored.os, "pwrite", full)
    with pytest.raises(RunError, match=r"No space left on device.*another disk"):
        tiny.built(tmp_path, PAGED)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.uint64, mx.int8, mx.bool_])
def test_an_array_comes_back_from_a_file_as_it_was(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(stored, "PIECE", 3)
    scratch = Scratch(tmp_path / "not" / "yet", 100)
    arrays = [mx.arange(5).astype(dtype), mx.array(1, dtype), mx.zeros((0, 3), dtype)]
    places = [scratch.append(array) for array in arrays]
    for array, place in zip(arrays, places, strict=True):
        assert mx.array_equal(place.read(), array)
        assert (place.read().dtype, place.read().shape) == (array.dtype, array.shape)
    places[0].write(mx.zeros(5, dtype))
    assert not mx.any(places[0].read()).item()
    assert mx.array_equal(places[1].read(), arrays[1])
    assert list(tmp_path.iterdir()) == []


def test_an_array_that_the_file_does_not_hold_is_an_error(tmp_path):
    path = tmp_path / "a.safetensors"
    mx.save_safetensors(str(path), {"a": mx.arange(5)})
    place = stored.in_safetensors(path)["a"]
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(OSError, match="ends before the array does"):
        place.read()


@pytest.mark.soak
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA is Linux's")
def test_a_run_whose_state_exceeds_a_limit_of_memory_finishes_equal(tmp_path):
    done = subprocess.run([sys.executable, TOOL], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in memory, limited    ended with code" in done.stdout
    assert "equal, bit by bit: yes" in done.stdout
