"""RecurrentGemma (Griffin): Gemma with two recurrent blocks for each block of local attention.

Defaults are those of `RecurrentGemmaConfig`.
"""

import mlx.core as mx
import numpy as np

from ...core.errors import ConvertError
from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, activation, config_writer
from ..kernels import Depthwise
from ..layer_types import patterned, period
from ..rope import rope, rotary
from ..rows import BLOCK, Row, at_layers, rows
from ..transforms import Reshape, Swap
from .llama import HF_BLOCK, LLAMA

HF_MIXER = f"{HF_BLOCK}.temporal_block"
CONTEXT = 8192
"""Context that the models were trained on; their configs have none."""
STD = 0.02
"""Of weights at the start: theirs differ by layer."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a RecurrentGemmaConfig."""
    config.ignore("w_init_variance_scale", "final_w_init_variance_scale", "initializer_range")
    config.ignore("embeddings_scale_by_sqrt_dim")  # follows from the sizes
    config.ignore("layers_block_type", "layer_types")  # follow from block_types
    dim, heads = config.get("hidden_size"), config.get("num_attention_heads")
    act = config.activation("hidden_activation")
    norm = {"kind": "rms_norm", "eps": config.get("rms_norm_eps"), "unit_offset": True}
    recurrent = {
        "kind": "rg_lru",
        "n_heads": heads,
        "hidden_dim": config.optional("lru_width") or dim,
        "conv": config.get("conv1d_width"),
        "activation": act,
    }
    local = {
        "kind": "attention",
        "n_heads": heads,
        "n_kv_heads": config.optional("num_key_value_heads") or heads,
        "head_dim": config.optional("head_dim") or dim // heads,
        "window": config.get("attention_window_size"),
        "bias": config.get("attention_bias"),
        "out_bias": True,
        "dropout": float(config.get("attention_dropout")),
    }
    ffn = {
        "kind": "glu",
        "hidden_dim": config.get("intermediate_size") // 2,
        "activation": act,
        "bias": True,
    }
    table = {
        "kind": "decoder",
        "dim": dim,
        "n_layers": config.get("num_hidden_layers"),
        "max_seq_len": config.optional("max_position_embeddings") or CONTEXT,
        "vocab_size": config.get("vocab_size"),
        "embed": {"kind": "token", "scale": rounded_root(dim)},
        "position": rope(config, partial=True),
        "block": {"placement": "pre", "norm": norm, "mixer": recurrent, "ffn": ffn},
        "norm": norm,
        "head": {
            "kind": "lm",
            "tied": config.get("tie_word_embeddings"),
            "softcap": float(config.get("logits_soft_cap")),
        },
        "init": {"kind": "normal", "std": STD},
    }
    return patterned(table, types(config), {"recurrent": {}, "attention": {"mixer": local}})


def types(config: HfConfig) -> list[str]:
    """Return the type of each layer.

    Raises:
        ConvertError: a type that isn't known.
    """
    cycle = config.get("block_types")
    if foreign := [name for name in cycle if name not in ("recurrent", "attention")]:
        raise ConvertError(
            f"{config.where}: block_types holds {foreign[0]!r}; 'recurrent' and 'attention' are "
            "built."
        )
    return [cycle[i % len(cycle)] for i in range(config.get("num_hidden_layers"))]


def rounded_root(dim: int) -> float:
    """Return √dim as the reference keeps it, in bfloat16."""
    root = mx.array(dim**0.5).astype(mx.bfloat16)
    return float(np.asarray(root.astype(mx.float32)))


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a RecurrentGemma."""
    heads = config.get("num_attention_heads")
    width = config.optional("lru_width") or config.get("hidden_size")
    flat = Reshape((heads, width // heads), (width,))
    gates, lru = "{input,recurrence}_gate", f"{HF_MIXER}.rg_lru.{{input,recurrent}}_gate"
    type_of_layer = types(config)
    attending = [i for i, name in enumerate(type_of_layer) if name == "attention"]
    recurrent = [
        *rows(f"{BLOCK}.mixer.{{x,y,o}}", f"{HF_MIXER}.linear_{{x,y,out}}"),
        Row(f"{BLOCK}.mixer.conv", f"{HF_MIXER}.conv_1d", Depthwise()),
        Row(f"{BLOCK}.mixer.rate", f"{HF_MIXER}.rg_lru.recurrent_param"),
        *rows(f"{BLOCK}.mixer.{gates}.weight", f"{lru}_weight", Swap()),
        *rows(f"{BLOCK}.mixer.{gates}.bias", f"{lru}_bias", flat),
    ]
    local = rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{HF_MIXER}.{{q,k,v,o}}_proj")
    return [
        Row("embed.table", "model.embed_tokens"),
        Row("norm", "model.final_norm"),
        Row("head", "lm_head"),
        Row(f"{BLOCK}.mixer_residual.pre", f"{HF_BLOCK}.temporal_pre_norm"),
        Row(f"{BLOCK}.ffn_residual.pre", f"{HF_BLOCK}.channel_pre_norm"),
        *rows(f"{BLOCK}.ffn.{{gate,up,down}}", f"{HF_BLOCK}.mlp_block.{{gate,up,down}}_proj"),
        *at_layers(local, attending),
        *at_layers(recurrent, [i for i in range(len(type_of_layer)) if i not in attending]),
    ]


def block_types(view: FlatModel) -> list[str]:
    """Return the types of the layers, as a cycle as short as it can be."""
    kinds = {"rg_lru": "recurrent"}
    type_of_layer = [
        kinds.get(layer["mixer"]["kind"], layer["mixer"]["kind"]) for layer in view.layers
    ]
    return type_of_layer[: period(type_of_layer)]


KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "intermediate_size": lambda view: 2 * int(view.number("block.ffn.hidden_dim")),
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "block.mixer.n_heads",
    "num_key_value_heads": "block.mixer.n_kv_heads",
    "head_dim": "block.mixer.head_dim",
    "lru_width": "block.mixer.hidden_dim",
    "conv1d_width": "block.mixer.conv",
    "attention_window_size": "block.mixer.window",
    "attention_bias": lambda view: bool(local(view).get("bias")),
    "attention_dropout": lambda view: float(local(view).get("dropout", 0.0)),
    "hidden_activation": activation("block.ffn.activation"),
    "rms_norm_eps": "norm.eps",
    "logits_soft_cap": "head.softcap",
    "block_types": block_types,
    "max_position_embeddings": "max_seq_len",
    "tie_word_embeddings": "head.tied",
}


def local(view: FlatModel) -> Table:
    """Return the table of the first layer that attends; empty where none does."""
    mixers = (layer["mixer"] for layer in view.layers)
    return next((mixer for mixer in mixers if mixer["kind"] == "attention"), {})


RECURRENT_GEMMA = Family(
    model_types=("recurrent_gemma",),
    architecture="RecurrentGemmaForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS, rotary(fraction_key="partial_rotary_factor")),
    defaults={"partial_rotary_factor": 0.5},
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
