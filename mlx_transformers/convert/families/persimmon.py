"""Persimmon: squared relu, normalised queries and keys, half of each head turns.

Defaults are those of `PersimmonConfig`.
"""

from ..config import HfConfig
from ..decoder import decoder, mlp
from ..family import Family, Table
from ..flat_model import SIZES, PathOrFn, activation, config_writer, present
from ..rope import rope, rotary
from ..rows import BLOCK, Row, rows
from ..transforms import SplitGroups

HF_BLOCK = "model.layers.{i}"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a PersimmonConfig."""
    eps = config.get("layer_norm_eps")
    norm = {"kind": "layer_norm", "eps": eps}
    mixer: Table = {
        "n_heads": config.get("num_attention_heads"),
        "bias": True,
        "out_bias": True,
        "dropout": float(config.get("attention_dropout")),
    }
    if config.get("qk_layernorm"):
        mixer["qk_norm"] = norm
    # The base of the published models and of transformers 4; 5 takes 10,000 by default.
    position = rope(config, partial=True)
    return decoder(
        dim=config.get("hidden_size"),
        n_layers=config.get("num_hidden_layers"),
        max_seq_len=config.get("max_position_embeddings"),
        vocab_size=config.get("vocab_size"),
        norm=norm,
        mixer=mixer,
        ffn=mlp(config.get("intermediate_size"), config.activation("hidden_act")),
        position=position,
        dropout=config.get("hidden_dropout"),
        head={"tied": config.get("tie_word_embeddings")},
        std=config.get("initializer_range"),
    )


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Persimmon."""
    n_heads = config.get("num_attention_heads")
    packed = SplitGroups(n_heads, n_heads, config.get("hidden_size") // n_heads)
    norms = "{input,post_attention}_layernorm"
    mlp_names = "{dense_h_to_4h,dense_4h_to_h}"
    qkv = tuple(f"{BLOCK}.mixer.{x}" for x in "qkv")
    return [
        Row("embed.table", "model.embed_tokens"),
        Row("norm", "model.final_layernorm"),
        Row("head", "lm_head"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{HF_BLOCK}.{norms}"),
        Row(qkv, f"{HF_BLOCK}.self_attn.query_key_value", packed),
        *rows(f"{BLOCK}.mixer.{{q,k}}_norm", f"{HF_BLOCK}.self_attn.{{q,k}}_layernorm"),
        Row(f"{BLOCK}.mixer.o", f"{HF_BLOCK}.self_attn.dense"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.mlp.{mlp_names}"),
    ]


KEYS: dict[str, PathOrFn] = {
    **SIZES,
    "hidden_act": activation("block.ffn.activation"),
    "layer_norm_eps": "norm.eps",
    "qk_layernorm": present("block.mixer.qk_norm"),
    "attention_dropout": "block.mixer.dropout",
    "hidden_dropout": "block.dropout",
    "tie_word_embeddings": "head.tied",
}

PERSIMMON = Family(
    model_types=("persimmon",),
    architecture="PersimmonForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS, rotary(fraction_key="partial_rotary_factor")),
    defaults={"rope_theta": 25000.0},  # of the published base, not of the newest class
    renames=((r"^(?!model\.|lm_head\.)", "model."),),
    tied=(("lm_head.weight", "model.embed_tokens.weight"),),
)
