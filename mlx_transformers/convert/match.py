"""Finds the published family of a model: the one whose config reads back as the same table."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ..core.errors import ConvertError, MlxtError
from .config import HfConfig
from .family import Family, Table
from .flat_model import flatten
from .registry import FAMILIES, family_of

TRAINING = frozenset(
    (
        *("init", "dropout", "balance_loss", "balance_over", "z_loss", "jitter", "speed"),
        *("ahead", "teacher_dim", "chunk", "mean", "std", "log_scale", "max_scale"),
    )
)
"""Keys that only affect training, or how raw pixels are scaled before it; a family's config may
lack them."""

ZEROS = frozenset({"bias", "out_bias", "n_types"})
"""Keys of added vectors: a family may have more, filled with zeros."""

PREFERRED = (
    *("gpt2", "llama", "mistral", "mixtral", "qwen2", "qwen3", "gptj", "gpt_neox", "opt", "falcon"),
    *("phi", "phi3", "distilbert", "bert", "roberta", "t5", "bart", "qwen3_next"),
)
"""Order of preference where several families are the same model: those that most tools know first.

LLaMA goes before Qwen 2, which only adds biases (zeros here): beside a Qwen 2 transformers
replaces the pre-tokenizer of any tokenizer by Qwen's own.
"""

NOT_THIS_FAMILY = (MlxtError, LookupError, TypeError, ValueError, ArithmeticError)
"""Errors of a family's writer or reader on a model of another shape."""

Settle = Callable[[Table], Table]
"""Fills in every default of a `[model]` table."""


def match(table: Table, settle: Settle, came_with: Table | None = None) -> tuple[Family, HfConfig]:
    """Return the family of a model, and its config.

    Args:
        table: the `[model]` table, settled.
        settle: see `Settle`.
        came_with: the config.json that the model was imported with, taken if it still describes it.

    Raises:
        ConvertError: no family matches; names the differences from the nearest one.
    """
    if came_with is not None:
        config = HfConfig(came_with)
        family = family_of(config)
        if not differences(table, settle(family.table(config))):
            return family, HfConfig(came_with)
    nearest: tuple[int, str, list[str]] | None = None
    for family in sorted(FAMILIES, key=_place):
        written = write_config(family, table)
        back = None if written is None else reread(family, written, settle)
        if written is None or back is None or back["kind"] != table["kind"]:
            continue
        missing = differences(table, back)
        if not missing:
            return family, HfConfig(written)
        if nearest is None or len(missing) < nearest[0]:
            nearest = (len(missing), HfConfig(written).architecture, missing)
    if nearest is None:
        raise ConvertError(f"Models of the kind '{table['kind']}' can't be exported to any family.")
    raise ConvertError(
        f"No family that can be exported is this model. {nearest[1]} comes nearest, but not in "
        f"{'; '.join(nearest[2][:4])}."
    )


def _place(family: Family) -> int:
    return PREFERRED.index(family.name) if family.name in PREFERRED else len(PREFERRED)


def write_config(family: Family, table: Table) -> Table | None:
    """Return a model as a config of this family; None if its shape is another."""
    try:
        config = family.config(table)
    except NOT_THIS_FAMILY:
        return None
    return {"architectures": [family.architecture], "model_type": family.name, **config}


def reread(family: Family, config: Table, settle: Settle) -> Table | None:
    """Return the resolved table of a written config; None if the family refuses it, or if sizes
    that it lacks make others impossible."""
    try:
        table = settle(family.table(HfConfig(config)))
        flatten(table)
    except NOT_THIS_FAMILY:
        return None
    return table


def differences(table: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> list[str]:
    """Return where `other` can't compute what `table` does, each as `path = one, not other`."""
    if not path:
        table, other = flatten(table), flatten(other)
    lines: list[str] = []
    for key in [*table, *(key for key in other if key not in table)]:
        a, b = table.get(key), other.get(key)
        where = f"{path}.{key}" if path else key
        if key in TRAINING or _same(a, b) or (key in ZEROS and not a):
            continue
        if any(isinstance(value, Mapping) and _trains_only(key, value) for value in (a, b)):
            continue
        if key == "scale" and scale_folds(table) and scale_folds(other):
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, where)
        elif key == "layers" and a and b and len(a) == len(b):
            block = where.removesuffix("layers") + "block"
            pairs = zip(a, b, strict=True)
            lines += [line for pair in pairs for line in differences(*pair, block)]
        else:
            lines.append(f"{where} = {_short(a)}, not {_short(b)}")
    return list(dict.fromkeys(lines))


def scale_folds(mixer: Mapping[str, Any]) -> bool:
    """Whether the scale of the scores can move into the query weights: no norm, no clipping."""
    plainly = mixer.get("kind") in ("attention", "cross_attention")
    return plainly and not mixer.get("qk_norm") and not mixer.get("clip")


def _same(one: object, two: object) -> bool:
    if isinstance(one, float) and isinstance(two, int | float):
        return math.isclose(one, two, rel_tol=1e-9)  # a config may hold 1/x of ours
    return bool(one == two)


def _trains_only(key: str, table: Mapping[str, Any]) -> bool:
    """Whether a table affects training alone: skipped layers, and slots without an eval_factor."""
    if key == "depth":
        return table.get("kind") == "layer_drop"
    return key == "slots" and "factor" in table and table.get("eval_factor") is None


def _short(value: object) -> str:
    text = repr(value)
    if isinstance(value, Mapping):
        text = f"kind {value['kind']!r}" if "kind" in value else "a table"
    return text if len(text) < 60 else f"{text[:57]}..."
