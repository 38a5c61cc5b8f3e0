"""Published adapters on published bases: a folder of PEFT, mlx-lm or adapters beside a model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import mlx.core as mx
from mlx.utils import tree_unflatten

from ..convert.adapters import bottleneck, mlx_lm, peft
from ..convert.adapters.layout import Layout, Opened
from ..convert.config import HfConfig
from ..convert.family import Family, read
from ..convert.safetensors import read_file
from ..convert.text_part import text_name
from ..core.errors import ConvertError
from ..core.parse import read_table
from ..layers.adapters.adapter import AdapterKind, adapt
from ..layers.adapters.targets import candidates, matches
from ..layers.adapters.weights import own_weights, plain_weights, tables
from ..layers.embed import TokenEmbedding
from ..recipe.config import Config
from ..recipe.load import resolve_data
from ..recipe.slot import Slot
from ..recipe.validate import typed
from ..runs.tensors import named_leaves
from .published import Published, build

CONFIG = "adapter_config.json"


class _AdaptOnly(Config):
    """A recipe with adapters and nothing else."""

    adapt: Annotated[AdapterKind, Slot("adapt")]
    """The adapters."""


@dataclass(frozen=True)
class AdaptedModel:
    """A published model with a published adapter.

    Attributes:
        base: the model, whose module has the adapter now; with a head of its own where the adapter
            updates that independently of the embedding to which it was tied.
        table: the `[adapt]` table of its recipe.
    """

    base: Published
    table: dict[str, Any]


def read_adapter(base: Published, folder: Path) -> AdaptedModel:
    """Give a published model the adapter of a folder.

    Raises:
        ConvertError: the folder holds no adapter that is known, an option isn't built, or its
            tensors don't fit the model; names it.
    """
    base, opened = open_adapter(base, folder)
    table = _without_neighbours(opened.table, base.model)
    kind = typed(_AdaptOnly, resolve_data({"adapt": table}, str(folder))).adapt
    mx.random.seed(0)
    adapt(base.model, kind)
    _load(base, opened, str(folder))
    mx.eval(base.model.parameters())
    return AdaptedModel(base, table)


def _without_neighbours(table: dict[str, Any], model: Any) -> dict[str, Any]:
    """A table of adapters whose target "head", which is a role too, means that layer alone."""
    targets = table.get("targets", ())
    if "head" not in targets:
        return table
    every = [target for target in candidates(model) if matches(target, "head")]
    excluded = sorted(target.path for target in every if target.path not in targets)
    return table | {"exclude": excluded} if excluded else table


def open_adapter(base: Published, folder: Path) -> tuple[Published, Opened]:
    """Read a folder's adapter as weights of an adapted model, whose base is returned too.

    Raises:
        ConvertError: as `read_adapter`.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ConvertError(f"{folder} has no {CONFIG}: it is no folder of an adapter.")
    config = read_table(path)
    where = str(folder)
    if "peft_type" in config:
        tensors = _tensors(folder, (peft.WEIGHTS,))
        if not config.get("ensure_weight_tying") or names_head(base.family, tensors):
            base = _untied(base, tensors, where)
        weights = plain_weights(base.model)
        return base, peft.open_peft(config, tensors, where, layout_of(base, weights), weights)
    if isinstance(config.get("config"), Mapping):
        tensors = _tensors(folder, bottleneck.WEIGHTS)
        return base, bottleneck.open_bottleneck(config, tensors, where)
    if "fine_tune_type" in config or "lora_parameters" in config:
        layout = layout_of(base, plain_weights(base.model))
        tensors = _tensors(folder, (mlx_lm.WEIGHTS,))
        return base, mlx_lm.open_mlx_lm(config, tensors, where, layout)
    raise ConvertError(
        f"{path} is no config of an adapter of PEFT (peft_type), mlx-lm (fine_tune_type) or "
        "adapters (config)."
    )


def layout_of(base: Published, weights: Mapping[str, mx.array]) -> Layout:
    """The published names of a model's weights."""
    _, rows = read(base.family, HfConfig(base.config.data))
    scales = [m.scale for _, m in base.model.named_modules() if isinstance(m, TokenEmbedding)]
    shapes = {name: array.shape for name, array in weights.items()}
    return Layout.of(base.family, rows, shapes, scales[0] if scales else 1.0, tables(base.model))


def names_head(family: Family, tensors: Mapping[str, mx.array]) -> bool:
    """Whether tensors of an adapter belong to a head that is tied to the embedding."""
    # A name with a backslash is the pattern of copies in later layers, and an embedding is no head.
    seconds = {s for s, _ in family.tied if s.endswith(".weight") and "\\" not in s}
    heads = {s.removesuffix(".weight") for s in seconds if not s.endswith("embed_tokens.weight")}
    pattern = "|".join(re.escape(head) for head in sorted(heads | {"lm_head"}))
    return any(re.search(rf"\.({pattern})\.(?!bias$)", name) for name in tensors)


def _untied(base: Published, tensors: Mapping[str, mx.array], where: str) -> Published:
    """The model with a head of its own, a copy of the embedding to which it was tied, where an
    adapter updates or trains one of the two apart.

    Raises:
        ConvertError: the embedding's numbers are packed in few bits.
    """
    head = base.table.get("head", {})
    firsts = {first.removesuffix(".weight") for _, first in base.family.tied}
    pattern = "|".join(re.escape(first) for first in sorted(firsts))
    trains_head = any(
        re.fullmatch(rf"(.*\.)?({pattern})(\.modules_to_save(\.default)?)?\.weight", name)
        for name in (text_name(n.removeprefix(peft.PREFIX)) or n for n in tensors)
    )
    if not head.get("tied") or not (trains_head or names_head(base.family, tensors)):
        return base
    if base.packed is not None:
        raise ConvertError(
            f"{where} updates the head independently of the embedding to which the base "
            "ties it, and the base is quantized: import the adapter on the base before it was "
            "quantized."
        )
    table = base.table | {"head": head | {"tied": False}}
    weights = dict(plain_weights(base.model))
    sources = ("embed.table.weight", "decoder.embed.table.weight")
    weights["head.weight"] = next(weights[name] for name in sources if name in weights)
    model = build(table, where, sum(array.size for array in weights.values()))
    model.update(tree_unflatten(list(weights.items())))
    config = HfConfig(base.config.data | {"tie_word_embeddings": False})
    return replace(base, table=table, model=model, config=config)


def _tensors(folder: Path, names: tuple[str, ...]) -> dict[str, mx.array]:
    for name in names:
        if (folder / name).is_file():
            return read_file(folder / name)
    raise ConvertError(
        f"{folder} has no {names[0]}. Files with pickled tensors (.bin) are not read: save the "
        "adapter with safe_serialization=True."
    )


def _load(base: Published, opened: Opened, where: str) -> None:
    """Set an adapted model's own weights.

    Raises:
        ConvertError: they are other ones, or of other shapes.
    """
    ours = dict(named_leaves(own_weights(base.model)))
    # DoRA's squared norms follow from the base.
    arrays = {n: a for n, a in ours.items() if n.endswith(".squares")} | opened.weights
    if lost := sorted(set(ours) ^ set(arrays)):
        raise ConvertError(f"{where} doesn't fit the base: {', '.join(lost[:8])}.")
    for name, array in arrays.items():
        if array.shape != ours[name].shape:
            raise ConvertError(
                f"{where}: {name} has the shape {list(array.shape)}, and the base asks for "
                f"{list(ours[name].shape)}."
            )
    base.model.update(tree_unflatten(list(arrays.items())))
