"""Relatives of BERT and RoBERTa: norms in front, other positions, tensors of other names.

Defaults are those of `ErnieConfig`, `Data2VecTextConfig`, `MegatronBertConfig`,
`RobertaPreLayerNormConfig`, `XLMRobertaXLConfig`, `MPNetConfig` and `RoFormerConfig`.
"""

from collections.abc import Callable
from functools import partial

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import FlatModel, config_writer
from ..rows import BLOCK, Row, rows, without
from ..task_heads import TaskHead, architecture_of, classifier, task_of, token_classifier
from .bert import (
    ENCODER_KEYS,
    HEADS,
    TENSORFLOW_NAMES,
    bert_extras,
    bert_head,
    class_dropout,
    kind_of,
    layers,
    mlm_head,
    mlm_rows,
    norm_of,
    outer_rows,
    output_rows,
    pad_offset,
    roberta_extras,
    roberta_family,
    roberta_head,
    tower,
)

BESIDE = f"{BLOCK}.{{mixer.o,ffn.up,ffn.down}}"
DENSE = "{attention.output.dense,intermediate.dense,output.dense}"
QKV = f"{BLOCK}.mixer.{{q,k,v}}"


def ernie(config: HfConfig) -> Table:
    """Return the `[model]` table of an ErnieConfig: BERT's, if no tasks are embedded."""
    config.expect("use_task_id", False)
    config.ignore("task_type_vocab_size")
    return tower(config) | bert_head(config, "ernie.").tables()


def pre_norm(config: HfConfig, table: Table, embed_norm: bool) -> Table:
    """Return an encoder with pre-norm blocks and a final norm."""
    norm = norm_of(config)
    embed = {**table["embed"], "norm": norm}
    if not embed_norm:
        embed.pop("norm")
    block = {**table["block"], "placement": "pre", "norm": norm}
    return table | {"embed": embed, "block": block, "norm": norm}


def megatron(config: HfConfig) -> Table:
    """Return the `[model]` table of a MegatronBertConfig."""
    table = pre_norm(config, tower(config), embed_norm=False)
    return table | bert_head(config).tables()


def prelayernorm(config: HfConfig) -> Table:
    """Return the `[model]` table of a RobertaPreLayerNormConfig."""
    offset = config.get("pad_token_id") + 1
    table = pre_norm(config, tower(config, offset=offset), embed_norm=True)
    return table | roberta_head(config).tables()


def xlm_roberta_xl(config: HfConfig) -> Table:
    """Return the `[model]` table of an XLMRobertaXLConfig."""
    offset = config.get("pad_token_id") + 1
    table = pre_norm(config, tower(config, offset=offset), embed_norm=False)
    answer = roberta_head(config).tables()
    if answer.get("head", {}).get("kind") == "mlm":
        answer["head"] |= {"norm": norm_of(config)}
    return table | answer


def norms(theirs: str, mixer: str, ffn: str, last: str) -> list[Row]:
    """Return the tensors of norms in front; the names of two stand in a layer."""
    return [
        Row(f"{BLOCK}.mixer_residual.pre", f"{theirs}.{mixer}"),
        Row(f"{BLOCK}.ffn_residual.pre", f"{theirs}.{ffn}"),
        Row("norm", last),
    ]


def megatron_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Megatron-BERT."""
    theirs = "bert.encoder.layer.{i}"
    return [
        *outer_rows("bert."),
        *rows(QKV, f"{theirs}.attention.self.{{query,key,value}}"),
        *rows(BESIDE, f"{theirs}.{DENSE}"),
        *norms(theirs, "attention.ln", "ln", "bert.encoder.ln"),
        *bert_head(config).rows,
    ]


def front_weights(config: HfConfig, *, prefix: str, names: tuple[str, str, str]) -> list[Row]:
    """Return the weight map of a pre-norm RoBERTa; `names` of its norms: mixer, ffn, last."""
    theirs = f"{prefix}encoder.layer.{{i}}"
    return [
        *outer_rows(prefix),
        *rows(QKV, f"{theirs}.attention.self.{{query,key,value}}"),
        *rows(BESIDE, f"{theirs}.{DENSE}"),
        *norms(theirs, names[0], names[1], f"{prefix}{names[2]}"),
        *roberta_head(config, prefix).rows,
    ]


def mpnet(config: HfConfig) -> Table:
    """Return the `[model]` table of an MPNetConfig: absolute positions and T5's buckets."""
    # The code counts 32 buckets whatever the table holds.
    config.expect("relative_attention_num_buckets", 32)
    config.expect("type_vocab_size", 0)
    table = tower(config, offset=2)
    table["embed"].pop("n_types", None)
    heads = table["block"]["mixer"]["n_heads"]
    table["position"] = {"kind": "buckets", "n_heads": heads, "absolute": 2}
    return table | roberta_head(config).tables()


