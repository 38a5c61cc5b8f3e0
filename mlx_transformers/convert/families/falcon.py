"""Falcon: rotary or ALiBi, one key/value head, groups, or all; three ways to wire a block.

Defaults are those of `FalconConfig`.
"""

from ..config import HfConfig
from ..decoder import decoder, mlp
from ..family import Family, Table, prefixed
from ..rope import rope, rotary
from ..transforms import Split, SplitGroups, Transform
from ..view import Told, View, activation, biased, spelled
from ..weights import Row, rows

HF_BLOCK = "transformer.h.{i}"
BLOCK = "stack.blocks.{i}"


def model(config: HfConfig) -> Table:
    """The `[model]` table of a FalconConfig."""
    config.ignore("apply_residual_connection_post_layernorm", "rotary", "multi_query", "n_embed")
    config.ignore("num_kv_heads", "hidden_size", "rope_parameters", "rope_scaling", "rope_theta")
    dim, n_heads, n_kv_heads = _sizes(config)
    bias = config.get("bias", False)
    # transformers 5 adds the bias twice, with the mask and with the scores, and so do we: outputs
    # have to be equal. Versions before 4.36 added it once.
    position: Table = {"kind": "alibi", "scale": 2 * (dim // n_heads) ** -0.5}
    if not config.get("alibi", False):
        position = rope(config, context=2048)
    return decoder(
        dim=dim,
        n_layers=config.get("num_hidden_layers", 32),
        max_seq_len=config.get("max_position_embeddings", 2048),
        vocab_size=config.get("vocab_size", 65024),
        norm={"kind": "layer_norm", "eps": config.get("layer_norm_epsilon", 1e-5)},
        mixer={
            "n_heads": n_heads,
            "n_kv_heads": n_kv_heads,
            "bias": bias,
            "out_bias": bias,
            "dropout": float(config.get("attention_dropout", 0.0)),
        },
        ffn=mlp(
            config.get("ffn_hidden_size", None) or 4 * dim,
            config.activation("activation", "gelu"),
            bias,
        ),
        position=position,
        arrangement=_arrangement(config),
        dropout=config.get("hidden_dropout", 0.0),
        head={"tied": config.get("tie_word_embeddings", True)},
        std=config.get("initializer_range", 0.02),
    )


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a Falcon."""
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


def _sizes(config: HfConfig) -> tuple[int, int, int]:
    """Width, heads, key/value heads."""
    n_heads = config.get("num_attention_heads", 71)
    groups = config.get("num_kv_heads", None) or n_heads
    if not _new(config):
        groups = 1 if config.get("multi_query", True) else n_heads
    return config.get("n_embed", None) or config.get("hidden_size", 4544), n_heads, groups


def _new(config: HfConfig) -> bool:
    return bool(config.get("new_decoder_architecture", False))


def _arrangement(config: HfConfig) -> str:
    parallel, norms = config.get("parallel_attn", True), config.get("num_ln_in_parallel_attn", None)
    if _new(config):
        return "parallel_norms" if norms in (None, 2) else "parallel"
    return "parallel" if parallel else "sequential"


def _packed(config: HfConfig) -> Transform:
    dim, n_heads, groups = _sizes(config)
    width = dim // n_heads
    if groups == 1 and not _new(config):
        return Split((dim, width, width))
    return SplitGroups(n_heads, groups, width)


def wired(view: View) -> Table:
    """Which of the three ways a block is wired, and whether there are groups of heads."""
    arrangement, groups = view.get("block.arrangement"), view.get("block.mixer.n_kv_heads")
    new = groups not in (1, view.get("block.mixer.n_heads")) or arrangement == "parallel_norms"
    return {
        "new_decoder_architecture": new,
        "num_kv_heads": groups,
        "multi_query": groups == 1,
        "parallel_attn": arrangement != "sequential",
        "num_ln_in_parallel_attn": 2 if arrangement == "parallel_norms" else 1,
    }


def placed(view: View) -> Table:
    """Its positions: turned, or a bias that falls with distance."""
    alibi = view.layers[0]["position"]["kind"] == "alibi"
    return {"alibi": alibi} | ({} if alibi else rotary()(view))


KEYS: dict[str, Told] = {
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
    config=spelled(KEYS, wired, placed),
    renames=(prefixed("transformer.", "lm_head."),),
    tied=(("lm_head.weight", "transformer.word_embeddings.weight"),),
)
