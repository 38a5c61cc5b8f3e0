"""LFM2: gated short convolutions, and a few blocks that attend. Defaults are of `Lfm2Config`."""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import PathOrFn, config_writer
from ..kernels import Depthwise
from ..layer_types import FULL, patterned
from ..rope import rope, rotary
from ..rows import BLOCK, Row, at_layers, rows
from .jamba import layers_where
from .llama import BASIC_KEYS, HF_BLOCK, LLAMA
from .mixtral import numbered


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an Lfm2Config."""
    config.ignore("full_attn_idxs", "block_ff_dim", "block_dim", "block_norm_eps")
    config.ignore("block_use_swiglu", "block_use_xavier_init", "block_mlp_init_scale")
    config.ignore("block_out_init_scale")
    table = decoder(config, width(config))
    return patterned(table, mixer_names(config), mixers(config))


def decoder(config: HfConfig, hidden_dim: int) -> Table:
    """Return the table of LFM2's blocks that attend, with networks of a width."""
    config.ignore("tie_embedding", "theta", "use_pos_enc", "conv_dim", "conv_dim_out")
    config.ignore("conv_use_xavier_init", "num_heads")
    norm = {"kind": "rms_norm", "eps": config.get("norm_eps")}
    heads = config.get("num_attention_heads")
    attention = {
        "kind": "attention",
        "n_heads": heads,
        "n_kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.optional("head_dim"),
        "qk_norm": norm,
    }
    ffn = {"kind": "glu", "hidden_dim": hidden_dim, "activation": "silu"}
    tied = config.optional("tie_embedding")
    return {
        "kind": "decoder",
        "dim": config.get("hidden_size"),
        "n_layers": config.get("num_hidden_layers"),
        "max_seq_len": config.get("max_position_embeddings"),
        "vocab_size": config.get("vocab_size"),
        "embed": {"kind": "token"},
        "position": rope(config),
        "block": {"placement": "pre", "norm": norm, "mixer": attention, "ffn": ffn},
        "norm": norm,
        "head": {"kind": "lm", "tied": config.get("tie_word_embeddings") if tied is None else tied},
        "init": {"kind": "normal", "std": config.get("initializer_range")},
    }


def mixer_names(config: HfConfig) -> list[str]:
    """Return the name of each layer's mixer in `mixers`."""
    attend = attending(config)
    count = config.get("num_hidden_layers")
    return ["attention" if i in attend else "convolution" for i in range(count)]


def mixers(config: HfConfig) -> dict[str, Table]:
    """Return what layers change by their mixer."""
    convolution = {
        "kind": "short_convolution",
        "kernel": config.get("conv_L_cache"),
        "bias": config.get("conv_bias"),
    }
    return {"attention": {}, "convolution": {"mixer": convolution}}


def attending(config: HfConfig) -> list[int]:
    """Return the layers that attend; by default all."""
    layers = range(config.get("num_hidden_layers"))
    if types := config.get("layer_types"):
        return [i for i in layers if types[i] == FULL]
    indices = config.optional("full_attn_idxs")
    return [i for i in layers if indices is None or i in indices]


def width(config: HfConfig) -> int:
    """Return the width of the gated networks."""
    size: int = config.optional("block_ff_dim") or config.get("intermediate_size")
    multiple: int = config.get("block_multiple_of")
    factor = config.get("block_ffn_dim_multiplier")
    if not config.get("block_auto_adjust_ff_dim"):
        return size
    size = int(2 * size / 3)
    if factor is None:
        return size
    return multiple * -(-int(factor * size) // multiple)


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an LFM2."""
    attention = f"{HF_BLOCK}.self_attn"
    attention_rows = [
        *rows(f"{BLOCK}.mixer.{{q,k,v}}", f"{attention}.{{q,k,v}}_proj"),
        *rows(f"{BLOCK}.mixer.{{q,k}}_norm", f"{attention}.{{q,k}}_layernorm"),
        Row(f"{BLOCK}.mixer.o", f"{attention}.out_proj"),
    ]
    return [
        Row("embed.table", "model.embed_tokens"),
        Row("norm", "model.embedding_norm"),
        Row("head", "lm_head"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{HF_BLOCK}.{{operator,ffn}}_norm"),
        *at_layers(attention_rows, attending(config)),
        *rows(f"{BLOCK}.mixer.{{inputs,o}}", f"{HF_BLOCK}.conv.{{in,out}}_proj"),
        Row(f"{BLOCK}.mixer.conv", f"{HF_BLOCK}.conv.conv", Depthwise()),
        *rows(f"{BLOCK}.ffn.{{gate,up,down}}", f"{HF_BLOCK}.feed_forward.{{w1,w3,w2}}"),
    ]


LFM2_KEYS: dict[str, PathOrFn] = {
    **{key: path for key, path in BASIC_KEYS.items() if key != "hidden_act"},
    "norm_eps": "norm.eps",
    "conv_L_cache": "block.mixer.kernel",
    "conv_bias": lambda view: any(
        layer["mixer"]["bias"] for layer in view.layers if "kernel" in layer["mixer"]
    ),
    "layer_types": lambda view: [
        FULL if i in layers_where(view, "mixer", "attention") else "conv"
        for i in range(len(view.layers))
    ],
}

LFM2 = Family(
    model_types=("lfm2",),
    architecture="Lfm2ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(LFM2_KEYS, rotary(), block_auto_adjust_ff_dim=False),
    renames=(*LLAMA.renames, *numbered("feed_forward")),
    tied=LLAMA.tied,
)
