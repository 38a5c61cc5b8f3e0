"""Phi-3.5-MoE: layer norms, biases, and experts that are taken one after the other.

Defaults are those of `PhimoeConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer
from ..rope import rotary
from .llama import BIASED, LLAMA, decoder
from .mixtral import EXPERTS, MIXTRAL
from .mixtral import weights as mixtral_weights
from .phi3 import rereading

SIZES = ("short_mscale", "long_mscale")


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a PhimoeConfig."""
    # noise and losses of training alone
    config.ignore("input_jitter_noise", "router_aux_loss_coef", "hidden_dropout")
    size = magnitude(config)
    table = decoder(config, bias=config.get("attention_bias"))
    # Beyond the first context, their code in transformers keeps the short divisors, against the
    # model's own; ours takes the long ones.
    table = rereading(table)
    if size is not None:
        table["position"]["scaling"]["magnitude"] = size
    norm = {"kind": "layer_norm", "eps": config.get("rms_norm_eps")}
    table["norm"] = table["block"]["norm"] = norm
    table["head"]["bias"] = config.get("lm_head_bias")
    block = table["block"]
    if window := config.get("sliding_window"):
        block["mixer"]["window"] = window
    router = {
        "kind": "sparse_mixer",
        "top_k": config.get("num_experts_per_tok"),
        "reach": float(config.get("router_jitter_noise")),
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
    """Return the factor of rotated features, taken out of the rope table.

    Raises:
        ConvertError: it is another for long texts.
    """
    for key in ("rope_scaling", "rope_parameters"):
        rope = config.data.get(key) or {}
        if SIZES[0] in rope:
            short, long = (rope[name] for name in SIZES)
            if short != long:
                raise config.refuse(SIZES[1], long, f"only that of short texts, {short}, is")
            config.data[key] = {name: x for name, x in rope.items() if name not in SIZES}
            return float(short)
    return None


def sized(view: FlatModel) -> Table:
    """Return the rotary keys; the magnitude has two names."""
    keys = rotary()(view)
    rope = keys["rope_parameters"]
    if "attention_factor" in rope:
        rope |= dict.fromkeys(SIZES, rope.pop("attention_factor"))
    return keys


PHIMOE = Family(
    model_types=("phimoe",),
    architecture="PhimoeForCausalLM",
    model=model,
    weights=mixtral_weights,
    config=config_writer(
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
