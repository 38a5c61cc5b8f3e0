"""xLSTM: blocks of mLSTM and a gated ffn, as in xLSTM 7B. Defaults are those of `xLSTMConfig`."""

import math

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..rows import BLOCK, Row, rows
from ..transforms import Split

HF_BLOCK = "backbone.blocks.{i}"
HF_MIXER, HF_FFN = f"{HF_BLOCK}.mlstm_layer", f"{HF_BLOCK}.ffn"
CONTEXT = 8192
"""Context that the models were trained on; their configs have none."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an xLSTMConfig."""
    config.expect("use_bias", False)  # their RMS norms would have one too
    config.ignore("chunkwise_kernel", "sequence_kernel", "step_kernel", "mode", "chunk_size")
    config.ignore("return_last_states", "autocast_kernel_dtype", "inference_state_dtype")
    config.ignore("norm_reduction_force_float32", "max_inference_chunksize", "weight_mode")
    config.ignore("add_out_norm")  # the reference always has it
    config.ignore("embedding_dim", "num_blocks")
    dim = width(config)
    keys, values = (int(dim * config.get(f"{name}_dim_factor")) for name in ("qk", "v"))
    norm = {"kind": "rms_norm", "eps": config.get("norm_eps")}
    cap = config.get("gate_soft_cap")
    mixer = {
        "kind": "mlstm",
        "n_heads": config.get("num_heads"),
        "key_dim": keys,
        "value_dim": values,
        "gate_cap": None if cap is None else float(cap),
        "eps": config.get("eps"),
        "norm_eps": config.get("norm_eps"),
    }
    ffn = {"kind": "glu", "hidden_dim": ffn_width(config), "activation": "silu"}
    return {
        "kind": "decoder",
        "dim": dim,
        "n_layers": config.optional("num_hidden_layers") or config.get("num_blocks"),
        "max_seq_len": config.optional("max_position_embeddings") or CONTEXT,
        "vocab_size": config.get("vocab_size"),
        "embed": {"kind": "token"},
        "position": {"kind": "none"},
        "block": {"placement": "pre", "norm": norm, "mixer": mixer, "ffn": ffn},
        "norm": norm,
        "head": {
            "kind": "lm",
            "tied": config.get("tie_word_embeddings"),
            "softcap": float(config.get("output_logit_soft_cap")),
        },
        "init": {"kind": "normal", "std": 0.02},
    }


def width(config: HfConfig) -> int:
    """Return the width of the model."""
    return int(config.optional("hidden_size") or config.get("embedding_dim"))


def ffn_width(config: HfConfig) -> int:
    """Return the width of the gated network, rounded up."""
    multiple = config.get("ffn_round_up_to_multiple_of")
    exact = width(config) * config.get("ffn_proj_factor")
    return int((exact + multiple - 1) // multiple * multiple)


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an xLSTM, whose projections may be packed."""
    dim, heads = width(config), config.get("num_heads")
    keys, values = (int(dim * config.get(f"{name}_dim_factor")) for name in ("qk", "v"))
    mixer = f"{BLOCK}.mixer"
    outer = [
        Row("embed.table", "backbone.embeddings"),
        Row("norm", "backbone.out_norm"),
        Row("head", "lm_head"),
        Row(f"{BLOCK}.mixer_residual.pre", f"{HF_BLOCK}.norm_mlstm"),
        Row(f"{BLOCK}.ffn_residual.pre", f"{HF_BLOCK}.norm_ffn"),
        Row(f"{BLOCK}.ffn.down", f"{HF_FFN}.proj_down"),
        *rows(f"{mixer}.{{norm,o}}", f"{HF_MIXER}.{{multihead_norm,out_proj}}"),
    ]
    if config.get("weight_mode") == "fused":
        packed = tuple(f"{mixer}.{name}" for name in ("q", "k", "v", "g"))
        gates = tuple(f"{mixer}.{name}_gate" for name in ("input", "forget"))
        both = (f"{BLOCK}.ffn.gate", f"{BLOCK}.ffn.up")
        hidden = ffn_width(config)
        return [
            *outer,
            Row(packed, f"{HF_MIXER}.qkv_opreact", Split((keys, keys, values, values))),
            Row(gates, f"{HF_MIXER}.ifgate_preact", Split((heads, heads))),
            Row(both, f"{HF_FFN}.proj_up_gate_z", Split((hidden, hidden))),
        ]
    return [
        *outer,
        *rows(f"{mixer}.{{q,k,v}}", f"{HF_MIXER}.{{q,k,v}}"),
        *rows(f"{mixer}.{{input,forget}}_gate", f"{HF_MIXER}.{{i,f}}gate_preact"),
        Row(f"{mixer}.g", f"{HF_MIXER}.ogate_preact"),
        *rows(f"{BLOCK}.ffn.{{gate,up}}", f"{HF_FFN}.proj_{{up_gate,up}}"),
    ]


def factor(path: str) -> PathOrFn:
    """Return a reader of a width as a multiple of the model's that gives the same integer back."""

    def ratio(view: FlatModel) -> float:
        number, dim = view.number(path), view.number("dim")
        multiple = number / dim
        return multiple if int(dim * multiple) == number else math.nextafter(multiple, math.inf)

    return ratio


KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "max_position_embeddings": "max_seq_len",
    "num_heads": "block.mixer.n_heads",
    "qk_dim_factor": factor("block.mixer.key_dim"),
    "v_dim_factor": factor("block.mixer.value_dim"),
    "gate_soft_cap": "block.mixer.gate_cap",
    "eps": "block.mixer.eps",
    "norm_eps": "norm.eps",
    "ffn_proj_factor": factor("block.ffn.hidden_dim"),
    "output_logit_soft_cap": "head.softcap",
    "tie_word_embeddings": "head.tied",
}

XLSTM = Family(
    model_types=("xlstm",),
    architecture="xLSTMForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS, ffn_round_up_to_multiple_of=1),
    tied=(("lm_head.weight", "backbone.embeddings.weight"),),
)
