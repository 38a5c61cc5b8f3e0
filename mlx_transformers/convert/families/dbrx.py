"""DBRX: layer norms without bias, bounded q, k and v, experts of a layer in one tensor each.

Defaults are those of `DbrxConfig`, `DbrxAttentionConfig` and `DbrxFFNConfig`.
"""

from ...core.errors import ConvertError
from ..config import HfConfig, their_activation
from ..decoder import decoder
from ..family import Family, Table, prefixed
from ..rope import rope, rotary
from ..transforms import Chain, Reshape, Split, Swap, Transform
from ..view import View, spelled
from ..weights import Row, rows

HF_BLOCK = "transformer.blocks.{i}"
BLOCK = "stack.blocks.{i}"
EPS = 1e-5
"""Of the norms; no key of the config says it."""


def model(config: HfConfig) -> Table:
    """The `[model]` table of a DbrxConfig."""
    config.ignore("num_key_value_heads", "resid_pdrop", "emb_pdrop")
    attn, ffn = config.section("attn_config"), config.section("ffn_config")
    attn.ignore("rope_theta")
    ffn.ignore("hidden_size", "moe_jitter_eps")
    norm = {"kind": "layer_norm", "eps": EPS, "bias": False}
    mixer: Table = {
        "n_heads": config.get("n_heads", 16),
        "n_kv_heads": attn.get("kv_n_heads", 1),
        "dropout": float(attn.get("attn_pdrop", 0.0)),
    }
    if bound := attn.get("clip_qkv", None):
        mixer["clip"] = float(bound)
    theta = attn.get("rope_theta", 10000.0)
    return decoder(
        dim=config.get("d_model", 2048),
        n_layers=config.get("n_layers", 24),
        max_seq_len=config.get("max_seq_len", 2048),
        vocab_size=config.get("vocab_size", 32000),
        norm=norm,
        mixer=mixer,
        ffn=mixture(ffn),
        position=rope(config, theta=theta, context=2048),
        embed={"dropout": float(config.get("emb_pdrop", 0.0))},
        dropout=config.get("resid_pdrop", 0.0),
        head={"tied": config.get("tie_word_embeddings", False)},
        std=config.get("initializer_range", 0.02),
    )


def mixture(ffn: HfConfig) -> Table:
    """The experts that a DbrxFFNConfig tells."""
    act = ffn.get("ffn_act_fn", None) or {"name": "silu"}
    told = ffn.watched("ffn_act_fn", act)
    norm = ffn.get("moe_normalize_expert_weights", 1.0)
    if norm not in (None, 1.0):
        raise ffn.refuse("moe_normalize_expert_weights", norm, "the sum of the gates (1.0) is")
    router = {
        "kind": "top_k",
        "top_k": ffn.get("moe_top_k", 1),
        "normalize": norm is not None,
        "balance_loss": float(ffn.get("moe_loss_weight", 0.01)),
    }
    expert = {
        "kind": "glu",
        "hidden_dim": ffn.get("ffn_hidden_size", 3584),
        "activation": told.activation("name"),
    }
    return {
        "kind": "moe",
        "n_experts": ffn.get("moe_num_experts", 4),
        "router": router,
        "expert": expert,
    }


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a DBRX."""
    dim, heads = config.get("d_model", 2048), config.get("n_heads", 16)
    keys = (config.get("attn_config", None) or {}).get("kv_n_heads", 1) * (dim // heads)
    theirs = f"{HF_BLOCK}.norm_attn_norm"
    flat, stacked = _shapes(config)
    packed: Transform = Reshape(flat, stacked)
    experts, mlp = f"{BLOCK}.ffn.experts", f"{HF_BLOCK}.ffn.experts.mlp"
    return [
        Row("embed.table", "transformer.wte"),
        Row("norm", "transformer.norm_f"),
        Row("head", "lm_head"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{theirs}.{{norm_1,norm_2}}"),
        Row(
            tuple(f"{BLOCK}.mixer.{x}" for x in "qkv"),
            f"{theirs}.attn.Wqkv",
            Split((dim, keys, keys)),
        ),
        Row(f"{BLOCK}.mixer.o", f"{theirs}.attn.out_proj"),
        Row(f"{BLOCK}.ffn.router.gate", f"{HF_BLOCK}.ffn.router.layer"),
        *rows(f"{experts}.{{gate,up}}.weight", f"{mlp}.{{w1,v1}}", packed),
        Row(f"{experts}.down.weight", f"{mlp}.w2", Chain(packed, Swap())),
    ]


def _shapes(config: HfConfig) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of one of their tensors of experts, and of the same with an axis for the expert."""
    told = config.get("ffn_config", None) or {}
    count, width = told.get("moe_num_experts", 4), told.get("ffn_hidden_size", 3584)
    dim = config.get("d_model", 2048)
    return (count * width, dim), (count, width, dim)


def attention(view: View) -> Table:
    """The table of attention."""
    return {
        "attn_pdrop": view.get("block.mixer.dropout"),
        "clip_qkv": view.get("block.mixer.clip"),
        "kv_n_heads": view.get("block.mixer.n_kv_heads"),
    }


def experts(view: View) -> Table:
    """The table of the experts.

    Raises:
        ConvertError: there are none.
    """
    if view.get("block.ffn.kind") != "moe":
        raise ConvertError("A DBRX has experts in every layer.")
    return {
        "ffn_act_fn": {"name": their_activation(view.get("block.ffn.expert.activation"))},
        "ffn_hidden_size": view.get("block.ffn.expert.hidden_dim"),
        "moe_num_experts": view.get("block.ffn.n_experts"),
        "moe_top_k": view.get("block.ffn.router.top_k"),
        "moe_loss_weight": view.get("block.ffn.router.balance_loss"),
        "moe_normalize_expert_weights": 1.0 if view.get("block.ffn.router.normalize") else None,
    }


DBRX = Family(
    model_types=("dbrx",),
    architecture="DbrxForCausalLM",
    model=model,
    weights=weights,
    config=spelled(
        {
            "d_model": "dim",
            "n_heads": "block.mixer.n_heads",
            "n_layers": "n_layers",
            "max_seq_len": "max_seq_len",
            "vocab_size": "vocab_size",
            "resid_pdrop": "block.dropout",
            "emb_pdrop": "embed.dropout",
            "initializer_range": "init.std",
            "tie_word_embeddings": "head.tied",
            "attn_config": attention,
            "ffn_config": experts,
        },
        rotary(),
    ),
    renames=(prefixed("transformer.", "lm_head."),),
    tied=(("lm_head.weight", "transformer.wte.weight"),),
)
