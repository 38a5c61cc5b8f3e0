"""BERT, and those that changed its training but not its layers: RoBERTa, XLM-R, CamemBERT.

Defaults are those of `BertConfig`, `RobertaConfig`, `XLMRobertaConfig` and `CamembertConfig`.
"""

from collections.abc import Callable
from functools import partial

from ...core.errors import ConvertError
from ..answers import (
    Answer,
    asked,
    classifier,
    pooled,
    tags,
    task_of,
)
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..view import MISSING, Told, View, activation, spelled
from ..weights import Row, rows

BLOCK = "stack.blocks.{i}"
OLD_KEYS = (
    *("directionality", "output_past", "pooler_fc_size", "pooler_num_attention_heads"),
    *("pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"),
)
"""What old configs say and no code reads."""
CAUSAL = ("LMHeadModel", "ForCausalLM")


def model(config: HfConfig, *, vocab_size: int = 30522, pad: int | None = None) -> Table:
    """The `[model]` table of a BertConfig; with a `pad` token, of a RobertaConfig."""
    offset = 0 if pad is None else config.get("pad_token_id", pad) + 1
    answer = bert_answer(config) if pad is None else roberta_answer(config)
    return {
        **tower(config, offset=offset, vocab_size=vocab_size),
        "kind": kind_of(config),
        **answer.tables(),
    }


def kind_of(config: HfConfig) -> str:
    """Whether it reads both ways, or one way and writes."""
    causal = config.architecture.endswith(CAUSAL) and config.get("is_decoder", False)
    return "decoder" if causal else "encoder"


def norm_of(config: HfConfig, eps: float = 1e-12) -> Table:
    """The layer norm that BERT has everywhere."""
    return {"kind": "layer_norm", "eps": config.get("layer_norm_eps", eps)}


def tower(
    config: HfConfig,
    *,
    vocab_size: int,
    offset: int = 0,
    dim: int = 768,
    n_layers: int = 12,
    n_heads: int = 12,
    hidden_dim: int = 3072,
    activation: str = "gelu",
    dropout: float = 0.1,
    positions: str = "absolute",
) -> Table:
    """What all of BERT's line share: embeddings, blocks, no last norm; the defaults that differ.

    Positions are learned; a family with others says which it takes instead.
    """
    config.expect("position_embedding_type", positions, "absolute")
    config.ignore(*OLD_KEYS)
    rate = float(config.get("hidden_dropout_prob", dropout))
    norm = norm_of(config)
    mixer = {
        "kind": "attention",
        "n_heads": config.get("num_attention_heads", n_heads),
        "bias": True,
        "out_bias": True,
        "dropout": float(config.get("attention_probs_dropout_prob", dropout)),
    }
    ffn = {
        "kind": "mlp",
        "hidden_dim": config.get("intermediate_size", hidden_dim),
        "activation": config.activation("hidden_act", activation),
        "bias": True,
    }
    embed = {
        "kind": "token",
        "n_types": config.get("type_vocab_size", 2) or None,
        "norm": norm,
        "dropout": rate,
    }
    return {
        "kind": "encoder",
        "dim": config.get("hidden_size", dim),
        "n_layers": config.get("num_hidden_layers", n_layers),
        "max_seq_len": config.get("max_position_embeddings", 512) - offset,
        "vocab_size": config.get("vocab_size", vocab_size),
        "embed": {key: value for key, value in embed.items() if value is not None},
        "position": {"kind": "learned", **(behind(offset) if offset else {})},
        "block": {
            "placement": "post",
            "dropout": rate,
            "norm": norm,
            "mixer": mixer,
            "ffn": ffn,
        },
        "norm": {"kind": "none"},
        "init": {"kind": "normal", "std": config.get("initializer_range", 0.02)},
    }


def behind(offset: int) -> Table:
    """Positions that begin behind the number of the padding token, and count without padding."""
    return {"offset": offset, "skips_padding": True}


def words(config: HfConfig, activation: str | None = None) -> Table:
    """The head over masked words; `activation` where it isn't that of the blocks."""
    return {
        "kind": "mlm",
        "tied": config.get("tie_word_embeddings", True),
        "bias": True,
        "activation": activation or config.activation("hidden_act", "gelu"),
        "norm": norm_of(config),
    }


def word_rows(head: str, base: str, transform: str, norm: str, config: HfConfig) -> list[Row]:
    """The rows of a head over words: its decoder has a bias of its own where it isn't tied, but
    for files that are older than that."""
    tied = config.get("tie_word_embeddings", True)
    tied = tied or (bool(config.tensors) and f"{base}decoder.bias" not in config.tensors)
    return [
        *rows("head.{map,norm}", f"{head}{{{transform},{norm}}}"),
        Row("head.weight", f"{base}decoder.weight"),
        Row("head.bias", f"{base}bias" if tied else f"{base}decoder.bias"),
    ]


def class_dropout(config: HfConfig) -> float:
    """Dropout before a classifier: its own rate, or the model's."""
    own = config.get("classifier_dropout", None)
    return float(config.get("hidden_dropout_prob", 0.1) if own is None else own)


def bert_answer(config: HfConfig, prefix: str = "bert.", pooler: str = "pooler.dense") -> Answer:
    """Head and pool of a class of BERT's, whose tower names its pooler's map `pooler`."""
    task, pooler = task_of(config, "ForPreTraining", *CAUSAL), f"{prefix}{pooler}"
    rate = class_dropout(config)
    match task:
        case "Model":
            return pooled(pooler)
        case "ForTokenClassification" | "ForQuestionAnswering":
            return tags(config, task)
        case "ForNextSentencePrediction":
            return classifier(config, pooler, "cls.seq_relationship", n_classes=2)
        case "ForSequenceClassification" | "ForMultipleChoice":
            return classifier(config, pooler, "classifier", dropout=rate)
    base = "cls.predictions."
    head_rows = word_rows(base + "transform.", base, "dense", "LayerNorm", config)
    if task != "ForPreTraining":
        return Answer(words(config), None, head_rows)
    order = classifier(config, pooler, "cls.seq_relationship", n_classes=2)
    return Answer(words(config), order.pool, [*head_rows, *order.rows])


