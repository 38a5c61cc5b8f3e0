"""DBRX: layer norms without bias, bounded q, k and v, experts of a layer in one tensor each.

Defaults are those of `DbrxConfig`, `DbrxAttentionConfig` and `DbrxFFNConfig`.
"""

from ...core.errors import ConvertError
from ..config import HfConfig, their_activation
from ..decoder import decoder
from ..family import Family, Table, prefixed
from ..flat_model import FlatModel, config_writer
from ..rope import rope, rotary
from ..rows import BLOCK, Row, rows
from ..transforms import Chain, Reshape, Split, Swap, Transform

HF_BLOCK = "transformer.blocks.{i}"
EPS = 1e-5
"""Of the norms; no key of the config says it."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a DbrxConfig."""
    config.ignore("num_key_value_heads", "resid_pdrop", "emb_pdrop")
    attn, ffn = config.section("attn_config"), config.section("ffn_config")
    ffn.ignore("hidden_size", "moe_jitter_eps")
    norm = {"kind": "layer_norm", "eps": EPS, "bias": False}
    mixer: Table = {
        "n_heads": config.get("n_heads"),
        "n_kv_heads": attn.get("kv_n_heads"),
        "dropout": float(attn.get("attn_pdrop")),
    }
    if bound := attn.optional("clip_qkv"):
        mixer["clip"] = float(bound)
    theta = attn.optional("rope_theta")
    return decoder(
        dim=config.get("d_model"),
        n_layers=config.get("n_layers"),
        max_seq_len=config.get("max_seq_len"),
        vocab_size=config.get("vocab_size"),
        norm=norm,
        mixer=mixer,
        ffn=mixture(ffn),
        position=rope(config, theta=theta),
        embed={"dropout": float(config.get("emb_pdrop"))},
        dropout=config.get("resid_pdrop"),
        head={"tied": config.get("tie_word_embeddings")},
        std=config.get("initializer_range"),
    )


def mixture(ffn: HfConfig) -> Table:
    """Return the experts of a DbrxFFNConfig."""
    act = ffn.optional("ffn_act_fn") or {"name": "silu"}
    options = ffn.watched("ffn_act_fn", act)
    norm = ffn.get("moe_normalize_expert_weights")
    if norm not in (None, 1.0):
        raise ffn.refuse("moe_normalize_expert_weights", norm, "the sum of the gates (1.0) is")
    router = {
        "kind": "top_k",
        "top_k": ffn.get("moe_top_k"),
        "normalize": norm is not None,
        "balance_loss": float(ffn.get("moe_loss_weight")),
    }
    expert = {
        "kind": "glu",
        "hidden_dim": ffn.get("ffn_hidden_size"),
        "activation": options.activation("name"),
    }
    return {
        "kind": "moe",
        "n_experts": ffn.get("moe_num_experts"),
        "router": router,
        "expert": expert,
    }


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a DBRX."""
    dim, heads = config.get("d_model"), config.get("n_heads")
    keys = config.section("attn_config").get("kv_n_heads") * (dim // heads)
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
    """Return the shape of an expert tensor as published, and with an axis for the expert."""
    ffn = config.section("ffn_config")
    count, width = ffn.get("moe_num_experts"), ffn.get("ffn_hidden_size")
    dim = config.get("d_model")
    return (count * width, dim), (count, width, dim)


def attention(view: FlatModel) -> Table:
    """Return the table `attn_config`."""
    return {
        "attn_pdrop": view.get("block.mixer.dropout"),
        "clip_qkv": view.get("block.mixer.clip"),
        "kv_n_heads": view.get("block.mixer.n_kv_heads"),
    }


def experts(view: FlatModel) -> Table:
    """Return the table `ffn_config`.

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
    config=config_writer(
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
