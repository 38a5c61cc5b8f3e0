"""A run is measured alone: nothing of an earlier run of the process is alive."""

import gc
import json
import weakref

import pytest

from mlx_transformers.verbs import train as train_verb

from . import tiny

SMALL = ("train.steps=4", "eval.every=2", "log.sample_every=2", "log.sample_prompt='the'")
LARGE = ("model.dim=512", "train.batch_size=16", *SMALL)
MIB = 1 / 1024  # of a GiB


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


def test_a_run_takes_what_it_takes_in_a_process_of_its_own(tmp_path, no_collector):
    tiny.run(tmp_path, *LARGE, name="large")
    tiny.run(tmp_path, *SMALL, name="small")
    words = tiny.words(tmp_path, *SMALL, name="alone", resume=None)
    done = tiny.mlxt(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    large, small, alone = (peak(tmp_path / "runs" / name) for name in ("large", "small", "alone"))
    # How far the loop runs ahead of the device differs by megabytes on a busy machine, and
    # anything that outlived the large run would be tens of them.
    assert large > 20 * MIB
    assert small < alone + 4 * MIB
