"""Writes the adapters of a run as a folder of PEFT or of mlx-lm, without the base."""

from pathlib import Path
from typing import Any

import mlx.core as mx

from ..assembly.published import CONFIG, settled, typed_model
from ..assembly.recipe import Recipe, load_recipe
from ..assembly.saved import load
from ..convert.adapters import mlx_lm as mlx_lm_files
from ..convert.adapters import peft as peft_files
from ..convert.adapters.layout import Factors, Layout
from ..convert.adapters.writing import (
    FUSE,
    Written,
    as_json,
    mlx_lm_low_rank,
    peft_low_rank,
    published_modules,
)
from ..convert.config import HfConfig
from ..convert.family import read
from ..convert.flat_model import FlatModel
from ..convert.match import match
from ..convert.mlx_lm import reading
from ..core.errors import ConvertError
from ..core.parse import read_table
from ..layers.adapters.adapted import Adapted
from ..layers.adapters.dora import DoraUpdate
from ..layers.adapters.low_rank import LowRank, LowRankKind
from ..layers.adapters.weights import plain_weights
from ..models.model import Model
from ..runs.folder import RunFolder

FILES = {"peft": peft_files.WEIGHTS, "mlx-lm": mlx_lm_files.WEIGHTS}
"""The file of tensors, by format."""


def write_adapter(folder: RunFolder, checkpoint: Path, to: str, out: Path) -> None:
    """Write the adapters of a checkpoint.

    Args:
        folder: the run.
        checkpoint: one of its checkpoints.
        to: "peft" or "mlx-lm".
        out: the folder to make.

    Raises:
        ConvertError: the format can't express the adapters, or the base belongs to no family.
    """
    recipe = load_recipe(folder.recipe)
    if to not in FILES:
        raise ConvertError(
            f"{folder.path} has adapters, and --to {to} writes plain models. {FUSE} Or write the "
            "adapters alone with --to peft or --to mlx-lm."
        )
    written = _written(recipe, folder, load(checkpoint)[0], to)
    out.mkdir()
    (out / "adapter_config.json").write_text(as_json(written.config), encoding="utf-8")
    arrays = {name: mx.contiguous(a.astype(mx.float32)) for name, a in written.tensors.items()}
    kind = "pt" if to == "peft" else "mlx"
    mx.save_safetensors(str(out / FILES[to]), arrays, {"format": kind})


def _written(recipe: Recipe, folder: RunFolder, model: Model, to: str) -> Written:
    kind = recipe.adapt
    if not isinstance(kind, LowRankKind):
        name = "none" if kind is None else kind.kind
        raise ConvertError(
            f"Adapters of the kind '{name}' aren't written as folders of other libraries; lora and "
            f"dora are. {FUSE}"
        )
    if kind.train or kind.bias != "none":
        raise ConvertError(
            "adapt.train and adapt.bias have trained weights of the base itself, which this export "
            f"doesn't write beside adapters. {FUSE}"
        )
    table = settled(recipe.model, model.vocab_size)
    came_with = folder.path / CONFIG
    original = read_table(came_with) if came_with.is_file() else None
    family, config = match(
        table, lambda t: settled(typed_model(t, str(folder.path)), t["vocab_size"]), original
    )
    _, rows = read(family, HfConfig(config.data))
    shapes = {name: tuple(array.shape) for name, array in plain_weights(model).items()}
    layout = Layout.of(family, rows, shapes)
    updates = updates_of(model)
    dora = kind.kind == "dora"
    tied = kind.tied_head and "head.weight" not in shapes and "embed.table" in updates
    if to == "mlx-lm":
        view = FlatModel(table)
        how = reading(family, view)
        if "embed.table" in updates and not kind.tied_head and "head.weight" not in shapes:
            raise ConvertError(f"mlx-lm reads the update of a tied embedding in the head. {FUSE}")
        n_layers = len(recipe.model.layers())
        return mlx_lm_low_rank(layout, updates, dora=dora, n_layers=n_layers, rename=how.rename)
    if tied:
        raise ConvertError(
            "PEFT updates the embedding alone where the base ties a head to it, and this run "
            f"updates both. {FUSE}"
        )
    modules = published_modules(layout, updates)
    moves = [layout.moves[f"{module.name}.weight"] for module in modules]
    return peft_low_rank(
        modules,
        dora=dora,
        rslora=kind.scaling == "rslora",
        conv1d=any(layout.transposed(move) for move in moves),
        dropout=kind.dropout,
    )


def updates_of(model: Any) -> dict[str, Factors]:
    """The low-rank updates of a model by the path of their layer."""
    found = {}
    for path, module in model.named_modules():
        if not isinstance(module, Adapted) or not isinstance(module.adapter, LowRank):
            continue
        own = module.adapter
        norms = own.magnitude if isinstance(own, DoraUpdate) else None
        found[path] = Factors(own.lora_a, own.lora_b, own.scale, norms)
    return found
