"""Which published family can say a model: the one whose config gives its table back, whole."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ..core.errors import ConvertError, MlxtError
from .config import HfConfig
from .family import Family, Table
from .known import FAMILIES, family_of
from .view import plain

TRAINING = frozenset({"init", "dropout", "balance_loss", "z_loss", "speed", "ahead"})
"""Keys that bear on training alone; a family's config needn't be able to say them."""

ZEROS = frozenset({"bias", "out_bias", "n_types"})
"""Keys of what is added: zeros are nothing, so a family may have more."""

FIRST = (
    *("gpt2", "llama", "mistral", "mixtral", "qwen2", "qwen3", "gptj", "gpt_neox", "opt", "falcon"),
    *("phi", "phi3", "distilbert", "bert", "roberta", "t5", "bart"),
)
"""Where several families are one model, the first of these is meant: those that most tools know.

LLaMA before Qwen 2, from which it differs by biases of zeros: transformers reads any tokenizer
beside a Qwen 2 with Qwen's own cutting of words.
"""

FOREIGN = (MlxtError, LookupError, TypeError, ValueError, ArithmeticError)
"""What a family fails with that is asked for a model of another shape."""

Settle = Callable[[Table], Table]
"""Fills in every default of a `[model]` table."""


def match(table: Table, settle: Settle, came_with: Table | None = None) -> tuple[Family, HfConfig]:
    """The family of a model, and its config.

    Args:
        table: the `[model]` table, settled.
        settle: see `Settle`.
        came_with: the config.json that the model was imported with, taken if it still says it.

    Raises:
        ConvertError: no family can say the model; names what the nearest one can't.
    """
    if came_with is not None:
        config = HfConfig(came_with)
        family = family_of(config)
        if not differences(table, settle(family.model(config))):
            return family, HfConfig(came_with)
    nearest: tuple[int, str, list[str]] | None = None
    for family in sorted(FAMILIES, key=_place):
        said = say(family, table)
        back = None if said is None else read_back(family, said, settle)
        if said is None or back is None or back["kind"] != table["kind"]:
            continue
        missing = differences(table, back)
        if not missing:
            return family, HfConfig(said)
        if nearest is None or len(missing) < nearest[0]:
            nearest = (len(missing), HfConfig(said).architecture, missing)
    if nearest is None:
        raise ConvertError(f"No published family is a model of the kind '{table['kind']}'.")
    raise ConvertError(
        f"No published family is this model. {nearest[1]} comes nearest, but not in "
        f"{'; '.join(nearest[2][:4])}."
    )


def _place(family: Family) -> int:
    return FIRST.index(family.name) if family.name in FIRST else len(FIRST)


def say(family: Family, table: Table) -> Table | None:
    """A model as a config of this family, or None where its shape is another."""
    try:
        said = family.config(table)
    except FOREIGN:
        return None
    return {"architectures": [family.architecture], "model_type": family.name, **said}


def read_back(family: Family, said: Table, settle: Settle) -> Table | None:
    """The settled table of what was said, or None where the family's own reader refuses it."""
    try:
        return settle(family.model(HfConfig(said)))
    except FOREIGN:
        return None


def differences(table: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> list[str]:
    """Where `other` can't compute what `table` does, each as `path = one, not other`."""
    if not path:
        table, other = plain(table), plain(other)
    found: list[str] = []
    for key in [*table, *(key for key in other if key not in table)]:
        one, two = table.get(key), other.get(key)
        where = f"{path}.{key}" if path else key
        if key in TRAINING or _same(one, two) or (key in ZEROS and not one):
            continue
        if key == "scale" and folds(table) and folds(other):
            continue
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            found += differences(one, two, where)
        elif key == "layers" and one and two and len(one) == len(two):
            block = where.removesuffix("layers") + "block"
            pairs = zip(one, two, strict=True)
            found += [line for pair in pairs for line in differences(*pair, block)]
        else:
            found.append(f"{where} = {_short(one)}, not {_short(two)}")
    return list(dict.fromkeys(found))


def folds(mixer: Mapping[str, Any]) -> bool:
    """Whether a factor of the scores may stand in the map of queries as well: nothing norms them,
    and nothing bounds them."""
    plainly = mixer.get("kind") in ("attention", "cross_attention")
    return plainly and not mixer.get("qk_norm") and not mixer.get("clip")


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, float) and isinstance(two, int | float):
        return math.isclose(one, two, rel_tol=1e-9)  # a config may hold 1/x of ours
    return bool(one == two)


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, Mapping) else f"kind {value.get('kind')!r}"
    return text if len(text) < 60 else f"{text[:57]}..."
