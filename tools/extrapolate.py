"""Train short, test long: what each kind of position makes of rows longer than those of training.

    python tools/extrapolate.py [RECIPE ...] [--steps N] [--set KEY=VALUE] [--out DIR]

Trains each recipe on rows of SHORT tokens (unless its run is there already) and measures bits per
byte of the validation text cut into rows of growing length, as in Press et al. 2021, figure 1: the
longer the rows, the fewer tokens stand at the beginning without a past, so a model that goes on
gets better. Prints a table in Markdown.
"""

import argparse
from pathlib import Path

from mlx_transformers.assembly.recipe import load_recipe  # before mlx: it chooses the BLAS
from mlx_transformers.assembly.saved import load
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.stream import EvalStream
from mlx_transformers.runs.folder import RunFolder
from mlx_transformers.trainer.evaluate import Evaluator
from mlx_transformers.trainer.forward import Forward
from mlx_transformers.verbs.train import train

ROOT = Path(__file__).resolve().parent.parent
RECIPES = (
    *("llama_tiny", "positions/xpos_tiny", "positions/alibi_tiny", "positions/buckets_tiny"),
    *("positions/shaw_tiny", "positions/transformer_xl_tiny", "positions/nope_tiny"),
)
SHORT, LENGTHS = 64, (64, 128, 256, 512)
TOKENS = 2048
"""Of a batch, in training and in measuring."""


def measure(name: str, sets: list[str], out: Path, batches: int) -> list[float]:
    """Bits per byte at each of LENGTHS."""
    recipe = load_recipe(ROOT / "recipes" / f"{name}.toml", sets)
    folder = out / Path(name).name
    if not RunFolder(folder).recipe.is_file():
        train(recipe, name=folder.name, root=out)
    data, (model, _) = prepare(recipe.data), load(folder)
    per_token = data.bytes_per_token("valid")
    found = []
    for length in LENGTHS:
        evaluator = Evaluator(Forward(model, recipe.objective.build()), per_token)
        setting = BatchSetting(length, batch_size=TOKENS // length)
        stream = EvalStream(data, setting, batches=batches)
        found.append(evaluator(stream)["val_bpb"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--set", action="append", default=[], help="as for mlxt train")
    parser.add_argument("--batches", type=int, default=20, help="of 2,048 tokens, to measure on")
    parser.add_argument("--out", type=Path, default=Path("runs/extrapolate"))
    args = parser.parse_args()
    short = [f"train.seq_len={SHORT}", f"train.batch_size={TOKENS // SHORT}"]
    sets = [*short, f"train.steps={args.steps}", f"eval.every={args.steps}", *args.set]
    rows = {name: measure(name, sets, args.out, args.batches) for name in args.recipes}
    print("| positions | " + " | ".join(f"{length} tokens" for length in LENGTHS) + " |")
    print("|---|" + "---:|" * len(LENGTHS))
    for name, found in rows.items():
        print(f"| `{Path(name).name}` | " + " | ".join(f"{bpb:.3f}" for bpb in found) + " |")


if __name__ == "__main__":
    main()
