"""Weight maps of llama.cpp's architectures.

Names and layouts: llama.cpp, `gguf-py/gguf/constants.py` and `convert_hf_to_gguf.py`. In some
architectures queries and keys have their rotary features as neighbours (`Pairs`), in the others as
halves like ours.
"""

from collections.abc import Callable

from .config import HfConfig
from .families.falcon import head_counts
from .rows import AS_IT_IS, BLOCK, Row, rows, without
from .transforms import Add, Pairs, Reshape, Split, Transform

THEIRS = "blk.{i}"


def ends(norm: Transform = AS_IT_IS) -> list[Row]:
    """Return the rows before the first layer and after the last; `norm` transforms norms."""
    return [
        Row("embed.table", "token_embd"),
        Row("norm", "output_norm", norm),
        Row("head", "output"),
    ]


def layer(turn: Callable[[int], Transform], config: HfConfig, norm: Transform) -> list[Row]:
    """Return the rows of a layer with a gated ffn; `turn` transforms rotary heads."""
    queries = config.get("num_attention_heads")
    keys = config.get("num_key_value_heads") or queries
    residuals = f"{BLOCK}.{{mixer,ffn}}_residual.pre"
    return [
        *rows(residuals, f"{THEIRS}.{{attn_norm,ffn_norm}}", norm),
        Row(f"{BLOCK}.mixer.q", f"{THEIRS}.attn_q", turn(queries)),
        Row(f"{BLOCK}.mixer.k", f"{THEIRS}.attn_k", turn(keys)),
        *rows(f"{BLOCK}.mixer.{{v,o}}", f"{THEIRS}.{{attn_v,attn_output}}"),
        *rows(f"{BLOCK}.mixer.{{q,k}}_norm", f"{THEIRS}.attn_{{q,k}}_norm"),
        *rows(f"{BLOCK}.ffn.{{gate,up,down}}", f"{THEIRS}.ffn_{{gate,up,down}}"),
    ]


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "llama" and its like, which may have experts."""
    router = Row(f"{BLOCK}.ffn.router.gate", f"{THEIRS}.ffn_gate_inp")
    return [*ends(), *layer(Pairs, config, AS_IT_IS), router, *expert_rows()]


def by_halves(config: HfConfig) -> list[Row]:
    """Return the weight map of a "qwen2" and its like, whose rotary features are halves."""
    return [*ends(), *layer(lambda heads: AS_IT_IS, config, AS_IT_IS)]


def gemma_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "gemma", whose norms hold the factor, not factor - 1."""
    return [*ends(Add(-1.0)), *layer(lambda heads: AS_IT_IS, config, Add(-1.0))]


def gpt2_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "gpt2"."""
    return [*_one_matrix(config.get("n_embd")), Row("position.table", "position_embd")]


def one_matrix(config: HfConfig) -> list[Row]:
    """Return the weight map of a "bloom" or a "gptneox"."""
    return _one_matrix(config.get("hidden_size"))


def mpt_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an "mpt"."""
    return _one_matrix(config.get("d_model"))


def falcon_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "falcon", whose second norm, where it has one, is that before
    attention."""
    dim, heads, groups = head_counts(config)
    width = dim // heads
    norms = f"{BLOCK}.{{mixer_residual,ffn_residual}}.pre"
    return [
        *rows(norms, f"{THEIRS}.{{attn_norm_2,attn_norm}}"),
        Row(f"{BLOCK}.residual.pre", f"{THEIRS}.attn_norm"),
        *without(_one_matrix(dim, groups * width), *PRE_NORMS),
    ]


def _one_matrix(dim: int, keys: int | None = None) -> list[Row]:
    """Return rows whose queries of width `dim`, and keys and values of width `keys`, are one
    tensor; None: of the same width."""
    ours = tuple(f"{BLOCK}.mixer.{x}" for x in "qkv")
    sizes = (dim, keys or dim, keys or dim)
    return [
        *ends(),
        Row("embed.norm", "token_embd_norm"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{THEIRS}.{{attn_norm,ffn_norm}}"),
        Row(ours, f"{THEIRS}.attn_qkv", Split(sizes)),
        Row(f"{BLOCK}.mixer.o", f"{THEIRS}.attn_output"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{THEIRS}.ffn_{{up,down}}"),
    ]


def expert_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "qwen3moe" or an "olmoe": experts stacked as ours are."""
    router = Row(f"{BLOCK}.ffn.router.gate", f"{THEIRS}.ffn_gate_inp")
    return [*by_halves(config), router, *expert_rows()]


