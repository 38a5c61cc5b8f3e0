"""What a family of published models is: two functions and some data, one file each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .config import HfConfig
from .weights import Row

Table = dict[str, Any]

BUFFERS = (
    r"\.rotary_emb\.inv_freq$",
    r"\.rotary_emb\.(cos|sin)_cached$",
    r"(^|\.)position_ids$",
    r"\.num_batches_tracked$",
)
"""Buffers that old files of any family hold, and that follow from the config."""


@dataclass(frozen=True)
class Family:
    """A family of models that share a config class and a layout of tensors.

    Attributes:
        model_types: the `model_type`s of config.json that it reads.
        architecture: the class that an exported model opens in.
        model: the config as the `[model]` table of a recipe.
        weights: the weight map of a model with this config.
        config: the inverse of `model`: a settled `[model]` table as a config of this family, as far
            as the family can say it.
        renames: regular expressions and replacements that turn names of published files into
            those that transformers saves today: a missing prefix, `gamma` for `weight`.
        dropped: regular expressions of buffers that say nothing, beside `BUFFERS`.
        spare: regular expressions of tensors that files hold beside a model that has no place for
            them: heads of the pretraining, the pooler of an encoder that is asked for words.
        tied: regular expressions of second names of tied tensors in a file, and the first.
    """

    model_types: tuple[str, ...]
    architecture: str
    model: Callable[[HfConfig], Table]
    weights: Callable[[HfConfig], Sequence[Row]]
    config: Callable[[Table], Table]
    renames: tuple[tuple[str, str], ...] = ()
    dropped: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    tied: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return self.model_types[0]


def read(family: Family, config: HfConfig) -> tuple[Table, Sequence[Row]]:
    """The model table and the weight map of a config, every option of it accounted for.

    Raises:
        ConvertError: an option that isn't built.
    """
    table, weights = family.model(config), family.weights(config)
    config.finish()
    return table, weights


def prefixed(prefix: str, *others: str) -> tuple[str, str]:
    """A rename that puts `prefix` before names that begin with neither it nor any of `others`."""
    known = "|".join(other.replace(".", r"\.") for other in (prefix, *others))
    return (rf"^(?!{known})", prefix)
