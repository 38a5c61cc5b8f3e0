"""MiniMax-M2: balanced experts by a sigmoid, queries and keys normed over all heads.

Defaults are those of `MiniMaxM2Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import spelled
from ..weights import Row
from .llama import BLOCK, KEYS, LLAMA, decoder
from .mixtral import EXPERTS, HF_MOE, MIXTRAL
from .mixtral import weights as mixtral_weights

DEFAULTS: Table = {
    "vocab_size": 200064,
    "hidden_size": 3072,
    "intermediate_size": 1536,
    "num_hidden_layers": 62,
    "num_attention_heads": 48,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 196608,
    "rope_theta": 5000000.0,
    "num_local_experts": 256,
    "num_experts_per_tok": 8,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a MiniMaxM2Config."""
    config.also("num_local_experts", "num_experts")
    # noise and losses of training alone; layers that predict further tokens
    config.ignore("router_jitter_noise", "router_aux_loss_coef")
    config.ignore("num_mtp_modules", "mtp_transformer_layers")
    # what their own code is told, and theirs in transformers takes for granted
    for key, value in {"use_qk_norm": True, "qk_norm_type": "per_layer"}.items():
        config.expect(key, value)
    config.expect("scoring_func", "sigmoid")
    config.expect("use_routing_bias", True)
    config.expect("shared_intermediate_size", 0)
    table = decoder(config, fraction=turning(config), **DEFAULTS)
    block = table["block"]
    block["mixer"] |= {"qk_norm": table["norm"], "qk_norm_over": "width"}
    block["ffn"] = {
        "kind": "moe",
        "n_experts": config.get("num_local_experts"),
        "router": {
            "kind": "sigmoid",
            "top_k": config.get("num_experts_per_tok"),
            "normalize": True,
        },
        "expert": block["ffn"],
    }
    return table


def turning(config: HfConfig) -> float:
    """The share of features that turn, which published files tell as their number."""
    turned = config.get("rotary_dim", None)
    return 1.0 if turned is None else turned / config.get("head_dim", DEFAULTS["head_dim"])


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a MiniMax-M2."""
    balance = Row(f"{BLOCK}.ffn.router.balance", f"{HF_MOE}.e_score_correction_bias")
    return [balance, *mixtral_weights(config)]


MINIMAX_M2 = Family(
    model_types=("minimax_m2",),
    architecture="MiniMaxM2ForCausalLM",
    model=model,
    weights=weights,
    config=spelled({**KEYS, **EXPERTS}, rotary(fraction_key="partial_rotary_factor")),
    renames=MIXTRAL.renames,
    tied=LLAMA.tied,
)