def mpnet_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an MPNet."""
    theirs = "mpnet.encoder.layer.{i}"
    places = Row("position.absolute.table", "mpnet.embeddings.position_embeddings")
    return [
        *without(outer_rows("mpnet."), "position.table"),
        places,
        Row("position.table", "mpnet.encoder.relative_attention_bias"),
        *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{theirs}.attention.attn.{{q,k,v,o}}"),
        Row(f"{BLOCK}.mixer_residual.out", f"{theirs}.attention.LayerNorm"),
        *without(output_rows(theirs), f"{BLOCK}.mixer.o", f"{BLOCK}.mixer_residual.out"),
        *roberta_head(config, "mpnet.").rows,
    ]


def roformer(config: HfConfig) -> Table:
    """Return the `[model]` table of a RoFormerConfig: the first with rotary positions."""
    config.expect("rotary_value", False)
    table = tower(config) | {"kind": kind_of(config)}
    table["position"] = {"kind": "rope", "traditional": True}
    width = config.get("embedding_size") or table["dim"]
    if width != table["dim"]:
        table["embed"] |= {"width": width, "project_bias": True}
    return table | roformer_head(config).tables()


def roformer_head(config: HfConfig) -> TaskHead:
    """Return head and pool of a class of RoFormer's, which has no pooler."""
    activation, rate = config.activation("hidden_act"), class_dropout(config)
    options: Table = {"activation": activation, "dropout": rate}
    match task := task_of(config, "ForMaskedLM", "ForCausalLM"):
        case "Model":
            return TaskHead()
        case "ForTokenClassification" | "ForQuestionAnswering":
            return token_classifier(config, task)
        case "ForSequenceClassification":
            return classifier(config, "classifier.dense", "classifier.out_proj", **options)
        case "ForMaskedLM" | "ForCausalLM":
            base, width = "cls.predictions.", config.get("embedding_size")
            head = mlm_head(config) | ({"width": width} if width else {})
            weight_map = mlm_rows(base + "transform.", base, "dense", "LayerNorm", config)
            return TaskHead(head, None, weight_map)
    raise config.refuse("architectures", config.architecture)


def roformer_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a RoFormer."""
    return [
        *outer_rows("roformer."),
        Row("embed.project", "roformer.embeddings_project"),
        *layers("roformer.encoder.layer.{i}"),
        *roformer_head(config).rows,
    ]


def ernie_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an ERNIE."""
    answer = bert_head(config, "ernie.")
    return [*outer_rows("ernie."), *layers("ernie.encoder.layer.{i}"), *answer.rows]


def family(
    name: str,
    title: str,
    model: Callable[[HfConfig], Table],
    weights: Callable[[HfConfig], list[Row]],
    prefix: str,
    *further: Callable[[FlatModel], Table],
    writes: str | None = None,
) -> Family:
    """Return a family whose MLM class is `title`ForMaskedLM, its encoder under `prefix`.

    Args:
        further: readers of further keys of its config.
        writes: suffix of the name of its causal class.
    """
    extras = bert_extras(prefix)
    more = roberta_extras(prefix)
    return Family(
        model_types=(name,),
        architecture=f"{title}ForMaskedLM",
        model=model,
        weights=weights,
        config=config_writer(ENCODER_KEYS, *further, architecture_of(title, writes)),
        renames=(*TENSORFLOW_NAMES, prefixed(prefix, *HEADS)),
        dropped=(r"\.embed_positions\.weight$",),
        spare=(*extras["spare"], *more["spare"]),
        tied=(*extras["tied"], *more["tied"]),
    )


def untyped(view: FlatModel) -> Table:
    """Return MPNet's lengths: positions start in row 2, and there are no token types."""
    length: int = view.get("max_seq_len")
    return {"type_vocab_size": 0, "max_position_embeddings": length + 2}


def embedded(view: FlatModel) -> Table:
    """Return the width of RoFormer's embedding."""
    return {"embedding_size": view.get("embed.width") or view.get("dim")}


FRONT = "roberta_prelayernorm."
PRE = ("attention.LayerNorm", "intermediate.LayerNorm", "LayerNorm")
XL = ("attention.self_attn_layer_norm", "LayerNorm", "encoder.LayerNorm")
DATA2VEC_TEXT = roberta_family("data2vec-text", prefix="data2vec_text.", title="Data2VecText")
ERNIE = family("ernie", "Ernie", ernie, ernie_weights, "ernie.")
MEGATRON_BERT = family("megatron-bert", "MegatronBert", megatron, megatron_weights, "bert.")
ROBERTA_PRELAYERNORM = family(
    "roberta-prelayernorm",
    "RobertaPreLayerNorm",
    prelayernorm,
    partial(front_weights, prefix=FRONT, names=PRE),
    FRONT,
    pad_offset,
)
XLM_ROBERTA_XL = family(
    "xlm-roberta-xl",
    "XLMRobertaXL",
    xlm_roberta_xl,
    partial(front_weights, prefix="roberta.", names=XL),
    "roberta.",
    pad_offset,
)
MPNET = family("mpnet", "MPNet", mpnet, mpnet_weights, "mpnet.", untyped)
ROFORMER = family(
    "roformer", "RoFormer", roformer, roformer_weights, "roformer.", embedded, writes="ForCausalLM"
)
