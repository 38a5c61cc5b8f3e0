"""Train every small recipe for the same number of steps, and keep what each came to.

    python tools/families.py [RECIPE...] [--steps 150]

Each recipe is trained by `mlxt train RECIPE --steps N` in a folder that is thrown away, with one
tokenizer for all that read running text, so that their losses compare; what its
last evaluation said goes to docs/families.json, which `make docs` turns into the table of
docs/families.md. A recipe that is in the file already with as many steps is not trained again.

Of decoders it also keeps the bytes of the decode state of one row as long as the context, and the
tokens that a second gives at its end, by the median of a hundred steps.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import mlx_transformers  # noqa: F401  before mlx: it chooses the BLAS

# isort: split
import mlx.core as mx
from mlx.utils import tree_flatten

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.errors import RunError
from mlx_transformers.layers.counts import count
from mlx_transformers.models.model import causal_decoder

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "recipes"
FOUND = ROOT / "docs" / "families.json"
FOLDERS = ("recurrent", ".", "decoders", "positions", "encoders", "encoder_decoder")
FOLDERS += ("efficient", "state_space", "experts", "depth")
LIMIT_S = 900
TOKENIZER = 'data.tokenizer={ kind = "sentencepiece", vocab_size = 2048 }'
"""The tokenizer of recipes that have another one for running text."""
STEPS = 100
"""Steps of decoding whose median counts."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", type=Path, metavar="RECIPE")
    parser.add_argument("--steps", type=int, default=150)
    args = parser.parse_args()
    recipes = [path.resolve() for path in args.recipes] or shipped()
    for path in recipes:
        known = json.loads(FOUND.read_text()) if FOUND.exists() else {}
        name = path.relative_to(RECIPES).with_suffix("").as_posix()
        row = known.get(name, {})
        if row.get("steps") != args.steps:
            row = trained(path, args.steps) | decoding(path)
        elif "tokens_per_s" not in row and (found := decoding(path)):
            row = row | found
        else:
            continue
        print(f"{name}: {row}", flush=True)
        FOUND.write_text(json.dumps(known | {name: row}, indent=1) + "\n")


def shipped() -> list[Path]:
    """The small recipes, folder by folder in the order of the history."""
    return [path for folder in FOLDERS for path in sorted((RECIPES / folder).glob("*_tiny.toml"))]


def trained(path: Path, steps: int) -> dict[str, Any]:
    """A recipe's last evaluation, or why it could not be trained."""
    recipe = load_recipe(path)
    vocab_size = getattr(recipe.data.tokenizer, "vocab_size", 256)
    row: dict[str, Any] = {
        "steps": steps,
        "parameters": count(recipe.model.build(vocab_size)).total,
    }
    with tempfile.TemporaryDirectory() as folder:
        # A student learns from the newest run of its teacher.
        teacher = getattr(recipe.objective, "teacher", None)
        first = RECIPES.rglob(f"{teacher}.toml") if teacher else ()
        for each in [*first, path]:
            if error := train(each, steps, folder):
                return row | {"error": error}
        log = Path(folder, "runs", path.stem, "log.jsonl").read_text()
    records = map(json.loads, log.splitlines())
    last = next(r for r in reversed(list(records)) if "val_loss" in r)
    kept = {key: last[key] for key in ("val_loss", "val_bpb", "val_accuracy") if key in last}
    return row | kept


def decoding(path: Path) -> dict[str, float]:
    """The bytes of a decode state and the speed at its end; of models that decode."""
    recipe = load_recipe(path)
    model = causal_decoder(recipe.model.build(getattr(recipe.data.tokenizer, "vocab_size", 256)))
    if model is None:
        return {}
    length = min(model.max_seq_len, recipe.train.seq_len)
    try:
        state: Any = model.init_state(1, length)
    except RunError:  # it needs whole rows
        return {}
    size = sum(int(array.nbytes) for _, array in tree_flatten(state))
    token, step = mx.zeros((1, 1), mx.int32), mx.compile(model.step)
    state["offset"] = mx.array(length - STEPS - 1)
    mx.eval(model.parameters(), state)
    seconds = []
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        logits, state = step(token, state)
        mx.eval(logits, state)
        seconds.append(time.perf_counter() - started)
    return {"state_bytes": size, "tokens_per_s": round(1 / statistics.median(seconds[1:]), 1)}


def train(path: Path, steps: int, folder: str) -> str | None:
    """Train a recipe in a folder, under its own name; what went wrong, if anything did."""
    sets = [f"eval.every={steps}", f"checkpoint.every={steps}", "eval.batches=50"]
    if load_recipe(path).data.tokenizer.kind in ("byte_level_bpe", "wordpiece"):
        sets.append(TOKENIZER)
    command = ["mlxt", "train", str(path), "--name", path.stem, "--steps", str(steps)]
    command += [word for key in sets for word in ("--set", key)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"took more than {LIMIT_S} s"
    if done.returncode == 0:
        return None
    said = (done.stderr or done.stdout).strip().splitlines()
    return said[-1] if said else f"exit code {done.returncode}"


if __name__ == "__main__":
    main()
