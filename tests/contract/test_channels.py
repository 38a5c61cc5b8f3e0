"""Narrower residual streams: what stays is the chosen channels of what was."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from mlx_transformers.compress.channels import channel_scores, narrower_stream, narrower_table
from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RecipeError

from .models import LLAMA
from .suite import DIM, VOCAB, parse, randomize

KEEP = DIM // 2
TOKENS = mx.array([[1, 5, 2, 7, 3, 3]])
LATENT = {
    "kind": "latent",
    "n_heads": 2,
    "q_rank": 6,
    "kv_rank": 5,
    "nope_dim": 4,
    "rope_dim": 2,
    "value_dim": 4,
    "norm": {"kind": "rms_norm"},
}


def settled(**changes: Any) -> dict[str, Any]:
    return parse("model", LLAMA | {"vocab_size": VOCAB} | changes).model_dump()


@pytest.mark.parametrize("mixer", [LLAMA["block"]["mixer"], LATENT], ids=["attention", "latent"])
def test_embedded_tokens_are_the_chosen_channels(mixer: dict[str, Any]) -> None:
    table = settled(
        block=LLAMA["block"] | {"mixer": mixer}, embed={"kind": "token", "scale": "sqrt_dim"}
    )
    model = randomize(parse("model", table).build(VOCAB), 1)
    scores = channel_scores(model, DIM, [TOKENS])
    rows = np.sort(np.argsort(-scores, kind="stable")[:KEEP])
    smaller = parse("model", narrower_table(table, KEEP)).build(VOCAB)
    shapes = {name: array.shape for name, array in tree_flatten(smaller.parameters())}
    weights = narrower_stream(dict(tree_flatten(model.parameters())), shapes, scores, KEEP)
    smaller.update(tree_unflatten(list(weights.items())))
    whole, thin = (
        np.array(each.embedded({"tokens": TOKENS}, Context())) for each in (model, smaller)
    )
    np.testing.assert_allclose(thin, whole[..., rows], rtol=1e-6)
    assert np.isfinite(np.array(smaller(TOKENS))).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"position": {"kind": "sinusoidal"}}, "position.kind = 'sinusoidal'"),
        (
            {"block": LLAMA["block"] | {"mixer": {"kind": "retention", "n_heads": 2}}},
            "mixer.kind = 'retention'",
        ),
    ],
)
def test_widths_that_follow_from_the_stream_are_refused(changes: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=f"--dim doesn't go with {words}"):
        narrower_table(settled(**changes), KEEP)
