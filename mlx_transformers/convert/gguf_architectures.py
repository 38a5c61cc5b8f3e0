"""Architectures of llama.cpp: which families each one is, the names of its keys and tensors.

Names: llama.cpp, `gguf-py/gguf/constants.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .config import HfConfig
from .families.arcee import ARCEE
from .families.bloom import BLOOM
from .families.cohere import COHERE, COHERE2
from .families.ernie4_5 import ERNIE4_5
from .families.exaone4 import EXAONE4
from .families.gemma import GEMMA
from .families.gemma2 import GEMMA2
from .families.gemma3 import GEMMA3
from .families.glm import GLM4
from .families.gpt2 import GPT2
from .families.gpt_neox import GPT_NEOX
from .families.granite import GRANITE
from .families.granitemoe import GRANITEMOE
from .families.hunyuan import HUNYUAN
from .families.llama import LLAMA
from .families.mistral import MISTRAL
from .families.mixtral import MIXTRAL
from .families.nemotron import NEMOTRON
from .families.olmo import EPS as OLMO_EPS
from .families.olmo import OLMO
from .families.olmo2 import OLMO2
from .families.olmoe import OLMOE
from .families.phi import PHI
from .families.phi3 import PHI3
from .families.qwen2 import QWEN2
from .families.qwen2_moe import QWEN2_MOE, QWEN3_MOE
from .families.qwen3 import QWEN3
from .families.seed_oss import SEED_OSS
from .families.smollm3 import SMOLLM3
from .families.stablelm import STABLELM
from .families.starcoder2 import STARCODER2
from .family import Family
from .gguf_weights import (
    by_halves,
    expert_weights,
    gemma2_weights,
    gemma3_weights,
    gemma_weights,
    gpt2_weights,
    nemotron_weights,
    olmo2_weights,
    one_matrix,
    packed_attention,
    packed_ffn,
    qwen2_moe_weights,
    seed_oss_weights,
    side_by_side,
    weights,
)
from .layer_types import FULL, SLIDING
from .rows import Row

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

GRANITE_KEYS = KEYS | {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}
CENTRED_KEYS = {key: name for key, name in KEYS.items() if not key.endswith("rms_epsilon")}
"""Of architectures with layer norms; their own key of the epsilon is added."""
WHOLE_HEADS = {key: name for key, name in CENTRED_KEYS.items() if name != "head_dim"}
"""Of those whose heads share the width of the model."""

PART = "partial_rotary_factor"

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
        partial: config.json's key of the part of a head that turns; empty where all of it does.
        fixed: keys of config.json and their only value, or a function of the config that gives it.
        constants: GGUF's keys that config.json lacks, and their only value, or a function of the
            config that gives it.
        windows: whether it has sliding windows.
    """

    families: dict[str, Family]
    weights: Callable[[HfConfig], list[Row]]
    activation: tuple[str, str] = ("silu", "hidden_act")
    keys: Mapping[str, str] = field(default_factory=lambda: KEYS)
    rotary: bool = True
    partial: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, float | Callable[[HfConfig], int]] = field(default_factory=dict)
    windows: bool = False


def head_width(config: HfConfig) -> Any:
    """Return the width of a head, whose root divides the scores in llama.cpp."""
    return config.get("head_dim")


def by_turns(config: HfConfig) -> list[str]:
    """Return layers with and without a window by turns."""
    return [SLIDING if i % 2 == 0 else FULL for i in range(config.get("num_hidden_layers"))]


def every_sixth_whole(config: HfConfig) -> list[str]:
    """Return Gemma 3's layers, of which every sixth has no window."""
    return [SLIDING if (i + 1) % 6 else FULL for i in range(config.get("num_hidden_layers"))]


def every_fourth_without(config: HfConfig) -> list[int]:
    """Return SmolLM3's layers with rotary positions as ones: all but every fourth."""
    return [int((i + 1) % 4 != 0) for i in range(config.get("num_hidden_layers"))]


def every_fourth_whole(config: HfConfig) -> list[str]:
    """Return Command R7B's layers, of which every fourth has no window."""
    return [SLIDING if (i + 1) % 4 else FULL for i in range(config.get("num_hidden_layers"))]


def all_whole(config: HfConfig) -> list[str]:
    """Return layers none of which has a window."""
    return [FULL] * config.get("num_hidden_layers")


