"""Writes the adapters of a run as a folder of PEFT or of mlx-lm, without the base."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..assembly.published import CONFIG, full_model_table, typed_model
from ..assembly.recipe import Recipe, load_recipe
from ..assembly.saved import load
from ..convert.adapters import mlx_lm as mlx_lm_files
from ..convert.adapters import peft as peft_files
from ..convert.adapters.layout import Factors, Layout
from ..convert.adapters.peft_vectors import peft_ia3, peft_prefix, peft_prompt
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
from ..convert.mlx_lm import Reading, reading
from ..convert.safetensors import write_file
from ..core.errors import ConvertError
from ..core.parse import read_table
from ..layers.adapters.adapted import Adapted
from ..layers.adapters.dora import DoraUpdate
from ..layers.adapters.ia3 import Ia3Update
from ..layers.adapters.low_rank import LowRank, LowRankKind
from ..layers.adapters.prefix import PrefixKeys
from ..layers.adapters.prompt import PromptEmbedding
from ..layers.adapters.targets import layer_of
from ..layers.adapters.weights import plain_weights, tables
from ..layers.mixers.attention import AttentionMixer
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
    write_file(out / FILES[to], arrays, kind)


def _written(recipe: Recipe, folder: RunFolder, model: Model, to: str) -> Written:
    """The files of an adapter's folder.

    Raises:
        ConvertError: the format has no such adapters, or the run trained more than adapters.
    """
    kind = recipe.adapt
    if kind is None:
        raise ConvertError(
            f"{folder.path} has no adapters, which --to {to} writes alone: export it with --to hf, "
            "mlx-lm or gguf."
        )
    name = kind.kind
    if not isinstance(kind, LowRankKind) and (to != "peft" or name not in VECTORS):
        raise ConvertError(
            f"Adapters of the kind '{name}' aren't written with --to {to}: lora, dora, ia3, "
            f"prompt and prefix go to peft, lora and dora to mlx-lm. {FUSE}"
        )
    if kind.train or (isinstance(kind, LowRankKind) and kind.bias != "none"):
        raise ConvertError(
            "adapt.train and adapt.bias have trained weights of the base itself, which this export "
            f"doesn't write beside adapters. {FUSE}"
        )
    table = full_model_table(recipe.model, model.vocab_size)
    came_with = folder.path / CONFIG
    original = read_table(came_with) if came_with.is_file() else None
    family, config = match(
        table,
        lambda t: full_model_table(typed_model(t, str(folder.path)), t["vocab_size"]),
        original,
    )
    _, rows = read(family, HfConfig(config.data))
    shapes = {name: tuple(array.shape) for name, array in plain_weights(model).items()}
    layout = Layout.of(family, rows, shapes, tables=tables(model))
    if not isinstance(kind, LowRankKind):
        return VECTORS[name](model, layout)
    return _low_rank(recipe, kind, model, layout, to, lambda: reading(family, FlatModel(table)))


def _low_rank(
    recipe: Recipe,
    kind: LowRankKind,
    model: Model,
    layout: Layout,
    to: str,
    mlx_lm_reading: Callable[[], Reading],
) -> Written:
    """A LoRA or DoRA in one of the formats."""
    updates = updates_of(model)
    dora = kind.kind == "dora"
    ties = "head.weight" not in layout.shapes and "embed.table" in updates
    if to == "mlx-lm":
        name_of = mlx_lm_reading().module
        if ties and not kind.tied_head:
            raise ConvertError(f"mlx-lm reads the update of a tied embedding in the head. {FUSE}")
        if "head" in updates and _head_was_tied(model):
            raise ConvertError(
                "This run updates the head independently of the embedding to which its base ties "
                f"it, and mlx-lm has no head of its own there. {FUSE} Or write it with --to peft."
            )
        n_layers = len(recipe.model.layers())
        return mlx_lm_low_rank(layout, updates, dora=dora, n_layers=n_layers, name_of=name_of)
    if ties and kind.tied_head:
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


def _head_was_tied(model: Model) -> bool:
    """Whether the frozen weight of a head is a copy of the embedding's."""
    weights = plain_weights(model)
    tables = [weights.get(f"{at}embed.table.weight") for at in ("", "decoder.")]
    head = weights["head.weight"]
    return any(table is not None and bool(mx.array_equal(table, head)) for table in tables)


def _ia3(model: Model, layout: Layout) -> Written:
    outputs: dict[str, mx.array] = {}
    inputs: dict[str, mx.array] = {}
    for path, module in model.named_modules():
        if isinstance(module, Adapted) and isinstance(module.adapter, Ia3Update):
            gains = inputs if module.adapter.scales_input else outputs
            gains[path] = module.adapter.factor
    return peft_ia3(layout, outputs, inputs)


def _prompt(model: Model, layout: Layout) -> Written:
    task = _task(model, layout)
    (embed,) = [m for _, m in model.named_modules() if isinstance(m, PromptEmbedding)]
    prompt = embed.prompt
    mixers = _attention(model)
    sizes = {
        "num_layers": len(mixers),
        "num_attention_heads": max((mixer.n_heads for mixer in mixers), default=1),
    }
    return peft_prompt(prompt.vectors * embed.base.scale, sizes, task)


def _prefix(model: Model, layout: Layout) -> Written:
    task = _task(model, layout)
    mixers = _attention(model)
    prefixes: list[PrefixKeys] = [mixer.prefix for mixer in mixers if "prefix" in mixer]
    shapes = {tuple(prefix.k.shape) for prefix in prefixes}
    if len(prefixes) < len(mixers) or len(shapes) > 1:
        raise ConvertError(
            "PEFT has a prefix in every layer, all of one shape, and this run has layers without "
            "one, or with other heads. A prefix can't be merged into the base either."
        )
    return peft_prefix([(prefix.k, prefix.v) for prefix in prefixes], task)


VECTORS: dict[str, Callable[[Model, Layout], Written]] = {
    "ia3": _ia3,
    "prompt": _prompt,
    "prefix": _prefix,
}
"""Kinds that PEFT has beside low-rank updates."""


def _attention(model: Model) -> list[AttentionMixer]:
    """The attention layers of a model in order."""
    mixers = [(p, m) for p, m in model.named_modules() if isinstance(m, AttentionMixer)]
    return [mixer for _, mixer in sorted(mixers, key=lambda item: layer_of(item[0]) or 0)]


def _task(model: Model, layout: Layout) -> str:
    """PEFT's name of the task.

    Raises:
        ConvertError: an encoder-decoder, whose decoder has virtual tokens of its own in PEFT.
    """
    if "decoder.embed.table.weight" in layout.shapes or "seq2seq" in model.tasks:
        raise ConvertError(
            "PEFT's virtual tokens of an encoder-decoder stand before its decoder, too, and this "
            "run's don't: they can't be written."
        )
    return "CAUSAL_LM" if "causal_lm" in model.tasks else "FEATURE_EXTRACTION"


def updates_of(model: Any) -> dict[str, Factors]:
    """The low-rank updates of a model by the path of their layer."""
    updates = {}
    for path, module in model.named_modules():
        if not isinstance(module, Adapted) or not isinstance(module.adapter, LowRank):
            continue
        adapter = module.adapter
        norms = adapter.magnitude if isinstance(adapter, DoraUpdate) else None
        updates[path] = Factors(adapter.lora_a, adapter.lora_b, adapter.scale, norms)
    return updates
