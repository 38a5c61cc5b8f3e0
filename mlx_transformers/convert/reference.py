"""Keys and defaults of the reference config classes, by `model_type`.

`tools/reference_configs.py` writes `reference.json` from transformers.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("reference.json")


@cache
def _classes() -> dict[str, dict[str, dict[str, Any]]]:
    classes: dict[str, dict[str, dict[str, Any]]] = json.loads(FILE.read_text("utf-8"))
    return classes


def defaults_of(name: str) -> Mapping[str, Any]:
    """Return the keys of a config class with their declared defaults; empty for an unknown one.

    A default that the class derives from other keys is None.

    Args:
        name: a `model_type`, or "MODEL_TYPE.KEY" for the table under a key.
    """
    return _classes().get(name, {}).get("defaults", {})


def aliases_of(name: str) -> Mapping[str, str]:
    """Return the second names of keys of a config class."""
    return _classes().get(name, {}).get("aliases", {})
