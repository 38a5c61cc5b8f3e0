"""Corpora that take settings: the table `data.settings` of a recipe."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ValidationError

from ...core.errors import unknown
from ...recipe.config import Config
from .corpus import Corpus


class Configured(Corpus):
    """A corpus with settings."""

    config: ClassVar[type[Config]]
    """Its settings and their defaults."""
    settings: Any
    """The settings in force, an instance of `config`."""

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self.settings = self.check(settings or {})

    @classmethod
    def check(cls, settings: Mapping[str, Any]) -> Config:
        """Return its settings with `settings` in the place of defaults.

        Raises:
            ValueError: a key that it doesn't have, or a value out of its range.
        """
        fields = cls.config.model_fields
        for key in settings:
            if key not in fields:
                raise ValueError(unknown(f"key of data.settings for '{cls.name}'", key, fields))
        try:
            return cls.config(**settings)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(["data.settings", *map(str, first["loc"])])
            raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}.") from None
