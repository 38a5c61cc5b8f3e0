"""LLaMA 1, 2, 3 and everything published in their layout (SmolLM, Yi, Vicuna, TinyLlama ...).

Defaults are those of `LlamaConfig`.
"""

from typing import Any

from ..config import REQUIRED, HfConfig
from ..family import Family, Table
from ..rope import rope, rotary
from ..view import Told, activation, biased, spelled
from ..weights import Row, rows

HF_BLOCK = "model.layers.{i}"
BLOCK = "stack.blocks.{i}"
DEFAULTS: Table = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_dropout": 0.0,
    "rope_theta": 10000.0,
}
"""Those of `LlamaConfig`."""


def model(config: HfConfig) -> Table:
    """The `[model]` table of a LlamaConfig."""
    return decoder(config, bias=config.get("attention_bias", False))


def decoder(
    config: HfConfig,
    *,
    bias: bool = False,
    fraction: float | None = None,
    gated: bool = True,
    **defaults: Any,
) -> Table:
    """What LLaMA and its line share.

    Args:
        config: the config, whose keys are those of a LlamaConfig.
        bias: whether q, k, v and o have one.
        fraction: the default share of turning features, where the family has partial rotation.
        gated: whether the ffn is the gated one; otherwise the block lacks it.
        defaults: those of the family's config class that are not LLaMA's.
    """
    config.assume(**{**DEFAULTS, **defaults})
    n_heads = config.get("num_attention_heads")
    mixer = {
        "kind": "attention",
        "n_heads": n_heads,
        "n_kv_heads": config.get("num_key_value_heads") or n_heads,
        "head_dim": config.get("head_dim") or config.get("hidden_size") // n_heads,
        "bias": bias,
        "out_bias": bias,
        "dropout": float(config.get("attention_dropout") or 0.0),
    }
    norm = {"kind": "rms_norm", "eps": config.get("rms_norm_eps")}
    block = {"placement": "pre", "norm": norm, "mixer": mixer}
    return {
        "kind": "decoder",
        "dim": config.get("hidden_size"),
        "n_layers": config.get("num_hidden_layers"),
        "max_seq_len": config.get("max_position_embeddings"),
        "vocab_size": config.get("vocab_size"),
        "embed": {"kind": "token"},
        "position": rope(config, fraction=fraction),
        "block": block | ({"ffn": glu(config)} if gated else {}),
        "norm": norm,
        "head": {"kind": "lm", "tied": config.get("tie_word_embeddings")},
        "init": {"kind": "normal", "std": config.get("initializer_range")},
    }


def glu(config: HfConfig, width: str = "intermediate_size", default: Any = REQUIRED) -> Table:
    """The gated network of a config whose width is under the key `width`."""
    return {
        "kind": "glu",
        "hidden_dim": config.get(width, default),
        "activation": config.activation("hidden_act"),
        "bias": config.get("mlp_bias", False),
    }


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a LLaMA."""
    return [*around(), *GATED]


def around() -> list[Row]:
    """All tensors but those of the feed-forward networks, with norms before both halves."""
    return [
        *ENDS,
        *ATTENTION,
        Row(f"{BLOCK}.mixer_residual.pre", f"{HF_BLOCK}.input_layernorm"),
        Row(f"{BLOCK}.ffn_residual.pre", f"{HF_BLOCK}.post_attention_layernorm"),
    ]


ENDS = [
    Row("embed.table", "model.embed_tokens"),
    Row("norm", "model.norm"),
    Row("head", "lm_head"),
]
ATTENTION = [
    *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{HF_BLOCK}.self_attn.{{q,k,v,o}}_proj"),
    *rows(f"{BLOCK}.mixer.{{q,k}}_norm", f"{HF_BLOCK}.self_attn.{{q,k}}_norm"),
]
GATED = rows(f"{BLOCK}.ffn.{{gate,up,down}}", f"{HF_BLOCK}.mlp.{{gate,up,down}}_proj")
"""Tensors that most families of the line call alike; a row without a tensor of ours is idle."""


BARE: dict[str, Told] = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "intermediate_size": "block.ffn.hidden_dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "block.mixer.n_heads",
    "num_key_value_heads": "block.mixer.n_kv_heads",
    "head_dim": "block.mixer.head_dim",
    "hidden_act": activation("block.ffn.activation", "block.ffn.expert.activation"),
    "max_position_embeddings": "max_seq_len",
    "attention_dropout": "block.mixer.dropout",
    "initializer_range": "init.std",
    "tie_word_embeddings": "head.tied",
}
KEYS: dict[str, Told] = {**BARE, "rms_norm_eps": "norm.eps"}
"""The keys that most of the line share: where our value of each stands."""
BIASED: dict[str, Told] = {**KEYS, "attention_bias": biased}

config = spelled({**BIASED, "mlp_bias": "block.ffn.bias"}, rotary())
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
