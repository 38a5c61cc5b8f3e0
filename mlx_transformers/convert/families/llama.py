"""LLaMA 1, 2, 3 and everything published in their layout (SmolLM, Yi, Vicuna, TinyLlama ...).

Defaults are those of `LlamaConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rope, rope_config
from ..weights import Row, rows

HF_BLOCK = "model.layers.{i}"
BLOCK = "stack.blocks.{i}"


def model(config: HfConfig) -> Table:
    """The `[model]` table of a LlamaConfig."""
    bias = config.get("attention_bias", False)
    return decoder(config, bias=bias, n_kv_heads=None, eps=1e-6, hidden_dim=11008, context=2048)


def decoder(
    config: HfConfig,
    *,
    hidden_dim: int,
    context: int,
    eps: float,
    n_kv_heads: int | None,
    bias: bool = False,
    theta: float = 10000.0,
) -> Table:
    """What LLaMA, Mistral and Mixtral share; the arguments are the defaults that differ."""
    n_heads = config.get("num_attention_heads", 32)
    mixer = {
        "kind": "attention",
        "n_heads": n_heads,
        "n_kv_heads": config.get("num_key_value_heads", n_kv_heads) or n_heads,
        "head_dim": config.get("head_dim", None) or config.get("hidden_size", 4096) // n_heads,
        "bias": bias,
        "out_bias": bias,
        "dropout": float(config.get("attention_dropout", 0.0) or 0.0),
    }
    norm = {"kind": "rms_norm", "eps": config.get("rms_norm_eps", eps)}
    ffn = {
        "kind": "glu",
        "hidden_dim": config.get("intermediate_size", hidden_dim),
        "activation": config.activation("hidden_act", "silu"),
        "bias": config.get("mlp_bias", False),
    }
    return {
        "kind": "decoder",
        "dim": config.get("hidden_size", 4096),
        "n_layers": config.get("num_hidden_layers", 32),
        "max_seq_len": config.get("max_position_embeddings", context),
        "vocab_size": config.get("vocab_size", 32000),
        "embed": {"kind": "token"},
        "position": rope(config, theta=theta),
        "block": {"placement": "pre", "norm": norm, "mixer": mixer, "ffn": ffn},
        "norm": norm,
        "head": {"kind": "lm", "tied": config.get("tie_word_embeddings", False)},
        "init": {"kind": "normal", "std": config.get("initializer_range", 0.02)},
    }


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a LLaMA."""
    return [
        *around(),
        *rows(f"{BLOCK}.ffn.{{gate,up,down}}", f"{HF_BLOCK}.mlp.{{gate,up,down}}_proj"),
    ]


def around() -> list[Row]:
    """All tensors but those of the feed-forward networks."""
    return [
        Row("embed.table", "model.embed_tokens"),
        Row("norm", "model.norm"),
        Row("head", "lm_head"),
        Row(f"{BLOCK}.mixer_residual.pre", f"{HF_BLOCK}.input_layernorm"),
        Row(f"{BLOCK}.ffn_residual.pre", f"{HF_BLOCK}.post_attention_layernorm"),
        *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{HF_BLOCK}.self_attn.{{q,k,v,o}}_proj"),
    ]


def config(table: Table) -> Table:
    """The LlamaConfig of a model."""
    block = table["block"]
    mixer, ffn = block["mixer"], block["ffn"]
    return {
        **decoder_config(table),
        "intermediate_size": ffn["hidden_dim"],
        "hidden_act": ffn["activation"],
        "mlp_bias": ffn.get("bias", False),
        "attention_bias": mixer.get("bias", False),
    }


def decoder_config(table: Table) -> Table:
    """The keys that LLaMA, Mistral and Mixtral share."""
    block = table["block"]
    mixer = block["mixer"]
    return {
        "vocab_size": table["vocab_size"],
        "hidden_size": table["dim"],
        "num_hidden_layers": table["n_layers"],
        "num_attention_heads": mixer["n_heads"],
        "num_key_value_heads": mixer.get("n_kv_heads") or mixer["n_heads"],
        "head_dim": mixer.get("head_dim") or table["dim"] // mixer["n_heads"],
        "max_position_embeddings": table["max_seq_len"],
        "rms_norm_eps": table["norm"]["eps"],
        "attention_dropout": mixer.get("dropout", 0.0),
        "tie_word_embeddings": table["head"]["tied"],
        **rope_config(table["position"]),
    }


LLAMA = Family(
    model_types=("llama",),
    architecture="LlamaForCausalLM",
    model=model,
    weights=weights,
    config=config,
    renames=((r"^(?!model\.|lm_head\.)", "model."),),
    tied=(("lm_head.weight", "model.embed_tokens.weight"),),
)
