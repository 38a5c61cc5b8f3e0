"""FNet: BERT with Fourier transforms for attention. Defaults are those of `FNetConfig`."""

from ..answers import Answer, asked, classifier, pooled, tags, task_of
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..view import Told, spelled
from ..weights import Row
from .bert import BLOCK, NAMES, TOWER, around, norm_of, word_rows, words

HF_BLOCK = "fnet.encoder.layer.{i}"
POOLER = "fnet.pooler.dense"


def model(config: HfConfig) -> Table:
    """The `[model]` table of an FNetConfig."""
    # Which algorithm computes the transform is a question of speed.
    config.ignore("use_tpu_fourier_optimizations", "tpu_short_seq_length", "num_attention_heads")
    dim, rate = config.get("hidden_size", 768), float(config.get("hidden_dropout_prob", 0.1))
    norm = norm_of(config)
    ffn = {
        "kind": "mlp",
        "hidden_dim": config.get("intermediate_size", 3072),
        "activation": config.activation("hidden_act", "gelu_new"),
        "bias": True,
    }
    return {
        "kind": "encoder",
        "dim": dim,
        "n_layers": config.get("num_hidden_layers", 12),
        "max_seq_len": config.get("max_position_embeddings", 512),
        "vocab_size": config.get("vocab_size", 32000),
        "embed": {
            "kind": "token",
            "n_types": config.get("type_vocab_size", 4),
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
        "init": {"kind": "normal", "std": config.get("initializer_range", 0.02)},
        **answer(config).tables(),
    }


def answer(config: HfConfig) -> Answer:
    """Head and pool of a class of FNet's."""
    task, rate = task_of(config, "ForPreTraining"), float(config.get("hidden_dropout_prob", 0.1))
    match task:
        case "Model":
            return pooled(POOLER)
        case "ForTokenClassification" | "ForQuestionAnswering":
            return tags(config, task)
        case "ForNextSentencePrediction":
            return classifier(config, POOLER, "cls.seq_relationship", n_classes=2)
        case "ForSequenceClassification" | "ForMultipleChoice":
            return classifier(config, POOLER, "classifier", dropout=rate)
    base = "cls.predictions."
    rows = word_rows(base + "transform.", base, "dense", "LayerNorm", config)
    head = words(config, config.activation("hidden_act", "gelu_new"))
    if task == "ForMaskedLM":
        return Answer(head, None, rows)
    order = classifier(config, POOLER, "cls.seq_relationship", n_classes=2)
    return Answer(head, order.pool, [*rows, *order.rows])


def weights(config: HfConfig) -> list[Row]:
    """The weight map of an FNet."""
    return [
        *around("fnet."),
        Row("embed.project", "fnet.embeddings.projection"),
        Row(f"{BLOCK}.mixer_residual.out", f"{HF_BLOCK}.fourier.output.LayerNorm"),
        Row(f"{BLOCK}.ffn.up", f"{HF_BLOCK}.intermediate.dense"),
        Row(f"{BLOCK}.ffn.down", f"{HF_BLOCK}.output.dense"),
        Row(f"{BLOCK}.ffn_residual.out", f"{HF_BLOCK}.output.LayerNorm"),
        *answer(config).rows,
    ]


KEYS: dict[str, Told] = {
    key: told
    for key, told in TOWER.items()
    if key not in ("num_attention_heads", "attention_probs_dropout_prob")
}

FNET = Family(
    model_types=("fnet",),
    architecture="FNetForPreTraining",
    model=model,
    weights=weights,
    config=spelled(KEYS, asked("FNet")),
    renames=(*NAMES, prefixed("fnet.", "cls.", "classifier.", "qa_outputs.")),
    dropped=(r"\.token_type_ids$", r"\.dft_mat_(hidden|seq)$"),
    spare=(r"^fnet\.pooler\.", r"^cls\."),
    tied=(
        ("cls.predictions.decoder.weight", "fnet.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ),
)
