"""`mlxt cache`: what it counts, what it deletes, and what it leaves alone."""

import fcntl
import json
from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path / "cache"))
    for name, size in (("data/a/t.bin", 100), ("data/b/t.bin", 10), ("jit/x/k.so", 5)):
        path = tmp_path / "cache" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(size))
    (tmp_path / "cache" / "plans.json").write_text("{}")
    return tmp_path / "cache"


def test_it_counts_bytes_and_files_by_part(mlxt, cache: Path) -> None:
    found = json.loads(mlxt("cache", "--json").out)
    assert found["folder"] == str(cache)
    assert found["parts"]["data"] == {"bytes": 110, "files": 2}
    assert found["parts"]["kernels"] == {"bytes": 5, "files": 1}


def test_cleaning_leaves_what_is_not_made_again_and_what_is_being_prepared(
    mlxt, cache: Path
) -> None:
    with open(cache / "data" / "a.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = mlxt("cache", "clean", "--yes").out
    assert "another process is preparing it" in said
    left = {str(p.relative_to(cache)) for p in cache.rglob("*") if p.is_file()}
    assert left == {"data/a/t.bin", "data/a.lock", "plans.json"}


def test_an_unknown_part_names_its_neighbour(mlxt, cache: Path) -> None:
    for answer in (["--yes"], []):  # it isn't asked about
        done = mlxt("cache", "clean", "kernel", *answer)
        assert done.code == 1
        assert "Did you mean 'kernels'" in done.err
        assert "Delete" not in done.out + done.err
    assert (cache / "jit/x/k.so").exists()
