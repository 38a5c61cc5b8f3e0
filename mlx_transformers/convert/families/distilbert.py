"""DistilBERT: BERT without token types and pooler. Defaults are those of `DistilBertConfig`."""

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import PathOrFn, activation, config_writer
from ..rows import BLOCK, Row, rows
from ..task_heads import TaskHead, architecture_of, classifier, task_of, token_classifier
from .bert import ENCODER_KEYS

HF_BLOCK = "distilbert.transformer.layer.{i}"
NORM = {"kind": "layer_norm", "eps": 1e-12}


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a DistilBertConfig."""
    # Sinusoidal positions are a table in the file as well, and were only initialised as waves.
    config.ignore("sinusoidal_pos_embds", "qa_dropout", "seq_classif_dropout")
    config.ignore("output_past", "tie_weights_")
    rate = float(config.get("dropout"))
    mixer = {
        "kind": "attention",
        "n_heads": config.get("n_heads"),
        "bias": True,
        "out_bias": True,
        "dropout": float(config.get("attention_dropout")),
    }
    ffn = {
        "kind": "mlp",
        "hidden_dim": config.get("hidden_dim"),
        "activation": config.activation("activation"),
        "bias": True,
    }
    return {
        "kind": "encoder",
        "dim": config.get("dim"),
        "n_layers": config.get("n_layers"),
        "max_seq_len": config.get("max_position_embeddings"),
        "vocab_size": config.get("vocab_size"),
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
        "init": {"kind": "normal", "std": config.get("initializer_range")},
        **task_head(config).tables(),
    }


def task_head(config: HfConfig) -> TaskHead:
    """Return head and pool of a class of DistilBERT's."""
    task = task_of(config, "ForMaskedLM")
    options: Table = {
        "activation": "relu",
        "dropout": float(config.get("seq_classif_dropout")),
    }
    match task:
        case "Model":
            return TaskHead()
        case "ForTokenClassification" | "ForQuestionAnswering":
            return token_classifier(config, task)
        case "ForSequenceClassification" | "ForMultipleChoice":
            return classifier(config, "pre_classifier", "classifier", **options)
    head = {
        "kind": "mlm",
        "tied": config.get("tie_word_embeddings"),
        "bias": True,
        "activation": config.activation("activation"),
        "norm": NORM,
    }
    return TaskHead(
        head,
        None,
        [
            *rows("head.{map,norm}", "vocab_{transform,layer_norm}"),
            *rows("head.{weight,bias}", "vocab_projector.{weight,bias}"),
        ],
    )


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a DistilBERT."""
    return [
        Row("embed.table", "distilbert.embeddings.word_embeddings"),
        Row("embed.norm", "distilbert.embeddings.LayerNorm"),
        Row("position.table", "distilbert.embeddings.position_embeddings"),
        *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{HF_BLOCK}.attention.{{q,k,v,out}}_lin"),
        Row(f"{BLOCK}.mixer_residual.out", f"{HF_BLOCK}.sa_layer_norm"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.ffn.{{lin1,lin2}}"),
        Row(f"{BLOCK}.ffn_residual.out", f"{HF_BLOCK}.output_layer_norm"),
        *task_head(config).rows,
    ]


KEYS: dict[str, PathOrFn] = {
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
    "tie_word_embeddings": ENCODER_KEYS["tie_word_embeddings"],
}

DISTILBERT = Family(
    model_types=("distilbert",),
    architecture="DistilBertForMaskedLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS, architecture_of("DistilBert")),
    renames=(prefixed("distilbert.", "vocab_", "classifier.", "pre_classifier.", "qa_outputs."),),
    spare=(r"^vocab_",),
    tied=(("vocab_projector.weight", "distilbert.embeddings.word_embeddings.weight"),),
)
