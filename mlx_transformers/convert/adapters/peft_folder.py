"""The content of PEFT's folders, and the weights of the base that they hold trained."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ...core.errors import ConvertError
from .layout import Arrays, Layout, Opened

ORIGINAL = ".original_module."
"""Part of the names of a module's copy from before training, which computes nothing."""
TOKENS = ".trainable_tokens_delta"
"""End of the names of trained rows."""
WRAPPERS = re.compile(r"\.(base_layer|modules_to_save(\.default)?|ln_tuning_layers)(?=\.)")
"""Parts of names that PEFT's wrappers add."""


@dataclass(frozen=True)
class PeftFolder:
    """The content of a folder.

    Attributes:
        config: its adapter_config.json.
        tensors: by name, without PEFT's prefix.
        where: the folder, for errors.
        layout: the names of the base.
        base: the base's weights by our path.
    """

    config: Mapping[str, Any]
    tensors: Arrays
    where: str
    layout: Layout
    base: Arrays


def of_module(config: Mapping[str, Any], key: str, module: str, usual: float) -> float:
    """The number that the first pattern in the table `key` gives a module, or the usual one."""
    for pattern, value in (config.get(key) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return float(value)
    return float(usual)


def with_trained(
    folder: PeftFolder, table: dict[str, Any], weights: Arrays, rest: Arrays
) -> Opened:
    """Add weights of the base that were trained, or saved though they were not."""
    tensors = {
        WRAPPERS.sub("", name): array for name, array in rest.items() if ORIGINAL not in name
    }
    rows = _trained_rows(folder, tensors)
    trained = folder.layout.whole(tensors, folder.where) | rows
    changed = {
        path: array
        for path, array in trained.items()
        if array.shape != folder.base[path].shape
        or not bool(mx.array_equal(array, folder.base[path]))
    }
    for path, array in changed.items():
        if array.shape != folder.base[path].shape:
            raise ConvertError(
                f"{folder.where}: {path} has the shape {list(array.shape)}, and the base "
                f"{list(folder.base[path].shape)}: the vocabulary was resized. Merge the adapter "
                "in PEFT, and import the result."
            )
    adapted = {path for path in changed if path.removesuffix(".weight") in _targets(weights)}
    moved = {_in_adapted(path, weights): array for path, array in changed.items()}
    if adapted:
        raise ConvertError(
            f"{folder.where}: {min(adapted)} is saved with other numbers than the base has, and "
            "adapted too. Merge the adapter in PEFT, and import the result."
        )
    table_path = "embed.table.weight"
    tied = "head.weight" not in folder.base and table_path in changed and table_path not in rows
    if tied and not folder.config.get("ensure_weight_tying"):
        raise ConvertError(
            f"{folder.where}: the embedding was trained (modules_to_save) apart from the head that "
            "the base ties to it. Merge the adapter in PEFT with tie_word_embeddings = false, and "
            "import the result."
        )
    if changed:
        table = table | {"train": sorted(changed)}
    return Opened(table, weights | moved)


def _trained_rows(folder: PeftFolder, tensors: Arrays) -> Arrays:
    """Take trained rows of tables out of the tensors, and return the tables with them.

    Raises:
        ConvertError: the config doesn't say which tokens they are of, or names one that the table
            doesn't have.
    """
    trained: Arrays = {}
    for name in [name for name in tensors if name.endswith(TOKENS)]:
        module = name.removesuffix(TOKENS).removesuffix(".token_adapter")
        tokens = folder.config.get("token_indices") or folder.config.get("trainable_token_indices")
        if isinstance(tokens, Mapping):
            tokens = next(
                (indices for key, indices in tokens.items() if module.endswith(key)), None
            )
        rows = tensors.pop(name).astype(mx.float32)
        if tokens is None or len(tokens) != len(rows):
            raise ConvertError(
                f"{folder.where}: {name} has {len(rows)} rows, and the config names "
                f"{len(tokens or ())} tokens of them."
            )
        path = folder.layout.move(f"{module}.weight", folder.where).ours[0]
        table = mx.array(folder.base[path])
        _check_tokens(tokens, len(table), folder.where)
        table[mx.array(tokens)] = rows
        trained[path] = table
        tensors.pop(f"{module}.weight", None)  # the table before training
    return trained


def _check_tokens(tokens: Sequence[Any], n_rows: int, where: str) -> None:
    """Refuse ids that are no row of a table, which MLX would write outside of it."""
    for token in tokens:
        if type(token) is not int or not 0 <= token < n_rows:
            raise ConvertError(
                f"{where}: the config names the trained token {token!r}, and the table has the "
                f"rows 0 to {n_rows - 1}. Import the adapter on the base that it was trained on."
            )


def _targets(weights: Arrays) -> set[str]:
    return {name.split(".adapter.")[0] for name in weights if ".adapter." in name}


def _in_adapted(path: str, weights: Arrays) -> str:
    """The path of a base's parameter in the adapted model."""
    module, _, leaf = path.rpartition(".")
    return f"{module}.base.{leaf}" if module in _targets(weights) else path
