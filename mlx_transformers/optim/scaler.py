"""Dynamic loss scaling, so that small gradients do not underflow in float16."""

import mlx.core as mx


class LossScaler:
    """Loss scale that grows while gradients stay finite (Micikevicius et al. 2018, section 3.2).

    The loss is multiplied by `scale` before the backward pass and the gradients are divided by it
    after. `growth_interval` finite updates in a row double the scale; an update that is not finite
    halves it and is skipped. Powers of two are exact. `state` holds all of it as arrays: capture it
    in `mx.compile`, and save it with the optimizer.
    """

    def __init__(
        self,
        initial: float = 2.0**15,
        growth_interval: int = 2000,
        least: float = 1.0,
        greatest: float = 2.0**24,
    ) -> None:
        if not 0.0 < least <= initial <= greatest:
            raise ValueError(
                f"A loss scale of {initial:g} is not between {least:g} and {greatest:g}."
            )
        self.growth_interval = growth_interval
        self.least = least
        self.greatest = greatest
        self.state = {
            "scale": mx.array(initial, mx.float32),
            "good_steps": mx.array(0, mx.int32),
        }

    @property
    def scale(self) -> mx.array:
        """The current loss scale, a float32 scalar."""
        return self.state["scale"]

    def scale_loss(self, loss: mx.array) -> mx.array:
        """Return the scaled loss, in float32: float16 would overflow."""
        return loss.astype(mx.float32) * self.scale

    def update(self, finite: mx.array) -> None:
        """Double or halve the scale, by whether this update was `finite` (a bool scalar)."""
        scale = self.scale
        good = mx.where(finite, self.state["good_steps"] + 1, 0)
        grown = mx.where(good >= self.growth_interval, scale * 2.0, scale)
        scale = mx.where(finite, grown, scale * 0.5)
        self.state["scale"] = mx.clip(scale, self.least, self.greatest)
        self.state["good_steps"] = mx.where(good >= self.growth_interval, 0, good)
