"""Relatives of BERT and RoBERTa: norms in front, other positions, tensors of other names.

Defaults are those of `ErnieConfig`, `Data2VecTextConfig`, `MegatronBertConfig`,
`RobertaPreLayerNormConfig`, `XLMRobertaXLConfig`, `MPNetConfig` and `RoFormerConfig`.
"""

from collections.abc import Callable
from functools import partial

from ..answers import Answer, asked, classifier, tags, task_of
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..view import View, spelled
from ..weights import Row, rows
from .bert import (
    BLOCK,
    HEADS,
    NAMES,
    TOWER,
    around,
    bert_answer,
    bert_extras,
    class_dropout,
    joints,
    layers,
    norm_of,
    padded,
    roberta_answer,
    roberta_extras,
    robertas,
    tower,
    word_rows,
    words,
)

BESIDE = f"{BLOCK}.{{mixer.o,ffn.up,ffn.down}}"
DENSE = "{attention.output.dense,intermediate.dense,output.dense}"
QKV = f"{BLOCK}.mixer.{{q,k,v}}"


def ernie(config: HfConfig) -> Table:
    """The `[model]` table of an ErnieConfig: BERT's, if no tasks are embedded."""
    config.expect("use_task_id", False)
    config.ignore("task_type_vocab_size")
    return tower(config, vocab_size=30522) | bert_answer(config, "ernie.").tables()


def in_front(config: HfConfig, table: Table, embed_norm: bool, eps: float = 1e-12) -> Table:
    """A tower whose norms stand before mixer and ffn, and after the last block."""
    norm = norm_of(config, eps)
    embed = {**table["embed"], "norm": norm}
    if not embed_norm:
        embed.pop("norm")
    block = {**table["block"], "placement": "pre", "norm": norm}
    return table | {"embed": embed, "block": block, "norm": norm}


def megatron(config: HfConfig) -> Table:
    """The `[model]` table of a MegatronBertConfig."""
    sizes: Table = {"dim": 1024, "n_layers": 24, "n_heads": 16, "hidden_dim": 4096}
    table = in_front(config, tower(config, vocab_size=29056, **sizes), embed_norm=False)
    return table | bert_answer(config).tables()


def prelayernorm(config: HfConfig) -> Table:
    """The `[model]` table of a RobertaPreLayerNormConfig."""
    offset = config.get("pad_token_id", 1) + 1
    table = in_front(config, tower(config, vocab_size=50265, offset=offset), embed_norm=True)
    return table | roberta_answer(config).tables()


def xlm_roberta_xl(config: HfConfig) -> Table:
    """The `[model]` table of an XLMRobertaXLConfig."""
    config.get("type_vocab_size", 1)
    config.get("max_position_embeddings", 514)
    sizes: Table = {"dim": 2560, "n_layers": 36, "n_heads": 32, "hidden_dim": 10240}
    offset = config.get("pad_token_id", 1) + 1
    table = tower(config, vocab_size=250880, offset=offset, **sizes)
    if "type_vocab_size" not in config:
        table["embed"]["n_types"] = 1
    if "max_position_embeddings" not in config:
        table["max_seq_len"] = 514 - offset
    table = in_front(config, table, embed_norm=False, eps=1e-5)
    answer = roberta_answer(config).tables()
    if answer.get("head", {}).get("kind") == "mlm":
        answer["head"] |= {"norm": norm_of(config, 1e-5)}
    return table | answer


def norms(theirs: str, mixer: str, ffn: str, last: str) -> list[Row]:
    """The tensors of norms in front; the names of two stand in a layer."""
    return [
        Row(f"{BLOCK}.mixer_residual.pre", f"{theirs}.{mixer}"),
        Row(f"{BLOCK}.ffn_residual.pre", f"{theirs}.{ffn}"),
        Row("norm", last),
    ]


def megatron_weights(config: HfConfig) -> list[Row]:
    """The weight map of a Megatron-BERT."""
    theirs = "bert.encoder.layer.{i}"
    return [
        *around("bert."),
        *rows(QKV, f"{theirs}.attention.self.{{query,key,value}}"),
        *rows(BESIDE, f"{theirs}.{DENSE}"),
        *norms(theirs, "attention.ln", "ln", "bert.encoder.ln"),
        *bert_answer(config).rows,
    ]


def front_weights(config: HfConfig, *, prefix: str, names: tuple[str, str, str]) -> list[Row]:
    """The weight map of a RoBERTa with norms in front, by their `names`: mixer, ffn, last."""
    theirs = f"{prefix}encoder.layer.{{i}}"
    return [
        *around(prefix),
        *rows(QKV, f"{theirs}.attention.self.{{query,key,value}}"),
        *rows(BESIDE, f"{theirs}.{DENSE}"),
        *norms(theirs, names[0], names[1], f"{prefix}{names[2]}"),
        *roberta_answer(config, prefix).rows,
    ]


def mpnet(config: HfConfig) -> Table:
    """The `[model]` table of an MPNetConfig: absolute positions, and T5's buckets beside them."""
    # The code counts 32 buckets whatever the table holds.
    config.expect("relative_attention_num_buckets", 32)
    config.expect("type_vocab_size", 0, default=0)
    table = tower(config, vocab_size=30527, offset=2)
    table["embed"].pop("n_types", None)
    heads = table["block"]["mixer"]["n_heads"]
    table["position"] = {"kind": "buckets", "n_heads": heads, "absolute": 2}
    return table | roberta_answer(config).tables()


