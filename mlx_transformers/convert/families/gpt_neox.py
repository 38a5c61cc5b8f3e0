"""GPT-NeoX and Pythia: two norms side by side, a quarter of each head turns, q, k, v packed.

Defaults are those of `GPTNeoXConfig`.
"""

from ..config import HfConfig
from ..decoder import decoder, mlp
from ..family import Family, Table, prefixed
from ..flat_model import SIZES, PathOrFn, activation, biased, config_writer, is_
from ..rope import rope, rotary
from ..rows import BLOCK, Row, rows
from ..transforms import SplitGroups

HF_BLOCK = "gpt_neox.layers.{i}"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a GPTNeoXConfig."""
    config.ignore("classifier_dropout", "use_parallel_residual", "rope_theta")
    bias = config.get("attention_bias")
    return decoder(
        dim=config.get("hidden_size"),
        n_layers=config.get("num_hidden_layers"),
        max_seq_len=config.get("max_position_embeddings"),
        vocab_size=config.get("vocab_size"),
        norm={"kind": "layer_norm", "eps": config.get("layer_norm_eps")},
        mixer={
            "n_heads": config.get("num_attention_heads"),
            "bias": bias,
            "out_bias": bias,
            "dropout": float(config.get("attention_dropout")),
        },
        ffn=mlp(config.get("intermediate_size"), config.activation("hidden_act")),
        position=rope(
            config,
            partial=True,
            theta_key="rotary_emb_base",
            fraction_key="rotary_pct",
        ),
        embed={"dropout": float(config.get("hidden_dropout"))},
        arrangement=("parallel_norms" if config.get("use_parallel_residual") else "sequential"),
        dropout=config.get("hidden_dropout"),
        head={"tied": config.get("tie_word_embeddings")},
        std=config.get("initializer_range"),
    )


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a GPT-NeoX."""
    n_heads = config.get("num_attention_heads")
    packed = SplitGroups(n_heads, n_heads, config.get("hidden_size") // n_heads)
    norms = "{input,post_attention}_layernorm"
    mlp_names = "{dense_h_to_4h,dense_4h_to_h}"
    qkv = tuple(f"{BLOCK}.mixer.{x}" for x in "qkv")
    return [
        Row("embed.table", "gpt_neox.embed_in"),
        Row("norm", "gpt_neox.final_layer_norm"),
        Row("head", "embed_out"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{HF_BLOCK}.{norms}"),
        Row(qkv, f"{HF_BLOCK}.attention.query_key_value", packed),
        Row(f"{BLOCK}.mixer.o", f"{HF_BLOCK}.attention.dense"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.mlp.{mlp_names}"),
    ]


KEYS: dict[str, PathOrFn] = {
    **SIZES,
    "hidden_act": activation("block.ffn.activation"),
    "layer_norm_eps": "norm.eps",
    "attention_bias": biased,
    "attention_dropout": "block.mixer.dropout",
    "hidden_dropout": "block.dropout",
    "use_parallel_residual": is_("block.arrangement", "parallel_norms"),
    "tie_word_embeddings": "head.tied",
}

OF_MLX_LM = (
    (r"^model\.h\.", "gpt_neox.layers."),
    (r"^model\.embed_out\.", "embed_out."),
    (r"^model\.", "gpt_neox."),
)
"""Names in folders that mlx-lm wrote."""

GPT_NEOX = Family(
    model_types=("gpt_neox",),
    architecture="GPTNeoXForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS, rotary(theta_key="rotary_emb_base", fraction_key="rotary_pct")),
    defaults={"rotary_emb_base": 10000.0},
    renames=(*OF_MLX_LM, prefixed("gpt_neox.", "embed_out.")),
    dropped=(r"\.attention\.(masked_)?bias$",),
    tied=(("embed_out.weight", "gpt_neox.embed_in.weight"),),
)
