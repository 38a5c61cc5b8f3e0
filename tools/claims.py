"""Repeat claims of papers at a small size, and print whether each holds.

    python tools/claims.py [NAME...] --seeds 1,2,3 [--json FILE] [--set train.steps=100] [--list]

A claim is a few runs of shipped recipes and a condition on their last evaluations. Every run is
trained once for each seed, in runs/claims; stopped, the same command goes on. The table has means
and 95 % intervals over the seeds. A claim holds if its condition is true of every seed; those that
fail stay in the table.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_transformers import load_recipe, train  # before mlx: it chooses the BLAS
from mlx_transformers.score.seeds import estimate

RECIPES = Path(__file__).resolve().parents[1] / "recipes"

Values = Mapping[str, float]
"""The metric of each run of a claim, for one seed."""


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, and the runs that show it.

    Attributes:
        says: the claim in a sentence.
        paper: where it is made.
        metric: a column of the last evaluation.
        runs: the recipe of each run with the keys set in it, by what the run is called.
        holds: whether the values of one seed show it.
    """

    says: str
    paper: str
    metric: str
    runs: Mapping[str, tuple[str, tuple[str, ...]]]
    holds: Callable[[Values], bool]


MIXER = "model.block.mixer"
NO_POSITIONS = "model.position={kind='none'}"
MAMBA = (f"{MIXER}={{kind='mamba', state_dim=16}}", NO_POSITIONS)
S4 = (f"{MIXER}={{kind='s4', state_dim=64}}", NO_POSITIONS)
METRICS = {"val_accuracy": "accuracy", "val_bpb": "bits per byte"}
NEAR = 0.05
"""Bits per byte within which two models count as equal."""

CLAIMS: dict[str, Claim] = {
    "mqar": Claim(
        "Attention solves associative recall; linear attention of the same width doesn't",
        "Arora et al. 2023 (Zoology), section 4",
        "val_accuracy",
        {
            "attention": ("tasks/mqar_tiny", ()),
            "linear attention": (
                "tasks/mqar_tiny",
                (f"{MIXER}={{kind='linear_attention', n_heads=2}}", NO_POSITIONS),
            ),
        },
        lambda v: v["attention"] > 0.95 and v["linear attention"] < v["attention"] - 0.1,
    ),
    "selective_copy": Claim(
        "Mamba solves selective copying; S4, whose weights don't follow the input, doesn't",
        "Gu and Dao 2023 (Mamba), table 1",
        "val_accuracy",
        {
            "mamba": ("tasks/selective_copy_tiny", MAMBA),
            "s4": ("tasks/selective_copy_tiny", S4),
        },
        lambda v: v["mamba"] > 0.95 and v["s4"] < v["mamba"] - 0.1,
    ),
    "retnet": Claim(
        f"RetNet comes within {NEAR} bits per byte of the transformer",
        "Sun et al. 2023 (RetNet), section 3.2",
        "val_bpb",
        {"llama": ("llama_tiny", ()), "retnet": ("efficient/retnet_tiny", ())},
        lambda v: v["retnet"] < v["llama"] + NEAR,
    ),
    "gla": Claim(
        f"Gated linear attention comes within {NEAR} bits per byte of the transformer",
        "Yang et al. 2024 (GLA), table 2",
        "val_bpb",
        {"llama": ("llama_tiny", ()), "gla": ("efficient/gla_tiny", ())},
        lambda v: v["gla"] < v["llama"] + NEAR,
    ),
    "mixture_of_depths": Claim(
        f"Half of the tokens in every other block cost no more than {NEAR} bits per byte",
        "Raposo et al. 2024 (Mixture of Depths), section 4.1",
        "val_bpb",
        {
            "llama": ("llama_tiny", ()),
            "mixture of depths": ("depth/mixture_of_depths_tiny", ()),
        },
        lambda v: v["mixture of depths"] < v["llama"] + NEAR,
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
    seeds = [int(seed) for seed in args.seeds.split(",")]
    rows = [row(name, claim, seeds, args.set, args.root) for name, claim in chosen.items()]
    print(table(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


def row(name: str, claim: Claim, seeds: list[int], sets: list[str], root: Path) -> dict[str, Any]:
    """Train the runs of a claim for every seed; their values, and how often the claim holds."""
    by_seed = {
        seed: {
            label: value(
                claim, f"{name}-{label.replace(' ', '_')}", recipe, [*own, *sets], seed, root
            )
            for label, (recipe, own) in claim.runs.items()
        }
        for seed in seeds
    }
    return {
        "claim": name,
        "says": claim.says,
        "paper": claim.paper,
        "metric": claim.metric,
        "values": {label: [by_seed[seed][label] for seed in seeds] for label in claim.runs},
        "held": sum(claim.holds(values) for values in by_seed.values()),
        "seeds": seeds,
    }


def value(claim: Claim, run: str, recipe: str, sets: list[str], seed: int, root: Path) -> float:
    """The metric at the last evaluation of a run, which is trained where it isn't finished."""
    loaded = load_recipe(RECIPES / f"{recipe}.toml", [*sets, f"train.seed={seed}"])
    result = train(loaded, name=f"{run}-seed{seed}", resume="auto", root=root)
    found = [record for record in result.folder.records() if record.get(claim.metric) is not None]
    return float(found[-1][claim.metric])


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table in markdown."""
    lines = ["| claim | paper | here | holds |", "|---|---|---|---|"]
    for each in rows:
        parts = []
        for label, values in each["values"].items():
            found = estimate(values)
            error = "" if found.error is None else f" ± {found.error:.3f}"
            parts.append(f"{label} {found.mean:.3f}{error}")
        here = f"{METRICS[each['metric']]}: {', '.join(parts)}"
        held = f"{each['held']} of {len(each['seeds'])} seeds"
        lines.append(f"| {each['says']} | {each['paper']} | {here} | {held} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
