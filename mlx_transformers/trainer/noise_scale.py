"""The gradient noise scale: how many tokens a step can learn from before more of them add little.

McCandlish et al. 2018, appendix A.1: gradients of a small and of a large batch differ in norm by
their noise, so the norms of both give |G|² of the true gradient and the trace S of its covariance.
"""

import mlx.core as mx

from ..core.tree import Tree
from ..optim.clip import global_norm


class NoiseScale:
    """Measures |G|² and S from the microbatches of a step, without bias; each alone is noisy.

    Their ratio S / |G|², in tokens, is meaningful for means over many steps.
    """

    def microbatch(self, grads: Tree, weight: mx.array) -> mx.array:
        """Return the squared norm of a microbatch's mean gradient, and 1: float32 [2]; to be added
        up."""
        square = mx.square(global_norm(grads) / mx.maximum(weight, 1.0))
        return mx.stack([square, mx.array(1.0)])

    def __call__(
        self, sums: mx.array, norm: mx.array, weight: mx.array, scale: mx.array
    ) -> dict[str, mx.array]:
        """Return `grad_signal`, |G|², and `grad_noise`, S in tokens.

        Args:
            sums: the sum of `microbatch` over a step.
            norm: the norm of the step's mean gradient, before clipping.
            weight: tokens of the step.
            scale: the divisor of the sum of gradients, the loss scale included.
        """
        count = sums[1]
        small = sums[0] / count * mx.square(weight / scale)
        large = mx.square(norm)
        return {
            "grad_signal": (count * large - small) / (count - 1),
            "grad_noise": (small - large) * weight / (count - 1),
        }
