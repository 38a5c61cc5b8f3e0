"""The page of a look into a model of pictures: one offline HTML file, and the JSON beside it."""

import base64
import dataclasses
from html import escape
from pathlib import Path
from typing import Any

from ..report.scripted import ScriptedPage, asset
from .packing import COARSE, FINE, FINE_NUMBERS, PLAIN, pack, plain
from .page import check_places, write_data
from .sight import Sight

HERE = Path(__file__).parent
SECTIONS = {
    "attention": "Attention over the picture",
    "heads": "Heads",
    "lens": "Classes, layer by layer",
    "stream": "Residual stream",
}


def write_sight(name: str, sight: Sight, command: str, path: Path) -> tuple[Path, Path]:
    """Write the page and its data; they may overwrite an earlier look, and nothing else.

    Args:
        name: label of the model.
        sight: what was seen.
        command: the command that made it.
        path: the HTML file.

    Returns:
        The HTML file and the JSON file.

    Raises:
        RunError: other files stand there, or the system refuses.
    """
    check_places(path)
    about = {"command": command, "label": name}
    page = ScriptedPage(
        f"Inside {name}",
        escape(command),
        style=asset(HERE / "look.css") + asset(HERE / "sight.css"),
        scripts=asset(HERE / "sight.js"),
        data=about | {"sight": _tree(sight, small=False)},
    )
    for section, title in SECTIONS.items():
        page.add(section, title, f'<div id="at-{section}"></div>')
    small = sum(layer.weights.size for layer in sight.layers if layer.weights is not None) <= PLAIN
    page.write(path)
    return path, write_data(about | {"sight": _tree(sight, small)}, path)


def _tree(sight: Sight, small: bool) -> dict[str, Any]:
    """A look as JSON, its attention as lists or packed, its pixels in base64."""
    matrices = [seen_layer.weights for seen_layer in sight.layers]
    levels = FINE if sum(w.size for w in matrices if w is not None) <= FINE_NUMBERS else COARSE
    layers = []
    for layer, weights in zip(sight.layers, matrices, strict=True):
        matrix = plain(weights) if small or weights is None else pack(weights, levels)
        layers.append(plain(dataclasses.replace(layer, weights=None)) | {"weights": matrix})
    text = base64.b64encode(sight.pixels.tobytes()).decode("ascii")
    shape = list(sight.pixels.shape)
    return {
        "pixels": {"shape": shape, "data": text},
        "grid": list(sight.grid),
        "front": sight.front,
        "layers": layers,
        "halts": sight.halts,
    }
