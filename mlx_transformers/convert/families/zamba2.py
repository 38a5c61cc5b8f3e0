"""Zamba2: Mamba-2's blocks, and attention and ffn that some of them share.

Defaults are those of `Zamba2Config`.
"""

from ..config import HfConfig, their_activation
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..layer_types import patterned
from ..rope import rope, rotary
from ..rows import BLOCK, Row, at_layers, rows
from .bamba import scan_ratio
from .llama import HF_BLOCK, LLAMA
from .mamba import scan_width
from .mamba2 import ssd_rows, value_of

HYBRID = "hybrid"
RUNS = (6, 5, 5, 5, 5, 5, 5, 4, 3)
USUAL = [name for run in RUNS for name in (*["mamba"] * run, HYBRID)] + ["mamba"] * 2
"""The layers of a config that names none."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Zamba2Config."""
    config.ignore("use_mamba_kernels", "use_mem_eff_path", "chunk_size", "num_logits_to_keep")
    config.ignore("attention_hidden_size", "attention_head_dim", "head_dim", "mamba_headdim")
    config.ignore("kv_channels", "num_query_groups", "hybrid_layer_ids", "layer_types")
    config.expect("use_shared_attention_adapter", False)
    config.expect("use_long_context", False)
    norm = {"kind": "rms_norm", "eps": config.get("rms_norm_eps")}
    mamba = scan(config)
    table = {
        "kind": "decoder",
        "dim": config.get("hidden_size"),
        "n_layers": config.get("num_hidden_layers"),
        "max_seq_len": config.get("max_position_embeddings"),
        "vocab_size": config.get("vocab_size"),
        "embed": {"kind": "token"},
        "position": rope(config) if config.get("use_mem_rope") else {"kind": "none"},
        "block": {"placement": "pre", "norm": norm, "mixer": mamba},
        "norm": norm,
        "head": {"kind": "lm", "tied": config.get("tie_word_embeddings")},
        "init": {"kind": "normal", "std": config.get("initializer_range")},
    }
    if not config.get("use_mem_rope"):
        config.ignore("rope_parameters", "rope_theta", "rope_scaling")
    names = [HYBRID if i in hybrids(config) else "mamba" for i in range(table["n_layers"])]
    hybrid = {"norm": {"kind": "none"}, "mixer": shared(config, norm, mamba)}
    return patterned(table, names, {"mamba": {}, HYBRID: hybrid})


def scan(config: HfConfig) -> Table:
    """Return the table of the Mamba-2 mixers."""
    width = scan_width(config, "mamba_expand")
    bias = config.get("add_bias_linear")
    return {
        "kind": "mamba2",
        "inner_dim": width,
        "head_dim": width // config.get("n_mamba_heads"),
        "state_dim": config.get("mamba_d_state"),
        "n_groups": config.get("mamba_ngroups"),
        "norm_groups": config.get("mamba_ngroups"),
        "conv_width": config.get("mamba_d_conv"),
        "bias": bias,
        "out_bias": bias,
        "conv_bias": config.get("use_conv_bias"),
        "dt_min": config.get("time_step_min"),
        "dt_max": config.get("time_step_max"),
        "dt_floor": config.get("time_step_floor"),
        "dt_at_least": config.get("time_step_min"),
    }


def shared(config: HfConfig, norm: Table, mamba: Table) -> Table:
    """Return the table of a mixer behind a shared block."""
    dim, heads = config.get("hidden_size"), config.get("num_attention_heads")
    return {
        "kind": "shared_block",
        "attention": {
            "kind": "attention",
            "n_heads": heads,
            "n_kv_heads": config.get("num_key_value_heads") or heads,
            "head_dim": 2 * dim // heads,
            "scale": (dim / heads) ** -0.5,
            "dropout": float(config.get("attention_dropout") or 0.0),
        },
        "hidden_dim": config.get("intermediate_size") or 4 * dim,
        "activation": config.activation("hidden_act"),
        "bias": config.get("add_bias_linear"),
        "adapter_rank": config.get("adapter_rank"),
        "n_blocks": config.get("num_mem_blocks"),
        "norm": norm,
        "mixer": mamba,
    }


