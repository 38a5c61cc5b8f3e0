"""Merges the adapters of a run into its base: a new run of a plain model."""

import json
from pathlib import Path
from typing import Any

from ..assembly.published import CONFIG
from ..assembly.recipe import load_recipe
from ..assembly.saved import load
from ..compress.fidelity import FAITHFUL, Fidelity
from ..core.device import facts
from ..core.errors import RunError
from ..core.parse import read_table
from ..data.tokenizers.load import load_tokenizer
from ..layers.adapters.merge import merge
from ..layers.packed import packed_layers, packed_table, stored
from ..recipe.load import resolve_data
from ..recipe.toml import to_toml
from ..runs import checkpoint
from ..runs.durable import replace_text
from ..runs.folder import RUNS, RunFolder, check_new, create, find_checkpoint
from ..runs.progress import Progress
from .gate import gate, rows_for

CURE = "Quantizing the sum again may lose the adapters: keep them apart, adapt a base of more bits"


def fuse(
    run: str | Path | None, name: str | None = None, *, anyway: bool = False, root: Path = RUNS
) -> tuple[RunFolder, Fidelity]:
    """Merge the adapters of a run's best checkpoint, or of the one named, into a new run.

    A quantized base is quantized again, which rounds the updates away if they are small.

    Args:
        run: a run's name or folder, or a checkpoint's; None takes the newest run.
        name: the new run's name; None takes the run's with "-fused".
        anyway: write the run even where it differs from the live model beyond the bounds.
        root: the folder of runs.

    Raises:
        MlxtError: the run has no adapters, they can't be merged, or the merged model differs.
    """
    check_new(name, root)
    folder, saved = find_checkpoint(run, root)
    recipe = load_recipe(folder.recipe)
    if recipe.adapt is None or recipe.resolved is None:
        raise RunError(f"{folder.path} has no adapters: there is nothing to merge.")
    live, model = load(saved)[0], load(saved)[0]
    merge(model)
    rows, text = rows_for(recipe, load_tokenizer(folder.tokenizer), model)
    difference = gate(live, model, rows, FAITHFUL, CURE, anyway=anyway, text=text)
    new = create(name, f"{folder.name}-fused", root)
    data: dict[str, Any] = {k: v for k, v in recipe.resolved.data.items() if k != "adapt"}
    if data["data"]["tokenizer"].get("kind") != "numbers":
        tokenizer = {"kind": "saved", "path": str(new.tokenizer)}
        data = data | {"data": data["data"] | {"tokenizer": tokenizer}}
    chosen = {path: how for path, _, how in packed_layers(model)}
    weights: Any = model.parameters()
    if chosen:
        usual = max(chosen.values(), key=list(chosen.values()).count)
        table = packed_table(model, usual, chosen)
        data["packed"] = table.model_dump(exclude_none=True)
        weights = stored(model, table.dtype)
    resolved = resolve_data(data, str(folder.recipe))
    with new.locked():
        new.keep_tokenizer(load_tokenizer(folder.tokenizer).save)
        if (folder.path / CONFIG).is_file():
            config = read_table(folder.path / CONFIG)
            replace_text(new.path / CONFIG, json.dumps(config, indent=2) + "\n")
        state = Progress().to_dict() | {"data": None}
        checkpoint.save(new.checkpoints, 0, {"model": weights}, state, best=True)
        header = f"# Merged from the adapters and the base of {saved}.\n"
        new.describe(header + to_toml(resolved.data), facts() | {"merged": str(saved.resolve())})
    return new, difference
