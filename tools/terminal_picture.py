"""Draw the screen of `mlxt train` at a step of a run, as an SVG that looks like a terminal.

    python tools/terminal_picture.py runs/mistral_tiny docs/terminal.svg [--step 900]

The records of the run's log are shown by the same screen that showed them while it trained. The
picture has a ground of its own, so it is the same on light and dark pages, and loads no font.
"""

import argparse
import inspect
import io
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.report.screen import LiveScreen
from mlx_transformers.runs.folder import find

WIDTH = 92
"""Columns of the terminal."""
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"
RICH = inspect.signature(Console.export_svg).parameters["code_format"].default
FORM = re.sub(r"@font-face \{\{.*?\}\}", "", RICH, flags=re.DOTALL)
FORM = FORM.replace("Fira Code, monospace", FONTS)
"""Rich's form without the fonts that it would load from the network."""


def picture(run: Path, step: int | None) -> str:
    """Draw the screen of a run at its last report up to `step`; None is three fifths of the run.

    Raises:
        RunError: there is no such run.
    """
    folder = find(run)
    steps = load_recipe(folder.recipe).train.steps
    step = 3 * steps // 5 if step is None else step
    now = 0.0
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor",
        highlight=False, markup=False, emoji=False,
    )  # fmt: skip
    console.print(f"$ mlxt train {folder.name}", style="bold")
    screen = LiveScreen(folder.name, steps, 0, console, lambda: now)
    for record in folder.records():
        if record["step"] <= step and "sample" not in record:
            now = record.get("seconds_total", now)
            screen.write(record)
    console.print(screen.panel())
    return console.export_svg(
        title=f"mlxt train {folder.name}", theme=DIMMED_MONOKAI, code_format=FORM, unique_id="mlxt"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--step", type=int)
    args = parser.parse_args()
    args.out.write_text(picture(args.run, args.step), encoding="utf-8")
    print(args.out)


if __name__ == "__main__":
    main()
