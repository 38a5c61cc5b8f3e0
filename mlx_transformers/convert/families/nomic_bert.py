"""Nomic's BERT: rotary positions, gated networks, no biases in the blocks.

Defaults are those of `NomicBertConfig`.
"""

from dataclasses import replace

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import config_writer
from ..rope import rope, rotary
from ..rows import BLOCK, Row, rows
from ..task_heads import TaskHead, architecture_of
from ..transforms import Split
from .bert import ENCODER_KEYS, HEADS, TENSORFLOW_NAMES, bert_extras, bert_head, mlm_rows, tower

PREFIX = "nomic_bert."


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a NomicBertConfig."""
    table = tower(config)
    block = table["block"]
    block["mixer"] |= {"bias": False, "out_bias": False, "head_dim": head_dim(config)}
    block["ffn"] |= {"kind": "glu", "bias": False}
    table["position"] = rope(config)
    return table | task_head(config).tables()


def head_dim(config: HfConfig) -> int:
    """Return the width of a head."""
    whole = config.get("hidden_size") // config.get("num_attention_heads")
    return int(config.get("head_dim") or whole)


def task_head(config: HfConfig) -> TaskHead:
    """Return head and pool of a class of Nomic's: BERT's, but the bare model has no pooler."""
    bert = bert_head(config, PREFIX)
    if config.architecture.endswith("Model"):
        return TaskHead()
    if bert.head is None or bert.head["kind"] != "mlm":
        return bert
    base = "cls.predictions."
    return replace(bert, rows=mlm_rows(f"{base}transform.", base, "dense", "layer_norm", config))


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Nomic BERT, under the names of its published files."""
    theirs = f"{PREFIX}encoder.layers.{{i}}"
    width = config.get("num_attention_heads") * head_dim(config)
    return [
        Row("embed.table", f"{PREFIX}embeddings.word_embeddings"),
        Row("embed.types", f"{PREFIX}embeddings.token_type_embeddings"),
        Row("embed.norm", f"{PREFIX}emb_ln"),
        Row(
            tuple(f"{BLOCK}.mixer.{x}" for x in "qkv"),
            f"{theirs}.attn.Wqkv",
            Split((width, width, width)),
        ),
        Row(f"{BLOCK}.mixer.o", f"{theirs}.attn.out_proj"),
        *rows(f"{BLOCK}.ffn.{{gate,up,down}}", f"{theirs}.mlp.{{fc12,fc11,fc2}}"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.out", f"{theirs}.{{norm1,norm2}}"),
        *task_head(config).rows,
    ]


NOMIC_BERT = Family(
    model_types=("nomic_bert",),
    architecture="NomicBertForMaskedLM",
    model=model,
    weights=weights,
    config=config_writer(
        {**ENCODER_KEYS, "head_dim": "block.mixer.head_dim"}, rotary(), architecture_of("NomicBert")
    ),
    defaults={"tie_word_embeddings": True},
    renames=(*TENSORFLOW_NAMES, prefixed(PREFIX, *HEADS)),
    **bert_extras(PREFIX),
)
