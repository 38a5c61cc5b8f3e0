"""Architectures of llama.cpp: which families each one is, the names of its keys and tensors.

Names: llama.cpp, `gguf-py/gguf/constants.py`.
"""

from .families.arcee import ARCEE
from .families.bloom import BLOOM
from .families.cohere import COHERE, COHERE2
from .families.ernie4_5 import ERNIE4_5
from .families.exaone4 import EXAONE4
from .families.falcon import FALCON
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
from .families.mpt import MPT
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
from .gguf_architecture import Architecture
from .gguf_keys import (
    CENTRED_KEYS,
    EXPERTS,
    GPT2_KEYS,
    GRANITE_KEYS,
    KEYS,
    LLAMA_KEYS,
    QWEN_KEYS,
    WHOLE_HEADS,
)
from .gguf_latents import LATENTS
from .gguf_layers import (
    all_whole,
    all_whole_but_large,
    by_turns,
    every_fourth_whole,
    every_fourth_without,
    every_sixth_whole,
    four_times,
    score_cap,
    score_divisor,
    shared_keys,
)
from .gguf_positions import PART, MptBiases, Rotary
from .gguf_scans import SCANS
from .gguf_weights import (
    by_halves,
    expert_weights,
    falcon_weights,
    gemma2_weights,
    gemma3_weights,
    gemma_weights,
    gpt2_weights,
    mpt_weights,
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

ARCHITECTURES = {
    **LATENTS,
    **SCANS,
    "llama": Architecture(
        {"llama": LLAMA, "mistral": MISTRAL, "mixtral": MIXTRAL},
        weights,
        keys=LLAMA_KEYS,
        positions=Rotary(factors=True),
    ),
    "arcee": Architecture(
        {"arcee": ARCEE}, weights, ("relu2", "hidden_act"), positions=Rotary(factors=True)
    ),
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
            "query_pre_attn_scalar": score_divisor,
        },
        windows=True,
        pattern=by_turns,
        zeros=("final_logit_softcapping",),
        lacks=score_cap,
    ),
    "gemma3": Architecture(
        {"gemma3_text": GEMMA3},
        gemma3_weights,
        ("gelu_tanh", "hidden_activation"),
        KEYS
        | {
            "attention.sliding_window": "sliding_window",
            "rope.freq_base_swa": "rope_local_base_freq",
            "final_logit_softcapping": "final_logit_softcapping",
        },
        fixed={
            "attention_bias": False,
            "tie_word_embeddings": True,
            "query_pre_attn_scalar": score_divisor,
        },
        windows=True,
        pattern=every_sixth_whole,
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
    "falcon": Architecture(
        {"falcon": FALCON},
        falcon_weights,
        ("gelu_tanh", "activation"),
        {
            "context_length": "max_position_embeddings",
            "embedding_length": "hidden_size",
            "block_count": "num_hidden_layers",
            "feed_forward_length": "ffn_hidden_size",
            "attention.head_count": "num_attention_heads",
            "attention.head_count_kv": "num_kv_heads",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
            "rope.freq_base": "rope_theta",
            "vocab_size": "vocab_size",
        },
        # Both of Falcon's ways to say how heads share keys are one in a file.
        fixed={
            "alibi": False,
            "bias": False,
            "parallel_attn": True,
            "new_decoder_architecture": lambda config: config.data.get(
                "new_decoder_architecture", True
            ),
        },
        constants={"tensor_data_layout": "jploski"},
        signs={"num_ln_in_parallel_attn": ("blk.0.attn_norm_2.weight", 2, 1)},
    ),
    "mpt": Architecture(
        {"mpt": MPT},
        mpt_weights,
        ("gelu_tanh", ""),
        {
            "context_length": "max_seq_len",
            "embedding_length": "d_model",
            "block_count": "n_layers",
            "attention.head_count": "n_heads",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
            "vocab_size": "vocab_size",
        },
        positions=MptBiases(),
        constants={
            "feed_forward_length": lambda config: 4 * int(config.get("d_model")),
            "attention.head_count_kv": lambda config: int(config.get("n_heads")),
        },
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
        fixed={"attention_bias": False},
        windows=True,
        pattern=every_fourth_whole,
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
        positions=None,
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
        positions=Rotary(factors=True),
        lacks=all_whole_but_large,
    ),
    "glm4": Architecture({"glm4": GLM4}, packed_ffn, positions=Rotary(PART)),
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
        positions=Rotary("rotary_pct"),
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
        positions=Rotary(PART),
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
        positions=Rotary(PART),
    ),
    "nemotron": Architecture(
        {"nemotron": NEMOTRON},
        nemotron_weights,
        ("relu2", "hidden_act"),
        CENTRED_KEYS | {"attention.layer_norm_epsilon": "norm_eps"},
        positions=Rotary(PART),
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
        positions=Rotary(PART),
        fixed={"qk_layernorm": False},
    ),
    "olmo2": Architecture({"olmo2": OLMO2}, olmo2_weights, fixed={"attention_bias": False}),
    "olmoe": Architecture(
        {"olmoe": OLMOE},
        expert_weights,
        keys=KEYS | EXPERTS | {"expert_count": "num_experts"},
        fixed={"attention_bias": False, "clip_qkv": None, "norm_topk_prob": False},
        lacks=shared_keys,
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
        positions=None,
        fixed={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
    ),
}
"""By llama.cpp's name."""