def hybrids(config: HfConfig) -> list[int]:
    """Return the layers with a shared block."""
    types = config.get("layers_block_type") or USUAL
    return [i for i in range(config.get("num_hidden_layers")) if types[i] == HYBRID]


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Zamba2: shared blocks stand in the first layers with one."""
    layers, count = hybrids(config), config.get("num_mem_blocks")
    ours, theirs = f"{BLOCK}.mixer", f"{HF_BLOCK}.shared_transformer"
    attention = f"{theirs}.self_attn.{{q,k,v,o}}_proj"
    shared_rows = [
        *ssd_rows(f"{ours}.mixer", f"{HF_BLOCK}.mamba_decoder.mamba"),
        Row(f"{ours}.norm", f"{HF_BLOCK}.mamba_decoder.input_layernorm"),
        Row(f"{ours}.out", f"{HF_BLOCK}.linear"),
    ]
    shared = [
        *rows(f"{ours}.shared.attention.{{q,k,v,o}}", attention),
        Row(f"{ours}.shared.attention_norm", f"{theirs}.input_layernorm"),
        Row(f"{ours}.shared.ffn_norm", f"{theirs}.pre_ff_layernorm"),
        Row(f"{ours}.shared.gate_up", f"{theirs}.feed_forward.gate_up_proj"),
        Row(f"{ours}.shared.down", f"{theirs}.feed_forward.down_proj"),
    ]
    return [
        Row("embed.table", "model.embed_tokens"),
        Row("norm", "model.final_layernorm"),
        Row("head", "lm_head"),
        *at_layers(shared_rows, layers),
        *at_layers(shared, layers[:count]),
        *(row for i, layer in enumerate(layers) for row in adapter(i, layer, layers[i % count])),
        Row(f"{BLOCK}.mixer_residual.pre", f"{HF_BLOCK}.input_layernorm"),
        *ssd_rows(f"{BLOCK}.mixer", f"{HF_BLOCK}.mamba"),
    ]


def adapter(index: int, layer: int, owner: int) -> list[Row]:
    """Return the rows of a layer's adapter, which stands in the layer that owns the block."""
    theirs = f"model.layers.{owner}.shared_transformer.feed_forward.gate_up_proj_adapter_list"
    ours = f"stack.blocks.{layer}.mixer"
    return rows(f"{ours}.adapter_{{down,up}}", f"{theirs}.{index}.{{0,1}}")


def of(kind: str, key: str) -> PathOrFn:
    """Return a reader of a key of the mixers of a kind."""
    return lambda view: value_of(view, kind, key)


def positions(view: FlatModel) -> Table:
    """Return whether attention is rotated, and how."""
    turned = any(layer["position"]["kind"] == "rope" for layer in view.layers)
    return {"use_mem_rope": turned, **(rotary()(view) if turned else {})}


def block_types(view: FlatModel) -> list[str]:
    """Return the type of each layer."""
    kinds = [layer["mixer"]["kind"] for layer in view.layers]
    return [HYBRID if kind == "shared_block" else "linear_attention" for kind in kinds]


ZAMBA2 = Family(
    model_types=("zamba2",),
    architecture="Zamba2ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            "vocab_size": "vocab_size",
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "max_position_embeddings": "max_seq_len",
            "rms_norm_eps": "norm.eps",
            "layers_block_type": block_types,
            "mamba_d_state": of("mamba2", "state_dim"),
            "mamba_ngroups": of("mamba2", "n_groups"),
            "mamba_d_conv": of("mamba2", "conv_width"),
            "mamba_expand": scan_ratio,
            "n_mamba_heads": lambda view: (
                value_of(view, "mamba2", "inner_dim") // value_of(view, "mamba2", "head_dim")
            ),
            "use_conv_bias": of("mamba2", "conv_bias"),
            "add_bias_linear": of("mamba2", "bias"),
            "time_step_min": of("mamba2", "dt_min"),
            "time_step_max": of("mamba2", "dt_max"),
            "time_step_floor": of("mamba2", "dt_floor"),
            "num_attention_heads": "block.mixer.attention.n_heads",
            "num_key_value_heads": "block.mixer.attention.n_kv_heads",
            "attention_dropout": "block.mixer.attention.dropout",
            "intermediate_size": of("shared_block", "hidden_dim"),
            "hidden_act": lambda view: their_activation(
                value_of(view, "shared_block", "activation")
            ),
            "adapter_rank": of("shared_block", "adapter_rank"),
            "num_mem_blocks": of("shared_block", "n_blocks"),
            "initializer_range": "init.std",
            "tie_word_embeddings": "head.tied",
        },
        positions,
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
