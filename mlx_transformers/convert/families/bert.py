"""BERT, and those that changed its training but not its layers: RoBERTa, XLM-R, CamemBERT.

Defaults are those of `BertConfig`, `RobertaConfig`, `XLMRobertaConfig` and `CamembertConfig`.
"""

from collections.abc import Callable
from functools import partial

from ...core.errors import ConvertError
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import MISSING, SIZES, FlatModel, PathOrFn, activation, config_writer
from ..rows import BLOCK, Row, rows
from ..task_heads import (
    TaskHead,
    architecture_of,
    classifier,
    pooler_head,
    task_of,
    token_classifier,
)

OLD_KEYS = (
    *("directionality", "output_past", "pooler_fc_size", "pooler_num_attention_heads"),
    *("pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"),
)
"""Keys of old configs that no code reads."""
CAUSAL = ("LMHeadModel", "ForCausalLM")


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a BertConfig."""
    return {**tower(config), "kind": kind_of(config), **bert_head(config).tables()}


def roberta(config: HfConfig) -> Table:
    """Return the `[model]` table of a RobertaConfig, whose positions follow the padding token."""
    table = tower(config, offset=config.get("pad_token_id") + 1)
    return {**table, "kind": kind_of(config), **roberta_head(config).tables()}


def kind_of(config: HfConfig) -> str:
    """Whether it reads both ways, or one way and writes."""
    causal = config.architecture.endswith(CAUSAL) and config.get("is_decoder")
    return "decoder" if causal else "encoder"


def norm_of(config: HfConfig) -> Table:
    """Return the table of BERT's layer norms."""
    return {"kind": "layer_norm", "eps": config.get("layer_norm_eps")}


def tower(config: HfConfig, *, offset: int = 0, positions: str = "absolute") -> Table:
    """Return the encoder without head and pool, as BERT and its relatives share it.

    Args:
        config: the config.
        offset: number of rows of the position table before the first position.
        positions: the only `position_embedding_type` to accept; a family with other positions
            than learned ones replaces the table's `position`.
    """
    config.expect("position_embedding_type", positions)
    config.ignore(*OLD_KEYS)
    rate = float(config.get("hidden_dropout_prob"))
    norm = norm_of(config)
    mixer = {
        "kind": "attention",
        "n_heads": config.get("num_attention_heads"),
        "bias": True,
        "out_bias": True,
        "dropout": float(config.get("attention_probs_dropout_prob")),
    }
    ffn = {
        "kind": "mlp",
        "hidden_dim": config.get("intermediate_size"),
        "activation": config.activation("hidden_act"),
        "bias": True,
    }
    embed = {
        "kind": "token",
        "n_types": config.optional("type_vocab_size") or None,
        "norm": norm,
        "dropout": rate,
    }
    return {
        "kind": "encoder",
        "dim": config.get("hidden_size"),
        "n_layers": config.get("num_hidden_layers"),
        "max_seq_len": config.get("max_position_embeddings") - offset,
        "vocab_size": config.get("vocab_size"),
        "embed": {key: value for key, value in embed.items() if value is not None},
        "position": {"kind": "learned", **(offset_positions(offset) if offset else {})},
        "block": {
            "placement": "post",
            "dropout": rate,
            "norm": norm,
            "mixer": mixer,
            "ffn": ffn,
        },
        "norm": {"kind": "none"},
        "init": {"kind": "normal", "std": config.get("initializer_range")},
    }


def offset_positions(offset: int) -> Table:
    """Return the keys of positions that start after the padding token's id and skip padding."""
    return {"offset": offset, "skips_padding": True}


def mlm_head(config: HfConfig, activation: str | None = None) -> Table:
    """Return the MLM head; `activation` if it isn't that of the blocks."""
    return {
        "kind": "mlm",
        "tied": config.get("tie_word_embeddings"),
        "bias": True,
        "activation": activation or config.activation("hidden_act"),
        "norm": norm_of(config),
    }