def four_times(config: HfConfig) -> int:
    """Return the width of an ffn that is four times that of the model."""
    return 4 * int(config.get("hidden_size"))


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
    "gemma3": Architecture(
        {"gemma3_text": GEMMA3},
        gemma3_weights,
        ("gelu_tanh", "hidden_activation"),
        KEYS | {"attention.sliding_window": "sliding_window"},
        fixed={
            "attention_bias": False,
            "tie_word_embeddings": True,
            "query_pre_attn_scalar": head_width,
            "layer_types": every_sixth_whole,
            "sliding_window_pattern": 6,
            "rope_local_base_freq": 10000.0,
            "final_logit_softcapping": None,
        },
        windows=True,
    ),
    "granite": Architecture(
        {"granite": GRANITE},
        weights,
        keys=GRANITE_KEYS,
    ),
    "granitemoe": Architecture(
        {"granitemoe": GRANITEMOE},
        weights,
        keys=GRANITE_KEYS | EXPERTS | {"expert_count": "num_local_experts"},
        fixed={"attention_bias": False},
    ),
    "command-r": Architecture(
        {"cohere": COHERE},
        side_by_side,
        keys=WHOLE_HEADS
        | {"attention.layer_norm_epsilon": "layer_norm_eps", "logit_scale": "logit_scale"},
        fixed={"attention_bias": False, "use_qk_norm": False},
    ),
    "cohere2": Architecture(
        {"cohere2": COHERE2},
        side_by_side,
        keys=WHOLE_HEADS
        | {
            "attention.layer_norm_epsilon": "layer_norm_eps",
            "attention.sliding_window": "sliding_window",
            "logit_scale": "logit_scale",
        },
        fixed={
            "attention_bias": False,
            "layer_types": every_fourth_whole,
            "sliding_window_pattern": 4,
        },
        windows=True,
    ),
    "bloom": Architecture(
        {"bloom": BLOOM},
        one_matrix,
        ("gelu_tanh", "activation"),
        {
            "context_length": "seq_length",
            "embedding_length": "hidden_size",
            "block_count": "n_layer",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
            "vocab_size": "vocab_size",
        },
        rotary=False,
        fixed={"apply_residual_connection_post_layernorm": False},
        constants={
            "feed_forward_length": four_times,
            "attention.head_count_kv": lambda config: int(config.get("n_head")),
        },
    ),
    "ernie4_5": Architecture({"ernie4_5": ERNIE4_5}, by_halves, fixed={"use_bias": False}),
    "exaone4": Architecture(
        {"exaone4": EXAONE4},
        olmo2_weights,
        fixed={"sliding_window": None, "sliding_window_pattern": 0, "layer_types": all_whole},
    ),
    "glm4": Architecture({"glm4": GLM4}, packed_ffn, partial=PART),
    "gptneox": Architecture(
        {"gpt_neox": GPT_NEOX},
        one_matrix,
        ("gelu_tanh", "hidden_act"),
        WHOLE_HEADS
        | {
            "attention.layer_norm_epsilon": "layer_norm_eps",
            "rope.freq_base": "rotary_emb_base",
            "use_parallel_residual": "use_parallel_residual",
        },
        partial="rotary_pct",
        fixed={"attention_bias": True},
    ),
    "hunyuan-dense": Architecture(
        {"hunyuan_v1_dense": HUNYUAN}, by_halves, fixed={"attention_bias": False}
    ),
    "phi2": Architecture(
        {"phi": PHI},
        side_by_side,
        ("gelu_tanh", "hidden_act"),
        WHOLE_HEADS | {"attention.layer_norm_epsilon": "layer_norm_eps"},
        partial=PART,
        fixed={"qk_layernorm": False, "tie_word_embeddings": False},
    ),
    "phi3": Architecture(
        {"phi3": PHI3},
        packed_attention,
        keys=KEYS
        | {
            "attention.sliding_window": "sliding_window",
            "rope.scaling.original_context_length": "original_max_position_embeddings",
        },
        partial=PART,
    ),
    "nemotron": Architecture(
        {"nemotron": NEMOTRON},
        nemotron_weights,
        ("relu2", "hidden_act"),
        CENTRED_KEYS | {"attention.layer_norm_epsilon": "norm_eps"},
        partial=PART,
    ),
    "olmo": Architecture(
        {"olmo": OLMO},
        weights,
        keys=WHOLE_HEADS | {"attention.clamp_kqv": "clip_qkv"},
        fixed={"attention_bias": False},
        constants={"attention.layer_norm_epsilon": OLMO_EPS},
    ),
    "stablelm": Architecture(
        {"stablelm": STABLELM},
        side_by_side,
        keys=WHOLE_HEADS
        | {
            "attention.layer_norm_epsilon": "layer_norm_eps",
            "use_parallel_residual": "use_parallel_residual",
        },
        partial=PART,
        fixed={"qk_layernorm": False},
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
        CENTRED_KEYS | {"attention.layer_norm_epsilon": "norm_epsilon"},
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
