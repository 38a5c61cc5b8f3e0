"""Pointwise nonlinearities by name.

The plain formulas are the definitions. On the CPU those with an exponential get a backward pass
that recomputes it rather than saving it: `mx.compile` fuses and vectorises an exponential
beside other arithmetic, and does neither for one whose result is used in both passes. For the
same reason the second computation spells the logistic function out, `1 / (1 + exp(-x))`:
spelt alike, the two would be merged.
"""

import math
from collections.abc import Callable

import mlx.core as mx

from .custom_vjp import custom_vjp
from .device import on_cpu

Pointwise = Callable[[mx.array], mx.array]
SLOPE = 2 * math.sqrt(2 / math.pi)
CUBIC = 0.044715
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
"""λ and α for which mean 0 and variance 1 are a fixed point."""


def relu(x: mx.array) -> mx.array:
    """`max(x, 0)` (Nair and Hinton 2010)."""
    return mx.maximum(x, 0)


def relu2(x: mx.array) -> mx.array:
    """`max(x, 0)^2` (Primer, So et al. 2021, section 4.2)."""
    return mx.square(mx.maximum(x, 0))


def gelu(x: mx.array) -> mx.array:
    """`x Phi(x)`, Phi the normal distribution function (Hendrycks and Gimpel 2016)."""
    return x * (1 + mx.erf(x * math.sqrt(0.5))) * 0.5


def gelu_tanh(x: mx.array) -> mx.array:
    """GELU with the tanh approximation (Hendrycks and Gimpel 2016, section 2), as in GPT-2.

    `0.5 (1 + tanh u)` is written `sigmoid(2u)`, which is the same and much cheaper.
    """
    return x * mx.sigmoid(SLOPE * (x + CUBIC * x * x * x))


def gelu_quick(x: mx.array) -> mx.array:
    """`x sigmoid(1.702 x)` (Hendrycks and Gimpel 2016, section 2), as in CLIP."""
    return x * mx.sigmoid(1.702 * x)


def silu(x: mx.array) -> mx.array:
    """`x sigmoid(x)` (Elfwing et al. 2017; Swish-1 of Ramachandran et al. 2017)."""
    return x * mx.sigmoid(x)


def elu(x: mx.array) -> mx.array:
    """`x` where positive, else `exp(x) - 1` (Clevert et al. 2015, equation 15, α = 1)."""
    return mx.where(x > 0, x, mx.expm1(mx.minimum(x, 0)))


def selu(x: mx.array) -> mx.array:
    """`λ x` where positive, else `λ α (exp(x) - 1)` (Klambauer et al. 2017, equation 2)."""
    return SELU_SCALE * mx.where(x > 0, x, SELU_ALPHA * mx.expm1(mx.minimum(x, 0)))


def mish(x: mx.array) -> mx.array:
    """`x tanh(log(1 + exp(x)))` (Misra 2019)."""
    return x * mx.tanh(mx.logaddexp(x, mx.zeros_like(x)))


def sigmoid(x: mx.array) -> mx.array:
    """`1 / (1 + exp(-x))`: with a gate, the first gated linear unit (Dauphin et al. 2017)."""
    return mx.sigmoid(x)


def tanh(x: mx.array) -> mx.array:
    """`tanh x`, as in BERT's pooler."""
    return mx.tanh(x)


def identity(x: mx.array) -> mx.array:
    """`x`: with a gate, the bilinear unit (Dauphin et al. 2017, section 5.2)."""
    return x


PLAIN: dict[str, Pointwise] = {
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "gelu_quick": gelu_quick,
    "silu": silu,
    "relu2": relu2,
    "elu": elu,
    "selu": selu,
    "mish": mish,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "identity": identity,
}


def _logistic(x: mx.array) -> mx.array:
    return 1 / (1 + mx.exp(-x))


def _sigmoid_again(x: mx.array) -> tuple[mx.array, mx.array]:
    s = _logistic(x)
    return s, s * (1 - s)


def _silu_again(x: mx.array) -> tuple[mx.array, mx.array]:
    s = _logistic(x)
    return x * s, s * (1 + x * (1 - s))


def _gelu_tanh_again(x: mx.array) -> tuple[mx.array, mx.array]:
    s = _logistic(SLOPE * (x + CUBIC * x * x * x))
    return x * s, s * (1 + x * (1 - s) * (SLOPE + 3 * SLOPE * CUBIC * x * x))


AGAIN: dict[str, Callable[[mx.array], tuple[mx.array, mx.array]]] = {
    "sigmoid": _sigmoid_again,
    "silu": _silu_again,
    "gelu_tanh": _gelu_tanh_again,
}
"""Value and derivative at once, for a backward pass that saves only its input."""


def recomputing(name: str) -> Pointwise:
    """The activation `name` of `AGAIN`, with a backward pass that recomputes it."""
    return custom_vjp(PLAIN[name], lambda x, cotangent, _: cotangent * AGAIN[name](x)[1])


def _best(name: str) -> Pointwise:
    """The activation `name` in the fastest form for the device."""
    if name not in AGAIN:
        return PLAIN[name]
    again = recomputing(name)

    def activation(x: mx.array) -> mx.array:
        return again(x) if on_cpu() else PLAIN[name](x)

    activation.__name__, activation.__doc__ = name, PLAIN[name].__doc__
    return activation


ACTIVATIONS: dict[str, Pointwise] = {name: _best(name) for name in PLAIN}
