"""RemBERT: narrow embeddings going in, wider ones of their own going out.

Defaults are those of `RemBertConfig`.
"""

from ..answers import Answer, asked
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..view import spelled
from ..weights import Row
from .bert import (
    HEADS,
    NAMES,
    TOWER,
    around,
    bert_answer,
    bert_extras,
    kind_of,
    layers,
    tower,
    word_rows,
)

PREFIX, HEAD = "rembert.", "cls.predictions."
SIZES: Table = {"dim": 1152, "n_layers": 32, "n_heads": 18, "hidden_dim": 4608}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a RemBertConfig."""
    config.expect("tie_word_embeddings", False)
    table = tower(config, vocab_size=250300, dropout=0.0, **SIZES)
    table["embed"] |= {"width": config.get("input_embedding_size", 256), "project_bias": True}
    return {**table, "kind": kind_of(config), **answer(config).tables()}


def answer(config: HfConfig) -> Answer:
    """Head and pool of a class of RemBERT's: BERT's, but for the width of the words going out."""
    config.assume(tie_word_embeddings=False)
    width = config.get("output_embedding_size", 1664)
    rate = float(config.get("classifier_dropout_prob", 0.1))
    found = bert_answer(config, PREFIX)
    if found.head is not None and found.head["kind"] == "mlm":
        head = found.head | {"tied": False, "width": width}
        return Answer(head, found.pool, word_rows(HEAD, HEAD, "dense", "LayerNorm", config))
    if found.pool is not None and "dropout" in found.pool:
        found.pool["dropout"] = rate
    return found


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a RemBERT."""
    return [
        *around(PREFIX),
        Row("embed.project", f"{PREFIX}encoder.embedding_hidden_mapping_in"),
        *layers(f"{PREFIX}encoder.layer.{{i}}"),
        *answer(config).rows,
    ]


REMBERT = Family(
    model_types=("rembert",),
    architecture="RemBertForMaskedLM",
    model=model,
    weights=weights,
    config=spelled(
        {
            **TOWER,
            "input_embedding_size": "embed.width",
            "output_embedding_size": "head.width",
            "classifier_dropout_prob": "pool.dropout",
        },
        asked("RemBert", "ForCausalLM"),
        tie_word_embeddings=False,
    ),
    renames=(*NAMES, prefixed(PREFIX, *HEADS)),
    spare=tuple(bert_extras(PREFIX)["spare"]),
)
