"""`matrix(layer)` is the weight that the layer's own call multiplies by."""

import mlx.core as mx
import mlx.nn as nn
import pytest

from mlx_transformers.layers.ffns.expert import ResidualExpertLinear
from mlx_transformers.layers.linear import ResidualLinear, WritesResidual, matrix
from mlx_transformers.layers.parameter import parameters_of


class Doubled(nn.Module):
    """A wrapper that changes the weight of the layer inside."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner

    def matrix(self) -> mx.array:
        return 2 * matrix(self.inner)

    def __call__(self, x: mx.array) -> mx.array:
        return x @ self.matrix().T


LAYERS = {
    "linear": lambda: nn.Linear(64, 32, bias=False),
    "residual": lambda: ResidualLinear(64, 32, bias=False),
    "quantized": lambda: nn.Linear(64, 32, bias=False).to_quantized(group_size=32, bits=4),
    "quantized, mxfp4": lambda: nn.Linear(64, 32, bias=False).to_quantized(mode="mxfp4"),
    "adapted": lambda: Doubled(nn.Linear(64, 32, bias=False)),
    "adapted twice": lambda: Doubled(Doubled(nn.Linear(64, 32, bias=False))),
}


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_what_the_layer_multiplies_by(name: str) -> None:
    layer, x = LAYERS[name](), mx.random.normal((5, 64), key=mx.random.key(0))
    assert matrix(layer).shape == (32, 64)
    assert mx.allclose(x @ matrix(layer).T, layer(x), atol=1e-5)


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_of_a_quantized_table_are_its_embeddings(bits: int) -> None:
    table = nn.Embedding(16, 64).to_quantized(bits=bits)
    tokens = mx.array([3, 1, 15])
    assert mx.allclose(matrix(table)[tokens], table(tokens), atol=1e-6)


def test_a_stack_of_experts_has_one_matrix_each() -> None:
    experts = ResidualExpertLinear(3, 4, 5, bias=True)
    assert matrix(experts).shape == (3, 5, 4)
    assert isinstance(experts, WritesResidual)
    roles = {each.name: (each.role, each.writes_residual) for each in parameters_of(experts)}
    assert roles == {"weight": ("matrix", True), "bias": ("bias", False)}


def test_a_layer_without_a_matrix_is_an_error() -> None:
    with pytest.raises(TypeError, match="RMSNorm has no weight matrix"):
        matrix(nn.RMSNorm(4))
