"""A run small enough to train in a test: its text, its recipe, and ways to look at its parts."""

import json
import os
import random
import subprocess
from collections.abc import Container
from pathlib import Path
from typing import Any

import forked
import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from mlx_transformers.assembly.build import Built, build
from mlx_transformers.assembly.recipe import Recipe, load_recipe
from mlx_transformers.trainer import loop
from mlx_transformers.verbs import train as train_verb
from mlx_transformers.verbs.train import Result, train

RECIPE = """
[model]
kind = "decoder"
dim = 16
n_layers = 2
max_seq_len = 16

[model.embed]
kind = "token"
dropout = 0.1

[model.position]
kind = "rope"

[model.block]
placement = "pre"
dropout = 0.1

[model.block.norm]
kind = "rms_norm"

[model.block.mixer]
kind = "attention"
n_heads = 2

[model.block.ffn]
kind = "glu"
hidden_dim = 24
activation = "silu"

[model.norm]
kind = "rms_norm"

[model.head]
kind = "lm"
tied = true

[model.init]
kind = "normal"
std = 0.1

[objective]
kind = "clm"

[data]
path = "text.txt"
tokenizer = { kind = "char" }

[train]
steps = 6
batch_size = 4
seq_len = 16
seed = 3
clip = { kind = "norm", max_norm = 1.0 }

[optim]
kind = "adamw"
learning_rate = 1e-2
weight_decay = 0.1

[optim.schedule]
kind = "cosine"
warmup = 2

[eval]
every = 1000

[checkpoint]
every = 1000

[log]
every = 1
"""


def moe(balance: float = 0.01) -> str:
    """The same model with experts."""
    expert = '{kind="glu", hidden_dim=16, activation="silu"}'
    router = f'{{kind="top_k", top_k=2, normalize=true, balance_loss={balance}, z_loss=0.001}}'
    return f'model.block.ffn={{kind="moe", n_experts=4, expert={expert}, router={router}}}'


WORDS = ["the", "a", "king", "of", "love", "and", "sorrow", "what", "light", "from", "yonder"]


def text(n_words: int, seed: int = 0) -> str:
    """Words in random order: something to learn, and more than one epoch's worth of rows."""
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(n_words))


def write(folder: Path, n_words: int = 400) -> Path:
    """The text and the recipe in a folder; returns the recipe."""
    (folder / "text.txt").write_text(text(n_words))
    path = folder / "tiny.toml"
    path.write_text(RECIPE.replace("text.txt", str(folder / "text.txt")))
    return path


def recipe(folder: Path, *sets: str) -> Recipe:
    """The recipe with some keys set."""
    path = folder / "tiny.toml"
    return load_recipe(path if path.exists() else write(folder), sets)


def built(folder: Path, *sets: str) -> Built:
    """Its parts."""
    return build(recipe(folder, *sets))


def run(folder: Path, *sets: str, **options: object) -> Result:
    """A whole run in `folder/runs`, without a word."""
    options = {"root": folder / "runs", "say": lambda text: None} | options
    return train(recipe(folder, *sets), **options)


def spoil(monkeypatch: Any, bad: Container[int]) -> None:
    """Make the gradient of the steps numbered `bad` (from 0) not finite."""
    plain, count = loop.arrays, iter(range(10**6))

    def arrays(batch: dict[str, Any]) -> dict[str, mx.array]:
        return weighted(batch, float("nan") if next(count) in bad else 1.0)

    def weighted(batch: dict[str, Any], value: float = 1.0) -> dict[str, mx.array]:
        return plain(batch) | {"weights": mx.full(batch["tokens"][:, 1:].shape, value)}

    monkeypatch.setattr(loop, "arrays", arrays)
    monkeypatch.setattr(train_verb, "arrays", weighted)


ROOT = Path(__file__).parents[2]
CACHE = os.environ.get("MLXT_CACHE")

MLXT = """
import importlib, os, signal, sys
import mlx_transformers, mlx.core
os.environ["MLXT_CACHE"] = sys.argv.pop(1)  # not before: compiled kernels may be shared
place, call, name = sys.argv.pop(1).split(":")

def dying(f, left=[int(call)]):
    def counted(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.Signals[name])
        return f(*args, **kwargs)
    return counted

if place:
    module, _, path = place.partition("/")
    owner, *names = importlib.import_module(module), *path.split(".")
    for each in names[:-1]:
        owner = getattr(owner, each)
    plain = getattr(owner, names[-1])
    fatal = dying(plain)
    setattr(owner, names[-1], fatal)
    for module in list(sys.modules.values()):  # those that have imported the name
        if module.__name__.startswith("mlx_transformers") and vars(module).get(names[-1]) is plain:
            setattr(module, names[-1], fatal)
from mlx_transformers.cli.main import main
main()
"""
"""`mlxt` in a process that sends itself a signal at the n-th call of a function."""


def mlxt(
    folder: Path, *words: str, at: str = "", call: int = 0, name: str = "SIGKILL"
) -> subprocess.CompletedProcess[str]:
    """`mlxt WORDS` in another process; `at` is "module/function" and `call` the fatal one."""
    env = {key: value for key, value in os.environ.items() if key != "MLXT_CACHE"}
    env |= {"MLXT_CACHE": CACHE} if CACHE else {}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])
    program = ["-c", MLXT, os.environ["MLXT_CACHE"], f"{at}:{call}:{name}", *words]
    return forked.run(program, cwd=folder, env=env)


def words(folder: Path, *sets: str, name: str, resume: str | None = "auto") -> list[str]:
    """The command line that trains the recipe with some keys set."""
    recipe(folder)
    found = ["train", str(folder / "tiny.toml"), "--name", name]
    found += ["--resume", resume] if resume else []
    return found + [word for each in sets for word in ("--set", each)]


def leaves(tree: object) -> dict[str, np.ndarray]:
    """Every array of a tree, on the host."""
    found = dict(tree_flatten(tree))
    mx.eval(found)
    return {name: np.array(value) for name, value in found.items()}


def same(a: object, b: object) -> bool:
    """Whether two trees are equal bit by bit."""
    a, b = leaves(a), leaves(b)
    return a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() for k in a)


def records(result: Result, key: str) -> list[tuple[int, float]]:
    """The (step, value) of every record in log.jsonl that has `key`."""
    rows = [json.loads(line) for line in result.folder.log.read_text().splitlines()]
    return [(row["step"], row[key]) for row in rows if key in row]


def tokens(shape: tuple[int, int], vocab: int, seed: int = 0) -> np.ndarray:
    """Random tokens."""
    return np.random.default_rng(seed).integers(0, vocab, shape, dtype=np.int32)
