"""Recipes of encoders as configs of the families that they are, and back."""

from pathlib import Path
from typing import Any

import pytest

from mlx_transformers.assembly.published import full_model_table, typed_model
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.match import match

RECIPES = Path(__file__).parents[2] / "recipes" / "encoders"
CLASSES = {
    "bert_tiny": "BertForPreTraining",
    "roberta_tiny": "DistilBertForMaskedLM",
    "distilbert_tiny": "DistilBertForMaskedLM",
    "modernbert_tiny": "ModernBertForMaskedLM",
    "bert_sentiment_tiny": "BertForSequenceClassification",
}


def settle(table: dict[str, Any]) -> dict[str, Any]:
    return full_model_table(typed_model(table, "here"), table["vocab_size"])


@pytest.mark.parametrize("name", CLASSES)
def test_a_recipe_is_the_class_that_computes_the_same(name: str) -> None:
    table = full_model_table(load_recipe(RECIPES / f"{name}.toml").model, 2051)
    family, config = match(table, settle)
    assert config.architecture == CLASSES[name]
    back = settle(family.model(HfConfig(config.data)))
    assert back["block"]["mixer"] == table["block"]["mixer"]
    assert back.get("pool") == table.get("pool")
