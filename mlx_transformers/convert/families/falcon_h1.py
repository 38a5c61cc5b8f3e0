"""Falcon-H1: Mamba-2 and attention side by side in every block, with constant factors.

The factors, which a config has beside the weights, become part of our weights; only those of the
embeddings and the logits stay. Defaults are those of `FalconH1Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..rope import rotary
from ..rows import BLOCK, Row, rows
from ..transforms import Multiplied
from .bamba import MAMBA_KEYS, ssd
from .jamba import HF_FFN, HYBRID_ROWS
from .llama import HF_BLOCK, KEYS, LLAMA, decoder
from .mamba2 import ssd_rows

FIRST, SECOND = f"{BLOCK}.mixer.first", f"{BLOCK}.mixer.second"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a FalconH1Config."""
    config.ignore("num_logits_to_keep", "mamba_chunk_size", "mamba_expand", "layer_types")
    config.ignore("layers_block_type")
    table = decoder(config, bias=config.get("attention_bias"))
    table["embed"]["scale"] = float(config.get("embedding_multiplier"))
    table["head"]["scale"] = float(config.get("lm_head_multiplier"))
    mamba = ssd(config, width(config))
    mamba["out_bias"] = config.get("projectors_bias")
    before = config.get("mamba_norm_before_gate")
    if config.get("mamba_rms_norm"):
        mamba["gated_norm"] = "norm_first" if before else "gate_first"
        mamba["norm_groups"], mamba["eps"] = mamba["n_groups"], config.get("rms_norm_eps")
    else:
        mamba["gated_norm"] = "none"
    block = table["block"]
    block["mixer"] = {"kind": "side_by_side", "first": mamba, "second": block["mixer"]}
    return table


def width(config: HfConfig) -> int:
    """Return the width of the scan."""
    inner_dim: int | None = config.get("mamba_d_ssm")
    if inner_dim is None:
        inner_dim = int(config.get("mamba_expand") * config.get("hidden_size"))
    return inner_dim


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Falcon-H1, factors of its config included."""
    mamba, attention = f"{HF_BLOCK}.mamba", f"{HF_BLOCK}.self_attn"
    gate, down = config.get("mlp_multipliers") or (1.0, 1.0)
    read, key = config.get("attention_in_multiplier"), config.get("key_multiplier")
    inner, both = width(config), config.get("mamba_n_groups") * config.get("mamba_d_state")
    sizes = (inner, inner, both, both, config.get("mamba_n_heads"))
    factors = config.get("ssm_multipliers") or (1.0,) * 5
    parts = tuple(zip(sizes, factors, strict=True))

    def out(factor: float) -> Multiplied:
        return Multiplied(((0, factor),))

    return [
        Row(f"{FIRST}.inputs", f"{mamba}.in_proj", Multiplied(parts, mul(config, "ssm_in"))),
        Row(f"{FIRST}.o", f"{mamba}.out_proj", out(mul(config, "ssm_out"))),
        *ssd_rows(FIRST, mamba),
        *rows(f"{SECOND}.{{q,v}}", f"{attention}.{{q,v}}_proj", Multiplied(inputs=read)),
        Row(f"{SECOND}.k", f"{attention}.k_proj", Multiplied(((0, key),), read)),
        Row(f"{SECOND}.o", f"{attention}.o_proj", out(mul(config, "attention_out"))),
        Row(f"{BLOCK}.ffn.gate", f"{HF_FFN}.gate_proj", out(gate)),
        Row(f"{BLOCK}.ffn.down", f"{HF_FFN}.down_proj", out(down)),
        *HYBRID_ROWS,
    ]


def mul(config: HfConfig, name: str) -> float:
    """Return a factor of a config."""
    return float(config.get(f"{name}_multiplier"))


def norms(view: FlatModel) -> Table:
    """Return whether and where the scan's output is normalised."""
    order = view.get("block.mixer.first.gated_norm")
    return {"mamba_rms_norm": order != "none", "mamba_norm_before_gate": order != "gate_first"}


ATTENTION_KEYS: dict[str, PathOrFn] = {
    key: path.replace("block.mixer.", "block.mixer.second.") if isinstance(path, str) else path
    for key, path in KEYS.items()
}

FALCON_H1 = Family(
    model_types=("falcon_h1",),
    architecture="FalconH1ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **ATTENTION_KEYS,
            **MAMBA_KEYS,
            "mamba_d_ssm": "block.mixer.first.inner_dim",
            "projectors_bias": "block.mixer.first.out_bias",
            "embedding_multiplier": "embed.scale",
            "lm_head_multiplier": "head.scale",
        },
        norms,
        rotary(),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
