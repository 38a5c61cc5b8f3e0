"""How translations of real messages get worse with the length of the source: four models.

    python tools/translation_curve.py [RECIPE ...] [--out DIR] [--beams N]

Trains each recipe of recipes/translation (unless its run is there already) on the same pairs, for
as many steps; writes a target for every source held out, and measures BLEU, chrF and the loss, of
all and by words of the source: Bahdanau et al. 2015, figure 2. Prints two tables, and writes
curve.json, bleu.svg and loss.svg to DIR.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from mlx_transformers.assembly.recipe import load_recipe  # before mlx: it chooses the BLAS
from mlx_transformers.assembly.streams import validation_stream
from mlx_transformers.decode.beam import Beams
from mlx_transformers.layers.counts import count
from mlx_transformers.report.plot import group_curves
from mlx_transformers.runs.folder import RunFolder
from mlx_transformers.score.interval import Score
from mlx_transformers.verbs.evaluate import open_run
from mlx_transformers.verbs.tasks.measure import Measured, measure
from mlx_transformers.verbs.tasks.seq2seq import examples
from mlx_transformers.verbs.tasks.task import GREEDY, Group, TaskOptions
from mlx_transformers.verbs.train import train

FOLDER = Path(__file__).resolve().parent.parent / "recipes" / "translation"
RECIPES = tuple(f"{name}_messages_tiny" for name in ("seq2seq", "bahdanau", "luong", "transformer"))
LENGTHS = (5, 7, 10, 15, 25)
"""Words of the source at which a group begins."""


def losses(run: Path, groups: Sequence[Group]) -> Iterator[float]:
    """Nats per target token of a run: of all held-out pairs, then of each group of them."""
    _, built = open_run(run)
    stream = validation_stream(built, None)
    yield built.evaluator(stream)["val_loss"]
    words = [len(built.tokenizer.decode(source).split()) for source, _ in examples(stream)]
    for group in groups:
        part = validation_stream(built, None)
        part.numbers = part.numbers[[group.first <= n <= (group.last or n) for n in words]]
        yield built.evaluator(part)["val_loss"]


def cell(score: Score) -> str:
    """A score with its interval, as a table has it."""
    return f"{score.value:.1f} ({score.low:.1f} to {score.high:.1f})"


def tables(found: dict[str, Measured], loss: dict[str, list[float]], sizes: dict[str, int]) -> str:
    """The measurements as Markdown."""
    lines = ["| recipe | million weights | loss | BLEU | chrF |", "|---|---:|---:|---:|---:|"]
    for name, one in found.items():
        bleu, chrf = map(cell, one.scores)
        lines.append(
            f"| `{name}` | {sizes[name] / 1e6:.2f} | {loss[name][0]:.3f} | {bleu} | {chrf} |"
        )
    groups = next(iter(found.values())).groups
    lines += ["", f"| BLEU, loss; words of the source: | {' | '.join(named(groups))} |"]
    lines += ["|---|" + "---:|" * len(groups)]
    lines += ["| pairs | " + " | ".join(str(group.examples) for group in groups) + " |"]
    for name, one in found.items():
        pairs = zip(one.groups, loss[name][1:], strict=True)
        cells = [f"{group.scores[0].value:.1f}, {nats:.2f}" for group, nats in pairs]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def named(groups: Sequence[Group]) -> list[str]:
    """The groups as an axis names them."""
    return [f"{g.first} to {g.last}" if g.last else f"{g.first} or more" for g in groups]


def draw(found: dict[str, Measured], loss: dict[str, list[float]], out: Path) -> None:
    """Both curves."""
    names = named(next(iter(found.values())).groups)
    bleu, nats = {}, {}
    for name, one in found.items():
        scores = [group.scores[0] for group in one.groups]
        short = name.split("_")[0]
        bleu[short] = [(score.value, score.low, score.high) for score in scores]
        nats[short] = [(value, value, value) for value in loss[name][1:]]
    group_curves(bleu, names, out / "bleu.svg", "BLEU")
    group_curves(nats, names, out / "loss.svg", "nats per token of the target")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--out", type=Path, default=Path("runs/translation"))
    parser.add_argument("--set", action="append", default=[], help="as for mlxt train")
    parser.add_argument("--beams", type=int)
    args = parser.parse_args()
    search = Beams(args.beams) if args.beams else GREEDY
    found: dict[str, Measured] = {}
    loss: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}
    for name in args.recipes:
        recipe, run = load_recipe(FOLDER / f"{name}.toml", args.set), args.out / name
        if not RunFolder(run).recipe.is_file():
            train(recipe, name=name, root=args.out)
        found[name] = measure(run, "translation", options=TaskOptions(search, LENGTHS))
        loss[name] = list(losses(run, found[name].groups))
        sizes[name] = count(open_run(run)[1].model).total
    everything = {
        name: asdict(one) | {"checkpoint": str(one.checkpoint), "loss": loss[name]}
        for name, one in found.items()
    }
    (args.out / "curve.json").write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    draw(found, loss, args.out)
    print(tables(found, loss, sizes))


if __name__ == "__main__":
    main()
