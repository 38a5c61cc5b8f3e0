"""Arrays that a layer leaves for later ones: RWKV-7's values of the first layer."""

from typing import Any

import mlx.core as mx
import pytest
from contract.models import LLAMA
from contract.suite import BATCH, LENGTH, difference, randomize
from mlx.utils import tree_flatten
from pydantic import ValidationError

from mlx_transformers.core.context import Context
from mlx_transformers.models.decoder import Decoder

MIXER = {"kind": "rwkv7", "head_dim": 8, "decay_rank": 2, "rate_rank": 2, "gate_rank": 2}
LATER = {"mixer": MIXER | {"value_residual": True, "value_rank": 2}}
PATTERN = {
    "n_layers": 3,
    "block": LLAMA["block"] | {"mixer": MIXER},
    "blocks": {
        "first": LLAMA["block"] | {"mixer": MIXER},
        "later": LLAMA["block"] | LATER,
    },
    "pattern": ["first", "later", "later"],
}


@pytest.fixture(scope="module")
def model() -> Any:
    return randomize(Decoder.model_validate(LLAMA | PATTERN).build(13), 0)


def tokens() -> mx.array:
    return mx.arange(BATCH * LENGTH).reshape(BATCH, LENGTH) * 7 % 13


def gradients(model: Any) -> dict[str, mx.array]:
    def loss(params: Any) -> mx.array:
        model.update(params)
        return model(tokens(), Context()).square().sum()

    return dict(tree_flatten(mx.grad(loss)(model.trainable_parameters())))


def test_later_layers_read_the_first_ones_values_also_in_decoding(model: Any) -> None:
    whole = model(tokens(), Context())
    state, outs = model.init_state(BATCH, LENGTH), []
    for part in mx.split(tokens(), [4], axis=1):
        y, state = model.step(part, state)
        outs.append(y)
    assert difference(mx.concatenate(outs, axis=1), whole) < 2e-5


def test_the_gradient_of_the_values_goes_through_checkpointed_layers(model: Any) -> None:
    plain = gradients(model)
    assert float(mx.abs(plain["stack.blocks.2.mixer.value.up.weight"]).max()) > 0
    stack = model.stack
    stack.recomputed = frozenset(range(3))
    again = gradients(model)
    stack.recomputed = frozenset()
    for name, value in plain.items():
        assert difference(value, again[name]) < 1e-4 * max(1.0, float(mx.abs(value).max()))


def test_a_layer_that_reads_what_none_left_is_refused_with_the_cure() -> None:
    wrong = PATTERN | {"pattern": ["later", "first", "later"]}
    with pytest.raises(ValidationError, match="Name a block that does first in pattern"):
        Decoder.model_validate(LLAMA | wrong)
