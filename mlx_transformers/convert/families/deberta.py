"""DeBERTa 1, 2 and 3: contents and relative positions meet apart.

Defaults are those of `DebertaConfig` and `DebertaV2Config`.
"""

import math
from collections.abc import Callable
from functools import partial

from ..answers import Answer, asked, classifier, tags, task_of
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..transforms import Axes, SplitGroups
from ..view import MISSING, Told, activation, first_of, is_, spelled
from ..weights import Row, rows
from .bert import BLOCK, NAMES, TOWER, around, joints, norm_of, tower, word_rows, words

HF_ATTENTION = "deberta.encoder.layer.{i}.attention.self"
SELF = f"{BLOCK}.mixer"
EPS = 1e-7
KEYS = ("conv_kernel_size", "conv_act", "conv_groups", "embedding_size", "pooler_hidden_size")


def model(config: HfConfig, *, second: bool) -> Table:
    """The `[model]` table of a DebertaConfig, or of a DebertaV2Config (`second`)."""
    # What the enhanced decoder of the pretraining did is not in these models (transformers: 0).
    config.ignore("z_steps", "padding_idx", "pooler_size", "summary_type", *KEYS)
    sizes: Table = {
        "vocab_size": 128100,
        "dim": 1536,
        "n_layers": 24,
        "n_heads": 24,
        "hidden_dim": 6144,
    }
    table = tower(config, **sizes) if second else tower(config, vocab_size=50265)
    norm = norm_of(config, EPS)
    types = config.get("type_vocab_size", 0)
    embed = table["embed"] | {"norm": norm}
    embed.pop("n_types", None)
    width = config.get("embedding_size", None) or table["dim"]
    wide = {} if width == table["dim"] else {"width": width, "project": "bare_sum"}
    table["embed"] = embed | wide | ({"n_types": types} if types else {})
    table["position"] = position(config, second, table["dim"] if wide else None)
    mixer = attention(config, table["block"]["mixer"], table["dim"], second)
    table["block"] |= {"norm": norm, "mixer": mixer}
    if second and config.get("conv_kernel_size", 0) > 0:
        first = table["block"] | {"branch": convolution(config)}
        table["blocks"] = {"first": first, "rest": table["block"]}
        table["pattern"] = ["first"] + ["rest"] * (table["n_layers"] - 1)
        if table["n_layers"] == 1:
            table["blocks"].pop("rest")
    return table | answer(config).tables()


def position(config: HfConfig, second: bool, width: int | None) -> Table:
    """Relative positions, absolute ones, both or none; `width` where embeddings have another."""
    absolute = config.get("position_biased_input", True)
    far = config.get("max_relative_positions", -1)
    far = config.get("max_position_embeddings", 512) if far < 1 else far
    buckets = config.get("position_buckets", -1) if second else 0
    normed = second and "layer_norm" in norms_of_table(config)
    if not config.get("relative_attention", False):
        return {"kind": "learned"} if absolute else {"kind": "none"}
    table: Table = {"kind": "disentangled", "span": buckets if buckets > 0 else far}
    if buckets > 0:
        table["max_distance"] = far
    if normed:
        table["norm"] = norm_of(config, EPS)
    if width is not None:
        table["width"] = width
    return table | ({"absolute": True} if absolute else {})


def norms_of_table(config: HfConfig) -> list[str]:
    """What is done to the table of relative positions, as in "layer_norm|none"."""
    return [name.strip() for name in str(config.get("norm_rel_ebd", "none")).lower().split("|")]


def read_of(config: HfConfig) -> list[str]:
    """`pos_att_type`, which may be one string."""
    given = config.get("pos_att_type", None) or []
    return [x.strip() for x in given.lower().split("|")] if isinstance(given, str) else list(given)


def attention(config: HfConfig, plain: Table, dim: int, second: bool) -> Table:
    """The mixer: BERT's, with terms for positions."""
    told = read_of(config)
    reads = [term for term in ("c2p", "p2c") if term in told]
    # The first counts every term that is named, the second those that it knows.
    terms = 1 + (len(reads) if second else len(told))
    relative = config.get("relative_attention", False)
    head = config.get("attention_head_size", None) if second else None
    table = plain | {"kind": "disentangled", "reads": reads if relative else []}
    width = head or dim // plain["n_heads"]
    if terms != 1 + len(table["reads"]):
        table["scale"] = 1 / math.sqrt(width * terms)
    if head is not None:
        table["head_dim"] = head
    if second:
        shared = config.get("share_att_key", False)
        return table | ({"shared": True} if shared and table["reads"] else {})
    config.expect("talking_head", False)
    own = {"pos_k_bias": False} if "c2p" in table["reads"] else {}
    return table | {"k_bias": False} | own


def convolution(config: HfConfig) -> Table:
    """What is added to the first block."""
    kernel = config.get("conv_kernel_size", 0)
    if kernel % 2 == 0:
        raise config.refuse("conv_kernel_size", kernel, "odd ones are, which keep the length")
    return {
        "kind": "convolution",
        "kernel": kernel,
        "activation": config.activation("conv_act", "tanh"),
        "groups": config.get("conv_groups", 1),
        "dropout": float(config.get("hidden_dropout_prob", 0.1)),
    }


