"""DeBERTa 1, 2 and 3: contents and relative positions meet apart.

Defaults are those of `DebertaConfig` and `DebertaV2Config`.
"""

import math
from collections.abc import Callable
from functools import partial

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import MISSING, PathOrFn, activation, config_writer, first_of, is_
from ..rows import BLOCK, Row, rows, without
from ..task_heads import TaskHead, architecture_of, classifier, task_of, token_classifier
from ..transforms import Axes, SplitGroups
from .bert import (
    ENCODER_KEYS,
    TENSORFLOW_NAMES,
    mlm_head,
    mlm_rows,
    norm_of,
    outer_rows,
    output_rows,
    tower,
)

HF_ATTENTION = "deberta.encoder.layer.{i}.attention.self"
SELF = f"{BLOCK}.mixer"
EPS = 1e-7
KEYS = ("conv_kernel_size", "conv_act", "conv_groups", "embedding_size", "pooler_hidden_size")


def model(config: HfConfig, *, second: bool) -> Table:
    """Return the `[model]` table of a DebertaConfig, or of a DebertaV2Config (`second`)."""
    # What the enhanced decoder of the pretraining did is not in these models (transformers: 0).
    config.ignore("z_steps", "padding_idx", "pooler_size", "summary_type", *KEYS)
    table = tower(config)
    norm = norm_of(config)
    types = config.get("type_vocab_size")
    embed = table["embed"] | {"norm": norm}
    embed.pop("n_types", None)
    width = config.get("embedding_size") or table["dim"]
    wide = {} if width == table["dim"] else {"width": width, "project": "bare_sum"}
    table["embed"] = embed | wide | ({"n_types": types} if types else {})
    table["position"] = position(config, second, table["dim"] if wide else None)
    mixer = attention(config, table["block"]["mixer"], table["dim"], second)
    table["block"] |= {"norm": norm, "mixer": mixer}
    if second and (config.optional("conv_kernel_size") or 0) > 0:
        first = table["block"] | {"branch": convolution(config)}
        table["blocks"] = {"first": first, "rest": table["block"]}
        table["pattern"] = ["first"] + ["rest"] * (table["n_layers"] - 1)
        if table["n_layers"] == 1:
            table["blocks"].pop("rest")
    return table | task_head(config).tables()


def position(config: HfConfig, second: bool, width: int | None) -> Table:
    """Return relative positions, absolute ones, both or none; `width` of a narrower embedding."""
    absolute = config.get("position_biased_input")
    far = config.get("max_relative_positions")
    far = config.get("max_position_embeddings") if far < 1 else far
    buckets = (config.optional("position_buckets") or -1) if second else 0
    normed = second and "layer_norm" in norms_of_table(config)
    if not config.get("relative_attention"):
        return {"kind": "learned"} if absolute else {"kind": "none"}
    table: Table = {"kind": "disentangled", "span": buckets if buckets > 0 else far}
    if buckets > 0:
        table["max_distance"] = far
    if normed:
        table["norm"] = norm_of(config)
    if width is not None:
        table["width"] = width
    return table | ({"absolute": True} if absolute else {})


def norms_of_table(config: HfConfig) -> list[str]:
    """Return the norms of the table of relative positions, as in "layer_norm|none"."""
    return [name.strip() for name in str(config.get("norm_rel_ebd")).lower().split("|")]


def read_of(config: HfConfig) -> list[str]:
    """Return `pos_att_type`, which may be one string."""
    terms = config.get("pos_att_type") or []
    return [x.strip() for x in terms.lower().split("|")] if isinstance(terms, str) else list(terms)


def attention(config: HfConfig, plain: Table, dim: int, second: bool) -> Table:
    """Return the mixer: BERT's, with terms for positions."""
    all_terms = read_of(config)
    reads = [term for term in ("c2p", "p2c") if term in all_terms]
    # The first counts every term that is named, the second those that it knows.
    terms = 1 + (len(reads) if second else len(all_terms))
    relative = config.get("relative_attention")
    head = config.get("attention_head_size") if second else None
    table = plain | {"kind": "disentangled", "reads": reads if relative else []}
    width = head or dim // plain["n_heads"]
    if terms != 1 + len(table["reads"]):
        table["scale"] = 1 / math.sqrt(width * terms)
    if head is not None:
        table["head_dim"] = head
    if second:
        shared = config.get("share_att_key")
        return table | ({"shared": True} if shared and table["reads"] else {})
    config.expect("talking_head", False)
    biases = {"pos_k_bias": False} if "c2p" in table["reads"] else {}
    return table | {"k_bias": False} | biases


def convolution(config: HfConfig) -> Table:
    """Return the convolution branch of the first block."""
    kernel = config.get("conv_kernel_size")
    if kernel % 2 == 0:
        raise config.refuse("conv_kernel_size", kernel, "odd ones are, which keep the length")
    return {
        "kind": "convolution",
        "kernel": kernel,
        "activation": config.activation("conv_act"),
        "groups": config.get("conv_groups"),
        "dropout": float(config.get("hidden_dropout_prob")),
    }


def task_head(config: HfConfig) -> TaskHead:
    """Return head and pool of a class of DeBERTa's."""
    config.ignore("legacy", "cls_dropout", "pooler_dropout", "pooler_hidden_act")
    # DeBERTa 3 is published without the name of a class, with a head that no class reads.
    worded = not config.tensors or any(name.startswith("cls.") for name in config.tensors)
    task = task_of(config, "ForMaskedLM" if worded else "Model")
    own_rate, rate = config.get("cls_dropout"), config.get("hidden_dropout_prob")
    options: Table = {
        "activation": config.activation("pooler_hidden_act"),
        "dropout": float(rate if own_rate is None else own_rate),
    }
    match task:
        case "Model":
            return TaskHead()
        case "ForTokenClassification" | "ForQuestionAnswering":
            return token_classifier(config, task)
        case "ForSequenceClassification" | "ForMultipleChoice":
            return classifier(config, "pooler.dense", "classifier", **options)
        case "ForMaskedLM":
            return masked(config)
    raise config.refuse("architectures", config.architecture)


