"""LLaMA 1, 2, 3 and everything published in their layout (SmolLM, Yi, Vicuna, TinyLlama ...).

Defaults are those of `LlamaConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import SIZES, PathOrFn, activation, biased, config_writer
from ..rope import rope, rotary
from ..rows import BLOCK, Row, rows

HF_BLOCK = "model.layers.{i}"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a LlamaConfig."""
    return decoder(config, bias=bool(config.optional("attention_bias")))


def decoder(
    config: HfConfig,
    *,
    bias: bool = False,
    partial: bool = False,
    gated: bool = True,
    norm: Table | None = None,
) -> Table:
    """Return the table of a decoder with LLaMA's layers.

    Args:
        config: the config, whose keys are those of a LlamaConfig.
        bias: whether q, k, v and o have one.
        partial: whether the family may rotate a share of the features only.
        gated: whether the ffn is the gated one; otherwise the block lacks it.
        norm: the table of its norms; None is the RMS norm.
    """
    n_heads = config.get("num_attention_heads")
    mixer = {
        "kind": "attention",
        "n_heads": n_heads,
        "n_kv_heads": config.get("num_key_value_heads") or n_heads,
        "head_dim": config.optional("head_dim") or config.get("hidden_size") // n_heads,
        "bias": bias,
        "out_bias": bias,
        "dropout": float(config.optional("attention_dropout") or 0.0),
    }
    norm = norm or {"kind": "rms_norm", "eps": config.get("rms_norm_eps")}
    block = {"placement": "pre", "norm": norm, "mixer": mixer}
    return {
        "kind": "decoder",
        "dim": config.get("hidden_size"),
        "n_layers": config.get("num_hidden_layers"),
        "max_seq_len": config.get("max_position_embeddings"),
        "vocab_size": config.get("vocab_size"),
        "embed": {"kind": "token"},
        "position": rope(config, partial=partial),
        "block": block | ({"ffn": glu(config)} if gated else {}),
        "norm": norm,
        "head": {"kind": "lm", "tied": config.get("tie_word_embeddings")},
        "init": {"kind": "normal", "std": config.get("initializer_range")},
    }


def glu(
    config: HfConfig, width: str = "intermediate_size", activation: str = "hidden_act"
) -> Table:
    """Return the gated network of a config, by the keys of its width and its activation."""
    return {
        "kind": "glu",
        "hidden_dim": config.get(width),
        "activation": config.activation(activation),
        "bias": bool(config.optional("mlp_bias")),
    }


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a LLaMA."""
    return [*outer_rows(), *GATED]


def outer_rows() -> list[Row]:
    """Return all rows but those of the feed-forward networks, with norms before both sublayers."""
    return [*OUTER_ROWS, *ATTENTION, *PRE_NORMS]


OUTER_ROWS = [
    Row("embed.table", "model.embed_tokens"),
    Row("norm", "model.norm"),
    Row("head", "lm_head"),
]
ATTENTION = [
    *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{HF_BLOCK}.self_attn.{{q,k,v,o}}_proj"),
    *rows(f"{BLOCK}.mixer.{{q,k}}_norm", f"{HF_BLOCK}.self_attn.{{q,k}}_norm"),
]
PRE_NORMS = [
    Row(f"{BLOCK}.mixer_residual.pre", f"{HF_BLOCK}.input_layernorm"),
    Row(f"{BLOCK}.ffn_residual.pre", f"{HF_BLOCK}.post_attention_layernorm"),
]
GATED = rows(f"{BLOCK}.ffn.{{gate,up,down}}", f"{HF_BLOCK}.mlp.{{gate,up,down}}_proj")
"""Rows that most families share; a row of a tensor that a model lacks has no effect."""


BASIC_KEYS: dict[str, PathOrFn] = {
    **SIZES,
    "num_key_value_heads": "block.mixer.n_kv_heads",
    "head_dim": "block.mixer.head_dim",
    "hidden_act": activation("block.ffn.activation", "block.ffn.expert.activation"),
    "attention_dropout": "block.mixer.dropout",
    "tie_word_embeddings": "head.tied",
}
KEYS: dict[str, PathOrFn] = {**BASIC_KEYS, "rms_norm_eps": "norm.eps"}
"""The keys that most of the line share: where our value of each stands."""
BIASED: dict[str, PathOrFn] = {**KEYS, "attention_bias": biased}

config = config_writer({**BIASED, "mlp_bias": "block.ffn.bias"}, rotary())
"""The LlamaConfig of a model."""

LLAMA = Family(
    model_types=("llama",),
    architecture="LlamaForCausalLM",
    model=model,
    weights=weights,
    config=config,
    renames=((r"^(?!model\.|lm_head\.)", "model."),),
    tied=(("lm_head.weight", "model.embed_tokens.weight"),),
)