def mpnet_weights(config: HfConfig) -> list[Row]:
    """The weight map of an MPNet."""
    theirs = "mpnet.encoder.layer.{i}"
    places = Row("position.absolute.table", "mpnet.embeddings.position_embeddings")
    own = {f"{BLOCK}.mixer.o", f"{BLOCK}.mixer_residual.out"}
    return [
        *(row for row in around("mpnet.") if row.ours != "position.table"),
        places,
        Row("position.table", "mpnet.encoder.relative_attention_bias"),
        *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{theirs}.attention.attn.{{q,k,v,o}}"),
        Row(f"{BLOCK}.mixer_residual.out", f"{theirs}.attention.LayerNorm"),
        *(row for row in joints(theirs) if row.ours not in own),
        *roberta_answer(config, "mpnet.").rows,
    ]


def roformer(config: HfConfig) -> Table:
    """The `[model]` table of a RoFormerConfig: the first with rotary positions."""
    config.expect("rotary_value", False)
    config.get("max_position_embeddings", 1536)
    table = tower(config, vocab_size=50000)
    if "max_position_embeddings" not in config:
        table["max_seq_len"] = 1536
    table["position"] = {"kind": "rope", "traditional": True}
    width = config.get("embedding_size", None) or table["dim"]
    if width != table["dim"]:
        table["embed"] |= {"width": width, "project_bias": True}
    return table | roformer_answer(config).tables()


def roformer_answer(config: HfConfig) -> Answer:
    """Head and pool of a class of RoFormer's, which has no pooler."""
    activation, rate = config.activation("hidden_act", "gelu"), class_dropout(config)
    options: Table = {"activation": activation, "dropout": rate}
    match task := task_of(config, "ForMaskedLM"):
        case "Model":
            return Answer()
        case "ForTokenClassification" | "ForQuestionAnswering":
            return tags(config, task)
        case "ForSequenceClassification":
            return classifier(config, "classifier.dense", "classifier.out_proj", **options)
        case "ForMaskedLM":
            base, width = "cls.predictions.", config.get("embedding_size", None)
            head = words(config) | ({"width": width} if width else {})
            found = word_rows(base + "transform.", base, "dense", "LayerNorm", config)
            return Answer(head, None, found)
    raise config.refuse("architectures", config.architecture)


def roformer_weights(config: HfConfig) -> list[Row]:
    """The weight map of a RoFormer."""
    return [
        *around("roformer."),
        Row("embed.project", "roformer.embeddings_project"),
        *layers("roformer.encoder.layer.{i}"),
        *roformer_answer(config).rows,
    ]


def ernie_weights(config: HfConfig) -> list[Row]:
    """The weight map of an ERNIE."""
    answer = bert_answer(config, "ernie.")
    return [*around("ernie."), *layers("ernie.encoder.layer.{i}"), *answer.rows]


def family(
    name: str,
    title: str,
    model: Callable[[HfConfig], Table],
    weights: Callable[[HfConfig], list[Row]],
    prefix: str,
    *said: Callable[[View], Table],
) -> Family:
    """A family whose class for words is `title`ForMaskedLM, its tower under `prefix`.

    Args:
        said: what says further keys of its config.
    """
    extras = bert_extras(prefix)
    more = roberta_extras(prefix)
    return Family(
        model_types=(name,),
        architecture=f"{title}ForMaskedLM",
        model=model,
        weights=weights,
        config=spelled(TOWER, *said, asked(title)),
        renames=(*NAMES, prefixed(prefix, *HEADS)),
        dropped=(r"\.embed_positions\.weight$",),
        spare=(*extras["spare"], *more["spare"]),
        tied=(*extras["tied"], *more["tied"]),
    )


def untyped(view: View) -> Table:
    """MPNet's lengths: its positions begin in the third row, and no token has a type."""
    length: int = view.get("max_seq_len")
    return {"type_vocab_size": 0, "max_position_embeddings": length + 2}


def embedded(view: View) -> Table:
    """The width of RoFormer's embedding."""
    return {"embedding_size": view.get("embed.width") or view.get("dim")}


FRONT = "roberta_prelayernorm."
PRE = ("attention.LayerNorm", "intermediate.LayerNorm", "LayerNorm")
XL = ("attention.self_attn_layer_norm", "LayerNorm", "encoder.LayerNorm")
DATA2VEC_TEXT = robertas("data2vec-text", prefix="data2vec_text.", title="Data2VecText")
ERNIE = family("ernie", "Ernie", ernie, ernie_weights, "ernie.")
MEGATRON_BERT = family("megatron-bert", "MegatronBert", megatron, megatron_weights, "bert.")
ROBERTA_PRELAYERNORM = family(
    "roberta-prelayernorm",
    "RobertaPreLayerNorm",
    prelayernorm,
    partial(front_weights, prefix=FRONT, names=PRE),
    FRONT,
    padded,
)
XLM_ROBERTA_XL = family(
    "xlm-roberta-xl",
    "XLMRobertaXL",
    xlm_roberta_xl,
    partial(front_weights, prefix="roberta.", names=XL),
    "roberta.",
    padded,
)
MPNET = family("mpnet", "MPNet", mpnet, mpnet_weights, "mpnet.", untyped)
ROFORMER = family("roformer", "RoFormer", roformer, roformer_weights, "roformer.", embedded)
