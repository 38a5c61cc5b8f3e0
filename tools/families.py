"""Train every small recipe for the same number of steps, and keep what each came to.

    python tools/families.py [RECIPE...] [--steps 150]

Each recipe is trained by `mlxt train RECIPE --steps N` in a folder that is thrown away; what its
last evaluation said goes to docs/families.json, which `make docs` turns into the table of
docs/families.md. A recipe that is in the file already with as many steps is not trained again.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from mlx_transformers.assemble import load_recipe
from mlx_transformers.layers.counts import count

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "recipes"
FOUND = ROOT / "docs" / "families.json"
FOLDERS = ("recurrent", "seq2seq", ".", "decoders", "positions", "encoders", "encoder_decoder")
LIMIT_S = 2400


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
        if known.get(name, {}).get("steps") == args.steps:
            continue
        row = trained(path, args.steps)
        print(f"{name}: {row}", flush=True)
        FOUND.write_text(json.dumps(known | {name: row}, indent=1) + "\n")


def shipped() -> list[Path]:
    """The small recipes, folder by folder in the order of the history."""
    return [path for folder in FOLDERS for path in sorted((RECIPES / folder).glob("*_tiny.toml"))]


def trained(path: Path, steps: int) -> dict[str, Any]:
    """What a recipe's last evaluation said; why not, where it could not be trained."""
    sets = [f"eval.every={steps}", f"checkpoint.every={steps}", "eval.batches=50"]
    row: dict[str, Any] = {"steps": steps, "parameters": parameters(path)}
    with tempfile.TemporaryDirectory() as folder:
        command = ["mlxt", "train", str(path)]
        command += ["--name", "run", "--steps", str(steps)]
        command += [word for key in sets for word in ("--set", key)]
        began = time.perf_counter()
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S
            )
        except subprocess.TimeoutExpired:
            return row | {"error": f"took more than {LIMIT_S} s"}
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            return row | {"error": said[-1] if said else f"exit code {done.returncode}"}
        records = [json.loads(line) for line in (Path(folder) / "runs/run/log.jsonl").open()]
    last = next(r for r in reversed(records) if "val_loss" in r)
    kept = {key: last[key] for key in ("val_loss", "val_bpb", "val_accuracy") if key in last}
    return row | kept | {"seconds": round(time.perf_counter() - began)}


def parameters(path: Path) -> int:
    """Parameters of a recipe's model, with the vocabulary that it asks for."""
    recipe = load_recipe(path)
    return count(recipe.model.build(getattr(recipe.data.tokenizer, "vocab_size", 256))).total


if __name__ == "__main__":
    main()
