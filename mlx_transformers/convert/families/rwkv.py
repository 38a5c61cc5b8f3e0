"""RWKV-4: time mixing and channel mixing. Defaults are those of `RwkvConfig`."""

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import PathOrFn, config_writer
from ..rows import BLOCK, Row, rows
from ..transforms import Reshape

HF_BLOCK = "rwkv.blocks.{i}"
HF_MIXER, HF_FFN = f"{HF_BLOCK}.attention", f"{HF_BLOCK}.feed_forward"
LAST_EPS = 1e-5
"""The reference doesn't pass `layer_norm_epsilon` to the norm after the last block."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a RwkvConfig."""
    config.ignore("rescale_every")  # halves the stream of float16 inference, and its weights
    dim = config.get("hidden_size")
    norm = {"kind": "layer_norm", "eps": config.get("layer_norm_epsilon")}
    mixer = {"kind": "rwkv4", "hidden_dim": config.optional("attention_hidden_size") or dim}
    hidden = config.optional("intermediate_size") or 4 * dim
    ffn = {"kind": "channel_mixing", "hidden_dim": hidden}
    return {
        "kind": "decoder",
        "dim": dim,
        "n_layers": config.get("num_hidden_layers"),
        "max_seq_len": config.get("context_length"),
        "vocab_size": config.get("vocab_size"),
        "embed": {"kind": "token", "norm": norm},
        "position": {"kind": "none"},
        "block": {"placement": "pre", "norm": norm, "mixer": mixer, "ffn": ffn},
        "norm": {"kind": "layer_norm", "eps": LAST_EPS},
        "head": {"kind": "lm", "tied": config.get("tie_word_embeddings")},
        "init": {"kind": "normal", "std": 0.02},
    }


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an RWKV-4."""
    dim = config.get("hidden_size")
    share = Reshape((1, 1, dim), (dim,))
    names = "{receptance,key,value}"
    return [
        Row("embed.table", "rwkv.embeddings"),
        Row("embed.norm", "rwkv.blocks.0.pre_ln"),
        Row("norm", "rwkv.ln_out"),
        Row("head", "head"),
        Row(f"{BLOCK}.mixer_residual.pre", f"{HF_BLOCK}.ln1"),
        Row(f"{BLOCK}.ffn_residual.pre", f"{HF_BLOCK}.ln2"),
        *rows(f"{BLOCK}.mixer.{{decay,bonus}}", f"{HF_MIXER}.time_{{decay,first}}"),
        *rows(f"{BLOCK}.mixer.mix_{{r,k,v}}", f"{HF_MIXER}.time_mix_{names}", share),
        *rows(f"{BLOCK}.mixer.{{r,k,v,o}}", f"{HF_MIXER}.{{receptance,key,value,output}}"),
        *rows(f"{BLOCK}.ffn.mix_{{r,k}}", f"{HF_FFN}.time_mix_{{receptance,key}}", share),
        *rows(f"{BLOCK}.ffn.{{r,k,v}}", f"{HF_FFN}.{names}"),
    ]


KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "context_length": "max_seq_len",
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "attention_hidden_size": "block.mixer.hidden_dim",
    "intermediate_size": "block.ffn.hidden_dim",
    "layer_norm_epsilon": "block.norm.eps",
    "tie_word_embeddings": "head.tied",
}

RWKV = Family(
    model_types=("rwkv",),
    architecture="RwkvForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS),
    renames=(prefixed("rwkv.", "head."),),
    tied=(("head.weight", "rwkv.embeddings.weight"),),
)