def answer(config: HfConfig) -> Answer:
    """Head and pool of a class of DeBERTa's."""
    config.ignore("legacy", "cls_dropout", "pooler_dropout", "pooler_hidden_act")
    # DeBERTa 3 is published without the name of a class, with a head that no class reads.
    worded = not config.tensors or any(name.startswith("cls.") for name in config.tensors)
    task = task_of(config, "ForMaskedLM" if worded else "Model")
    own, rate = config.get("cls_dropout", None), config.get("hidden_dropout_prob", 0.1)
    options: Table = {
        "activation": config.activation("pooler_hidden_act", "gelu"),
        "dropout": float(rate if own is None else own),
    }
    match task:
        case "Model":
            return Answer()
        case "ForTokenClassification" | "ForQuestionAnswering":
            return tags(config, task)
        case "ForSequenceClassification" | "ForMultipleChoice":
            return classifier(config, "pooler.dense", "classifier", **options)
        case "ForMaskedLM":
            return masked(config)
    raise config.refuse("architectures", config.architecture)


def masked(config: HfConfig) -> Answer:
    """The head over masked words: the old one has a decoder, the new one reads the embeddings."""
    head = words(config) | {"norm": norm_of(config, EPS)}
    if not config.get("legacy", True):
        theirs = "lm_predictions.lm_head.{dense,LayerNorm,bias}"
        return Answer(head | {"tied": True}, None, rows("head.{map,norm,bias}", theirs))
    width = config.get("embedding_size", None)
    base = "cls.predictions."
    found = word_rows(base + "transform.", base, "dense", "LayerNorm", config)
    return Answer(head | ({"width": width} if width else {}), None, found)


def weights(config: HfConfig, *, mixer: Callable[[HfConfig], list[Row]]) -> list[Row]:
    """The weight map of a DeBERTa, whose attention has the rows of `mixer`."""
    relative = config.get("relative_attention", False)
    table = "position.absolute.table" if relative else "position.table"
    return [
        *(row for row in around("deberta.") if row.ours != "position.table"),
        Row(table, "deberta.embeddings.position_embeddings"),
        *([Row("position.table", "deberta.encoder.rel_embeddings")] if relative else []),
        Row("position.norm", "deberta.encoder.LayerNorm"),
        Row("embed.project", "deberta.embeddings.embed_proj"),
        *mixer(config),
        *joints("deberta.encoder.layer.{i}"),
        Row(f"{BLOCK}.branch", "deberta.encoder.conv.conv", Axes((0, 2, 1))),
        Row(f"{BLOCK}.branch_residual.out", "deberta.encoder.conv.LayerNorm"),
        *answer(config).rows,
    ]


def first_mixer(config: HfConfig) -> list[Row]:
    """DeBERTa 1: packed head by head, biases apart."""
    n_heads = config.get("num_attention_heads", 12)
    packed = SplitGroups(n_heads, n_heads, config.get("hidden_size", 768) // n_heads)
    ours = tuple(f"{SELF}.{x}.weight" for x in "qkv")
    return [
        Row(ours, f"{HF_ATTENTION}.in_proj.weight", packed),
        *rows(f"{SELF}.{{q,v}}.bias", f"{HF_ATTENTION}.{{q,v}}_bias"),
        *rows(f"{SELF}.pos_{{k,q}}", f"{HF_ATTENTION}.{{pos_proj,pos_q_proj}}"),
    ]


def second_mixer(config: HfConfig) -> list[Row]:
    """DeBERTa 2 and 3."""
    return [
        *rows(f"{SELF}.{{q,k,v}}", f"{HF_ATTENTION}.{{query,key,value}}_proj"),
        *rows(f"{SELF}.pos_{{k,q}}", f"{HF_ATTENTION}.pos_{{key,query}}_proj"),
    ]


RELATIVE: dict[str, Told] = {
    **TOWER,
    "type_vocab_size": lambda view: view.get("embed.n_types") or 0,
    "relative_attention": is_("position.kind", "disentangled"),
    "pos_att_type": lambda view: list(view.get("block.mixer.reads")),
    "max_relative_positions": lambda view: first_of(view, "position.max_distance", "position.span"),
    "position_biased_input": lambda view: (
        view.get("position.kind") == "learned" or view.get("position.absolute") is True
    ),
}
SECOND: dict[str, Told] = {
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
    """The family of the first or of the second and third DeBERTa."""
    heads = ("cls.", "lm_predictions.", "mask_predictions.", "pooler.", "classifier.")
    return Family(
        model_types=(name,),
        architecture=f"{title}ForMaskedLM",
        model=partial(model, second=second),
        weights=partial(weights, mixer=second_mixer if second else first_mixer),
        config=spelled(SECOND if second else RELATIVE, asked(title)),
        renames=(*NAMES, prefixed("deberta.", *heads, "qa_outputs.")),
        spare=(r"^(cls|lm_predictions|mask_predictions)\.", r"^deberta\..*position_embeddings\."),
        tied=(
            ("cls.predictions.decoder.weight", "deberta.embeddings.word_embeddings.weight"),
            ("cls.predictions.decoder.bias", "cls.predictions.bias"),
        ),
    )


DEBERTA = debertas("deberta", "Deberta", second=False)
DEBERTA_V2 = debertas("deberta-v2", "DebertaV2", second=True)