def mlm_rows(head: str, base: str, transform: str, norm: str, config: HfConfig) -> list[Row]:
    """Return the rows of a masked-language-model head.

    An untied decoder has a bias of its own, except in older files.
    """
    tied = config.get("tie_word_embeddings")
    tied = tied or (bool(config.tensors) and f"{base}decoder.bias" not in config.tensors)
    return [
        *rows("head.{map,norm}", f"{head}{{{transform},{norm}}}"),
        Row("head.weight", f"{base}decoder.weight"),
        Row("head.bias", f"{base}bias" if tied else f"{base}decoder.bias"),
    ]


def class_dropout(config: HfConfig) -> float:
    """Return the dropout before a classifier: its own, or the model's."""
    rate = config.optional("classifier_dropout")
    return float(config.get("hidden_dropout_prob") if rate is None else rate)


def bert_head(config: HfConfig, prefix: str = "bert.", pooler: str = "pooler.dense") -> TaskHead:
    """Return head and pool of a class of BERT's; `pooler` names the pooler's linear layer."""
    task, pooler = task_of(config, "ForPreTraining", *CAUSAL), f"{prefix}{pooler}"
    rate = class_dropout(config)
    match task:
        case "Model":
            return pooler_head(pooler)
        case "ForTokenClassification" | "ForQuestionAnswering":
            return token_classifier(config, task)
        case "ForNextSentencePrediction":
            return classifier(config, pooler, "cls.seq_relationship", n_classes=2)
        case "ForSequenceClassification" | "ForMultipleChoice":
            return classifier(config, pooler, "classifier", dropout=rate)
    base = "cls.predictions."
    head_rows = mlm_rows(base + "transform.", base, "dense", "LayerNorm", config)
    if task != "ForPreTraining":
        return TaskHead(mlm_head(config), None, head_rows)
    order = classifier(config, pooler, "cls.seq_relationship", n_classes=2)
    return TaskHead(mlm_head(config), order.pool, [*head_rows, *order.rows])


def roberta_head(config: HfConfig, prefix: str = "roberta.") -> TaskHead:
    """Return head and pool of a class of RoBERTa's, whose classifier has its own pooler."""
    task, rate = task_of(config, "ForMaskedLM", *CAUSAL), class_dropout(config)
    match task:
        case "Model":
            return pooler_head(f"{prefix}pooler.dense")
        case "ForTokenClassification" | "ForQuestionAnswering":
            return token_classifier(config, task)
        case "ForSequenceClassification":
            return classifier(config, "classifier.dense", "classifier.out_proj", dropout=rate)
        case "ForMultipleChoice":
            return classifier(config, f"{prefix}pooler.dense", "classifier", dropout=rate)
    rows_ = mlm_rows("lm_head.", "lm_head.", "dense", "layer_norm", config)
    return TaskHead(mlm_head(config, "gelu"), None, rows_)


def weights(
    config: HfConfig,
    *,
    prefix: str = "bert.",
    answer: Callable[[HfConfig, str], TaskHead] = bert_head,
) -> list[Row]:
    """Return the weight map of a BERT, or of a RoBERTa with its prefix and its heads."""
    block = layers(f"{prefix}encoder.layer.{{i}}")
    return [*outer_rows(prefix), *block, *answer(config, prefix).rows]


def outer_rows(prefix: str) -> list[Row]:
    """Return the tensors of the embeddings."""
    return [
        Row("embed.table", f"{prefix}embeddings.word_embeddings"),
        Row("embed.types", f"{prefix}embeddings.token_type_embeddings"),
        Row("embed.norm", f"{prefix}embeddings.LayerNorm"),
        Row("position.table", f"{prefix}embeddings.position_embeddings"),
    ]


def layers(theirs: str) -> list[Row]:
    """Return the tensors of a block."""
    return [
        *rows(f"{BLOCK}.mixer.{{q,k,v}}", f"{theirs}.attention.self.{{query,key,value}}"),
        *output_rows(theirs),
    ]


