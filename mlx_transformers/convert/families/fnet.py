"""FNet: BERT with Fourier transforms for attention. Defaults are those of `FNetConfig`."""

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import PathOrFn, config_writer
from ..rows import BLOCK, Row
from ..task_heads import architecture_of
from .bert import ENCODER_KEYS, TENSORFLOW_NAMES, bert_head, norm_of, outer_rows

HF_BLOCK = "fnet.encoder.layer.{i}"


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
        **bert_head(config, "fnet.").tables(),
    }


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an FNet."""
    return [
        *outer_rows("fnet."),
        Row("embed.project", "fnet.embeddings.projection"),
        Row(f"{BLOCK}.mixer_residual.out", f"{HF_BLOCK}.fourier.output.LayerNorm"),
        Row(f"{BLOCK}.ffn.up", f"{HF_BLOCK}.intermediate.dense"),
        Row(f"{BLOCK}.ffn.down", f"{HF_BLOCK}.output.dense"),
        Row(f"{BLOCK}.ffn_residual.out", f"{HF_BLOCK}.output.LayerNorm"),
        *bert_head(config, "fnet.").rows,
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
