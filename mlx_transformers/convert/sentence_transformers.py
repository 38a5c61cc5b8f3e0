"""Sentence embeddings: the pooling that sentence-transformers stores beside an encoder.

`modules.json` lists the encoder, a pooling and perhaps a normalisation, each with a folder of its
own; Reimers & Gurevych 2019.
"""

from pathlib import Path
from typing import Any

from ..core.errors import ConvertError
from ..core.parse import read_json
from ..recipe.merge import Table
from .config import HfConfig, read_config

MODULES = "modules.json"
READS = {
    "pooling_mode_cls_token": "first",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
"""Key of a pooling to the vector that our pool reads."""


def sentence_pool(folder: Path) -> Table | None:
    """Return the pool that a folder's modules describe; None without modules.

    Raises:
        ConvertError: a module or a pooling that isn't built.
    """
    path = folder / MODULES
    if not path.is_file():
        return None
    try:
        modules: Any = read_json(path)
        listed = [(m["type"].rsplit(".", 1)[-1], m["path"]) for m in modules]
    except (ValueError, KeyError, TypeError) as error:
        raise ConvertError(f"{path} is not a list of modules with a type and a path.") from error
    pool: Table = {"kind": "sentence", "normalize": False}
    for name, place in listed[1:]:
        if name == "Pooling":
            pool["reads"] = reads(read_config(folder / place / "config.json"))
        elif name == "Normalize":
            pool["normalize"] = True
        else:
            raise ConvertError(f"{path}: the module {name} is not built; Pooling, Normalize are.")
    if "reads" not in pool:
        raise ConvertError(f"{path} has no Pooling, so a text has no one vector.")
    return pool


def reads(config: HfConfig) -> str:
    """Return the vector that a pooling reads.

    Raises:
        ConvertError: none, several, or one that isn't built.
    """
    config.ignore("word_embedding_dimension", "embedding_dimension", "include_prompt")
    if (mode := config.optional("pooling_mode")) is not None:
        read = {"cls": "first", "mean": "mean", "lasttoken": "last"}.get(mode)
        if read is None:
            raise config.refuse("pooling_mode", mode)
        return read
    chosen = [ours for key, ours in READS.items() if config.optional(key)]
    for key, value in config.data.items():
        if key.startswith("pooling_mode") and key not in READS and value:
            raise config.refuse(key, value)
    if len(chosen) != 1:
        raise ConvertError(f"{config.where} chooses {len(chosen)} poolings; one is built.")
    return chosen[0]
