"""In-context linear regression: each sequence has a linear function of its own."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from .generated import GeneratedCorpus, Settings
from .records import Row


class LinearRegressionSettings(Settings):
    """Settings of `linear_regression`."""

    n_dims: int = Field(4, ge=1, le=64)
    """Dimensions d of the inputs."""
    n_pairs: int = Field(9, ge=1)
    """Inputs of a sequence, each with its value."""
    noise: float = Field(0.0, ge=0)
    """Standard deviation of what is added to the values."""


class LinearRegression(GeneratedCorpus):
    """Inputs and values of a linear function that each sequence draws: x1, y1, x2, y2 and so on.

    `vectors` alternate between `(x, 0)` and `(0, y)`, of d + 1 numbers; `values` has y at each x,
    where it is predicted from the pairs before. x and the function's weights are drawn from a
    normal distribution of variance 1.

    Garg et al. 2022, "What Can Transformers Learn In-Context? A Case Study of Simple Function
    Classes", section 3.
    """

    name = "linear_regression"
    config: ClassVar[type[Settings]] = LinearRegressionSettings
    settings: LinearRegressionSettings

    def example(self, rng: np.random.Generator) -> Row:
        s = self.settings
        weights = rng.standard_normal(s.n_dims)
        x = rng.standard_normal((s.n_pairs, s.n_dims))
        y = x @ weights + s.noise * rng.standard_normal(s.n_pairs)
        vectors = np.zeros((2 * s.n_pairs, s.n_dims + 1))
        vectors[::2, :-1], vectors[1::2, -1] = x, y
        values = [value for number in y for value in (round(float(number), 6), None)]
        return {
            "vectors": vectors.round(6).tolist(),
            "values": values,
            "text": " ".join(f"{number:.6f}" for number in y),
        }
