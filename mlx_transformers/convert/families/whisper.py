"""Whisper: convolutions over a log-mel spectrum, an encoder and a decoder with norms in front.
Defaults are those of `WhisperConfig`."""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, activation, config_writer
from ..kernels import Kernels
from ..pictures import task
from ..rows import Row, rows
from ..transforms import SilentBias

IGNORED = (
    *("encoder_layerdrop", "decoder_layerdrop", "num_hidden_layers", "decoder_start_token_id"),
    *("use_weighted_layer_sum", "classifier_proj_size", "median_filter_width"),
    *("apply_spec_augment", "mask_time_prob", "mask_time_length", "mask_time_min_masks"),
    *("mask_feature_prob", "mask_feature_length", "mask_feature_min_masks", "num_labels"),
    # their code computes the factor and doesn't use it
    "scale_embedding",
)
"""Keys of training, of generation, and of another class."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a WhisperConfig."""
    config.ignore(*IGNORED)
    task(config, "ForConditionalGeneration", "Model")
    rate = float(config.get("dropout"))
    encoder = tower(config, "encoder") | {
        "embed": {"kind": "frames", "n_mels": config.get("num_mel_bins"), "dropout": rate},
        "position": {"kind": "learned", "length": config.get("max_source_positions")},
    }
    decoder = tower(config, "decoder") | {
        "embed": {"kind": "token", "dropout": rate},
        "position": {"kind": "learned"},
    }
    return {
        "kind": "speech",
        "dim": config.get("d_model"),
        "max_seq_len": config.get("max_target_positions"),
        "vocab_size": config.get("vocab_size"),
        "encoder": encoder,
        "decoder": decoder,
        "head": {"kind": "lm", "tied": config.get("tie_word_embeddings")},
        "init": {"kind": "normal", "std": config.get("init_std")},
    }


def tower(config: HfConfig, side: str) -> Table:
    """Return the layers of the encoder or of the decoder."""
    norm = {"kind": "layer_norm"}
    rate = float(config.get("dropout"))
    heads = {
        "n_heads": config.get(f"{side}_attention_heads"),
        "bias": True,
        "out_bias": True,
        "dropout": float(config.get("attention_dropout")),
    }
    block: Table = {
        "placement": "pre",
        "dropout": rate,
        "norm": norm,
        "mixer": {"kind": "attention", **heads},
        "ffn": {
            "kind": "mlp",
            "hidden_dim": config.get(f"{side}_ffn_dim"),
            "activation": config.activation("activation_function"),
            "bias": True,
            "dropout": float(config.get("activation_dropout")),
        },
    }
    if side == "decoder":
        block["cross"] = {"kind": "cross_attention", **heads}
    return {"n_layers": config.get(f"{side}_layers"), "block": block, "norm": norm}


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map."""
    weight_map = [
        *rows("encoder.embed.convs.{0,1}", "model.encoder.conv{1,2}", Kernels()),
        Row("decoder.embed.table", "model.decoder.embed_tokens"),
        Row("head.weight", "proj_out.weight"),
    ]
    for side in ("encoder", "decoder"):
        theirs, ours = f"model.{side}.layers.{{i}}", f"{side}.stack.blocks.{{i}}"
        parts = {"mixer": "self_attn"} | ({"cross": "encoder_attn"} if side == "decoder" else {})
        weight_map += [
            Row(f"{side}.position.table", f"model.{side}.embed_positions"),
            Row(f"{side}.norm", f"model.{side}.layer_norm"),
            *rows(f"{ours}.ffn.{{up,down}}", f"{theirs}.{{fc1,fc2}}"),
            Row(f"{ours}.ffn_residual.pre", f"{theirs}.final_layer_norm"),
        ]
        for sublayer, name in parts.items():
            keys = (f"{ours}.{sublayer}.k.weight", f"{ours}.{sublayer}.k.bias")
            weight_map += [
                *rows(f"{ours}.{sublayer}.{{q,v,o}}", f"{theirs}.{name}.{{q,v,out}}_proj"),
                Row(keys, f"{theirs}.{name}.k_proj.weight", SilentBias()),
                Row(f"{ours}.{sublayer}_residual.pre", f"{theirs}.{name}_layer_norm"),
            ]
    return weight_map


def source_positions(view: FlatModel) -> int:
    """Return the positions of the encoder."""
    return int(view.number("encoder.position.length"))


KEYS: dict[str, PathOrFn] = {
    **{
        f"{side}_{key}": f"{side}.{path}"
        for side in ("encoder", "decoder")
        for key, path in (
            ("layers", "n_layers"),
            ("attention_heads", "block.mixer.n_heads"),
            ("ffn_dim", "block.ffn.hidden_dim"),
        )
    },
    "vocab_size": "vocab_size",
    "num_mel_bins": "encoder.embed.n_mels",
    "d_model": "dim",
    "max_target_positions": "max_seq_len",
    "max_source_positions": source_positions,
    "activation_function": activation("decoder.block.ffn.activation"),
    "dropout": "decoder.block.dropout",
    "attention_dropout": "decoder.block.mixer.dropout",
    "activation_dropout": "decoder.block.ffn.dropout",
    "init_std": "init.std",
    "tie_word_embeddings": "head.tied",
}

WHISPER = Family(
    model_types=("whisper",),
    architecture="WhisperForConditionalGeneration",
    model=model,
    weights=weights,
    config=config_writer(KEYS),
    renames=((r"^(?!model\.|proj_out)", "model."),),
    tied=(("proj_out.weight", "model.decoder.embed_tokens.weight"),),
)