def expert_rows() -> list[Row]:
    """Return the rows of the experts."""
    return rows(f"{BLOCK}.ffn.experts.{{gate,up,down}}", f"{THEIRS}.ffn_{{gate,up,down}}_exps")


def qwen2_moe_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "qwen2moe", with a shared network and its gate."""
    dim = config.get("hidden_size")
    gate = Reshape((dim,), (1, dim))
    return [
        *expert_weights(config),
        *rows(f"{BLOCK}.ffn.shared.{{gate,up,down}}", f"{THEIRS}.ffn_{{gate,up,down}}_shexp"),
        Row(f"{BLOCK}.ffn.shared_gate", f"{THEIRS}.ffn_gate_inp_shexp", gate),
    ]


def side_by_side(config: HfConfig) -> list[Row]:
    """Return the weight map of a "command-r" or a "stablelm": one norm before attention and ffn,
    which run side by side."""
    return [*by_halves(config), Row(f"{BLOCK}.residual.pre", f"{THEIRS}.attn_norm")]


def nemotron_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "nemotron", whose norms hold the factor, not factor - 1."""
    return [
        *without(by_halves(config), *NORMS),
        *(Row(f"{our}.weight", f"{their}.weight", Add(-1.0)) for our, their in NORMS.items()),
        *(Row(f"{our}.bias", f"{their}.bias") for our, their in NORMS.items()),
    ]


PRE_NORMS = (f"{BLOCK}.mixer_residual.pre", f"{BLOCK}.ffn_residual.pre")
NORMS = {
    "norm": "output_norm",
    f"{BLOCK}.mixer_residual.pre": f"{THEIRS}.attn_norm",
    f"{BLOCK}.ffn_residual.pre": f"{THEIRS}.ffn_norm",
}


def olmo2_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an "olmo2", with norms after attention and ffn."""
    ours = f"{BLOCK}.{{mixer,ffn}}_residual.post"
    return [
        *by_halves(config),
        *rows(ours, f"{THEIRS}.{{post_attention_norm,post_ffw_norm}}"),
    ]


def packed_attention(config: HfConfig) -> list[Row]:
    """Return the weight map of a "phi3": queries, keys, values in one tensor, gate and up too."""
    heads = config.get("num_attention_heads")
    groups = config.get("num_key_value_heads") or heads
    width = config.get("head_dim") or config.get("hidden_size") // heads
    ours = tuple(f"{BLOCK}.mixer.{x}" for x in "qkv")
    sizes = (heads * width, groups * width, groups * width)
    return [
        Row(ours, f"{THEIRS}.attn_qkv", Split(sizes)),
        *without(packed_ffn(config), *ours),
    ]


def packed_ffn(config: HfConfig) -> list[Row]:
    """Return the weight map of a "glm4", whose gate and up are one tensor, with norms on both
    sides."""
    width = config.get("intermediate_size")
    ours = tuple(f"{BLOCK}.ffn.{x}" for x in ("gate", "up"))
    return [
        Row(ours, f"{THEIRS}.ffn_up", Split((width, width))),
        *without(olmo2_weights(config), *ours),
    ]


def seed_oss_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "seed_oss", which names the norm before the ffn otherwise."""
    ours = f"{BLOCK}.ffn_residual.pre"
    return [
        Row(ours, f"{THEIRS}.post_attention_norm"),
        *without(by_halves(config), ours),
    ]


def gemma2_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "gemma2", with norms on both sides."""
    norm = Add(-1.0)
    after = f"{BLOCK}.{{mixer,ffn}}_residual.post"
    return [
        *gemma_weights(config),
        *rows(after, f"{THEIRS}.{{post_attention_norm,post_ffw_norm}}", norm),
    ]


def gemma3_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "gemma3", with norms of queries and keys too."""
    ours = f"{BLOCK}.mixer.{{q,k}}_norm"
    inner = rows(ours, f"{THEIRS}.attn_{{q,k}}_norm", Add(-1.0))
    return [*without(gemma2_weights(config), *(row.ours for row in inner)), *inner]
