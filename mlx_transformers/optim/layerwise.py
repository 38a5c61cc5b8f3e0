"""Learning rates by layer, for models that are trained further.

    rate[l] = rate · factor^-n        layer l learns from update every · n        n layers above l

Discriminative fine-tuning (layer-wise learning-rate decay) and gradual unfreezing: Howard & Ruder
2018 (ULMFiT), sections 3.2 and 3.3. Lower layers hold more general features and should change less.
"""

from collections.abc import Callable

import mlx.core as mx

from .kinds import Schedule

RateTransform = Callable[[Schedule], Schedule]
"""A change of the schedule of all parameters into that of one group."""


def unchanged(rate: Schedule) -> Schedule:
    """Return the learning rate as it is."""
    return rate


def layer_rate(above: int, factor: float, every: int | None) -> RateTransform:
    """Return the change of the learning rate of parameters with `above` layers above them."""
    fraction, begins = factor**-above, above * (every or 0)

    def transform(rate: Schedule) -> Schedule:
        def rate_of_layer(step: mx.array) -> mx.array:
            return mx.where(step >= begins, rate(step) * fraction, 0.0)

        return rate_of_layer

    return transform