def output_rows(theirs: str) -> list[Row]:
    """Return the tensors of a block beside those of its mixer: BERT's, ELECTRA's and DeBERTa's."""
    return [
        Row(f"{BLOCK}.mixer.o", f"{theirs}.attention.output.dense"),
        Row(f"{BLOCK}.mixer_residual.out", f"{theirs}.attention.output.LayerNorm"),
        Row(f"{BLOCK}.ffn.up", f"{theirs}.intermediate.dense"),
        Row(f"{BLOCK}.ffn.down", f"{theirs}.output.dense"),
        Row(f"{BLOCK}.ffn_residual.out", f"{theirs}.output.LayerNorm"),
    ]


ENCODER_KEYS: dict[str, PathOrFn] = {
    **SIZES,
    "hidden_act": activation("block.ffn.activation"),
    "type_vocab_size": lambda view: view.get("embed.n_types") or 1,
    "layer_norm_eps": "block.norm.eps",
    "hidden_dropout_prob": "block.dropout",
    "attention_probs_dropout_prob": "block.mixer.dropout",
    "tie_word_embeddings": lambda view: view.get("head.tied") in (MISSING, True),
}
"""Recipe paths of the keys that all of BERT's line share."""


def pad_offset(view: FlatModel) -> Table:
    """Return the padding token's id, after which RoBERTa's positions start."""
    offset = view.get("position.offset")
    if offset in (None, MISSING, 0):
        raise ConvertError("A RoBERTa has positions from that of its padding token on.")
    return {
        "pad_token_id": offset - 1,
        "max_position_embeddings": view.get("max_seq_len") + offset,
    }


TENSORFLOW_NAMES = ((r"\.gamma$", ".weight"), (r"\.beta$", ".bias"))
"""TensorFlow's names of a norm's parameters."""

HEADS = ("cls.", "lm_head.", "classifier.", "qa_outputs.")
"""Tensors beside those of the encoder in a file."""


def bert_extras(prefix: str) -> Table:
    """Return patterns of unused heads and of second names of tied tensors."""
    head = "cls.predictions"
    return {
        "spare": (rf"^{prefix}pooler\.", r"^cls\."),
        "tied": (
            (f"{head}.decoder.weight", f"{prefix}embeddings.word_embeddings.weight"),
            (f"{head}.decoder.bias", f"{head}.bias"),
        ),
    }


def roberta_family(*names: str, prefix: str = "roberta.", title: str = "Roberta") -> Family:
    """Return a family with RoBERTa's tensors under a prefix."""
    return Family(
        model_types=names,
        architecture=f"{title}ForMaskedLM",
        model=roberta,
        weights=partial(weights, prefix=prefix, answer=roberta_head),
        config=config_writer(ENCODER_KEYS, pad_offset, architecture_of(title)),
        renames=(*TENSORFLOW_NAMES, prefixed(prefix, *HEADS)),
        **roberta_extras(prefix),
    )


def roberta_extras(prefix: str) -> Table:
    """Return those patterns for RoBERTa."""
    return {
        "spare": (rf"^{prefix}pooler\.", r"^lm_head\."),
        "tied": (
            ("lm_head.decoder.weight", f"{prefix}embeddings.word_embeddings.weight"),
            ("lm_head.decoder.bias", "lm_head.bias"),
        ),
    }


BERT = Family(
    model_types=("bert",),
    architecture="BertForPreTraining",
    model=model,
    weights=weights,
    config=config_writer(ENCODER_KEYS, architecture_of("Bert", "LMHeadModel")),
    renames=(*TENSORFLOW_NAMES, prefixed("bert.", *HEADS)),
    **bert_extras("bert."),
)
ROBERTA = roberta_family("roberta")
XLM_ROBERTA = roberta_family("xlm-roberta", "camembert", title="XLMRoberta")
