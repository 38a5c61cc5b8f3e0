"""What a user can get wrong: one sentence with the cure, exit code 1, and nothing left behind."""

import errno
import os
from pathlib import Path

import pytest

from mlx_transformers.cli import failures

from .conftest import Mlxt

CAFE = "caf\u00e9 and th\u00e9 ".encode("latin1") * 100

AS_GIVEN = {
    "a misspelt key": (["--set", "train.stpes=3"], "[train] has no key 'stpes'", "'steps'?"),
    "a misspelt key of a mixer": (
        ["--set", "model.block.mixer.n_head=3"],
        "[model.block.mixer] (attention) has no key 'n_head'",
        "Did you mean 'n_heads'?",
    ),
    "a wrong type": (["--set", "train.steps=many"], "train.steps", "a whole number at least 1"),
    "negative steps": (["--iters", "-3"], "--iters: train.steps", "at least 1, not -3"),
    "no learning rate": (["--lr", "0"], "--lr: optim.learning_rate", "greater than 0.0"),
    "an unknown kind": (
        ["--set", "model.position.kind=ropes"],
        "model.position.kind",
        "Did you mean 'rope'?",
    ),
    "an empty --set": (["--set", ""], "path=value", "--set train.steps=200"),
    "a --set without a value": (["--set", "train.steps="], "no value", "remove an inherited key"),
    "a missing file": (["--set", "data.path=txt.txt"], "data.path 'txt.txt'", "'text.txt'?"),
    "a missing corpus": (
        ["--set", 'unset=["data.path"]', "--set", "data.corpus=shakespear"],
        "Unknown corpus 'shakespear'",
        "Did you mean 'shakespeare'?",
    ),
    "two sources": (["--set", "data.dataset=a/b"], "are two sources", "give one of them"),
    "more heads than width": (
        ["--set", "model.block.mixer.n_heads=32"],
        "n_heads = 32 does not divide model.dim = 16",
        "Choose a divisor",
    ),
    "rows longer than the model's context": (
        ["--set", "train.seq_len=64"],
        "train.seq_len = 64 exceeds model.max_seq_len = 16",
        "shorten the rows",
    ),
    "a vocabulary too small": (
        ["--set", "model.vocab_size=3"],
        "model.vocab_size = 3 is smaller than the tokenizer's",
        "make it larger",
    ),
    "resuming nothing": (["--resume", "nothing"], "There is no run 'nothing'", "mlxt train"),
    "a name with a slash": (["--name", "a/b"], "'a/b' can't name a run", "plain name"),
    "an empty name": (["--name", ""], "'' can't name a run", "plain name"),
    "a missing tokenizer": (
        ["--set", 'data.tokenizer={kind="tokenizer_json", path="none.json"}'],
        "data.tokenizer.path: none.json can't be read",
        "tokenizer.json",
    ),
    "runs in a file": (["--runs", "tiny.toml"], "tiny.toml is a file", "--runs"),
    "runs where nothing can be written": (["--runs", "/dev/null/x"], "/dev/null", "--runs"),
}


@pytest.mark.parametrize("what", AS_GIVEN)
def test_options_that_cannot_be_are_refused(mlxt: Mlxt, home: Path, what: str) -> None:
    options, named, cure = AS_GIVEN[what]
    refused(mlxt("train", "tiny", *options), named, cure)
    assert not (home / "runs").exists()


FILES = {
    "an empty text": ("x.txt", b"", "There is no text in", "it is empty"),
    "one character": ("x.txt", b"a" * 2000, "only the character 'a'", "Give another text"),
    "too short a text": ("x.txt", b"abc def", "context is longer than the data", "train.seq_len"),
    "another encoding": ("x.txt", CAFE, "x.txt is not UTF-8 text: byte 0xe9 at offset 3", "iconv"),
    "broken JSON lines": ("x.jsonl", b'{"text": "a"}\n{"text"\n', "x.jsonl:2", "one JSON object"),
    "another key": ("x.jsonl", b'{"body": "a"}\n', "no text under the key", "data.text_key"),
    "tokens without a tokenizer": ("x.bin", b"\0\1" * 99, "holds tokens", "tokenizer_json"),
}


@pytest.mark.parametrize("what", FILES)
def test_texts_that_cannot_be_used_are_refused(mlxt: Mlxt, home: Path, what: str) -> None:
    name, content, named, cure = FILES[what]
    (home / name).write_bytes(content)
    refused(mlxt("train", "tiny", "--set", f"data.path={name}"), named, cure)
    assert not (home / "runs").exists()


