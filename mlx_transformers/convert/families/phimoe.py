"""Phi-3.5-MoE: layer norms, biases, and experts that are taken one after the other.

Defaults are those of `PhimoeConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import View, spelled
from .llama import BIASED, LLAMA, decoder
from .mixtral import EXPERTS, MIXTRAL
from .mixtral import weights as mixtral_weights
from .phi3 import rereading

DEFAULTS: Table = {
    "vocab_size": 32064,
    "intermediate_size": 6400,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-5,
    "num_local_experts": 16,
    "num_experts_per_tok": 2,
}
SIZES = ("short_mscale", "long_mscale")


def model(config: HfConfig) -> Table:
    """The `[model]` table of a PhimoeConfig."""
    # noise and losses of training alone
    config.ignore("input_jitter_noise", "router_aux_loss_coef", "hidden_dropout")
    size = magnitude(config)
    table = decoder(config, bias=config.get("attention_bias", False), **DEFAULTS)
    # Beyond the first context, their code in transformers keeps the short divisors, against the
    # model's own; ours takes the long ones.
    table = rereading(table)
    if size is not None:
        table["position"]["scaling"]["magnitude"] = size
    norm = {"kind": "layer_norm", "eps": config.get("rms_norm_eps")}
    table["norm"] = table["block"]["norm"] = norm
    table["head"]["bias"] = config.get("lm_head_bias", False)
    block = table["block"]
    if window := config.get("sliding_window", None):
        block["mixer"]["window"] = window
    router = {
        "kind": "sparse_mixer",
        "top_k": config.get("num_experts_per_tok"),
        "reach": float(config.get("router_jitter_noise", 0.01)),
    }
    if router["top_k"] != 2:
        raise config.refuse("num_experts_per_tok", router["top_k"], "only 2 is")
    block["ffn"] = {
        "kind": "moe",
        "n_experts": config.get("num_local_experts"),
        "router": router,
        "expert": block["ffn"],
    }
    return table


def magnitude(config: HfConfig) -> float | None:
    """What turned features are multiplied by, taken out of the table of the positions.

    Raises:
        ConvertError: it is another for long texts.
    """
    for key in ("rope_scaling", "rope_parameters"):
        told = config.data.get(key) or {}
        if SIZES[0] in told:
            short, long = (told[name] for name in SIZES)
            if short != long:
                raise config.refuse(SIZES[1], long, f"only that of short texts, {short}, is")
            config.data[key] = {name: x for name, x in told.items() if name not in SIZES}
            return float(short)
    return None


def sized(view: View) -> Table:
    """The positions, whose magnitude has two names."""
    said = rotary()(view)
    told = said["rope_parameters"]
    if "attention_factor" in told:
        told |= dict.fromkeys(SIZES, told.pop("attention_factor"))
    return said


PHIMOE = Family(
    model_types=("phimoe",),
    architecture="PhimoeForCausalLM",
    model=model,
    weights=mixtral_weights,
    config=spelled(
        {
            **BIASED,
            **EXPERTS,
            "lm_head_bias": "head.bias",
            "sliding_window": "block.mixer.window",
            "router_jitter_noise": "block.ffn.router.reach",
        },
        sized,
    ),
    renames=MIXTRAL.renames,
    tied=LLAMA.tied,
)
