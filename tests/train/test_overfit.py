"""Every recipe of the chain, made small, learns one batch by heart."""

import mlx.core as mx
import pytest

from mlx_transformers.assembly.build import build
from mlx_transformers.assembly.recipe import load_recipe

from . import tiny

SMALL = (
    "model.dim=32",
    "model.n_layers=1",
    "model.max_seq_len=16",
    "model.block.mixer.n_heads=4",
    "data.tokenizer={kind='char'}",
    "train.steps=100",
    "train.batch_size=4",
    "train.seq_len=16",
    "optim.learning_rate=1e-2",
    "optim.schedule={kind='constant'}",
)
NARROW = "model.block.ffn.hidden_dim=64"
RECIPES = {
    "base_tiny": (
        NARROW,
        "objective.label_smoothing=0.0",
        "model.block.dropout=0.0",
        "model.embed.dropout=0.0",
    ),
    "gpt2_tiny": (NARROW,),
    "llama_tiny": (NARROW,),
    "mistral_tiny": (NARROW, "model.block.mixer.window=8"),
    "mixtral_tiny": ("model.block.ffn.expert.hidden_dim=32", "model.block.mixer.window=8"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_the_chain_overfits_one_batch(tmp_path, name):
    tiny.write(tmp_path)
    path = f"data.path='{tmp_path / 'text.txt'}'"
    built = build(load_recipe(name, [*SMALL, *RECIPES[name], path]))
    batch = {"tokens": mx.array(tiny.tokens((4, 17), built.tokenizer.vocab_size))}
    first = built.step([batch], 0)["loss"].item()
    for index in range(1, 100):
        metrics = built.step([batch], index)
        mx.eval(metrics, built.step.state)
    assert first > 2.5
    assert metrics["loss"].item() < 0.1
