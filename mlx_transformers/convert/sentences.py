"""What sentence-transformers puts beside an encoder: how a text becomes one vector.

`modules.json` lists the encoder, a pooling and perhaps a normalisation, each with a folder of its
own; Reimers & Gurevych 2019.
"""

from pathlib import Path
from typing import Any

from ..core.errors import ConvertError
from ..core.parse import read_json
from .config import HfConfig, read_config

Table = dict[str, Any]
MODULES = "modules.json"
READS = {
    "pooling_mode_cls_token": "first",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
"""Their poolings, and which vector ours reads."""


def sentence_pool(folder: Path) -> Table | None:
    """The table of the pool that a folder's modules describe; None where it has none.

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
    """Which vector a pooling reads.

    Raises:
        ConvertError: none, several, or one that isn't built.
    """
    config.ignore("word_embedding_dimension", "embedding_dimension", "include_prompt")
    if (mode := config.get("pooling_mode", None)) is not None:
        found = {"cls": "first", "mean": "mean", "lasttoken": "last"}.get(mode)
        if found is None:
            raise config.refuse("pooling_mode", mode)
        return found
    chosen = [ours for key, ours in READS.items() if config.get(key, False)]
    for key, value in config.data.items():
        if key.startswith("pooling_mode") and key not in READS and value:
            raise config.refuse(key, value)
    if len(chosen) != 1:
        raise ConvertError(f"{config.where} chooses {len(chosen)} poolings; one is built.")
    return chosen[0]