def roberta_answer(config: HfConfig, prefix: str = "roberta.") -> Answer:
    """Head and pool of a class of RoBERTa's, whose classifier holds its own pooler."""
    task, rate = task_of(config, "ForMaskedLM", *CAUSAL), class_dropout(config)
    match task:
        case "Model":
            return pooled(f"{prefix}pooler.dense")
        case "ForTokenClassification" | "ForQuestionAnswering":
            return tags(config, task)
        case "ForSequenceClassification":
            return classifier(config, "classifier.dense", "classifier.out_proj", dropout=rate)
        case "ForMultipleChoice":
            return classifier(config, f"{prefix}pooler.dense", "classifier", dropout=rate)
    rows_ = word_rows("lm_head.", "lm_head.", "dense", "layer_norm", config)
    return Answer(words(config, "gelu"), None, rows_)


def weights(
    config: HfConfig,
    *,
    prefix: str = "bert.",
    answer: Callable[[HfConfig, str], Answer] = bert_answer,
) -> list[Row]:
    """The weight map of a BERT, or of a RoBERTa with its prefix and its heads."""
    block = layers(f"{prefix}encoder.layer.{{i}}")
    return [*around(prefix), *block, *answer(config, prefix).rows]


def around(prefix: str) -> list[Row]:
    """The tensors of the embeddings."""
    return [
        Row("embed.table", f"{prefix}embeddings.word_embeddings"),
        Row("embed.types", f"{prefix}embeddings.token_type_embeddings"),
        Row("embed.norm", f"{prefix}embeddings.LayerNorm"),
        Row("position.table", f"{prefix}embeddings.position_embeddings"),
    ]


def layers(theirs: str) -> list[Row]:
    """The tensors of a block."""
    return [
        *rows(f"{BLOCK}.mixer.{{q,k,v}}", f"{theirs}.attention.self.{{query,key,value}}"),
        *joints(theirs),
    ]


def joints(theirs: str) -> list[Row]:
    """The tensors of a block beside those of its mixer: BERT's, ELECTRA's and DeBERTa's."""
    return [
        Row(f"{BLOCK}.mixer.o", f"{theirs}.attention.output.dense"),
        Row(f"{BLOCK}.mixer_residual.out", f"{theirs}.attention.output.LayerNorm"),
        Row(f"{BLOCK}.ffn.up", f"{theirs}.intermediate.dense"),
        Row(f"{BLOCK}.ffn.down", f"{theirs}.output.dense"),
        Row(f"{BLOCK}.ffn_residual.out", f"{theirs}.output.LayerNorm"),
    ]


TOWER: dict[str, Told] = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "block.mixer.n_heads",
    "intermediate_size": "block.ffn.hidden_dim",
    "hidden_act": activation("block.ffn.activation"),
    "max_position_embeddings": "max_seq_len",
    "type_vocab_size": lambda view: view.get("embed.n_types") or 1,
    "layer_norm_eps": "block.norm.eps",
    "hidden_dropout_prob": "block.dropout",
    "attention_probs_dropout_prob": "block.mixer.dropout",
    "initializer_range": "init.std",
    "tie_word_embeddings": lambda view: view.get("head.tied") in (MISSING, True),
}
"""Where our values of keys stand that all of BERT's line share."""


def padded(view: View) -> Table:
    """The token before the first position, from which RoBERTa's code counts."""
    offset = view.get("position.offset")
    if offset in (None, MISSING, 0):
        raise ConvertError("A RoBERTa has positions from that of its padding token on.")
    return {
        "pad_token_id": offset - 1,
        "max_position_embeddings": view.get("max_seq_len") + offset,
    }


NAMES = ((r"\.gamma$", ".weight"), (r"\.beta$", ".bias"))
"""What TensorFlow called the parameters of a norm."""

HEADS = ("cls.", "lm_head.", "classifier.", "qa_outputs.")
"""What stands beside the tower in a file."""


def bert_extras(prefix: str) -> Table:
    """What a file holds beside: unused heads, and second names of tied tensors."""
    head = "cls.predictions"
    return {
        "spare": (rf"^{prefix}pooler\.", r"^cls\."),
        "tied": (
            (f"{head}.decoder.weight", f"{prefix}embeddings.word_embeddings.weight"),
            (f"{head}.decoder.bias", f"{head}.bias"),
        ),
    }


def robertas(
    *names: str, prefix: str = "roberta.", title: str = "Roberta", vocab_size: int = 30522
) -> Family:
    """A family with RoBERTa's tensors under a prefix."""
    return Family(
        model_types=names,
        architecture=f"{title}ForMaskedLM",
        model=partial(model, vocab_size=vocab_size, pad=1),
        weights=partial(weights, prefix=prefix, answer=roberta_answer),
        config=spelled(TOWER, padded, asked(title)),
        renames=(*NAMES, prefixed(prefix, *HEADS)),
        **roberta_extras(prefix),
    )


def roberta_extras(prefix: str) -> Table:
    """The same for RoBERTa's."""
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
    config=spelled(TOWER, asked("Bert", "LMHeadModel")),
    renames=(*NAMES, prefixed("bert.", *HEADS)),
    **bert_extras("bert."),
)
ROBERTA = robertas("roberta", vocab_size=50265)
XLM_ROBERTA = robertas("xlm-roberta", "camembert", title="XLMRoberta")
