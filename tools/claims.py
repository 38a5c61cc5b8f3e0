"""Repeat claims of papers at a small size, and print whether each holds.

    python tools/claims.py [NAME...] --seeds 1,2,3 [--json FILE] [--set train.steps=100] [--list]

A claim compares a few figures: of shipped recipes that are trained for a few hundred steps, or of
what such runs do afterwards. Every run is trained once for each seed, in runs/claims, however many
claims read it; stopped, the same command goes on. The table has means and 95 % intervals over the
seeds. A claim holds if its condition is true of every seed; those that fail stay in the table.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_transformers import load_recipe, train  # before mlx: it chooses the BLAS

# isort: split
import mlx.core as mx
import mlx.nn as nn
import numpy as np
from claim_runs import RECIPES, RUNS
from mlx.utils import tree_flatten

from mlx_transformers.assembly.saved import load
from mlx_transformers.assembly.streams import held_out_batches
from mlx_transformers.core.context import Collected, Context, Recording
from mlx_transformers.data.corpora.induction import Induction
from mlx_transformers.runs.folder import RunFolder
from mlx_transformers.score.seeds import estimate
from mlx_transformers.verbs.evaluate import open_run

Values = Mapping[str, float]
"""The figures that a claim compares, for one seed."""
NEAR = 0.05
"""Bits per byte within which two models count as equal."""
ROW = 1024
DEPTHS = (2, 4, 8, 16)
"""Tokens and layers of the passes whose memory is compared; ROW is a square of a power of two."""
WRITTEN, EDGE, WINDOW = 16_384, 2_048, 256
"""Tokens of the text whose decoding is timed, of each end that is compared, and of a window."""


@dataclass(frozen=True)
class Seed:
    """The runs of one seed.

    Attributes:
        seed: draws weights and the order of rows.
        root: the folder of the runs.
        sets: settings of all runs beside their own.
    """

    seed: int
    root: Path
    sets: tuple[str, ...] = ()

    def run(self, name: str) -> RunFolder:
        """A run, trained where it isn't finished."""
        recipe, own = RUNS[name]
        sets = dict(given.split("=", 1) for given in (*own, *self.sets, f"train.seed={self.seed}"))
        loaded = load_recipe(
            RECIPES / f"{recipe}.toml", [f"{key}={value}" for key, value in sets.items()]
        )
        folder = f"{name.replace(' ', '_')}-seed{self.seed}"
        return train(loaded, name=folder, resume="auto", root=self.root).folder


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, and the figures that show it.

    Attributes:
        says: the claim in a sentence.
        paper: where it is made.
        unit: what the figures are.
        values: measures them for a seed.
        holds: whether they show the claim.
    """

    says: str
    paper: str
    unit: str
    values: Callable[[Seed], Values]
    holds: Callable[[Values], bool]


def last(metric: str, **runs: str) -> Callable[[Seed], Values]:
    """The metric at the last evaluation of each run, by what it is called in the table."""

    def values(seed: Seed) -> Values:
        found = {}
        for label, name in runs.items():
            records = seed.run(name).records()
            found[label] = float([r[metric] for r in records if r.get(metric) is not None][-1])
        return found

    return values


def induction(run: str, *lengths: int) -> Callable[[Seed], Values]:
    """Accuracy of a run on rows of these many tokens."""

    def values(seed: Seed) -> Values:
        model, tokenizer = load(seed.run(run).path)
        return {
            f"{length:,} tokens": recalled(model, tokenizer, seed, length) for length in lengths
        }

    return values


def recalled(model: Any, tokenizer: Any, seed: Seed, length: int) -> float:
    """The share of answers of new rows that are right."""
    corpus = Induction({"length": length, "seed": 10_000 + seed.seed, "vocab_size": 8})
    examples = max(16, min(128, 8192 // length))
    draws = (np.random.default_rng([corpus.settings.seed, i]) for i in range(examples))
    rows = mx.array([tokenizer.encode(corpus.example(draw)["text"]) for draw in draws])
    right = 0
    for batch in mx.split(rows, max(1, examples * length // 16384)):
        logits = model(batch[:, :-1])[:, -1]
        right += int((mx.argmax(logits, axis=-1) == batch[:, -1]).sum().item())
    return right / examples


def halting(seed: Seed) -> Values:
    """Steps before a token halts, where a model without halting has more loss than its median, and
    where it has less."""
    _, judge = open_run(seed.run("llama").path, seed.root)
    model, _ = load(seed.run("universal").path)
    losses, steps = [], []
    for batch in held_out_batches(judge, 20):
        inputs, targets = mx.array(batch["tokens"][:, :-1]), mx.array(batch["tokens"][:, 1:])
        loss = nn.losses.cross_entropy(judge.model(inputs), targets, reduction="none")
        seen = Recording({"steps"})
        ctx = Context(collected=Collected(observer=seen))
        mx.eval(loss, model.hidden(model.embedded({"tokens": inputs}, ctx), ctx))
        losses.append(np.array(loss).ravel())
        steps.append(np.array(seen.arrays[0][1]).ravel())
    loss, taken = np.concatenate(losses), np.concatenate(steps)
    hard = loss > np.median(loss)
    return {"harder half": float(taken[hard].mean()), "easier half": float(taken[~hard].mean())}


def flat_decoding(seed: Seed) -> Values:
    """Milliseconds of processor time per token, early and late in a text that Mamba writes.

    The weights are as drawn, and the likeliest token is taken. Of each `EDGE` the median of its
    windows counts.
    """
    mx.random.seed(seed.seed)
    size = [f"model.max_seq_len={WRITTEN}", f"train.seq_len={WRITTEN}"]
    recipe = load_recipe(RECIPES / "state_space/mamba_tiny.toml", size)
    model: Any = recipe.model.build(256)
    step: Any = mx.compile(model.step)
    token, state = mx.zeros((1, 1), mx.int32), model.init_state(1, WRITTEN)
    mx.eval(step(token, state))  # compiles
    windows = []
    for _ in range(WRITTEN // WINDOW):
        began = time.process_time()
        for _ in range(WINDOW):
            logits, state = step(token, state)
            token = mx.argmax(logits, axis=-1)
            mx.eval(token, state)
        windows.append((time.process_time() - began) / WINDOW * 1e3)
    edge = EDGE // WINDOW
    early, late = statistics.median(windows[:edge]), statistics.median(windows[-edge:])
    return {f"first {EDGE:,} tokens": early, f"last {EDGE:,} of {WRITTEN:,} tokens": late}


def depth_memory(seed: Seed) -> Values:
    """MiB at the peak of a training pass of a row of `ROW` tokens, beyond the weights and their
    gradients, by depth, and what a layer adds."""
    found = {}
    for label, changed in {"reversible": {}, "residual": {"reversible": None}}.items():
        mx.random.seed(seed.seed)
        peaks = peaks_by_depth(changed)
        found |= {f"{label} {n} layers": peak for n, peak in zip(DEPTHS, peaks, strict=True)}
        found[f"a {label} layer adds"] = (peaks[-1] - peaks[0]) / (DEPTHS[-1] - DEPTHS[0])
    return found


def peaks_by_depth(changed: dict[str, Any]) -> list[float]:
    """The peaks of `depth_memory` of Reformer with some fields of its model changed."""
    peaks = []
    limit = mx.set_memory_limit(1)  # no work ahead, which would count as memory
    for n_layers in DEPTHS:
        shape = [math.isqrt(ROW)] * 2
        size = (f"model.max_seq_len={ROW}", f"train.seq_len={ROW}", f"model.position.shape={shape}")
        sets = [*size, f"model.n_layers={n_layers}"]
        recipe = load_recipe(RECIPES / "efficient/reformer_tiny.toml", sets)
        model: Any = recipe.model.model_copy(update=changed).build(256)
        tokens = mx.random.randint(0, 256, (1, ROW))
        weights = model.trainable_parameters()
        mx.eval(weights, tokens)

        def loss(weights: Any, model: Any = model, tokens: mx.array = tokens) -> mx.array:
            model.update(weights)
            ctx = Context(key=mx.random.key(0))
            return model.hidden(model.embedded({"tokens": tokens}, ctx), ctx).square().mean()

        before = mx.get_active_memory()
        mx.reset_peak_memory()
        gradients = mx.grad(loss)(weights)
        mx.eval(gradients)
        own = sum(int(array.nbytes) for _, array in tree_flatten(gradients))
        peaks.append((mx.get_peak_memory() - before - own) / 2**20)
        model.update(weights)
        del gradients
    mx.set_memory_limit(limit)
    return peaks


CLAIMS: dict[str, Claim] = {
    "mqar": Claim(
        "Attention solves associative recall; linear attention of the same width doesn't",
        "Arora et al. 2023 (Zoology), section 4",
        "accuracy",
        last(
            "val_accuracy",
            **{"attention": "mqar attention", "linear attention": "mqar linear attention"},
        ),
        lambda v: v["attention"] > 0.95 and v["linear attention"] < v["attention"] - 0.1,
    ),
    "selective_copy": Claim(
        "Mamba solves selective copying; S4, whose weights don't follow the input, doesn't",
        "Gu and Dao 2023 (Mamba), table 1",
        "accuracy",
        last("val_accuracy", mamba="selective copy mamba", s4="selective copy s4"),
        lambda v: v["mamba"] > 0.95 and v["s4"] < v["mamba"] - 0.1,
    ),
    "longer_copy": Claim(
        "Mamba solves selective copying of eight tokens among 64; S4 doesn't",
        "Gu and Dao 2023 (Mamba), table 1",
        "accuracy",
        last("val_accuracy", mamba="longer copy mamba", s4="longer copy s4"),
        lambda v: v["mamba"] > 0.95 and v["s4"] < v["mamba"] - 0.1,
    ),
    "induction": Claim(
        "Induction heads that Mamba learns at 16 tokens hold at 256 times as many",
        "Gu and Dao 2023 (Mamba), section 4.1.2",
        "accuracy",
        induction("induction mamba", 16, 256, 4096),
        lambda v: v["16 tokens"] > 0.95 and v["4,096 tokens"] > 0.95,
    ),
    "induction_64": Claim(
        "Induction heads that Mamba learns at 64 tokens hold at 64 times as many",
        "Gu and Dao 2023 (Mamba), section 4.1.2",
        "accuracy",
        induction("induction mamba 64", 64, 256, 1024, 4096),
        lambda v: v["64 tokens"] > 0.95 and v["4,096 tokens"] > 0.95,
    ),
    "induction_256": Claim(
        "Induction heads that Mamba learns at 256 tokens hold at 16 times as many",
        "Gu and Dao 2023 (Mamba), section 4.1.2",
        "accuracy",
        induction("induction mamba long", 256, 4096),
        lambda v: v["256 tokens"] > 0.95 and v["4,096 tokens"] > 0.95,
    ),
    "sequential_digits": Claim(
        "S4D names digits that it reads pixel by pixel better than an LSTM",
        "Gu et al. 2022 (S4D), section 5; Gu et al. 2021 (S4), section 4.3",
        "accuracy",
        last("val_accuracy", s4d="digits s4d", lstm="digits lstm"),
        lambda v: v["s4d"] > v["lstm"],
    ),
    "flat_decoding": Claim(
        f"A token that Mamba writes costs as much after {WRITTEN:,} others as at the start",
        "Gu and Dao 2023 (Mamba), section 3.3.2",
        "milliseconds of processor time",
        flat_decoding,
        lambda v: max(v.values()) < 1.05 * min(v.values()),
    ),
    "reformer": Claim(
        "The memory of reversible layers doesn't grow with depth",
        "Kitaev et al. 2020 (Reformer), section 3",
        "MiB",
        depth_memory,
        lambda v: v["a reversible layer adds"] < 0.05 * v["a residual layer adds"],
    ),
    "retnet": Claim(
        f"RetNet comes within {NEAR} bits per byte of the transformer",
        "Sun et al. 2023 (RetNet), section 3.2",
        "bits per byte",
        last("val_bpb", llama="llama", retnet="retnet"),
        lambda v: v["retnet"] < v["llama"] + NEAR,
    ),
    "gla": Claim(
        f"Gated linear attention comes within {NEAR} bits per byte of the transformer",
        "Yang et al. 2024 (GLA), table 2",
        "bits per byte",
        last("val_bpb", llama="llama", gla="gla"),
        lambda v: v["gla"] < v["llama"] + NEAR,
    ),
    "mixture_of_depths": Claim(
        f"Half of the tokens in every other block cost no more than {NEAR} bits per byte",
        "Raposo et al. 2024 (Mixture of Depths), section 4.1",
        "bits per byte",
        last("val_bpb", **{"llama": "llama", "mixture of depths": "half depth"}),
        lambda v: v["mixture of depths"] < v["llama"] + NEAR,
    ),
    "universal": Claim(
        "A Universal Transformer halts later where the next token is harder to predict",
        "Dehghani et al. 2018 (Universal Transformers), section 3.1; Graves 2016, section 3.4",
        "steps per token",
        halting,
        lambda v: v["harder half"] > v["easier half"],
    ),
    "switch": Claim(
        "Experts of which a token meets one beat a dense ffn of the same work",
        "Fedus et al. 2021 (Switch), section 2.3",
        "bits per byte",
        last("val_bpb", llama="llama", switch="switch"),
        lambda v: v["switch"] < v["llama"],
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="claims; default all")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--root", type=Path, default=Path("runs/claims"), metavar="FOLDER")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--list", action="store_true", help="print the claims; train nothing")
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - set(CLAIMS)):
        parser.error(f"no claim {', '.join(unknown)}: choose of {', '.join(CLAIMS)}")
    chosen = {name: CLAIMS[name] for name in args.names or CLAIMS}
    if args.list:
        for name, claim in chosen.items():
            print(f"{name}: {claim.says} ({claim.paper})")
        return
    seeds = [Seed(int(seed), args.root, tuple(args.set)) for seed in args.seeds.split(",")]
    rows = [row(name, claim, seeds) for name, claim in chosen.items()]
    print(table(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


def row(name: str, claim: Claim, seeds: list[Seed]) -> dict[str, Any]:
    """The figures of a claim for every seed, and how often it holds."""
    found = [claim.values(seed) for seed in seeds]
    return {
        "claim": name,
        "says": claim.says,
        "paper": claim.paper,
        "unit": claim.unit,
        "values": {label: [values[label] for values in found] for label in found[0]},
        "held": sum(claim.holds(values) for values in found),
        "seeds": [seed.seed for seed in seeds],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table in markdown."""
    lines = ["| claim | paper | here | holds |", "|---|---|---|---|"]
    for each in rows:
        parts = []
        for label, values in each["values"].items():
            found = estimate(values)
            error = "" if found.error is None else f" ± {found.error:.3f}"
            parts.append(f"{label} {found.mean:.3f}{error}")
        here = f"{each['unit']}: {', '.join(parts)}"
        held = f"{each['held']} of {len(each['seeds'])} seeds"
        lines.append(f"| {each['says']} | {each['paper']} | {here} | {held} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
