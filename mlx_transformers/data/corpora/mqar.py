"""Multi-query associative recall: keys with values, then some keys whose values are asked."""

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from .generated import GeneratedCorpus, Settings, spanned
from .records import Row


class MqarSettings(Settings):
    """Settings of `mqar`."""

    n_pairs: int = Field(8, ge=1)
    """Keys with their values at the start of an example."""
    length: int = Field(64, ge=4)
    """Tokens of an example."""
    vocab_size: int = Field(128, ge=4)
    """Symbols; one half are keys, the other values."""
    power: float = Field(0.01, gt=0)
    """Exponent a of the gaps between a pair and its query, drawn as `gap^(a - 1)`: small values ask
    early."""

    @model_validator(mode="after")
    def _fits(self) -> "MqarSettings":
        if 4 * self.n_pairs > self.length:
            raise ValueError(
                f"{self.n_pairs} pairs and their queries take {4 * self.n_pairs} tokens, more "
                f"than length = {self.length}"
            )
        if self.n_pairs > self.vocab_size // 2:
            raise ValueError(
                f"{self.n_pairs} pairs need as many keys, and half of vocab_size is "
                f"{self.vocab_size // 2}"
            )
        return self


class Mqar(GeneratedCorpus):
    """Multi-query associative recall (Arora et al. 2023, Zoology): values of keys seen before.

    `k3 v9 k1 v4 ... k1 v4 v7 k3 v9`: after the pairs, each key comes once more, at a random place
    among values that mean nothing, followed by its value, which is predicted.
    """

    name = "mqar"
    config: ClassVar[type[Settings]] = MqarSettings
    settings: MqarSettings

    def example(self, rng: np.random.Generator) -> Row:
        s = self.settings
        half = s.vocab_size // 2
        keys = rng.choice(half, s.n_pairs, replace=False)
        values = rng.choice(half, s.n_pairs)
        places = (s.length - 2 * s.n_pairs) // 2
        weight = np.arange(1, places + 1) ** (s.power - 1.0)
        query_places = rng.choice(places, s.n_pairs, replace=False, p=weight / weight.sum())
        by_place = dict(zip(query_places.tolist(), range(s.n_pairs), strict=True))
        parts = []
        for key, value in zip(keys, values, strict=True):
            parts += [(f"k{key}", False), (f"v{value}", False)]
        for place in range(places):
            pair = by_place.get(place)
            if pair is None:
                parts += [(f"v{noise}", False) for noise in rng.choice(half, 2)]
            else:
                parts += [(f"k{keys[pair]}", False), (f"v{values[pair]}", True)]
        return spanned(parts)
