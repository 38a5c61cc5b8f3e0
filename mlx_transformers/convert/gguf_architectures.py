"""Architectures of llama.cpp: which families each one is, the names of its keys and tensors.

Names and layouts: llama.cpp, `gguf-py/gguf/constants.py` and `convert_hf_to_gguf.py`. In some
architectures queries and keys have their rotary features as neighbours (`Pairs`), in the others as
halves like ours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .config import HfConfig
from .families.arcee import ARCEE
from .families.gemma import GEMMA
from .families.gemma2 import GEMMA2
from .families.gpt2 import GPT2
from .families.granite import GRANITE
from .families.llama import LLAMA
from .families.mistral import MISTRAL
from .families.mixtral import MIXTRAL
from .families.olmo2 import OLMO2
from .families.olmoe import OLMOE
from .families.qwen2 import QWEN2
from .families.qwen2_moe import QWEN2_MOE, QWEN3_MOE
from .families.qwen3 import QWEN3
from .families.seed_oss import SEED_OSS
from .families.smollm3 import SMOLLM3
from .families.starcoder2 import STARCODER2
from .family import Family
from .layer_types import FULL, SLIDING
from .rows import AS_IT_IS, BLOCK, Row, rows, without
from .transforms import Add, Pairs, Reshape, Split, Transform

THEIRS = "blk.{i}"

KEYS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.key_length": "head_dim",
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
}
"""GGUF's key, without the name of the architecture, and that of config.json."""
EXPERTS = {"expert_used_count": "num_experts_per_tok"}
LLAMA_KEYS = KEYS | EXPERTS | {"expert_count": "num_local_experts"}
QWEN_KEYS = (
    KEYS
    | EXPERTS
    | {"expert_count": "num_experts", "expert_feed_forward_length": "moe_intermediate_size"}
)

GPT2_KEYS = {
    "context_length": "n_positions",
    "embedding_length": "n_embd",
    "block_count": "n_layer",
    "feed_forward_length": "n_inner",
    "attention.head_count": "n_head",
    "attention.layer_norm_epsilon": "layer_norm_epsilon",
    "vocab_size": "vocab_size",
}


@dataclass(frozen=True)
class Architecture:
    """An architecture of llama.cpp.

    Attributes:
        families: its families, by `model_type`.
        weights: the weight map of its files.
        activation: its only activation, and the key of config.json that names it.
        keys: GGUF's keys and those of config.json.
        rotary: whether its positions are rotary.
        fixed: keys of config.json and their only value, or a function of the config that gives it.
        windows: whether it has sliding windows.
    """

    families: dict[str, Family]
    weights: Callable[[HfConfig], list[Row]]
    activation: tuple[str, str] = ("silu", "hidden_act")
    keys: Mapping[str, str] = field(default_factory=lambda: KEYS)
    rotary: bool = True
    fixed: Mapping[str, Any] = field(default_factory=dict)
    windows: bool = False


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
    dim = config.get("n_embd")
    packed = tuple(f"{BLOCK}.mixer.{x}" for x in "qkv")
    return [
        *ends(),
        Row("position.table", "position_embd"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{THEIRS}.{{attn_norm,ffn_norm}}"),
        Row(packed, f"{THEIRS}.attn_qkv", Split((dim, dim, dim))),
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


def olmo2_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an "olmo2", with norms after attention and ffn."""
    ours = f"{BLOCK}.{{mixer,ffn}}_residual.post"
    return [
        *by_halves(config),
        *rows(ours, f"{THEIRS}.{{post_attention_norm,post_ffw_norm}}"),
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


def head_width(config: HfConfig) -> Any:
    """Return the width of a head, whose root divides the scores in llama.cpp."""
    return config.get("head_dim")


def by_turns(config: HfConfig) -> list[str]:
    """Return layers with and without a window by turns."""
    return [SLIDING if i % 2 == 0 else FULL for i in range(config.get("num_hidden_layers"))]


def every_fourth_without(config: HfConfig) -> list[int]:
    """Return SmolLM3's layers with rotary positions as ones: all but every fourth."""
    return [int((i + 1) % 4 != 0) for i in range(config.get("num_hidden_layers"))]


ARCHITECTURES = {
    "llama": Architecture(
        {"llama": LLAMA, "mistral": MISTRAL, "mixtral": MIXTRAL}, weights, keys=LLAMA_KEYS
    ),
    "arcee": Architecture({"arcee": ARCEE}, weights, ("relu2", "hidden_act")),
    "gemma2": Architecture(
        {"gemma2": GEMMA2},
        gemma2_weights,
        ("gelu_tanh", "hidden_activation"),
        KEYS
        | {
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
            "attention.sliding_window": "sliding_window",
        },
        fixed={
            "attention_bias": False,
            "tie_word_embeddings": True,
            "query_pre_attn_scalar": head_width,
            "layer_types": by_turns,
        },
        windows=True,
    ),
    "granite": Architecture(
        {"granite": GRANITE},
        weights,
        keys=KEYS
        | {
            "attention.scale": "attention_multiplier",
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "logit_scale": "logits_scaling",
        },
    ),
    "olmo2": Architecture({"olmo2": OLMO2}, olmo2_weights, fixed={"attention_bias": False}),
    "olmoe": Architecture(
        {"olmoe": OLMOE},
        expert_weights,
        keys=KEYS | EXPERTS | {"expert_count": "num_experts"},
        fixed={"attention_bias": False, "clip_qkv": None, "norm_topk_prob": False},
    ),
    "qwen2moe": Architecture(
        {"qwen2_moe": QWEN2_MOE},
        qwen2_moe_weights,
        keys=QWEN_KEYS | {"expert_shared_feed_forward_length": "shared_expert_intermediate_size"},
        fixed={"norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": []},
    ),
    "qwen3moe": Architecture(
        {"qwen3_moe": QWEN3_MOE},
        expert_weights,
        keys=QWEN_KEYS,
        fixed={
            "attention_bias": False,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        },
    ),
    "seed_oss": Architecture(
        {"seed_oss": SEED_OSS}, seed_oss_weights, fixed={"attention_out_bias": False}
    ),
    "smollm3": Architecture(
        {"smollm3": SMOLLM3}, weights, fixed={"no_rope_layers": every_fourth_without}
    ),
    "starcoder2": Architecture(
        {"starcoder2": STARCODER2},
        by_halves,
        ("gelu_tanh", "hidden_act"),
        {key: name for key, name in KEYS.items() if not key.endswith("rms_epsilon")}
        | {"attention.layer_norm_epsilon": "norm_epsilon"},
        fixed={"use_bias": True},
    ),
    "qwen2": Architecture({"qwen2": QWEN2}, by_halves),
    "qwen3": Architecture({"qwen3": QWEN3}, by_halves, fixed={"attention_bias": False}),
    "gemma": Architecture(
        {"gemma": GEMMA},
        gemma_weights,
        ("gelu_tanh", "hidden_activation"),
        fixed={"attention_bias": False, "tie_word_embeddings": True},
    ),
    "gpt2": Architecture(
        {"gpt2": GPT2},
        gpt2_weights,
        ("gelu_tanh", "activation_function"),
        GPT2_KEYS,
        rotary=False,
        fixed={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
    ),
}
"""By llama.cpp's name."""
