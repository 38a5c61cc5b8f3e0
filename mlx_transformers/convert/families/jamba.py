"""Jamba: Mamba's blocks and a few that attend, without positions; experts in some of both.

Defaults are those of `JambaConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer, first_of
from ..layer_types import patterned
from ..rows import BLOCK, Row, at_layers, rows
from ..transforms import Stack
from .llama import ATTENTION, HF_BLOCK, KEYS, LLAMA, glu
from .mamba import convolved, expand, scan_rows, scan_width, step_rank

HF_FFN = f"{HF_BLOCK}.feed_forward"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a JambaConfig."""
    config.ignore("use_mamba_kernels", "use_mambapy", "use_associative_scan")
    config.ignore("output_router_logits", "layers_block_type", "layer_types", "layers_num_experts")
    norm = {"kind": "rms_norm", "eps": config.get("rms_norm_eps")}
    heads = config.get("num_attention_heads")
    attention = {
        "kind": "attention",
        "n_heads": heads,
        "n_kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.optional("head_dim"),
        "dropout": float(config.get("attention_dropout") or 0.0),
    }
    mamba = {
        "kind": "mamba",
        "inner_dim": scan_width(config, "mamba_expand"),
        "state_dim": config.get("mamba_d_state"),
        "conv_width": config.get("mamba_d_conv"),
        "dt_rank": step_rank(config, "mamba_dt_rank"),
        "activation": convolved(config),
        "norm": norm,
        "bias": config.get("mamba_proj_bias"),
        "out_bias": config.get("mamba_proj_bias"),
        "conv_bias": config.get("mamba_conv_bias"),
    }
    router = {
        "kind": "top_k",
        "top_k": config.get("num_experts_per_tok"),
        "normalize": False,
        "balance_loss": config.get("router_aux_loss_coef"),
    }
    experts = config.get("num_experts")
    sparse = {"kind": "moe", "n_experts": experts, "router": router, "expert": glu(config)}
    table = {
        "kind": "decoder",
        "dim": config.get("hidden_size"),
        "n_layers": config.get("num_hidden_layers"),
        "max_seq_len": config.get("max_position_embeddings"),
        "vocab_size": config.get("vocab_size"),
        "embed": {"kind": "token"},
        "position": {"kind": "none"},
        "block": {"placement": "pre", "norm": norm, "mixer": mamba, "ffn": glu(config)},
        "norm": norm,
        "head": {"kind": "lm", "tied": config.get("tie_word_embeddings")},
        "init": {"kind": "normal", "std": config.get("initializer_range")},
    }
    mixers: dict[str, Table] = {"mamba": {}, "attention": {"mixer": attention}}
    ffns: dict[str, Table] = {"": {}, "_experts": {"ffn": sparse}}
    variants = {f"{m}{f}": mixers[m] | ffns[f] for m in mixers for f in ffns}
    return patterned(table, names(config, experts), variants)


def names(config: HfConfig, experts: int) -> list[str]:
    """Return the name of each layer's block."""
    every, first = config.get("expert_layer_period"), config.get("expert_layer_offset")
    attend = attending(config)
    return [
        ("attention" if i in attend else "mamba")
        + ("_experts" if i % every == first and experts > 1 else "")
        for i in range(config.get("num_hidden_layers"))
    ]


def attending(config: HfConfig) -> list[int]:
    """Return the layers that attend."""
    every, first = config.get("attn_layer_period"), config.get("attn_layer_offset")
    return [i for i in range(config.get("num_hidden_layers")) if i % every == first]


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Jamba."""
    count, experts = config.get("num_experts"), f"{HF_FFN}.experts.{{e}}.{{gate,up,down}}_proj"
    return [
        *HYBRID_ROWS,
        *at_layers(ATTENTION, attending(config)),
        *scan_rows(f"{BLOCK}.mixer", f"{HF_BLOCK}.mamba"),
        Row(f"{BLOCK}.ffn.router.gate", f"{HF_FFN}.router"),
        *rows(f"{BLOCK}.ffn.experts.{{gate,up,down}}", experts, Stack(), count),
    ]


HYBRID_ROWS = [
    Row("embed.table", "model.embed_tokens"),
    Row("norm", "model.final_layernorm"),
    Row("head", "lm_head"),
    Row(f"{BLOCK}.mixer_residual.pre", f"{HF_BLOCK}.input_layernorm"),
    Row(f"{BLOCK}.ffn_residual.pre", f"{HF_BLOCK}.pre_ff_layernorm"),
    *rows(f"{BLOCK}.ffn.{{gate,up,down}}", f"{HF_FFN}.{{gate,up,down}}_proj"),
]
"""Rows that Jamba, Bamba and Falcon-H1 share."""


def layers_where(view: FlatModel, slot: str, kind: str) -> list[int]:
    """Return the layers whose mixer or ffn is of a kind."""
    return [i for i, layer in enumerate(view.layers) if layer[slot]["kind"] == kind]


def periods(view: FlatModel) -> Table:
    """Return the period and offset of the layers that attend, and of those with experts."""
    out: Table = {}
    for name, layers in (
        ("attn", layers_where(view, "mixer", "attention")),
        ("expert", layers_where(view, "ffn", "moe")),
    ):
        every = layers[1] - layers[0] if len(layers) > 1 else len(view.layers) + 1
        first = layers[0] if layers else len(view.layers)
        out |= {f"{name}_layer_period": every, f"{name}_layer_offset": first}
    return out


def width(view: FlatModel) -> int:
    """Return the width of the networks, which are as wide as the experts."""
    return int(first_of(view, "block.ffn.hidden_dim", "block.ffn.expert.hidden_dim"))


def mamba_bias(view: FlatModel) -> bool:
    """Whether the projections of Mamba's mixers have a bias."""
    return any(layer["mixer"].get("bias") for layer in view.layers if "state_dim" in layer["mixer"])


JAMBA_KEYS: dict[str, PathOrFn] = {
    **KEYS,
    "intermediate_size": width,
    "num_experts": "block.ffn.n_experts",
    "num_experts_per_tok": "block.ffn.router.top_k",
    "router_aux_loss_coef": "block.ffn.router.balance_loss",
    "mamba_d_state": "block.mixer.state_dim",
    "mamba_d_conv": "block.mixer.conv_width",
    "mamba_dt_rank": "block.mixer.dt_rank",
    "mamba_expand": expand,
    "mamba_conv_bias": "block.mixer.conv_bias",
    "mamba_proj_bias": mamba_bias,
}

JAMBA = Family(
    model_types=("jamba",),
    architecture="JambaForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(JAMBA_KEYS, periods),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
