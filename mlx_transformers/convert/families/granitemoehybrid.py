"""Granite 4: Granite's multipliers on Mamba-2's blocks and a few that attend.

All tokens share one network, which may have experts beside it. Defaults are those of
`GraniteMoeHybridConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer, first_of
from ..layer_types import FULL, patterned
from ..rope import rotary
from ..rows import BLOCK, Row, at_layers
from .bamba import MAMBA_KEYS, SCAN_KEYS, scan_ratio, ssd
from .granite import MULTIPLIED, multiplied
from .granitemoe import mixture, mixture_rows, shared_rows
from .llama import ATTENTION, HF_BLOCK, LLAMA, OUTER_ROWS, PRE_NORMS, decoder, glu
from .mamba import scan_width
from .mamba2 import ssd_rows
from .mixtral import ROUTED

SCANS = ("linear_attention", "mamba")
"""The names of layers of Mamba-2, today's and that of published files."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a GraniteMoeHybridConfig."""
    config.ignore("mamba_chunk_size")
    table = multiplied(config, decoder(config, bias=config.get("attention_bias")))
    if config.get("position_embedding_type") != "rope":
        table["position"] = {"kind": "none"}
    ffn = glu(config, "shared_intermediate_size")
    if config.get("num_local_experts"):
        ffn = {**mixture(config), "shared": ffn}
    else:
        config.ignore("num_experts_per_tok", "router_aux_loss_coef", "intermediate_size")
    table["block"]["ffn"] = ffn
    mixer = ssd(config, scan_width(config, "mamba_expand"))
    mixer |= {"eps": config.get("rms_norm_eps"), "out_bias": config.get("mamba_proj_bias")}
    mixer["norm_groups"] = config.get("mamba_n_groups")
    attend = attending(config)
    names = [FULL if i in attend else "mamba" for i in range(config.get("num_hidden_layers"))]
    return patterned(table, names, {FULL: {}, "mamba": {"mixer": mixer}})


def attending(config: HfConfig) -> list[int]:
    """Return the layers that attend; by default none."""
    types = config.get("layer_types") or []
    layers = range(min(config.get("num_hidden_layers"), len(types)))
    return [i for i in layers if types[i] not in SCANS]


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Granite 4."""
    width = config.get("shared_intermediate_size")
    return [
        *OUTER_ROWS,
        *PRE_NORMS,
        *at_layers(ATTENTION, attending(config)),
        *ssd_rows(f"{BLOCK}.mixer", f"{HF_BLOCK}.mamba"),
        *(mixture_rows(config) if config.get("num_local_experts") else shared_rows("", width)),
    ]


def ffns(view: FlatModel) -> Table:
    """Return the widths of networks, and the keys of experts."""
    width = first_of(view, "block.ffn.shared.hidden_dim", "block.ffn.hidden_dim")
    if not view.has("block.ffn.n_experts"):
        return {"shared_intermediate_size": width, "num_local_experts": 0}
    return {
        "shared_intermediate_size": width,
        **{key: view.get(path) for key, path in ROUTED.items() if isinstance(path, str)},
    }


def scans(view: FlatModel) -> Table:
    """Return the keys of Mamba-2.

    Where no layer has it, `mamba_n_heads` is 1: the config class refuses heads whose width isn't
    that of the scan, and one head has any.
    """
    if all(layer["mixer"]["kind"] == "attention" for layer in view.layers):
        return {"mamba_n_heads": 1}
    return {"mamba_expand": scan_ratio(view), **{k: read(view) for k, read in SCAN_KEYS.items()}}


def positions(view: FlatModel) -> Table:
    """Return whether attention is rotated, and how."""
    rotated = any(layer["position"]["kind"] == "rope" for layer in view.layers)
    return {"position_embedding_type": "rope", **rotary()(view)} if rotated else {}


GRANITEMOEHYBRID = Family(
    model_types=("granitemoehybrid",),
    architecture="GraniteMoeHybridForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **{key: path for key, path in MULTIPLIED.items() if key != "intermediate_size"},
            "layer_types": lambda view: [
                FULL if layer["mixer"]["kind"] == "attention" else SCANS[0] for layer in view.layers
            ],
            "attention_bias": MAMBA_KEYS["attention_bias"],
            "head_dim": MAMBA_KEYS["head_dim"],
        },
        scans,
        ffns,
        positions,
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
