"""MiniMax-M2: balanced experts by a sigmoid, queries and keys normed over all heads.

Defaults are those of `MiniMaxM2Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..rope import rotary
from ..rows import BLOCK, Row
from .llama import KEYS, LLAMA, decoder
from .mixtral import EXPERTS, HF_MOE, MIXTRAL
from .mixtral import weights as mixtral_weights


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a MiniMaxM2Config."""
    # noise and losses of training alone; layers that predict further tokens
    config.ignore("router_jitter_noise", "router_aux_loss_coef")
    config.ignore("num_mtp_modules", "mtp_transformer_layers")
    # given in their own config, assumed by transformers
    for key, value in {"use_qk_norm": True, "qk_norm_type": "per_layer"}.items():
        config.expect(key, value)
    config.expect("scoring_func", "sigmoid")
    config.expect("use_routing_bias", True)
    config.expect("shared_intermediate_size", 0)
    config.assume({"partial_rotary_factor": rotated_share(config)})
    table = decoder(config, partial=True)
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


def rotated_share(config: HfConfig) -> float:
    """Return the share of rotated features, which published files give as their number."""
    rotated = config.optional("rotary_dim")
    return 1.0 if rotated is None else float(rotated / config.get("head_dim"))


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a MiniMax-M2."""
    balance = Row(f"{BLOCK}.ffn.router.balance", f"{HF_MOE}.e_score_correction_bias")
    return [balance, *mixtral_weights(config)]


MINIMAX_M2 = Family(
    model_types=("minimax_m2",),
    architecture="MiniMaxM2ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer({**KEYS, **EXPERTS}, rotary(fraction_key="partial_rotary_factor")),
    renames=MIXTRAL.renames,
    tied=LLAMA.tied,
)
