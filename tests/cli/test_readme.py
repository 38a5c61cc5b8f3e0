"""Every command of the README, from the first to the last, as a new user would run them."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docs.pages import ROOT, steps

from .conftest import WORDS, Mlxt

README = ROOT / "README.md"

NOT_RUN = {
    "make": "installs the package from the network, then runs a command that is run here",
    "source": "puts what make installed on the PATH",
    "mlxt verify": "starts processes for half a minute; tests/certify measures its rows",
    "mlxt watch": "serves a page until it is stopped; test_watch.py asks it for its pages",
    "mlxt bench": "measures for three minutes; test_bench.py runs it with less",
    "python tools/bench_": "takes minutes, and compares with packages that are installed for it",
}
"""Beginnings of commands that no test can run, and why."""

SMALLER = {
    "n_layers": 1,
    "max_seq_len": 16,
    "steps": 4,
    "batch_size": 2,
    "seq_len": 16,
    "warmup": 1,
    "hidden_dim": 64,
    "dim": 32,
}
"""Numbers of the copied recipes: the commands are the README's own, and take seconds."""


@pytest.fixture
def clone(home: Path) -> Path:
    """A folder with the recipes, smaller, and the one file that the README says is the reader's."""
    for file in home.iterdir():
        file.unlink()
    shutil.copytree(ROOT / "recipes", home / "recipes")
    for recipe in (home / "recipes").glob("*_tiny.toml"):
        text = recipe.read_text()
        for key, value in SMALLER.items():
            text = re.sub(rf"^{key} = \d+", f"{key} = {value}", text, flags=re.MULTILINE)
        text = text.replace("[eval]\n", "[eval]\nbatches = 1\n")
        recipe.write_text(text.replace("[data]\n", "[data]\nvalid_fraction = 0.005\n"))
    (home / "notes.txt").write_text(f"{WORDS}\n" * 200)
    return home


def test_every_command_works_in_the_order_of_the_page(clone: Path, mlxt: Mlxt) -> None:
    ran = []
    for step in dict.fromkeys(steps(README)):
        if step.startswith(tuple(NOT_RUN)):
            continue
        if "\n" in step:
            run_python(shorter(step))
        else:
            program, *words = shlex.split(shorter(step), comments=True)
            assert program == "mlxt", f"no test knows how to run: {step}"
            outcome = mlxt(*words)
            assert outcome.code == 0, f"{step}\n{outcome.out}\n{outcome.err}"
            assert outcome.out.strip(), f"{step} printed nothing"
        ran.append(step)
    assert len(ran) > 20
    assert {path.name for path in (clone / "runs").iterdir() if path.is_dir()} >= {
        "first", "second", "third", "first-hf", "ladder-mixtral_tiny"
    }  # fmt: skip


def shorter(step: str) -> str:
    """Replace a step's own budgets by a few steps, and the widths of a series by small ones."""
    step = re.sub(r"--steps (\d+,)+\d+", "--steps 2,3,4", step)
    step = re.sub(r"--widths (\d+,)+\d+", "--widths 16,24,32", step)
    return re.sub(r"(--steps |train\.steps=|max_tokens=)\d+\b(?!,)", r"\g<1>4", step)


def run_python(code: str) -> None:
    """Run a block as a program of its own, as its reader would."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip()
