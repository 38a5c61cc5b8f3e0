"""Runs that are really killed, told to stop, or run out of disk; and what goes on afterwards."""

import json

import pytest

from mlx_transformers.runs import tensors

from . import tiny

SETS = (
    "train.steps=24",
    "train.accumulate=2",
    "train.ema=0.9",
    "checkpoint.every=3",
    "checkpoint.keep=1",
    "eval.every=4",
    "optim.schedule={kind='constant'}",
)
"""Dropout is on, batches are made ahead, and an epoch is four steps."""

ARRAYS = "mlx_transformers.trainer.loop/arrays"
KILLS = [
    (ARRAYS, 4),  # before the first checkpoint, in the middle of an accumulation
    ("mlx_transformers.trainer.step/Step._accumulate", 1),  # while the step is traced
    ("mlx_transformers.trainer.sinks/JsonLines.write", 4),
    ("mlx_transformers.runs.tensors/HashingFile.write", 3),  # in the first save
    (ARRAYS, 10),
    ("os/rename", 2),  # a folder is complete, and has not got its name
    ("mlx_transformers.runs.checkpoint/mark", 3),
    ("mlx_transformers.runs.folder/replace_text", 1),  # before a resumed run is described
    ("mlx_transformers.trainer.evaluate/Evaluator._forward", 1),
    (ARRAYS, 7),
    ("mlx_transformers.runs.checkpoint/shutil.rmtree", 1),  # while an old one is removed
]


def series(folder, name):
    """What log.jsonl says of every step, without what depends on the clock."""
    keys = ("step", "train_loss", "grad_norm", "learning_rate", "val_loss", "val_bpb", "tokens")
    lines = (folder / "runs" / name / "log.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{key: row[key] for key in keys if key in row} for row in rows]


def arrays(folder, name, step):
    """The bytes of a checkpoint's files of arrays."""
    path = folder / "runs" / name / "checkpoints" / f"step-{step:06d}"
    found = {file.name: file.read_bytes() for file in path.glob("*.safetensors")}
    assert {"model.safetensors", "optimizer.safetensors", "ema.safetensors"} == found.keys()
    return found


@pytest.fixture
def short(tmp_path):
    """A text of which an epoch is four steps."""
    tiny.write(tmp_path, n_words=155)
    return tmp_path


@pytest.mark.parametrize(
    "sets", [(), pytest.param(("checkpoint.async=true",), marks=pytest.mark.soak)], ids=str
)
def test_a_run_killed_again_and_again_ends_as_one_never_interrupted(short, sets):
    whole = tiny.run(short, *SETS, name="whole")
    assert whole.progress.cursor["rows"] == 24 * 8
    rows = (whole.progress.cursor["n_tokens"] - 16) // 16
    assert 2 < 24 * 8 / rows < 9
    for at, call in KILLS:
        died = tiny.mlxt(short, *tiny.words(short, *SETS, *sets, name="a"), at=at, call=call)
        assert died.returncode == -9, (at, died.returncode, died.stdout, died.stderr)
    with (short / "runs" / "a" / "log.jsonl").open("a") as log:
        log.write('{"step": 99, "train_lo')  # a kill in the middle of a line
    ended = tiny.mlxt(short, *tiny.words(short, *SETS, *sets, name="a"))
    assert ended.returncode == 0, ended.stderr
    assert arrays(short, "a", 24) == arrays(short, "whole", 24)
    assert series(short, "a") == series(short, "whole")
    best = [(short / "runs" / name / "checkpoints/best").read_text() for name in ("a", "whole")]
    assert best[0] == best[1]


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGHUP", 129)])
def test_a_signal_saves_then_stops_and_the_run_goes_on_exactly(short, name, code):
    """The code is the shell's for that signal: what follows a run with && does not begin."""
    asked = tiny.mlxt(short, *tiny.words(short, *SETS, name="a"), at=ARRAYS, call=12, name=name)
    assert asked.returncode == code, asked.stderr
    assert f"stopped by {name} at step 5" in asked.stdout.replace("\n", " ")
    assert "Traceback" not in asked.stderr
    folder = short / "runs" / "a"
    assert (folder / "checkpoints" / "last").read_text() == "step-000005\n"
    whole = tiny.run(short, *SETS, name="whole")
    ended = tiny.run(short, *SETS, name="a", resume="auto")
    assert ended.reason == whole.reason == "finished"
    assert arrays(short, "a", 24) == arrays(short, "whole", 24)
    assert series(short, "a") == series(short, "whole")


def test_a_full_disk_is_an_error_that_loses_nothing(short, monkeypatch):
    """The disk is full at step 6; with space again the run ends as if it never had been."""
    plain, written = tensors.HashingFile.__init__, []

    def full(self, path):
        written.append(path.name)
        if "step-000006" in str(path) and len(written) % 4 == 0:
            raise OSError(28, "No space left on device")
        plain(self, path)

    whole = tiny.run(short, *SETS, name="whole")
    monkeypatch.setattr(tensors.HashingFile, "__init__", full)
    with pytest.raises(ValueError, match=r"No space left on device.*Intact: step-000004"):
        tiny.run(short, *SETS, name="a")
    monkeypatch.setattr(tensors.HashingFile, "__init__", plain)
    ended = tiny.run(short, *SETS, name="a", resume="auto")
    assert ended.reason == whole.reason
    assert arrays(short, "a", 24) == arrays(short, "whole", 24)
    assert series(short, "a") == series(short, "whole")
