"""A model kind that no file of the package knows trains, is planned, profiled and decoded."""

import itertools
import json
import os
from pathlib import Path

import forked
import pytest

CAPTIONER = Path(__file__).with_name("captioner.py")

RECIPE = """
[model]
kind = "captioner"
dim = 32
max_seq_len = 16
patch = 2
n_layers = 1
norm = { kind = "rms_norm" }
head = { kind = "lm", tied = true }
init = { kind = "normal", std = 0.1 }

[model.block]
placement = "pre"
norm = { kind = "rms_norm" }
mixer = { kind = "attention", n_heads = 2 }
ffn = { kind = "mlp", hidden_dim = 64, activation = "relu" }

[model.decoder]
n_layers = 1
embed = { kind = "token" }
position = { kind = "learned" }
norm = { kind = "rms_norm" }

[model.decoder.block]
placement = "pre"
norm = { kind = "rms_norm" }
mixer = { kind = "attention", n_heads = 2 }
cross = { kind = "cross_attention", n_heads = 2 }
ffn = { kind = "mlp", hidden_dim = 64, activation = "relu" }

[objective]
kind = "seq2seq"

[data]
path = "pairs.tsv"
tokenizer = { kind = "char" }
batch = { kind = "pairs" }

[train]
steps = 200
batch_size = 16
seq_len = 12

[optim]
kind = "adam"
learning_rate = 3e-3

[eval]
every = 100

[checkpoint]
every = 100
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit code and output of each verb, in a process that knows the kind."""
    folder = tmp_path_factory.mktemp("captioner")
    pictures = ["".join(p) for n in (3, 4) for p in itertools.product("ab", repeat=n)]
    rows = [f"{p}\t{p.upper()}" for p in pictures] * 20
    (folder / "pairs.tsv").write_text("\n".join(["source\ttarget", *rows]))
    (folder / "captioner.toml").write_text(RECIPE)
    commands = {
        "train": ["train", "captioner.toml", "--name", "seen"],
        "plan": ["plan", "captioner.toml"],
        "show": ["show", "captioner.toml", "--modules"],
        "profile": ["profile", "captioner.toml", "--steps", "2"],
        "generate": ["generate", "--run", "runs/seen", "--prompt", "abba", "--max-tokens", "8"],
        "eval": ["eval", "runs/seen"],
        "export": ["export", "runs/seen"],
    }
    words = [str(CAPTIONER), json.dumps(list(commands.values()))]
    done = forked.run(words, cwd=folder, env=os.environ)
    assert done.returncode == 0, done.stderr
    return dict(zip(commands, map(tuple, json.loads(done.stdout)), strict=True))


@pytest.mark.parametrize("verb", ["train", "plan", "show", "profile", "generate", "eval"])
def test_every_verb_takes_the_kind(results: dict[str, tuple[int, str]], verb: str) -> None:
    code, out = results[verb]
    assert code == 0, out


def test_it_learns_to_describe_its_pictures(results: dict[str, tuple[int, str]]) -> None:
    assert results["generate"][1].startswith("ABBA"), results["generate"][1]


def test_the_profile_has_both_towers(results: dict[str, tuple[int, str]]) -> None:
    assert "vision" in results["profile"][1]
    assert "decoder" in results["profile"][1]


def test_an_export_is_refused_by_name(results: dict[str, tuple[int, str]]) -> None:
    code, out = results["export"]
    assert code != 0
    assert "captioner" in out
