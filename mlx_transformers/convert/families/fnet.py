"""FNet: BERT with Fourier transforms for attention. Defaults are those of `FNetConfig`."""

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import PathOrFn, config_writer
from ..rows import BLOCK, Row
from ..task_heads import (
    TaskHead,
    architecture_of,
    classifier,
    pooler_head,
    task_of,
    token_classifier,
)
from .bert import ENCODER_KEYS, TENSORFLOW_NAMES, mlm_head, mlm_rows, norm_of, outer_rows

HF_BLOCK = "fnet.encoder.layer.{i}"
POOLER = "fnet.pooler.dense"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an FNetConfig."""
    # Which algorithm computes the transform is a question of speed.
    config.ignore("use_tpu_fourier_optimizations", "tpu_short_seq_length", "num_attention_heads")
    dim, rate = config.get("hidden_size"), float(config.get("hidden_dropout_prob"))
    norm = norm_of(config)
    ffn = {
        "kind": "mlp",
        "hidden_dim": config.get("intermediate_size"),
        "activation": config.activation("hidden_act"),
        "bias": True,
    }
    return {
        "kind": "encoder",
        "dim": dim,
        "n_layers": config.get("num_hidden_layers"),
        "max_seq_len": config.get("max_position_embeddings"),
        "vocab_size": config.get("vocab_size"),
        "embed": {
            "kind": "token",
            "n_types": config.get("type_vocab_size"),
            "norm": norm,
            "width": dim,
            "project_bias": True,
            "dropout": rate,
        },
        "position": {"kind": "learned"},
        "block": {
            "placement": "post",
            "dropout": rate,
            "norm": norm,
            "mixer": {"kind": "fourier"},
            "ffn": ffn,
        },
        "norm": {"kind": "none"},
        "init": {"kind": "normal", "std": config.get("initializer_range")},
        **task_head(config).tables(),
    }


def task_head(config: HfConfig) -> TaskHead:
    """Return head and pool of a class of FNet's."""
    task, rate = task_of(config, "ForPreTraining"), float(config.get("hidden_dropout_prob"))
    match task:
        case "Model":
            return pooler_head(POOLER)
        case "ForTokenClassification" | "ForQuestionAnswering":
            return token_classifier(config, task)
        case "ForNextSentencePrediction":
            return classifier(config, POOLER, "cls.seq_relationship", n_classes=2)
        case "ForSequenceClassification" | "ForMultipleChoice":
            return classifier(config, POOLER, "classifier", dropout=rate)
    base = "cls.predictions."
    rows = mlm_rows(base + "transform.", base, "dense", "LayerNorm", config)
    head = mlm_head(config, config.activation("hidden_act"))
    if task == "ForMaskedLM":
        return TaskHead(head, None, rows)
    order = classifier(config, POOLER, "cls.seq_relationship", n_classes=2)
    return TaskHead(head, order.pool, [*rows, *order.rows])


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an FNet."""
    return [
        *outer_rows("fnet."),
        Row("embed.project", "fnet.embeddings.projection"),
        Row(f"{BLOCK}.mixer_residual.out", f"{HF_BLOCK}.fourier.output.LayerNorm"),
        Row(f"{BLOCK}.ffn.up", f"{HF_BLOCK}.intermediate.dense"),
        Row(f"{BLOCK}.ffn.down", f"{HF_BLOCK}.output.dense"),
        Row(f"{BLOCK}.ffn_residual.out", f"{HF_BLOCK}.output.LayerNorm"),
        *task_head(config).rows,
    ]


KEYS: dict[str, PathOrFn] = {
    key: path
    for key, path in ENCODER_KEYS.items()
    if key not in ("num_attention_heads", "attention_probs_dropout_prob")
}

FNET = Family(
    model_types=("fnet",),
    architecture="FNetForPreTraining",
    model=model,
    weights=weights,
    config=config_writer(KEYS, architecture_of("FNet")),
    renames=(*TENSORFLOW_NAMES, prefixed("fnet.", "cls.", "classifier.", "qa_outputs.")),
    dropped=(r"\.token_type_ids$", r"\.dft_mat_(hidden|seq)$"),
    spare=(r"^fnet\.pooler\.", r"^cls\."),
    tied=(
        ("cls.predictions.decoder.weight", "fnet.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ),
)
