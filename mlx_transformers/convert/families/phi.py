"""Phi 1, 1.5 and 2: attention and mlp side by side, half of each head turns, biases everywhere.

Defaults are those of `PhiConfig`.
"""

from ..config import HfConfig
from ..decoder import decoder, mlp
from ..family import Family, Table
from ..flat_model import SIZES, PathOrFn, activation, config_writer, present
from ..rope import rope, rotary
from ..rows import BLOCK, Row, rows

HF_BLOCK = "model.layers.{i}"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a PhiConfig."""
    n_heads = config.get("num_attention_heads")
    norm = {"kind": "layer_norm", "eps": config.get("layer_norm_eps")}
    mixer: Table = {
        "n_heads": n_heads,
        "n_kv_heads": config.get("num_key_value_heads") or n_heads,
        "bias": True,
        "out_bias": True,
        "dropout": float(config.get("attention_dropout") or 0.0),
    }
    if config.get("qk_layernorm"):
        mixer["qk_norm"] = norm
    return decoder(
        dim=config.get("hidden_size"),
        n_layers=config.get("num_hidden_layers"),
        max_seq_len=config.get("max_position_embeddings"),
        vocab_size=config.get("vocab_size"),
        norm=norm,
        mixer=mixer,
        ffn=mlp(config.get("intermediate_size"), config.activation("hidden_act")),
        position=rope(config, partial=True),
        embed={"dropout": float(config.get("embd_pdrop"))},
        arrangement="parallel",
        dropout=config.get("resid_pdrop"),
        head={"tied": config.get("tie_word_embeddings"), "bias": True},
        std=config.get("initializer_range"),
    )


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Phi."""
    return [
        Row("embed.table", "model.embed_tokens"),
        Row("norm", "model.final_layernorm"),
        Row("head", "lm_head"),
        Row(f"{BLOCK}.residual.pre", f"{HF_BLOCK}.input_layernorm"),
        *rows(f"{BLOCK}.mixer.{{q,k,v}}", f"{HF_BLOCK}.self_attn.{{q,k,v}}_proj"),
        *rows(f"{BLOCK}.mixer.{{q,k}}_norm", f"{HF_BLOCK}.self_attn.{{q,k}}_layernorm"),
        Row(f"{BLOCK}.mixer.o", f"{HF_BLOCK}.self_attn.dense"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.mlp.{{fc1,fc2}}"),
    ]


KEYS: dict[str, PathOrFn] = {
    **SIZES,
    "num_key_value_heads": "block.mixer.n_kv_heads",
    "hidden_act": activation("block.ffn.activation"),
    "layer_norm_eps": "norm.eps",
    "qk_layernorm": present("block.mixer.qk_norm"),
    "attention_dropout": "block.mixer.dropout",
    "resid_pdrop": "block.dropout",
    "embd_pdrop": "embed.dropout",
    "tie_word_embeddings": "head.tied",
}

PHI = Family(
    model_types=("phi",),
    architecture="PhiForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS, rotary(fraction_key="partial_rotary_factor")),
    renames=((r"^(?!model\.|lm_head\.)", "model."),),
    tied=(("lm_head.weight", "model.embed_tokens.weight"),),
)
