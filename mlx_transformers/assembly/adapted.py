"""Published adapters on published bases: a folder of PEFT, mlx-lm or adapters beside a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import mlx.core as mx
from mlx.utils import tree_unflatten

from ..convert.adapters import bottleneck, mlx_lm, peft
from ..convert.adapters.layout import Layout, Opened
from ..convert.config import HfConfig
from ..convert.family import read
from ..convert.safetensors import read_file
from ..core.errors import ConvertError
from ..core.parse import read_table
from ..layers.adapters.adapter import AdapterKind, adapt
from ..layers.adapters.weights import own_weights, plain_weights
from ..recipe.config import Config
from ..recipe.load import resolve_data
from ..recipe.slot import Slot
from ..recipe.validate import typed
from ..runs.tensors import named_leaves
from .published import Published

CONFIG = "adapter_config.json"


class _AdaptOnly(Config):
    """A recipe with adapters and nothing else."""

    adapt: Annotated[AdapterKind, Slot("adapt")]
    """The adapters."""


@dataclass(frozen=True)
class AdaptedModel:
    """A published model with a published adapter.

    Attributes:
        base: the model, whose module has the adapter now.
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
    opened = open_adapter(base, folder)
    kind = typed(_AdaptOnly, resolve_data({"adapt": opened.table}, str(folder))).adapt
    mx.random.seed(0)
    adapt(base.model, kind)
    _load(base, opened, str(folder))
    mx.eval(base.model.parameters())
    return AdaptedModel(base, opened.table)


def open_adapter(base: Published, folder: Path) -> Opened:
    """Read a folder's adapter as weights of an adapted model.

    Raises:
        ConvertError: as `read_adapter`.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ConvertError(f"{folder} has no {CONFIG}: it is no folder of an adapter.")
    config = read_table(path)
    weights = plain_weights(base.model)
    shapes = {name: array.shape for name, array in weights.items()}
    _, rows = read(base.family, HfConfig(base.config.data))
    layout = Layout.of(base.family, rows, shapes)
    where = str(folder)
    if "peft_type" in config:
        tensors = _tensors(folder, (peft.WEIGHTS,))
        return peft.open_peft(config, tensors, where, layout, weights)
    if isinstance(config.get("config"), Mapping):
        tensors = _tensors(folder, bottleneck.WEIGHTS)
        return bottleneck.open_bottleneck(config, tensors, where)
    if "fine_tune_type" in config or "lora_parameters" in config:
        return mlx_lm.open_mlx_lm(config, _tensors(folder, (mlx_lm.WEIGHTS,)), where, layout)
    raise ConvertError(
        f"{path} is no config of an adapter of PEFT (peft_type), mlx-lm (fine_tune_type) or "
        "adapters (config)."
    )


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
    given = {n: a for n, a in ours.items() if n.endswith(".squares")} | opened.weights
    if lost := sorted(set(ours) ^ set(given)):
        raise ConvertError(f"{where} doesn't fit the base: {', '.join(lost[:8])}.")
    for name, array in given.items():
        if array.shape != ours[name].shape:
            raise ConvertError(
                f"{where}: {name} has the shape {list(array.shape)}, and the base asks for "
                f"{list(ours[name].shape)}."
            )
    base.model.update(tree_unflatten(list(given.items())))
