"""Command lines made at random from the verbs' own options and hostile values."""

import random
from collections.abc import Iterator

import typer

from mlx_transformers.cli.main import app

from .conftest import TALLY, Mlxt

NUMBERS = ("", "0", "-1", "1", "3", "1e308", "nan", "inf", "-inf", "9" * 30)
NAMES = ("a", "..", "../../x", "/", "a b", "-", "--", "日本", "\u2028", "a\nb", "\x1b[2J")
FILES = ("tiny.toml", "tiny", "text.txt", "runs/a", "runs", "model", "hf", "gguf", "mlx-lm")
SETS = (
    "train.steps=1",
    "train.steps=x",
    "train.steps",
    "model.dim=1000000",
    "optim.learning_rate=inf",
    "data.path=",
    "data.path=[]",
    "x.y=1",
    "model.block.mixer.n_heads=3",
)
VALUES = (*NUMBERS, *NAMES, *FILES, *SETS)
ENDLESS = {"--supervise", "--web", "--watch", "--install-completion", "--show-completion"}

SLOW = {"bench"}
"""Verbs that measure for minutes, whatever the options are."""
SERVERS = {"watch", "serve"}
"""Verbs that end at Ctrl-C alone, once they have opened a port."""


def verbs() -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Each verb's words, and its options."""
    top = typer.main.get_command(app)
    found = [((name,), command) for name, command in top.commands.items()]  # type: ignore[attr-defined]
    while found:
        words, command = found.pop()
        inner = getattr(command, "commands", {})
        found += [((*words, name), below) for name, below in inner.items()]
        options = [o for p in command.params for o in p.opts if o.startswith("--")]
        yield words, [o for o in options if o not in ENDLESS]


def test_hostile_command_lines_are_sentences(mlxt: Mlxt, attacks: int) -> None:
    mlxt("train", "tiny.toml", "--name", "a", "--steps", "1").behaved()
    draw = random.Random(4)
    known = [(words, options) for words, options in sorted(verbs()) if words[0] not in SLOW]
    faults = []
    for _ in range(attacks):
        TALLY["attempts"] += 1
        words, options = draw.choice(known)
        line = [*words, *(draw.choice(VALUES) for _ in range(draw.randrange(3)))]
        for option in draw.sample(options, min(len(options), draw.randrange(4))):
            line += [option, draw.choice(VALUES)] if draw.random() < 0.8 else [option]
        if words[0] in ("train", "finetune", "ladder", "profile"):
            line += ["--set", "train.steps=2"]
        serves = words[0] in SERVERS
        try:
            outcome = mlxt(*line, timeout_s=10.0 if serves else 300.0)
            if not (serves and outcome.code is None and "http://" in outcome.err):
                outcome.behaved()
        except AssertionError as error:
            faults.append(str(error))
    assert not faults, "\n\n".join(faults)
