"""OLMo Hybrid: layers of Gated DeltaNet with norms before, and OLMo 2's that attend between them.

The published models have no positions. Defaults are those of `OlmoHybridConfig`.
"""

from ...core.errors import ConvertError
from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..kernels import Depthwise
from ..layer_types import FULL, patterned
from ..odd_layouts import Resplit
from ..rope import rotary
from ..rows import BLOCK, Row, at_layers, rows
from .bamba import of
from .llama import ATTENTION, GATED, HF_BLOCK, KEYS, LLAMA, OUTER_ROWS, PRE_NORMS
from .olmo2 import model as attending
from .qwen3_next import LINEAR, head_width, types_of

OUT_EPS = 1e-5
"""Of the norm behind Gated DeltaNet; no key of the config says it."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an OlmoHybridConfig."""
    config.ignore("linear_a_log_min", "linear_a_log_max")  # of the start alone
    table = unrotated(config) if no_positions(config) else attending(config)
    linear = {"placement": "pre", "mixer": delta(config)}
    return patterned(table, mixer_types(config), {FULL: {}, LINEAR: linear})


ROTARY = ("rope_parameters", "rope_scaling")


def no_positions(config: HfConfig) -> bool:
    """Whether attention has no positions: the file says null for the base of the rotary ones."""
    tables = [config.data.get(name) for name in ROTARY]
    for given in (*tables, config.data):
        if isinstance(given, dict) and "rope_theta" in given:
            return given["rope_theta"] is None
    return False


def unrotated(config: HfConfig) -> Table:
    """Return the table of a model without positions."""
    given = config.data
    config.data = {key: x for key, x in given.items() if key not in (*ROTARY, "rope_theta")}
    table = attending(config) | {"position": {"kind": "none"}}
    config.data = given
    config.ignore(*ROTARY, "rope_theta")
    return table


def delta(config: HfConfig) -> Table:
    """Return the mixer of layers with linear attention."""
    keys, values = delta_heads(config)
    return {
        "kind": "gated_deltanet",
        "n_heads": keys,
        "n_value_heads": values,
        "key_dim": delta_widths(config)[0],
        "value_dim": delta_widths(config)[2],
        "conv_width": config.get("linear_conv_kernel_dim"),
        "activation": config.activation("hidden_act"),
        "reflect": config.get("linear_allow_neg_eigval"),
        "norm": {"kind": "rms_norm", "eps": OUT_EPS},
        "dt_min": config.get("linear_dt_min"),
        "dt_max": config.get("linear_dt_max"),
        "dt_floor": config.get("linear_dt_init_floor"),
    }


def delta_heads(config: HfConfig) -> tuple[int, int]:
    """Return the heads of keys and of values, by default as many as those of attention."""
    usual = config.get("num_attention_heads")
    keys, values = (config.get(f"linear_num_{name}_heads") for name in ("key", "value"))
    return keys or usual, values or usual


def delta_widths(config: HfConfig) -> tuple[int, int, int]:
    """Return the widths of queries, keys and values of all heads of Gated DeltaNet."""
    keys, values = delta_heads(config)
    width = config.get("linear_key_head_dim") or int(0.75 * config.get("hidden_size") / keys)
    value_width = config.get("linear_value_head_dim") or 2 * width
    return keys * width, keys * width, values * value_width


def mixer_types(config: HfConfig) -> list[str]:
    """Return `linear_attention` or `full_attention` for each layer; by default every fourth
    attends, and the last of a model of fewer.

    Raises:
        ConvertError: another type, or another count than there are layers.
    """
    count = config.get("num_hidden_layers")
    usual = [FULL if i % 4 == 3 or (count < 4 and i == count - 1) else LINEAR for i in range(count)]
    types = list(config.get("layer_types") or usual)
    if len(types) != count or set(types) != {FULL, LINEAR}:
        raise ConvertError(
            f"{config.where}: layer_types = {types} has to say {FULL!r} or {LINEAR!r} for each of "
            f"{count} layers, and each of them at least once."
        )
    return types


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an OLMo Hybrid."""
    types = mixer_types(config)
    full, linear = ([i for i, name in enumerate(types) if name == k] for k in (FULL, LINEAR))
    behind = [
        Row(f"{BLOCK}.mixer_residual.post", f"{HF_BLOCK}.post_attention_layernorm"),
        Row(f"{BLOCK}.ffn_residual.post", f"{HF_BLOCK}.post_feedforward_layernorm"),
    ]
    return [
        *OUTER_ROWS,
        *at_layers([*ATTENTION, *behind], full),
        *at_layers([*PRE_NORMS, *delta_rows(config)], linear),
        *GATED,
    ]


def delta_rows(config: HfConfig) -> list[Row]:
    """Return the rows of Gated DeltaNet.

    transformers saves the three convolutions cut into thirds, whatever their widths.
    """
    ours, theirs = f"{BLOCK}.mixer", f"{HF_BLOCK}.linear_attn"
    convolutions = tuple(f"{theirs}.{n}_conv1d.weight" for n in "qkv")
    return [
        *rows(f"{ours}.{{q,k,v,a,beta}}", f"{theirs}.{{q,k,v,a,b}}_proj"),
        Row(
            tuple(f"{ours}.{n}_conv.weight" for n in "qkv"),
            convolutions,
            Resplit(delta_widths(config), Depthwise()),
        ),
        *rows(f"{ours}.{{A_log,dt_bias}}", f"{theirs}.{{A_log,dt_bias}}"),
        *rows(f"{ours}.out.{{g,o}}", f"{theirs}.{{g,o}}_proj"),
        Row(f"{ours}.out.norm", f"{theirs}.o_norm"),
    ]


def positions(view: FlatModel) -> Table:
    """Return the rotary keys, with null for the base where there are no positions."""
    if any(layer["position"]["kind"] == "rope" for layer in view.layers):
        return rotary()(view)
    return {"rope_parameters": {"rope_theta": None, "rope_type": "default"}}


HYBRID: dict[str, PathOrFn] = {
    **{key: path for key, path in KEYS.items() if key != "head_dim"},
    "num_attention_heads": of("attention", "n_heads"),
    "num_key_value_heads": of("attention", "n_kv_heads"),
    "attention_bias": of("attention", "bias"),
    "attention_dropout": of("attention", "dropout"),
    "layer_types": types_of,
    "linear_num_key_heads": of("gated_deltanet", "n_heads"),
    "linear_num_value_heads": of("gated_deltanet", "n_value_heads"),
    "linear_key_head_dim": head_width("key_dim", "n_heads"),
    "linear_value_head_dim": head_width("value_dim", "n_value_heads"),
    "linear_conv_kernel_dim": of("gated_deltanet", "conv_width"),
    "linear_allow_neg_eigval": of("gated_deltanet", "reflect"),
    "linear_dt_min": of("gated_deltanet", "dt_min"),
    "linear_dt_max": of("gated_deltanet", "dt_max"),
    "linear_dt_init_floor": of("gated_deltanet", "dt_floor"),
}

OLMO_HYBRID = Family(
    model_types=("olmo_hybrid",),
    architecture="OlmoHybridForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(HYBRID, positions),
    renames=(
        *LLAMA.renames,
        (r"\.attention_layer_norm\.", ".input_layernorm."),
        (r"\.feedforward_layer_norm\.", ".post_attention_layernorm."),
    ),
    tied=LLAMA.tied,
)
