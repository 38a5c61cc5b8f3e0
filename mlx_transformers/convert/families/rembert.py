"""RemBERT: narrow embeddings going in, wider ones of their own going out.

Defaults are those of `RemBertConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import config_writer
from ..rows import Row
from ..task_heads import TaskHead, architecture_of
from .bert import (
    ENCODER_KEYS,
    HEADS,
    TENSORFLOW_NAMES,
    bert_extras,
    bert_head,
    kind_of,
    layers,
    mlm_rows,
    outer_rows,
    tower,
)

PREFIX, HEAD = "rembert.", "cls.predictions."


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a RemBertConfig."""
    config.expect("tie_word_embeddings", False)
    table = tower(config)
    table["embed"] |= {"width": config.get("input_embedding_size"), "project_bias": True}
    return {**table, "kind": kind_of(config), **task_head(config).tables()}


def task_head(config: HfConfig) -> TaskHead:
    """Return head and pool of a class of RemBERT's: BERT's, with another output width."""
    width = config.get("output_embedding_size")
    rate = float(config.get("classifier_dropout_prob"))
    bert = bert_head(config, PREFIX)
    if bert.head is not None and bert.head["kind"] == "mlm":
        head = bert.head | {"tied": False, "width": width}
        return TaskHead(head, bert.pool, mlm_rows(HEAD, HEAD, "dense", "LayerNorm", config))
    if bert.pool is not None and "dropout" in bert.pool:
        bert.pool["dropout"] = rate
    return bert


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a RemBERT."""
    return [
        *outer_rows(PREFIX),
        Row("embed.project", f"{PREFIX}encoder.embedding_hidden_mapping_in"),
        *layers(f"{PREFIX}encoder.layer.{{i}}"),
        *task_head(config).rows,
    ]


REMBERT = Family(
    model_types=("rembert",),
    architecture="RemBertForMaskedLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **ENCODER_KEYS,
            "input_embedding_size": "embed.width",
            "output_embedding_size": "head.width",
            "classifier_dropout_prob": "pool.dropout",
        },
        architecture_of("RemBert", "ForCausalLM"),
        tie_word_embeddings=False,
    ),
    renames=(*TENSORFLOW_NAMES, prefixed(PREFIX, *HEADS)),
    spare=tuple(bert_extras(PREFIX)["spare"]),
)
