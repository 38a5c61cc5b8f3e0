"""Sizes that no machine holds are a sentence, and nothing of them is built."""

import pytest

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.errors import RecipeError


@pytest.mark.parametrize(
    "size",
    [
        "model.dim=1000000",
        "model.n_layers=100000",
        "model.vocab_size=1000000000000",
        "model.block.ffn.hidden_dim=100000000000",
        "model.max_seq_len=1000000000",
        "train.batch_size=1000000000000",
        "train.accumulate=1000000000",
        "eval.batch_size=100000000000",
    ],
)
def test_a_size_that_no_machine_holds_names_its_key(size: str) -> None:
    with pytest.raises(RecipeError, match=size.split("=")[0].replace("accumulate", "batch_size")):
        load_recipe("llama_tiny", [size])
