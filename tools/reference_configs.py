"""Write the keys that the reference config classes and their modelling code read, with defaults.

    PYTHON tools/reference_configs.py        (PYTHON has transformers; torch is not needed)

Makes `mlx_transformers/convert/reference.json`, one line per `model_type`:

* `defaults`: every field of the config class and its declared default, and every further key that
  the family's modelling or configuration code reads (`config.key`, `getattr(config, "key", d)`,
  `kwargs.pop("key", d)`), with the default that the code names. Keys without effect on outputs
  (`NO_EFFECT` in convert/config.py) are left out unless a family needs them.
* `aliases`: second names of keys (`attribute_map`).

The line "rope" has the keys of rope tables: those of `RopeParameters`, and those that modelling
code reads from such a table.

A default that a class derives from other keys is null here: the family's reader derives it.
"""

import ast
import dataclasses
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transformers
from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers.modeling_rope_utils import RopeParameters

from mlx_transformers.convert.config import NO_EFFECT
from mlx_transformers.convert.registry import FAMILIES

ROOT = Path(__file__).parents[1]
MODELS = Path(inspect.getfile(transformers)).parent / "models"
NEEDED = {"pad_token_id"}
"""Keys of `NO_EFFECT` whose default some family needs: the first position of RoBERTa follows it."""
OWN_CLASS = {"internlm3"}
"""Families whose published files bring a config class of their own, with other defaults."""
Keys = dict[str, Any]


def declared(cls: type[PretrainedConfig]) -> Keys:
    """The declared default of every field of a config class; null where a factory makes it."""
    fields = {field.name: field.default for field in dataclasses.fields(cls)}
    keys = {k: None if v is dataclasses.MISSING else v for k, v in fields.items()}
    return keys | (rotation(cls) if "rope_parameters" in keys else {})


def rotation(cls: type[PretrainedConfig]) -> Keys:
    """The rotary positions that a class assumes: its table where it isn't the plain one, and the
    keys of older files."""
    table, theta = cls().rope_parameters or {}, cls.default_theta
    nested = any(isinstance(value, dict) for value in table.values())
    plain_table = nested or table.get("rope_type", "default") == "default"
    keys: Keys = {"rope_parameters": None if plain_table else table, "rope_scaling": None}
    if isinstance(theta, dict):
        keys |= {"rope_theta": theta["global"], "rope_local_base_freq": theta["local"]}
    else:
        keys["rope_theta"] = theta
    share = table.get("partial_rotary_factor")
    return keys | ({} if share is None else {"partial_rotary_factor": share})


def read_by(path: Path) -> Iterator[tuple[str, Any]]:
    """The config keys that a source file reads, with the default that it names."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and _is_config(node.value):
            yield node.attr, None
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id == "getattr":
            of_config = node.args and _is_config(node.args[0])
            found = node.args[1:] if of_config else []
        elif isinstance(node.func, ast.Attribute) and node.func.attr in (
            "pop",
            "get",
            "setdefault",
        ):
            named = isinstance(node.func.value, ast.Name) and node.func.value.id == "kwargs"
            found = node.args if named and path.name.startswith("configuration") else []
        else:
            continue
        if found and isinstance(found[0], ast.Constant) and isinstance(found[0].value, str):
            literal = len(found) > 1 and isinstance(found[1], ast.Constant)
            yield found[0].value, found[1].value if literal else None


def _is_config(node: ast.expr) -> bool:
    named = isinstance(node, ast.Name) and node.id == "config"
    return named or (isinstance(node, ast.Attribute) and node.attr == "config")


def lines_of(model_type: str) -> Iterator[tuple[str, dict[str, Keys]]]:
    """The line of a `model_type`, and those of the tables inside its config."""
    cls = CONFIG_MAPPING[model_type]
    yield model_type, keys_of(cls)
    for name, inner in cls.sub_configs.items():
        if not dataclasses.is_dataclass(inner):
            continue  # a tower of any family, whose own line says its keys
        yield f"{model_type}.{name}", keys_of(inner)


def keys_of(cls: type[PretrainedConfig]) -> dict[str, Keys]:
    """The keys of a config class."""
    common = {name for name in dir(PretrainedConfig) if not name.startswith("__")}
    common |= set(PretrainedConfig().to_dict()) | (NO_EFFECT - NEEDED)
    keys = declared(cls)
    folder = Path(inspect.getfile(cls)).parent
    for path in (*folder.glob("configuration_*.py"), *folder.glob("modeling_*.py")):
        for key, default in read_by(path):
            if key not in keys or (keys[key] is None and default is not None):
                keys.setdefault(key, default)
    aliases = {key: real for key, real in cls.attribute_map.items() if real != key}
    for alias, real in aliases.items():
        keys.setdefault(real, keys.get(alias))
    keep = {k: v for k, v in keys.items() if k not in common and k not in aliases}
    keep = {k: v for k, v in keep.items() if not k.startswith("__") and plain(v)}
    return {"defaults": keep, "aliases": aliases}


def rope_keys() -> dict[str, Keys]:
    """The keys of rope tables."""
    found = {*RopeParameters.__annotations__, "type"}
    for path in MODELS.glob("*/model*_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            table = node.value if isinstance(node, ast.Subscript) else None
            key = node.slice if isinstance(node, ast.Subscript) else None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                table, key = node.func.value, node.args[0]
            named = isinstance(table, ast.Attribute) and table.attr == "rope_parameters"
            if named and isinstance(key, ast.Constant) and isinstance(key.value, str):
                found.add(key.value)
    return {"defaults": dict.fromkeys(sorted(found)), "aliases": {}}


def plain(value: Any) -> bool:
    """Whether a default can be written as JSON."""
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def main() -> None:
    names = sorted(name for family in FAMILIES for name in family.model_types)
    # one line each, so that a change of transformers is a change of lines
    lines = [
        f"{json.dumps(key)}: {json.dumps(keys)}"
        for name in names
        if name in CONFIG_MAPPING and name not in OWN_CLASS
        for key, keys in lines_of(name)
    ]
    lines.append(f'"rope": {json.dumps(rope_keys())}')
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    (ROOT / "mlx_transformers" / "convert" / "reference.json").write_text(text, "utf-8")
    print(
        f"{len(lines)} config classes of {len(names)} model types; not in transformers:",
        ", ".join(name for name in names if name not in CONFIG_MAPPING) or "none",
    )


if __name__ == "__main__":
    main()
