"""Falcon: rotary or ALiBi, one key/value head, groups, or all; three ways to wire a block.

Defaults are those of `FalconConfig`.
"""

from ..config import HfConfig
from ..decoder import decoder, mlp
from ..family import Family, Table, prefixed
from ..flat_model import FlatModel, PathOrFn, activation, biased, config_writer
from ..rope import rope, rotary
from ..rows import BLOCK, Row, rows
from ..transforms import Split, SplitGroups, Transform

HF_BLOCK = "transformer.h.{i}"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a FalconConfig."""
    config.ignore("apply_residual_connection_post_layernorm", "rotary", "multi_query", "n_embed")
    config.ignore(
        "classifier_dropout",
        "num_kv_heads",
        "hidden_size",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
    )
    dim, n_heads, n_kv_heads = head_counts(config)
    bias = config.get("bias")
    # transformers 5 adds the bias twice, with the mask and with the scores, and so do we: outputs
    # have to be equal. Versions before 4.36 added it once.
    position: Table = {"kind": "alibi", "scale": 2 * (dim // n_heads) ** -0.5}
    if not config.get("alibi"):
        position = rope(config)
    return decoder(
        dim=dim,
        n_layers=config.get("num_hidden_layers"),
        max_seq_len=config.get("max_position_embeddings"),
        vocab_size=config.get("vocab_size"),
        norm={"kind": "layer_norm", "eps": config.get("layer_norm_epsilon")},
        mixer={
            "n_heads": n_heads,
            "n_kv_heads": n_kv_heads,
            "bias": bias,
            "out_bias": bias,
            "dropout": float(config.get("attention_dropout")),
        },
        ffn=mlp(
            config.get("ffn_hidden_size") or 4 * dim,
            config.activation("activation"),
            bias,
        ),
        position=position,
        arrangement=_arrangement(config),
        dropout=config.get("hidden_dropout"),
        head={"tied": config.get("tie_word_embeddings")},
        std=config.get("initializer_range"),
    )


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Falcon."""
    arrangement = _arrangement(config)
    norms = "{input_layernorm,post_attention_layernorm}"
    if arrangement == "parallel_norms":
        norms = "{ln_attn,ln_mlp}"
    mlp_names = "{dense_h_to_4h,dense_4h_to_h}"
    qkv = tuple(f"{BLOCK}.mixer.{x}" for x in "qkv")
    return [
        Row("embed.table", "transformer.word_embeddings"),
        Row("norm", "transformer.ln_f"),
        Row("head", "lm_head"),
        Row(f"{BLOCK}.residual.pre", f"{HF_BLOCK}.input_layernorm"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{HF_BLOCK}.{norms}"),
        Row(qkv, f"{HF_BLOCK}.self_attention.query_key_value", _packed(config)),
        Row(f"{BLOCK}.mixer.o", f"{HF_BLOCK}.self_attention.dense"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.mlp.{mlp_names}"),
    ]


def head_counts(config: HfConfig) -> tuple[int, int, int]:
    """Return width, heads and key/value heads."""
    n_heads = config.get("num_attention_heads")
    groups = config.get("num_kv_heads") or n_heads
    if not _new(config):
        groups = 1 if config.get("multi_query") else n_heads
    return config.get("n_embed") or config.get("hidden_size"), n_heads, groups


def _new(config: HfConfig) -> bool:
    return bool(config.get("new_decoder_architecture"))


def _arrangement(config: HfConfig) -> str:
    parallel, norms = config.get("parallel_attn"), config.get("num_ln_in_parallel_attn")
    if _new(config):
        return "parallel_norms" if norms in (None, 2) else "parallel"
    return "parallel" if parallel else "sequential"


def _packed(config: HfConfig) -> Transform:
    dim, n_heads, groups = head_counts(config)
    width = dim // n_heads
    if groups == 1 and not _new(config):
        return Split((dim, width, width))
    return SplitGroups(n_heads, groups, width)


def wired(view: FlatModel) -> Table:
    """Return the keys of the block's arrangement and of grouped heads."""
    arrangement, groups = view.get("block.arrangement"), view.get("block.mixer.n_kv_heads")
    new = groups not in (1, view.get("block.mixer.n_heads")) or arrangement == "parallel_norms"
    return {
        "new_decoder_architecture": new,
        "num_kv_heads": groups,
        "multi_query": groups == 1,
        "parallel_attn": arrangement != "sequential",
        "num_ln_in_parallel_attn": 2 if arrangement == "parallel_norms" else 1,
    }


def placed(view: FlatModel) -> Table:
    """Return the keys of its positions: rotary or ALiBi."""
    alibi = view.layers[0]["position"]["kind"] == "alibi"
    return {"alibi": alibi} | ({} if alibi else rotary()(view))


KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "ffn_hidden_size": "block.ffn.hidden_dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "block.mixer.n_heads",
    "activation": activation("block.ffn.activation"),
    "max_position_embeddings": "max_seq_len",
    "layer_norm_epsilon": "norm.eps",
    "bias": lambda view: biased(view) or bool(view.get("block.ffn.bias")),
    "attention_dropout": "block.mixer.dropout",
    "hidden_dropout": "block.dropout",
    "initializer_range": "init.std",
    "tie_word_embeddings": "head.tied",
}

FALCON = Family(
    model_types=("falcon",),
    architecture="FalconForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS, wired, placed),
    renames=(prefixed("transformer.", "lm_head."),),
    tied=(("lm_head.weight", "transformer.word_embeddings.weight"),),
)