def masked(config: HfConfig) -> TaskHead:
    """Return the MLM head: the legacy one has a decoder, the new one uses the embedding."""
    head = mlm_head(config) | {"norm": norm_of(config)}
    if not config.get("legacy"):
        theirs = "lm_predictions.lm_head.{dense,LayerNorm,bias}"
        return TaskHead(head | {"tied": True}, None, rows("head.{map,norm,bias}", theirs))
    width = config.get("embedding_size")
    base = "cls.predictions."
    weight_map = mlm_rows(base + "transform.", base, "dense", "LayerNorm", config)
    return TaskHead(head | ({"width": width} if width else {}), None, weight_map)


def weights(config: HfConfig, *, mixer: Callable[[HfConfig], list[Row]]) -> list[Row]:
    """Return the weight map of a DeBERTa, whose attention has the rows of `mixer`."""
    relative = config.get("relative_attention")
    table = "position.absolute.table" if relative else "position.table"
    return [
        *without(outer_rows("deberta."), "position.table"),
        Row(table, "deberta.embeddings.position_embeddings"),
        *([Row("position.table", "deberta.encoder.rel_embeddings")] if relative else []),
        Row("position.norm", "deberta.encoder.LayerNorm"),
        Row("embed.project", "deberta.embeddings.embed_proj"),
        *mixer(config),
        *output_rows("deberta.encoder.layer.{i}"),
        Row(f"{BLOCK}.branch", "deberta.encoder.conv.conv", Axes((0, 2, 1))),
        Row(f"{BLOCK}.branch_residual.out", "deberta.encoder.conv.LayerNorm"),
        *task_head(config).rows,
    ]


def first_mixer(config: HfConfig) -> list[Row]:
    """Return the rows of DeBERTa 1: q, k, v packed head by head, biases apart."""
    n_heads = config.get("num_attention_heads")
    packed = SplitGroups(n_heads, n_heads, config.get("hidden_size") // n_heads)
    ours = tuple(f"{SELF}.{x}.weight" for x in "qkv")
    return [
        Row(ours, f"{HF_ATTENTION}.in_proj.weight", packed),
        *rows(f"{SELF}.{{q,v}}.bias", f"{HF_ATTENTION}.{{q,v}}_bias"),
        *rows(f"{SELF}.pos_{{k,q}}", f"{HF_ATTENTION}.{{pos_proj,pos_q_proj}}"),
    ]


def second_mixer(config: HfConfig) -> list[Row]:
    """Return the rows of DeBERTa 2 and 3."""
    return [
        *rows(f"{SELF}.{{q,k,v}}", f"{HF_ATTENTION}.{{query,key,value}}_proj"),
        *rows(f"{SELF}.pos_{{k,q}}", f"{HF_ATTENTION}.pos_{{key,query}}_proj"),
    ]


RELATIVE: dict[str, PathOrFn] = {
    **ENCODER_KEYS,
    "type_vocab_size": lambda view: view.get("embed.n_types") or 0,
    "relative_attention": is_("position.kind", "disentangled"),
    "pos_att_type": lambda view: list(view.get("block.mixer.reads")),
    "max_relative_positions": lambda view: first_of(view, "position.max_distance", "position.span"),
    "position_biased_input": lambda view: (
        view.get("position.kind") == "learned" or view.get("position.absolute") is True
    ),
}
SECOND: dict[str, PathOrFn] = {
    **RELATIVE,
    "position_buckets": lambda view: (
        view.get("position.span") if view.has("position.max_distance") else -1
    ),
    "norm_rel_ebd": lambda view: "layer_norm" if view.has("position.norm") else "none",
    "share_att_key": "block.mixer.shared",
    "attention_head_size": lambda view: view.get("block.mixer.head_dim") or MISSING,
    "embedding_size": lambda view: view.get("embed.width") or view.get("dim"),
    "conv_kernel_size": "block.branch.kernel",
    "conv_act": activation("block.branch.activation"),
    "conv_groups": "block.branch.groups",
}


def debertas(name: str, title: str, second: bool) -> Family:
    """Return the family of DeBERTa 1, or of 2 and 3 (`second`)."""
    heads = ("cls.", "lm_predictions.", "mask_predictions.", "pooler.", "classifier.")
    return Family(
        model_types=(name,),
        architecture=f"{title}ForMaskedLM",
        model=partial(model, second=second),
        weights=partial(weights, mixer=second_mixer if second else first_mixer),
        config=config_writer(SECOND if second else RELATIVE, architecture_of(title)),
        defaults={"conv_kernel_size": 0},
        renames=(*TENSORFLOW_NAMES, prefixed("deberta.", *heads, "qa_outputs.")),
        spare=(r"^(cls|lm_predictions|mask_predictions)\.", r"^deberta\..*position_embeddings\."),
        tied=(
            ("cls.predictions.decoder.weight", "deberta.embeddings.word_embeddings.weight"),
            ("cls.predictions.decoder.bias", "cls.predictions.bias"),
        ),
    )


DEBERTA = debertas("deberta", "Deberta", second=False)
DEBERTA_V2 = debertas("deberta-v2", "DebertaV2", second=True)
