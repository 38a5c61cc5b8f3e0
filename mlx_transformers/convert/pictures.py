"""Shared readers of the configs and files of vision towers: sizes, patches, blocks, task heads."""

import re
from typing import Any

from ..core.errors import ConvertError
from ..recipe.merge import Table
from .config import HfConfig
from .flat_model import MISSING, FlatModel, PathOrFn, activation
from .kernels import PatchKernel
from .rows import Row
from .task_heads import label_names
from .transforms import Reshape

IMAGENET: Table = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""Mean and deviation of ImageNet's channels, by which the processors of MAE and DINOv2 scale."""


def image_size(config: HfConfig) -> list[int]:
    """Return height and width of the pictures."""
    size = config.get("image_size")
    return list(size) if isinstance(size, list) else [size, size]


ATTENTION_RENAMES = (
    (r"attention\.q_proj", "attention.attention.query"),
    (r"attention\.k_proj", "attention.attention.key"),
    (r"attention\.v_proj", "attention.attention.value"),
    (r"attention\.o_proj", "attention.output.dense"),
)
"""Names of attention in transformers 5 as those in the files of ViT and DINOv2."""


def patch_size(config: HfConfig) -> int:
    """Return the side of a patch.

    Raises:
        ConvertError: patches aren't square.
    """
    size = config.get("patch_size")
    sides = set(size) if isinstance(size, list) else {size}
    if len(sides) != 1:
        raise config.refuse("patch_size", size, "patches are square")
    side: int = sides.pop()
    return side


def vision_table(
    config: HfConfig, *, prefix: int, scaling: Table | None = None, **embed: object
) -> Table:
    """Return the keys of a vision model's table that say how it reads pictures.

    Args:
        config: the config.
        prefix: tokens with a position in front of the patches.
        scaling: mean and deviation of red, green and blue, for pictures that have them.
        embed: further keys of `embed`.
    """
    size, image, channels = patch_size(config), image_size(config), config.get("num_channels")
    if scaling is not None and channels == len(scaling["mean"]):
        embed |= scaling
    return {
        "kind": "vision",
        "vocab_size": 256,
        "image_size": image,
        "embed": {
            "kind": "patches",
            "size": size,
            "channels": channels,
            "class_token": prefix > 0,
            "distillation_token": prefix > 1,
            **embed,
        },
        "position": {
            "kind": "grid",
            "rows": image[0] // size,
            "columns": image[1] // size,
            "prefix": prefix,
        },
    }


def block(config: HfConfig, ffn: Table, *, dropout: str, bias: bool = True) -> Table:
    """Return the table of a block with norms in front, attention and `ffn`."""
    return {
        "placement": "pre",
        "norm": norm(config),
        "mixer": {
            "kind": "attention",
            "n_heads": config.get("num_attention_heads"),
            "bias": bias,
            "out_bias": True,
            "dropout": float(config.get(dropout)),
        },
        "ffn": ffn,
    }


def norm(config: HfConfig) -> Table:
    """Return the table of the norms."""
    return {"kind": "layer_norm", "eps": config.get("layer_norm_eps")}


def mlp(config: HfConfig, hidden_dim: int) -> Table:
    """Return the table of a plain network."""
    return {
        "kind": "mlp",
        "hidden_dim": hidden_dim,
        "activation": config.activation("hidden_act"),
        "bias": True,
    }


def patch_rows(config: HfConfig, theirs: str) -> list[Row]:
    """Return the row of the patches' projection."""
    return [
        Row("embed.project", theirs, PatchKernel(patch_size(config), config.get("num_channels")))
    ]


def token_rows(config: HfConfig, *pairs: tuple[str, str]) -> list[Row]:
    """Return rows of vectors that files hold as `[1, 1, D]`."""
    dim = config.get("hidden_size")
    return [Row(ours, theirs, Reshape((1, 1, dim), (dim,))) for ours, theirs in pairs]


def grid_row(config: HfConfig, theirs: str, prefix: int) -> Row:
    """Return the row of positions that files hold as `[1, N, D]`."""
    dim, size, image = config.get("hidden_size"), patch_size(config), image_size(config)
    count = prefix + (image[0] // size) * (image[1] // size)
    return Row("position.table.weight", theirs, Reshape((1, count, dim), (count, dim)))


def task(config: HfConfig, *tasks: str) -> str:
    """Return the suffix of the saved class; the first of `tasks` if the config names no class.

    Raises:
        ConvertError: a class that isn't built.
    """
    name = config.architecture
    if not name:
        return tasks[0]
    match = re.search(r"(For[A-Z]\w+|ModelWithProjection|Model)$", name)
    if match is None or match[1] not in tasks:
        raise ConvertError(
            f"{config.where}: architectures = ['{name}'] isn't built; of this family are: "
            f"{', '.join(tasks)}."
        )
    return match[1]


def labels(view: FlatModel) -> Table:
    """Return the names of the classes of a classifier."""
    count = view.get("pool.n_classes")
    return {} if count is MISSING or count is None else label_names(count)


def square(view: FlatModel) -> Any:
    """Return `image_size` as one number where pictures are square."""
    height, width = view.get("image_size")
    return height if height == width else [height, width]


KEYS: dict[str, PathOrFn] = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "block.mixer.n_heads",
    "hidden_act": activation("block.ffn.activation"),
    "layer_norm_eps": "block.norm.eps",
    "image_size": square,
    "patch_size": "embed.size",
    "num_channels": "embed.channels",
}
"""Keys that the configs of all vision towers have."""
