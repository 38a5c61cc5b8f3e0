"""BLOOM: ALiBi, a norm after the embedding, a tanh gelu, q, k, v packed head by head.

Defaults are those of `BloomConfig`.
"""

from ..config import HfConfig
from ..decoder import decoder, mlp
from ..family import Family, Table, prefixed
from ..flat_model import PathOrFn, config_writer, is_
from ..rows import BLOCK, Row, rows
from ..transforms import SplitGroups

HF_BLOCK = "transformer.h.{i}"
CONTEXT = 2048
"""Length that BLOOM was trained with; ALiBi has no end, and its config says none."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a BloomConfig."""
    config.ignore("skip_bias_add", "skip_bias_add_qkv", "offset_alibi")
    if (config.optional("pretraining_tp") or 1) > 1:
        # in slices, their code leaves out the biases of the two output maps
        config.expect("slow_but_exact", False)
    config.ignore("slow_but_exact", "classifier_dropout")
    config.ignore("attention_softmax_in_fp32", "bias_dropout_fusion", "masked_softmax_fusion")
    config.ignore("num_attention_heads", "n_inner", "unk_token_id", "hidden_size", "n_embed")
    dim, n_heads = _dim(config), config.get("n_head")
    norm = {"kind": "layer_norm", "eps": config.get("layer_norm_epsilon")}
    return decoder(
        dim=dim,
        n_layers=config.get("n_layer"),
        max_seq_len=config.optional("seq_length") or CONTEXT,
        vocab_size=config.get("vocab_size"),
        norm=norm,
        mixer={
            "n_heads": n_heads,
            "bias": True,
            "out_bias": True,
            "dropout": float(config.get("attention_dropout")),
        },
        ffn=mlp(4 * dim, "gelu_tanh"),
        position={"kind": "alibi"},
        embed={"norm": norm},
        placement=("pre_skip" if config.get("apply_residual_connection_post_layernorm") else "pre"),
        dropout=config.get("hidden_dropout"),
        head={"tied": config.get("tie_word_embeddings")},
        std=config.get("initializer_range"),
    )


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a BLOOM."""
    n_heads = config.get("n_head")
    packed = SplitGroups(n_heads, n_heads, _dim(config) // n_heads)
    norms = "{input,post_attention}_layernorm"
    mlp_names = "{dense_h_to_4h,dense_4h_to_h}"
    qkv = tuple(f"{BLOCK}.mixer.{x}" for x in "qkv")
    return [
        Row("embed.table", "transformer.word_embeddings"),
        Row("embed.norm", "transformer.word_embeddings_layernorm"),
        Row("norm", "transformer.ln_f"),
        Row("head", "lm_head"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{HF_BLOCK}.{norms}"),
        Row(qkv, f"{HF_BLOCK}.self_attention.query_key_value", packed),
        Row(f"{BLOCK}.mixer.o", f"{HF_BLOCK}.self_attention.dense"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.mlp.{mlp_names}"),
    ]


def _dim(config: HfConfig) -> int:
    width: int = config.get("n_embed") or config.get("hidden_size")
    return width


KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "n_layer": "n_layers",
    "n_head": "block.mixer.n_heads",
    "seq_length": "max_seq_len",
    "layer_norm_epsilon": "norm.eps",
    "apply_residual_connection_post_layernorm": is_("block.placement", "pre_skip"),
    "attention_dropout": "block.mixer.dropout",
    "hidden_dropout": "block.dropout",
    "initializer_range": "init.std",
    "tie_word_embeddings": "head.tied",
}

BLOOM = Family(
    model_types=("bloom",),
    architecture="BloomForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS),
    renames=(prefixed("transformer.", "lm_head."),),
    tied=(("lm_head.weight", "transformer.word_embeddings.weight"),),
)
