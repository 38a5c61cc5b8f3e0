"""Files of encoders as they are published: with other heads, other names, older than their code."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from model_outputs import outputs

from mlx_transformers.assembly.published import Published, published
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.core.errors import ConvertError

from .draw import draw
from .test_goldens import read


def tensors_of(facts: dict[str, Any]) -> dict[str, mx.array]:
    return {name: mx.array(draw(name, shape)) for name, shape in facts["tensors"].items()}


def load(facts: dict[str, Any], tensors: dict[str, mx.array], **options: Any) -> Published:
    config = {**facts["config"], **options}
    kept = {key: value for key, value in config.items() if value is not ...}
    return published(HfConfig(kept), tensors, "a file")


def test_a_file_may_hold_heads_that_its_class_lacks() -> None:
    facts, arrays = read("bert")
    found = load(facts, tensors_of(facts), architectures=["BertForMaskedLM"])
    got = outputs(found.model, arrays)["logits"]
    seen = arrays["attention_mask"] == 1
    assert np.abs(got[seen] - arrays["prediction_logits"][seen]).max() < 1e-4
    assert "pool" not in found.table


def test_a_bare_model_without_prefix_and_with_old_names_of_norms() -> None:
    facts, _ = read("bert")
    tensors = {
        name.removeprefix("bert.")
        .replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in tensors_of(facts).items()
        if name.startswith("bert.")
    }
    found = load(facts, tensors, architectures=["BertModel"])
    assert "head" not in found.table
    assert found.table["pool"]["kind"] == "sentence"


def test_untied_words_have_the_decoders_bias_where_there_is_one() -> None:
    facts, _ = read("bert")
    tensors = tensors_of(facts)
    tensors["cls.predictions.decoder.weight"] = mx.ones((32, 16))
    older = load(facts, tensors, tie_word_embeddings=False).model.head.bias
    assert mx.array_equal(older, tensors["cls.predictions.bias"])
    tensors["cls.predictions.decoder.bias"] = mx.full((32,), 3.0)
    newer = load(facts, tensors, tie_word_embeddings=False).model.head.bias
    assert mx.array_equal(newer, mx.full((32,), 3.0))


def test_a_file_whose_positions_turn_may_hold_a_table_of_them_too() -> None:
    facts, _ = read("esm")
    more = {"esm.embeddings.position_embeddings.weight": mx.zeros((32, 16))}
    assert load(facts, tensors_of(facts) | more).table["position"]["kind"] == "rope"


def test_the_third_deberta_names_no_class_and_is_a_bare_model() -> None:
    facts, _ = read("deberta")
    tensors = {n: a for n, a in tensors_of(facts).items() if not n.startswith("cls.")}
    tensors["lm_predictions.lm_head.bias"] = mx.zeros((32,))
    found = load(facts, tensors, architectures=...)
    assert not {"head", "pool"} & set(found.table)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("bert", {"architectures": ["BertForThoughtReading"]}, "ForThoughtReading"),
        ("deberta", {"talking_head": True}, "talking_head"),
        ("ernie", {"use_task_id": True}, "use_task_id"),
        ("roformer", {"rotary_value": True}, "rotary_value"),
        ("modernbert", {"layer_types": ["chunked_attention"] * 4}, "chunked_attention"),
        (
            "modernbert",
            {
                "architectures": ["ModernBertForSequenceClassification"],
                "classifier_pooling": "max",
            },
            "classifier_pooling = 'max'",
        ),
        ("mpnet", {"relative_attention_num_buckets": 16}, "relative_attention_num_buckets"),
        ("deberta_v2", {"conv_kernel_size": 4}, "conv_kernel_size"),
        ("electra", {"hidden_act": "laplace"}, "laplace"),
    ],
)
def test_what_is_not_built_is_named(name: str, options: dict[str, Any], said: str) -> None:
    facts, _ = read(name)
    with pytest.raises(ConvertError, match=said):
        load(facts, tensors_of(facts), **options)
