"""Nomic's BERT: rotary positions, gated networks, no biases in the blocks.

Defaults are those of `NomicBertConfig`.
"""

from dataclasses import replace

from ..answers import Answer, asked
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..rope import rope, rotary
from ..transforms import Split
from ..view import spelled
from ..weights import Row, rows
from .bert import HEADS, NAMES, TOWER, bert_answer, bert_extras, tower, word_rows

BLOCK = "stack.blocks.{i}"
PREFIX = "nomic_bert."


def model(config: HfConfig) -> Table:
    """The `[model]` table of a NomicBertConfig."""
    config.assume(hidden_act="silu", max_position_embeddings=2048)
    table = tower(config, vocab_size=30528, dropout=0.0, activation="silu")
    block = table["block"]
    block["mixer"] |= {"bias": False, "out_bias": False, "head_dim": head_dim(config)}
    block["ffn"] |= {"kind": "glu", "bias": False}
    table["position"] = rope(config, theta=1000.0)
    return table | answer(config).tables()


def head_dim(config: HfConfig) -> int:
    """The width of a head."""
    whole = config.get("hidden_size", 768) // config.get("num_attention_heads", 12)
    return int(config.get("head_dim", None) or whole)


def answer(config: HfConfig) -> Answer:
    """Head and pool of a class of Nomic's: BERT's, but that a bare tower has no pooler."""
    config.assume(hidden_dropout_prob=0.0)
    found = bert_answer(config, PREFIX)
    if config.architecture.endswith("Model"):
        return Answer()
    if found.head is None or found.head["kind"] != "mlm":
        return found
    base = "cls.predictions."
    return replace(found, rows=word_rows(f"{base}transform.", base, "dense", "layer_norm", config))


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a Nomic BERT, under the names of its published files."""
    theirs = f"{PREFIX}encoder.layers.{{i}}"
    width = config.get("num_attention_heads", 12) * head_dim(config)
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
        *answer(config).rows,
    ]


NOMIC_BERT = Family(
    model_types=("nomic_bert",),
    architecture="NomicBertForMaskedLM",
    model=model,
    weights=weights,
    config=spelled({**TOWER, "head_dim": "block.mixer.head_dim"}, rotary(), asked("NomicBert")),
    renames=(*NAMES, prefixed(PREFIX, *HEADS)),
    **bert_extras(PREFIX),
)
