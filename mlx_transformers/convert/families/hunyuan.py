"""Hunyuan dense: LLaMA whose queries and keys are normed after they are turned.

Its `alpha` is the base of the wavelengths stretched once and for all. Defaults are those of
`HunYuanDenseV1Config`.
"""

from typing import Any

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer
from ..rope import rotary
from ..rows import BLOCK, Row, rows, without
from .llama import BIASED, HF_BLOCK, LLAMA, decoder
from .llama import weights as llama_weights


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a HunYuanDenseV1Config."""
    return turned_then_normed(config)


def turned_then_normed(config: HfConfig, **defaults: Any) -> Table:
    """Return a table whose queries and keys are normalised after the rotation."""
    config.ignore("eod_token_id", "im_end_id", "im_newline_id", "im_start_id")
    stretched = settle_alpha(config)
    table = decoder(config, bias=config.get("attention_bias"), **defaults)
    config.expect("mlp_bias", False)
    mixer = table["block"]["mixer"]
    mixer |= {"qk_norm": table["norm"], "qk_norm_last": True}
    if stretched:
        width = mixer["head_dim"]
        table["position"]["theta"] *= stretched ** (width / (width - 2))
    return table


def settle_alpha(config: HfConfig) -> float | None:
    """Replace the `alpha` of a dynamic scaling by the fixed base that it means; return it."""
    for key in ("rope_scaling", "rope_parameters"):
        rope = config.data.get(key) or {}
        if (rope.get("rope_type") or rope.get("type")) == "dynamic" and rope.get("alpha"):
            base = {"rope_theta": rope["rope_theta"]} if "rope_theta" in rope else {}
            # their code asks for nothing else once there is an alpha
            config.data[key] = {**base, "rope_type": "default"}
            return float(rope["alpha"])
    return None


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Hunyuan."""
    norms = rows(f"{BLOCK}.mixer.{{q,k}}_norm", f"{HF_BLOCK}.self_attn.{{query,key}}_layernorm")
    return [*norms, *without(llama_weights(config), *(row.ours for row in norms))]


HUNYUAN = Family(
    model_types=("hunyuan_v1_dense",),
    architecture="HunYuanDenseV1ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(BIASED, rotary()),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