@pytest.mark.parametrize("kind", ["tokenizer_json", "sentencepiece"])
def test_an_unreadable_tokenizer_is_refused(mlxt: Mlxt, home: Path, kind: str) -> None:
    (home / "broken").write_text('{"no": 1}')
    outcome = mlxt("train", "tiny", "--set", f'data.tokenizer={{kind="{kind}", path="broken"}}')
    refused(outcome, "data.tokenizer.path: broken can't be read", "It has to be a")
    assert not (home / "runs").exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"[model\nx = 1", "bad.toml, line 1: Expected ']'"),
        (b"# caf\xe9\n", "bad.toml isn't UTF-8 text (byte 5 is 0xe9). Save it as UTF-8"),
        (b"model = 3\n", "model must be"),
        (b'extends = "gone.toml"\n', "extends 'gone.toml', but there is no such file"),
        (b'extends = "bad.toml"\n', "'extends' goes in a circle: bad.toml \u2192 bad.toml"),
        (b"", "The recipe lacks 'model'"),
    ],
)
@pytest.mark.parametrize("verb", ["train", "show", "ladder"])
def test_a_recipe_that_cannot_be_read_is_refused(
    mlxt: Mlxt, home: Path, verb: str, content: bytes, named: str
) -> None:
    (home / "bad.toml").write_bytes(content)
    refused(mlxt(verb, "bad"), named)


def test_a_text_in_the_place_of_a_recipe_names_the_option(mlxt: Mlxt, home: Path) -> None:
    (home / "my text.txt").write_text("a line of words " * 100)
    refused(mlxt("train", "my text.txt"), "is no recipe", "--data 'my text.txt'")
    (home / "long.toml").write_text("dim = 3" + " " * 300 + "words " * 300)
    outcome = mlxt("train", "long.toml")
    refused(outcome, "long.toml, line 1", "A line of TOML is")
    assert max(map(len, outcome.err.splitlines())) <= 100


def test_a_loop_of_parents_is_printed(mlxt: Mlxt, home: Path) -> None:
    (home / "a.toml").write_text('extends = "b.toml"\n')
    (home / "b.toml").write_text('extends = "a.toml"\n')
    refused(mlxt("train", "a.toml"), "goes in a circle: a.toml \u2192 b.toml \u2192 a.toml")


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("tyny", "Did you mean 'tiny'?"),
        ("recipes/mistral_tyny.toml", "Did you mean 'mistral_tiny.toml'?"),
        (".", "is a folder, not a recipe. There are: tiny.toml"),
        ("", "There is no recipe ''"),
    ],
)
def test_a_recipe_that_is_not_there_is_refused(mlxt: Mlxt, name: str, named: str) -> None:
    refused(mlxt("train", name), named)


@pytest.mark.parametrize(
    ("options", "package"),
    [
        (["--set", "log.wandb=x"], "wandb"),
        (["--set", "log.tensorboard=true"], "tensorboardX"),
        (["--set", 'unset=["data.path"]', "--set", "data.dataset=a/b"], "datasets"),
        (
            ["--set", 'data.tokenizer={kind="tokenizer_json", path="tokenizer.json"}'],
            "tokenizers",
        ),
    ],
)
def test_what_needs_a_package_that_is_missing_says_how_to_install_it(
    mlxt: Mlxt, home: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], package: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    (home / "tokenizer.json").write_text("{}")
    refused(mlxt("train", "tiny", *options), package, "pip install")
    assert not (home / "runs").exists()


@pytest.mark.parametrize(
    "said",
    [
        "[malloc] Unable to allocate 9 bytes.",
        "[metal::malloc] Attempting to allocate 9 bytes which is greater than the maximum allowed "
        "buffer size of 8 bytes.",
        "[METAL] Command buffer execution failed: Insufficient Memory (00000008).",
    ],
)
def test_the_end_of_memory_is_told_with_the_cure(said: str) -> None:
    assert "Set train.microbatch" in (failures.refused(RuntimeError(said)) or "")
    assert failures.refused(RuntimeError("a mistake of ours")) is None


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.EFBIG, "ulimit -f"),
        (errno.EISDIR, "A folder stands"),
        (errno.ELOOP, "A link there"),
        (errno.ENOSPC, "Make room"),
    ],
)
def test_an_error_of_the_system_names_the_file_and_its_cure(number: int, cure: str) -> None:
    said = failures.refused(OSError(number, os.strerror(number), "runs/a/log.jsonl"))
    assert said is not None
    assert said.startswith(f"The system refuses runs/a/log.jsonl: {os.strerror(number)}.")
    assert cure in said


def refused(outcome, named: str, cure: str = "") -> None:
    """One screen, exit code 1, with what was wrong and the cure."""
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    error = outcome.err[outcome.err.index("error: ") :]
    assert named in error
    assert cure in error
    assert len(error) < 1500
    assert error.count("\n") <= 12
