"""DistilBERT: BERT without token types and pooler. Defaults are those of `DistilBertConfig`."""

from ..answers import Answer, asked, classifier, tags, task_of
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..view import Told, activation, spelled
from ..weights import Row, rows
from .bert import TOWER

HF_BLOCK = "distilbert.transformer.layer.{i}"
BLOCK = "stack.blocks.{i}"
NORM = {"kind": "layer_norm", "eps": 1e-12}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a DistilBertConfig."""
    # Sinusoidal positions are a table in the file as well, and were only initialised as waves.
    config.ignore("sinusoidal_pos_embds", "qa_dropout", "seq_classif_dropout")
    config.ignore("output_past", "tie_weights_")
    rate = float(config.get("dropout", 0.1))
    mixer = {
        "kind": "attention",
        "n_heads": config.get("n_heads", 12),
        "bias": True,
        "out_bias": True,
        "dropout": float(config.get("attention_dropout", 0.1)),
    }
    ffn = {
        "kind": "mlp",
        "hidden_dim": config.get("hidden_dim", 3072),
        "activation": config.activation("activation", "gelu"),
        "bias": True,
    }
    return {
        "kind": "encoder",
        "dim": config.get("dim", 768),
        "n_layers": config.get("n_layers", 6),
        "max_seq_len": config.get("max_position_embeddings", 512),
        "vocab_size": config.get("vocab_size", 30522),
        "embed": {"kind": "token", "norm": NORM, "dropout": rate},
        "position": {"kind": "learned"},
        "block": {
            "placement": "post",
            "dropout": rate,
            "norm": NORM,
            "mixer": mixer,
            "ffn": ffn,
        },
        "norm": {"kind": "none"},
        "init": {"kind": "normal", "std": config.get("initializer_range", 0.02)},
        **answer(config).tables(),
    }


def answer(config: HfConfig) -> Answer:
    """Head and pool of a class of DistilBERT's."""
    task = task_of(config, "ForMaskedLM")
    options: Table = {
        "activation": "relu",
        "dropout": float(config.get("seq_classif_dropout", 0.2)),
    }
    match task:
        case "Model":
            return Answer()
        case "ForTokenClassification" | "ForQuestionAnswering":
            return tags(config, task)
        case "ForSequenceClassification" | "ForMultipleChoice":
            return classifier(config, "pre_classifier", "classifier", **options)
    head = {
        "kind": "mlm",
        "tied": config.get("tie_word_embeddings", True),
        "bias": True,
        "activation": config.activation("activation", "gelu"),
        "norm": NORM,
    }
    return Answer(
        head,
        None,
        [
            *rows("head.{map,norm}", "vocab_{transform,layer_norm}"),
            *rows("head.{weight,bias}", "vocab_projector.{weight,bias}"),
        ],
    )


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a DistilBERT."""
    return [
        Row("embed.table", "distilbert.embeddings.word_embeddings"),
        Row("embed.norm", "distilbert.embeddings.LayerNorm"),
        Row("position.table", "distilbert.embeddings.position_embeddings"),
        *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{HF_BLOCK}.attention.{{q,k,v,out}}_lin"),
        Row(f"{BLOCK}.mixer_residual.out", f"{HF_BLOCK}.sa_layer_norm"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.ffn.{{lin1,lin2}}"),
        Row(f"{BLOCK}.ffn_residual.out", f"{HF_BLOCK}.output_layer_norm"),
        *answer(config).rows,
    ]


KEYS: dict[str, Told] = {
    "vocab_size": "vocab_size",
    "dim": "dim",
    "n_layers": "n_layers",
    "n_heads": "block.mixer.n_heads",
    "hidden_dim": "block.ffn.hidden_dim",
    "activation": activation("block.ffn.activation"),
    "max_position_embeddings": "max_seq_len",
    "dropout": "block.dropout",
    "attention_dropout": "block.mixer.dropout",
    "initializer_range": "init.std",
    "tie_word_embeddings": TOWER["tie_word_embeddings"],
}

DISTILBERT = Family(
    model_types=("distilbert",),
    architecture="DistilBertForMaskedLM",
    model=model,
    weights=weights,
    config=spelled(KEYS, asked("DistilBert")),
    renames=(prefixed("distilbert.", "vocab_", "classifier.", "pre_classifier.", "qa_outputs."),),
    spare=(r"^vocab_",),
    tied=(("vocab_projector.weight", "distilbert.embeddings.word_embeddings.weight"),),
)
