"""Compare all choices for one part of the small LLaMA: the same parameters, budget and seeds.

    python tools/compare_parts.py activations --seeds 1,2,3 [--set train.steps=300] [--list]

PART is `activations` (every activation in an mlp and as the gate of a glu, equal parameters),
`norms` (every norm) or `placements` (every placement with layer and RMS norm). One recipe for each
choice is written to runs/recipes-PART; `mlxt ladder` trains all, and its table has
means and 95 % intervals over the seeds. Stopped, the same command goes on.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import get_args

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.layers.ffns.mlp import Activation
from mlx_transformers.layers.residual import Placement
from mlx_transformers.recipe.slot import KINDS

ROOT = Path(__file__).resolve().parents[1]
PARENT = ROOT / "recipes" / "llama_tiny.toml"
WIDTHS = {"mlp": 516, "glu": 344}
"""Hidden widths of equal parameters: two matrices, or three."""


def activations() -> dict[str, str]:
    """Every activation in an mlp and in a glu."""
    return {
        f"{kind}_{name}": table(
            "model.block.ffn", kind=kind, hidden_dim=WIDTHS[kind], activation=name
        )
        for kind in WIDTHS
        for name in get_args(Activation)
    }


def norms() -> dict[str, str]:
    """Every norm, in the blocks and after the last one."""
    return {
        name: table("model.block.norm", kind=name) + table("model.norm", kind=name)
        for name in KINDS["norm"]
    }


def placements() -> dict[str, str]:
    """Every placement; those that end in a norm have none after the last block."""
    found = {}
    for norm in ("layer_norm", "rms_norm"):
        for place in get_args(Placement):
            last = "none" if place == "post" else norm
            found[f"{place}_{norm}"] = (
                table("model.block", placement=place)
                + table("model.block.norm", kind=norm)
                + table("model.norm", kind=last)
            )
    return found


def table(name: str, **keys: str | int) -> str:
    """A table of TOML."""
    lines = [f'{key} = "{v}"' if isinstance(v, str) else f"{key} = {v}" for key, v in keys.items()]
    return "\n".join([f"[{name}]", *lines, "", ""])


PARTS = {"activations": activations, "norms": norms, "placements": placements}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS, metavar="PART")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER")
    parser.add_argument("--list", action="store_true", help="write the recipes; train nothing")
    args = parser.parse_args()
    files = write(args.part, args.runs / f"recipes-{args.part}")
    if args.list:
        print("\n".join(map(str, files)))
        return
    command = [sys.executable, "-c", "from mlx_transformers.cli.entry import main; main()"]
    command += ["ladder", *map(str, files), "--seeds", args.seeds]
    command += ["--name", f"ladder-{args.part}", "--runs", str(args.runs)]
    for change in args.set:
        command += ["--set", change]
    sys.exit(subprocess.run(command, check=False).returncode)


def write(part: str, folder: Path) -> list[Path]:
    """Write one recipe per choice, a diff on the small LLaMA; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, text in PARTS[part]().items():
        files.append(folder / f"{name}.toml")
        files[-1].write_text(f'extends = "{PARENT}"\n\n{text.rstrip()}\n', encoding="utf-8")
    return files


if __name__ == "__main__":
    main()
