"""Pointwise nonlinearities by name."""

import math
from collections.abc import Callable

import mlx.core as mx


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
    return x * mx.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))


def silu(x: mx.array) -> mx.array:
    """`x sigmoid(x)` (Elfwing et al. 2017; Swish-1 of Ramachandran et al. 2017)."""
    return x * mx.sigmoid(x)


def identity(x: mx.array) -> mx.array:
    """`x`: with a gate, the bilinear unit (Dauphin et al. 2017)."""
    return x


ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
    "relu2": relu2,
    "sigmoid": mx.sigmoid,
    "identity": identity,
}
