"""A run killed at any change of a file goes on to the same weights, pointers and log."""

import json
import random
import shutil
from pathlib import Path

from .conftest import Mlxt

TRAIN = ("train", "tiny.toml", "--name", "a", "--resume", "auto")


def files(run: Path) -> dict[str, bytes]:
    """The weights and pointers of a run."""
    saved = (run / "checkpoints").rglob("*")
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in saved
        if path.suffix == ".safetensors" or path.name in ("last", "best")
    }


def steps(run: Path) -> list[int]:
    records = (run / "log.jsonl").read_text().split("\n")[:-1]
    return [json.loads(line)["step"] for line in records]


def test_a_run_killed_at_any_file_operation_resumes_to_the_same_end(
    mlxt: Mlxt, place: Path, attacks: int
) -> None:
    runs = place / "runs"
    runs.mkdir()  # so that the first command changes as many files as the others
    assert mlxt(*TRAIN, below=runs).code == 0
    total = int((place / "runs.count").read_text())
    (runs / "a").rename(runs / "whole")
    draw = random.Random(0)
    for at in sorted(draw.sample(range(1, total + 1), min(attacks, total))):
        killed = mlxt(*TRAIN, kill_at=at, below=runs)
        assert killed.code == -9, (at, killed)
        ended = mlxt(*TRAIN).behaved()
        assert ended.code == 0, (at, ended)
        assert files(runs / "a") == files(runs / "whole"), at
        assert steps(runs / "a") == steps(runs / "whole"), at
        left = [p.name for p in (runs / "a").rglob(".*") if p.name != ".lock"]
        assert not left, (at, left)
        shutil.rmtree(runs / "a")
