"""A damaged file of a run, a data set or a published model is a sentence, or harmless."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import TALLY, Mlxt

Damage = Callable[[Path, random.Random], object]


def cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content) + 1)])


def zero(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    start = draw.randrange(len(content) + 1)
    content[start : start + 4096] = bytes(len(content[start : start + 4096]))
    path.write_bytes(bytes(content))


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes()) or bytearray(1)
    for _ in range(draw.choice((1, 8))):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))


def noise(path: Path, draw: random.Random) -> None:
    path.write_bytes(draw.randbytes(draw.choice((1, 100, 5000))))


def shape(path: Path, draw: random.Random) -> None:
    texts = ("", "[]", "{}", "null", "5", '"a"', "[1]", '{"a": 5}', "[" * 100_000, "9" * 5_000)
    path.write_text(draw.choice(texts))


def remove(path: Path, draw: random.Random) -> None:
    path.unlink()


def folder(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: tuple[Damage, ...] = (cut, zero, flip, noise, shape, remove, folder)
VERBS = (
    ("report", "a"),
    ("eval", "a"),
    ("generate", "--run", "a", "--prompt", "to", "--max-tokens", "3"),
    ("train", "tiny.toml", "--name", "a", "--resume", "auto", "--steps", "5"),
    ("export", "a", "--to", "hf", "--out", "again"),
    ("finetune", "a", "--data", "text.txt", "--name", "b", "--steps", "1"),
)


@pytest.fixture
def made(mlxt: Mlxt, place: Path) -> Path:
    """The place with a finished run, its prepared data, and an export of it."""
    mlxt("train", "tiny.toml", "--name", "a").behaved()
    mlxt("export", "a", "--to", "hf", "--out", "model").behaved()
    return place


def attacked(mlxt: Mlxt, made: Path, what: str, verbs: tuple, n: int, seed: int) -> None:
    """Damage one file below `what`, run one verb, and put everything back, `n` times."""
    draw = random.Random(seed)
    kept = made / "kept"
    for name in ("runs", "cache", "model"):
        shutil.copytree(made / name, kept / name)
    files = sorted(p.relative_to(made) for p in (made / what).rglob("*") if p.is_file())
    faults = []
    for _ in range(n):
        TALLY["attempts"] += 1
        file, damage, verb = draw.choice(files), draw.choice(DAMAGES), draw.choice(verbs)
        damage(made / file, draw)
        try:
            mlxt(*verb).behaved()
        except AssertionError as error:
            faults.append(f"{damage.__name__} {file}: {error}")
        for name in ("runs", "cache", "model"):
            shutil.rmtree(made / name)
            shutil.copytree(kept / name, made / name)
        for name in ("again", "again.gguf"):
            shutil.rmtree(made / name, ignore_errors=True)
    assert not faults, "\n\n".join(faults)


def test_damage_to_a_run(mlxt: Mlxt, made: Path, attacks: int) -> None:
    attacked(mlxt, made, "runs/a", VERBS, attacks, seed=1)


def test_damage_to_prepared_data(mlxt: Mlxt, made: Path, attacks: int) -> None:
    verbs = (VERBS[1], VERBS[3], ("data", "prepare", "tiny.toml"), ("data", "list"))
    attacked(mlxt, made, "cache/data", verbs, attacks // 2, seed=2)


def test_damage_to_a_published_model(mlxt: Mlxt, made: Path, attacks: int) -> None:
    verbs = (("import", "model", "--name", "c"), ("finetune", "model", "--data", "text.txt"))
    attacked(mlxt, made, "model", verbs, attacks // 2, seed=3)
