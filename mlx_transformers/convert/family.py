"""A family of published models: how its config and its tensors are read and written."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import ConvertError, MlxtError
from ..recipe.merge import Table as Table
from .config import HfConfig, check_sizes
from .rows import Row

BUFFERS = (
    r"\.rotary_emb\.inv_freq$",
    r"\.rotary_emb\.(cos|sin)_cached$",
    r"(^|\.)position_ids$",
    r"\.num_batches_tracked$",
)
"""Buffers in old files of any family, which follow from the config."""


OTHER_HEADS = re.compile(
    "For(SequenceClassification|TokenClassification|QuestionAnswering|MultipleChoice)$"
    "|DoubleHeadsModel$"
)
"""Class names of decoders with the head of a task."""


@dataclass(frozen=True)
class Family:
    """A family of models that share a config class and a layout of tensors.

    Attributes:
        model_types: the `model_type`s of config.json that it reads.
        architecture: the class that an exported model opens in.
        model: turns a config into the `[model]` table of a recipe.
        weights: the weight map of a model with this config.
        config: the inverse of `model`: turns a resolved `[model]` table into a config of this
            family; it may leave out or change what the family lacks.
        defaults: defaults that differ from the declared ones of the reference config class:
            the class derives them, or older files mean another.
        renames: regular expressions and replacements that turn tensor names of published files
            into those that transformers saves today: a missing prefix, `gamma` for `weight`.
        dropped: regular expressions of buffers that carry no information, beside `BUFFERS`.
        spare: regular expressions of tensors that files hold and the model doesn't use: heads of
            the pretraining, the pooler of a masked language model.
        tied: regular expressions of second names of tied tensors in a file, and the first.
        offset: regular expressions of norm weights to which mlx-lm's files add 1.
    """

    model_types: tuple[str, ...]
    architecture: str
    model: Callable[[HfConfig], Table]
    weights: Callable[[HfConfig], Sequence[Row]]
    config: Callable[[Table], Table]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    renames: tuple[tuple[str, str], ...] = ()
    dropped: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    tied: tuple[tuple[str, str], ...] = ()
    offset: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.model_types[0]

    def table(self, config: HfConfig) -> Table:
        """Return the `[model]` table of a config, with the family's defaults.

        Raises:
            ConvertError: an option that isn't built.
        """
        config.assume(self.defaults)
        with readable(config, self.name):
            table = self.model(config)
        if table.get("kind") == "decoder" and OTHER_HEADS.search(config.architecture):
            raise ConvertError(
                f"{config.where}: the head of {config.architecture} isn't built for decoders; "
                "export the base with its ForCausalLM class."
            )
        return table


WRONG = (
    *(TypeError, ValueError, ArithmeticError, LookupError, AttributeError),
    *(StopIteration, RuntimeError),
)
"""Errors of code that gets a value of another type or size than a config has."""


@contextmanager
def readable(config: HfConfig, family: str) -> Iterator[None]:
    """Turn errors of values that no config of a family has into a sentence.

    Raises:
        ConvertError: in their place.
    """
    try:
        yield
    except MlxtError:
        raise
    except WRONG as error:
        raise ConvertError(
            f"{config.where} can't be read as a config of {family}: a key has a value of another "
            f"type or size than it has there ({type(error).__name__}: {error})."
        ) from error


def read(family: Family, config: HfConfig) -> tuple[Table, Sequence[Row]]:
    """Return the model table and the weight map of a config, after checking all of its keys.

    Raises:
        ConvertError: an option that isn't built.
    """
    check_sizes(config.data, config.where)
    table = family.table(config)
    with readable(config, family.name):
        weights = family.weights(config)
    config.finish()
    return table, weights


def prefixed(prefix: str, *others: str) -> tuple[str, str]:
    """Return a rename that adds `prefix` to names that don't begin with it or one of `others`."""
    prefixes = "|".join(text.replace(".", r"\.") for text in (prefix, *others))
    return (rf"^(?!{prefixes})", prefix)
