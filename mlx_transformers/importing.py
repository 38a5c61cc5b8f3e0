"""From a published folder to a model: the recipe's model table, the module, its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from . import registry as registry  # fills the slots before any schema is built
from .convert.checkpoint import read_tensors
from .convert.config import HfConfig, read_config
from .convert.family import BUFFERS, Family, read
from .convert.known import family_of
from .convert.weights import renamed, to_ours
from .core.errors import ConvertError
from .recipe.config import Config, Kind
from .recipe.load import resolve_data
from .recipe.slot import Slot
from .recipe.validate import typed

CONFIG = "config.json"


class _ModelOnly(Config):
    """A recipe of which only the model is known."""

    model: Annotated[Kind, Slot("model")]
    """The architecture."""


@dataclass(frozen=True)
class Published:
    """A model that was read from a published folder.

    Attributes:
        table: the `[model]` table of its recipe.
        model: the module with its weights, in float32.
        family: how it was read.
        config: its config.json.
    """

    table: dict[str, Any]
    model: Any
    family: Family
    config: HfConfig


def read_published(folder: Path, config_file: str = CONFIG) -> Published:
    """The model of a folder with a config.json and safetensors.

    Raises:
        ConvertError: a family, an option, a tensor or a shape that isn't known; always named.
    """
    if not folder.is_dir():
        raise ConvertError(f"{folder} is not a folder.")
    return published(read_config(folder / config_file), read_tensors(folder), str(folder))


def published(config: HfConfig, tensors: dict[str, mx.array], where: str) -> Published:
    """The model that a config and tensors under published names are.

    Raises:
        ConvertError: as `read_published`.
    """
    family = family_of(config)
    table, weights = read(family, config)
    model = build_table(table, where)
    theirs = renamed(tensors, family.renames, (*BUFFERS, *family.dropped))
    shapes = {name: array.shape for name, array in tree_flatten(model.parameters())}
    ours = to_ours(weights, shapes, theirs, where=where, tied=dict(family.tied))
    model.update(tree_unflatten(list(ours.items())))
    mx.eval(model.parameters())
    return Published(table, model, family, config)


def build_table(table: dict[str, Any], where: str) -> Any:
    """The module of a `[model]` table that names its vocabulary, with weights not yet drawn.

    Raises:
        RecipeError: the table says what no kind has.
    """
    recipe: Any = typed(_ModelOnly, resolve_data({"model": table}, where))
    return recipe.model.build(recipe.model.vocab_size)
