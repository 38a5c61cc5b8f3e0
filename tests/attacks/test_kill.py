"""A run killed at any change of a file goes on to the same weights, pointers and log."""

import json
import random
import shutil
from pathlib import Path

from .conftest import TALLY, Mlxt

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
    whole, faults = (files(runs / "whole"), steps(runs / "whole")), []
    for at in sorted(draw.sample(range(1, total + 1), min(attacks, total))):
        TALLY["attempts"] += 1
        killed = mlxt(*TRAIN, kill_at=at, below=runs)
        assert killed.code == -9, (at, killed)
        ended = mlxt(*TRAIN).behaved()
        left = [p.name for p in (runs / "a").rglob(".*") if p.name != ".lock"]
        if ended.code != 0 or left or (files(runs / "a"), steps(runs / "a")) != whole:
            TALLY["differences"] += 1
            faults.append((at, ended, left))
        shutil.rmtree(runs / "a")
    assert not faults, faults
