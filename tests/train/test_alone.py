"""A run is measured alone: nothing of an earlier run of the process is alive."""

import gc
import json
import weakref

import pytest

from mlx_transformers.verbs import train as train_verb

from . import tiny

SMALL = ("train.steps=4", "eval.every=2", "log.sample_every=2", "log.sample_prompt='the'")
LARGE = ("model.dim=128", "train.batch_size=16", *SMALL)


def peak(run):
    """The most memory that the reports of a run name."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return max(row["peak_gib"] for row in rows if "peak_gib" in row)


@pytest.fixture
def no_collector():
    """Python without its collector of reference cycles."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_run_that_ended_leaves_no_array_alive(tmp_path, monkeypatch, no_collector):
    parts, plain = [], train_verb.build

    def build(*arguments):
        built = plain(*arguments)
        parts.extend(map(weakref.ref, (built.model, built.step, built.evaluator)))
        return built

    monkeypatch.setattr(train_verb, "build", build)
    tiny.run(tmp_path, *SMALL, name="a")
    assert len(parts) == 3
    assert [part() for part in parts] == [None] * 3


def test_two_runs_of_a_process_take_what_they_take_in_processes_of_their_own(
    tmp_path, no_collector
):
    for name, sets in (("large", LARGE), ("small", SMALL)):
        tiny.run(tmp_path, *sets, name=name)
        done = tiny.mlxt(tmp_path, *tiny.words(tmp_path, *sets, name=f"{name}-alone", resume=None))
        assert done.returncode == 0, done.stderr
    peaks = {run.name: peak(run) for run in (tmp_path / "runs").iterdir()}
    # How far ahead of the device the loop runs differs by up to a megabyte on a busy machine.
    assert peaks["large"] == pytest.approx(peaks["large-alone"], rel=0.05)
    assert peaks["small"] == pytest.approx(peaks["small-alone"], rel=0.25)
    assert peaks["large"] > 4 * peaks["small"]
