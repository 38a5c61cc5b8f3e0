"""The effect of a constitution on a small model: how many answers keep its principles.

    python tools/constitution_table.py [--seeds 1,2,3] [--out DIR]

Trains recipes/align/manners_tiny, constitution_tiny and constitution_dpo_tiny with each seed
(finished runs are reused, others are resumed), samples answers to the held-out sums, and prints a
table in Markdown: the share of answers that keep each principle, by the words that break it and in
the first model's own judgement, and the share of right ones; means and 95 % intervals over seeds.
"""

import argparse
import sys
from pathlib import Path

from alignment_table import RECIPES, Scores, answered, logged, percent, right, seeds

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.assembly.saved import load
from mlx_transformers.data.inspect import records
from mlx_transformers.rl.response import Judge
from mlx_transformers.rl.revise import PrincipleReward
from mlx_transformers.verbs.finetune import finetune
from mlx_transformers.verbs.train import train

import numpy as np  # isort: skip

STAGES = {
    "manners": "the model that it starts from",
    "constitution": "stage 1: trained on its own revisions",
    "constitution_dpo": "stage 2: DPO by its own judgement",
}
BROKEN = {"polite": "fool", "brief": "well"}
"""The word of an answer that breaks a principle."""
DRAWS, MAX_TOKENS = 16, 20


def trained(root: Path, seed: int) -> None:
    """Train the three recipes of one seed."""
    runs: dict[str, list[str]] = {
        "constitution": [],
        "constitution_dpo": [
            f'source.reference="{last(root, "constitution")}"',
            f'source.rewards.principles.run="{last(root, "manners")}"',
        ],
    }
    recipe = load_recipe(RECIPES / "manners_tiny.toml", [f"train.seed={seed}"])
    before = "manners"
    with logged(root):
        train(recipe, name=before, root=root, resume="auto")
        for name, sets in runs.items():
            finetune(
                last(root, before),
                RECIPES / f"{name}_tiny.toml",
                set=[*sets, f"train.seed={seed}"],
                name=name,
                resume="auto",
                root=root,
            )
            before = name


def last(root: Path, name: str) -> str:
    """The last checkpoint of a run."""
    return str(root / name / "checkpoints" / "last")


def measured(root: Path, name: str, questions: dict[str, str]) -> Scores:
    """How many sampled answers of a run keep the principles, and how many are right."""
    model, tokenizer = load(last(root, name))
    answers, _ = answered(model, tokenizer, questions, 1.0, DRAWS, MAX_TOKENS)
    kept = {
        principle: np.array([word not in one.completion for one in answers])
        for principle, word in BROKEN.items()
    }
    table = load_recipe(RECIPES / "constitution_dpo_tiny.toml").source.model_dump()
    own = table["rewards"]["principles"] | {"run": last(root, "manners")}
    judged = PrincipleReward(**own).build(Judge(*load(last(root, "manners"))))(answers[::DRAWS])
    found = {principle: float(each.mean()) for principle, each in kept.items()}
    return found | {
        "both": float(np.logical_and(*kept.values()).mean()),
        "judged": float(np.mean([value > 0 for value in judged])),
        "right": float(right(answers).mean()),
    }


def main() -> None:
    """Train, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=seeds, default=[1, 2, 3], help="as in 1,2,3")
    parser.add_argument("--out", type=Path, default=Path("runs/constitution"))
    options = parser.parse_args()
    data = load_recipe(RECIPES / "constitution_tiny.toml").data
    questions = {row["prompt"]: row["answer"] for row in records(data, "valid")}
    found: dict[str, list[Scores]] = {name: [] for name in STAGES}
    for seed in options.seeds:
        root = options.out.resolve() / f"seed{seed}"
        trained(root, seed)
        for name in STAGES:
            found[name].append(measured(root, name, questions))
            print(f"seed {seed}, {name}: {found[name][-1]}", file=sys.stderr)
    columns = ("polite", "brief", "both", "judged", "right")
    print("| | polite | brief | both | in its own judgement | right |")
    print("|---|" + "---|" * len(columns))
    for name, what in STAGES.items():
        cells = [percent([row[key] for row in found[name]]) for key in columns]
        print(f"| {what} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
