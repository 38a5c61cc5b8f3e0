"""Checkpoints: exact, whole or absent, damage named, nothing lost to kills and full disks."""

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.errors import CheckpointError
from mlx_transformers.runs import checkpoint as ck
from mlx_transformers.runs import durable
from mlx_transformers.runs.folder import named_checkpoint
from mlx_transformers.runs.manifest import MANIFEST

ROOT = Path(__file__).parents[2]
FILES = [MANIFEST, "model.safetensors", "optimizer.safetensors", "state.json"]


def trees(value=1.0):
    return {
        "model": {
            "embed": {"weight": mx.full((4, 3), value)},
            "blocks": [{"act": {}}, {"w": mx.full((2, 2), value, mx.bfloat16)}],
        },
        "optimizer": {
            "states": [
                {"step": mx.array(2**40 + 1, mx.uint64), "learning_rate": mx.array(1e-3)},
                {"blocks": [{}, {"w": {"m": mx.full((2, 2), value, mx.float16)}}], "gone": []},
            ]
        },
    }


def flat(tree, prefix=""):
    """Every leaf and every empty container, by path."""
    if isinstance(tree, mx.array):
        return {prefix: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = {prefix: type(tree)}
    for key, child in items:
        found |= flat(child, f"{prefix}/{key}")
    return found


def assert_same(got, expected):
    got, expected = flat(got), flat(expected)
    assert got.keys() == expected.keys()
    for path, leaf in expected.items():
        if isinstance(leaf, mx.array):
            assert got[path].dtype == leaf.dtype, path
            assert got[path].shape == leaf.shape, path
            assert mx.array_equal(got[path], leaf).item(), path
        else:
            assert got[path] is leaf, path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def flip(path, index=-1):
    data = bytearray(path.read_bytes())
    data[index] ^= 1
    path.write_bytes(data)


def test_trees_and_state_come_back_exactly(tmp_path):
    state = {"cursor": {"epoch": 3, "row": 17}, "best_loss": 1.2345678901234567}
    path = ck.save(tmp_path / "checkpoints", 60, trees(), state)
    assert path == tmp_path / "checkpoints" / "step-000060"
    assert names(path) == FILES
    got, got_state = ck.load(path)
    assert_same(got, trees())
    assert got_state == state


def test_odd_arrays_come_back_exactly(tmp_path):
    tree = {
        "scalar": mx.array(3.5),
        "empty": mx.zeros((0, 4), mx.int8),
        "transposed": mx.arange(6).reshape(2, 3).T,
        "flags": mx.array([True, False]),
        "nan": mx.array([float("nan"), float("-inf")]),
        "lazy": mx.ones((3,)) * 2,
    }
    got, _ = ck.load(ck.save(tmp_path, 1, {"ema": tree, "nothing": {}}, {}))
    assert got["nothing"] == {}
    for key, leaf in tree.items():
        assert got["ema"][key].dtype == leaf.dtype
        assert got["ema"][key].shape == leaf.shape
        np.testing.assert_array_equal(np.array(got["ema"][key]), np.array(leaf))


def test_only_what_is_wanted_is_read(tmp_path):
    path = ck.save(tmp_path, 1, trees(), {})
    flip(path / "optimizer.safetensors")
    got, _ = ck.load(path, only=["model"])
    assert_same(got, {"model": trees()["model"]})
    with pytest.raises(CheckpointError, match=r"no ema\.safetensors.*model, optimizer"):
        ck.load(path, only=["ema"])


def test_loaded_arrays_do_not_depend_on_the_file(tmp_path):
    path = ck.save(tmp_path, 1, trees(5.0), {})
    got, _ = ck.load(path)
    for file in path.iterdir():
        file.write_bytes(b"\0" * file.stat().st_size)
    assert_same(got, trees(5.0))


def test_other_tools_can_read_the_file(tmp_path):
    """The safetensors format by hand: a length, a JSON header, raw bytes."""
    data = (ck.save(tmp_path, 1, trees(2.0), {}) / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    assert header["__metadata__"]["format"] == "mlx"
    assert header["blocks.1.w"]["dtype"] == "BF16"
    entry = header["embed.weight"]
    start, end = entry["data_offsets"]
    weight = np.frombuffer(data[8 + size + start : 8 + size + end], "<f4")
    np.testing.assert_array_equal(weight.reshape(entry["shape"]), np.full((4, 3), 2.0))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_damage_is_named_and_the_newest_whole_one_offered(tmp_path, file, damage):
    for step in (20, 40, 60):
        ck.save(tmp_path, step, trees(step), {"step": step})
    path = tmp_path / "step-000060" / file
    if damage == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "flipped":
        flip(path, path.stat().st_size // 2)
    else:
        path.unlink()
    (tmp_path / "step-000040" / "state.json").write_text("{}")
    with pytest.raises(CheckpointError) as error:
        ck.load(tmp_path / "step-000060")
    assert file in str(error.value)
    assert str(tmp_path / "step-000020") in str(error.value)
    assert "step-000040" not in str(error.value)
    assert ck.newest(tmp_path) == tmp_path / "step-000060"


def test_every_damaged_file_is_named_at_once(tmp_path):
    path = ck.save(tmp_path, 60, trees(), {})
    flip(path / "model.safetensors")
    flip(path / "state.json", 0)
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*state\.json.*no intact one"):
        ck.load(path)


@pytest.mark.parametrize("where", ["step-000061", "best", "", "nowhere/step-000060"])
def test_a_checkpoint_that_is_not_there_is_a_sentence(tmp_path, where):
    ck.save(tmp_path, 60, trees(), {})
    with pytest.raises(CheckpointError, match="There is no checkpoint at"):
        ck.load(tmp_path / where)


def test_pointers_name_the_last_and_the_best(tmp_path):
    ck.save(tmp_path, 20, trees(), {}, best=True)
    assert ck.best(tmp_path) == tmp_path / "step-000020"
    ck.save(tmp_path, 40, trees(), {})
    assert (tmp_path / "last").read_text() == "step-000040\n"
    assert (tmp_path / "best").read_text() == "step-000020\n"
    ck.mark(tmp_path, "best", tmp_path / "step-000040")
    assert ck.best(tmp_path) == tmp_path / "step-000040"
    assert ck.load(tmp_path / "best")[1] == {}
    (tmp_path / "best").write_text("step-000099\n")
    assert ck.best(tmp_path) is None
    with pytest.raises(CheckpointError, match=r"points at no checkpoint.*step-000040"):
        ck.load(tmp_path / "best")


@pytest.mark.parametrize("name", [b"\xff", b"x" * 5000, b"\0", b"", b"step-000099"])
def test_a_damaged_pointer_names_no_checkpoint_and_is_put_right_by_a_resumed_run(tmp_path, name):
    folder = tmp_path / "checkpoints"
    ck.save(folder, 20, trees(), {"best_loss": 1.0, "best_step": 20}, best=True)
    for pointer in ("last", "best"):
        (folder / pointer).write_bytes(name)
    named = named_checkpoint(folder / "best")
    assert named is not None
    with pytest.raises(CheckpointError, match=r"points at no checkpoint.*step-000020"):
        ck.load(named[1])
    assert ck.best(folder) is None
    ck.recover(folder)
    assert ck.best(folder) == folder / "step-000020"
    assert (folder / "last").read_text() == "step-000020\n"


def test_an_empty_or_absent_folder_has_no_checkpoints(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert ck.newest(folder) is None
        assert ck.best(folder) is None
        assert ck.checkpoints(folder) == []


def test_the_newest_is_the_one_saved_last_and_not_the_greatest_step(tmp_path):
    """A run taken up again from step 40 leaves the steps of the abandoned branch behind."""
    for step in (20, 40, 100, 50):
        ck.save(tmp_path, step, trees(), {})
    order = [path.name for path in ck.checkpoints(tmp_path)]
    assert order == ["step-000020", "step-000040", "step-000100", "step-000050"]
    assert ck.newest(tmp_path) == tmp_path / "step-000050"


def test_saving_a_step_again_replaces_it(tmp_path):
    ck.save(tmp_path, 20, trees(1.0), {"try": 1})
    ck.save(tmp_path, 40, trees(1.0), {"try": 1})
    ck.save(tmp_path, 20, trees(2.0), {"try": 2})
    got, state = ck.load(tmp_path / "step-000020")
    assert state == {"try": 2}
    assert_same(got, trees(2.0))
    assert ck.newest(tmp_path) == tmp_path / "step-000020"
    assert names(tmp_path) == ["last", "step-000020", "step-000040"]


def test_prune_keeps_the_newest_and_what_pointers_name(tmp_path):
    for step in (10, 20, 30, 40, 50):
        ck.save(tmp_path, step, trees(), {}, best=step == 20)
    removed = ck.prune(tmp_path, keep=2)
    assert [path.name for path in removed] == ["step-000010", "step-000030"]
    assert names(tmp_path) == ["best", "last", "step-000020", "step-000040", "step-000050"]
    ck.mark(tmp_path, "last", tmp_path / "step-000040")
    ck.prune(tmp_path, keep=1)
    assert names(tmp_path) == ["best", "last", "step-000020", "step-000040", "step-000050"]
    with pytest.raises(ValueError, match="At least one"):
        ck.prune(tmp_path, keep=0)


def test_prune_counts_only_whole_ones(tmp_path):
    for step in (10, 20, 30):
        ck.save(tmp_path, step, trees(), {})
    (tmp_path / "step-000030" / "state.json").unlink()
    assert ck.prune(tmp_path, keep=1) == [tmp_path / "step-000010"]
    assert ck.is_intact(tmp_path / "step-000020")


def test_leftovers_of_killed_runs_go_at_the_next_save(tmp_path):
    ck.save(tmp_path, 20, trees(), {"kept": True})
    for leftover in (".saving-step-000030", ".removing-step-000010", ".replaced-step-000020"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "model.safetensors").write_bytes(b"half")
    # Killed between its two renames: the older checkpoint of step 15 is the only one.
    os.rename(ck.save(tmp_path, 15, trees(), {"back": True}), tmp_path / ".replaced-step-000015")
    ck.save(tmp_path, 40, trees(), {})
    assert names(tmp_path) == ["last", "step-000015", "step-000020", "step-000040"]
    assert ck.load(tmp_path / "step-000015")[1] == {"back": True}
    assert ck.load(tmp_path / "step-000020")[1] == {"kept": True}


SAVER = """
import os, signal, sys
from pathlib import Path
import mlx.core as mx
from mlx_transformers.runs import checkpoint, tensors

calls = fatal = 0
def dies_at(f):
    def counted(*args, **kwargs):
        global calls
        calls += 1
        if calls == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return f(*args, **kwargs)
    return counted

def save(folder):
    trees = lambda v: {"model": {"w": mx.full((64, 64), v)}, "optimizer": {"m": mx.full((64,), v)}}
    checkpoint.save(folder, 20, trees(20.0), {"step": 20})
    checkpoint.save(folder, 40, trees(40.0), {"step": 40}, best=True)
    os.write(1, b"ready ")
    os.fsync, os.rename, os.replace = dies_at(os.fsync), dies_at(os.rename), dies_at(os.replace)
    tensors.HashingFile.write = dies_at(tensors.HashingFile.write)
    os.unlink, os.rmdir = dies_at(os.unlink), dies_at(os.rmdir)
    checkpoint.save(folder, 60, trees(60.0), {"step": 60}, best=True)
    checkpoint.save(folder, 40, trees(41.0), {"step": 40})
    checkpoint.prune(folder, 1)
    os.write(1, b"done ")

status = 1
while status:
    fatal += 1
    child = os.fork()  # before MLX has computed anything: its threads would be missing
    if not child:
        save(Path(sys.argv[1], str(fatal)))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(1, f"{status}\\n".encode())
"""
"""Saves in one process after another; each kills itself one write or removal later than the last,
until one gets through. Prints how far each came and its exit code."""


def test_a_kill_at_any_moment_of_a_save_leaves_whole_checkpoints_only(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", SAVER, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"MLX_DISABLE_COMPILE": "1"},
        timeout=300,
    )
    *killed, last = run.stdout.splitlines()
    assert last == "ready done 0", run.stderr
    assert len(killed) > 30
    assert set(killed) == {f"ready {-signal.SIGKILL}"}, run.stderr
    for fatal in range(1, len(killed) + 2):
        folder = tmp_path / str(fatal)
        for path in ck.checkpoints(folder):
            step = ck.load(path)[1]["step"]
            assert path.name == f"step-{step:06d}"
        newest, best = ck.newest(folder), ck.best(folder)
        assert newest is not None
        assert best is not None
        assert ck.load(newest)[1]["step"] >= 40
        ck.save(folder, 80, trees(), {"step": 80})
        assert not [name for name in names(folder) if name.startswith(".") and "step" in name]


FULL = """
import resource, sys
from pathlib import Path
import mlx.core as mx
from mlx_transformers.core.errors import CheckpointError
from mlx_transformers.runs import checkpoint

folder = Path(sys.argv[1])
small = {"model": {"w": mx.zeros((16,))}}
checkpoint.save(folder, 20, small, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.save(folder, 40, {"model": {"w": mx.zeros((1000, 1000))}}, {})
except CheckpointError as error:
    print(error)
checkpoint.save(folder, 60, small, {})
"""


def test_a_file_that_may_not_grow_is_an_error_and_the_run_goes_on(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert "step 40 could not be saved" in run.stdout
    assert "File too large" in run.stdout
    assert "4.0 MB" in run.stdout
    assert "step-000020" in run.stdout
    assert names(tmp_path) == ["last", "step-000020", "step-000060"]
    assert ck.load(ck.newest(tmp_path))[0]["model"]["w"].shape == (16,)


@pytest.mark.parametrize("fatal", range(1, 8))
def test_a_full_disk_at_any_write_loses_nothing(tmp_path, monkeypatch, fatal):
    ck.save(tmp_path, 20, trees(), {"step": 20})
    count = 0

    def full(handle):
        nonlocal count
        count += 1
        if count == fatal:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    monkeypatch.setattr("mlx_transformers.core.sync.FULL_SYNC", None)
    with pytest.raises(CheckpointError, match="No space left on device"):
        ck.save(tmp_path, 40, trees(), {"step": 40})
    monkeypatch.undo()
    assert not [name for name in names(tmp_path) if name.startswith(".saving")]
    assert ck.load(tmp_path / "step-000020")[1] == {"step": 20}
    for path in ck.checkpoints(tmp_path):
        ck.load(path)
    ck.save(tmp_path, 40, trees(), {"step": 40})
    assert ck.load(ck.newest(tmp_path))[1] == {"step": 40}


def test_an_interrupted_save_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(*args, **facts):
        raise KeyboardInterrupt

    monkeypatch.setattr(ck, "write_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ck.save(tmp_path, 40, trees(), {})
    assert names(tmp_path) == []


@pytest.mark.parametrize("tree", [{"a": 1.0}, {"a": None}, {1: mx.array(0)}])
def test_a_tree_of_something_else_is_refused_before_anything_is_kept(tmp_path, tree):
    with pytest.raises(TypeError, match=r"arrays|strings"):
        ck.save(tmp_path, 1, {"model": tree}, {})
    assert names(tmp_path) == []


def test_two_leaves_of_one_name_are_refused(tmp_path):
    clash = {"a.b": mx.array(0), "a": {"b": mx.array(1)}}
    with pytest.raises(ValueError, match=r"same dotted path: a\.b"):
        ck.save(tmp_path, 1, {"model": clash}, {})


def test_a_file_of_another_tool_loads_by_its_names(tmp_path):
    file = Path(tmp_path / "other.safetensors")
    mx.save_safetensors(str(file), {"layers.1.w": mx.array(1.0)})
    assert_same(ck.read_tree(file), {"layers": [{}, {"w": mx.array(1.0)}]})


def test_recovery_moves_the_pointers_that_a_kill_left_behind_and_no_other(tmp_path):
    state = {"best_loss": 1.0, "best_step": 2}
    for step in (1, 2):
        ck.save(tmp_path, step, trees(), state, best=True)
    for pointer in ("last", "best"):
        ck.mark(tmp_path, pointer, tmp_path / "step-000001")
    (tmp_path / ".best.partial").write_text("half")
    ck.recover(tmp_path)
    assert (tmp_path / "last").read_text() == (tmp_path / "best").read_text() == "step-000002\n"
    assert not (tmp_path / ".best.partial").exists()
    ck.save(tmp_path, 3, trees(), state)
    ck.mark(tmp_path, "best", tmp_path / "step-000001")  # by the user
    ck.recover(tmp_path)
    assert ck.best(tmp_path) == tmp_path / "step-000001"
