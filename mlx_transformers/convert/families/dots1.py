"""dots.llm1, GLM-4.5 and Solar Open: DeepSeek-V3's experts behind ordinary attention.

Defaults are those of `Dots1Config`, `Glm4MoeConfig` and `SolarOpenConfig`.
"""

from collections.abc import Mapping, Sequence

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer, present
from ..layer_types import FULL, SLIDING, layer_types, layer_types_of, patterned
from ..mtp import COPIES, mtp_config, mtp_rows, with_mtp
from ..rope import rotary
from ..rows import Row
from .deepseek import balanced, dense_first, mixture, mixtures, routing, started_dense
from .llama import BIASED, LLAMA, decoder, outer_rows


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Dots1Config."""
    table = decoder(config, bias=config.get("attention_bias"))
    table["block"]["mixer"]["qk_norm"] = table["norm"]
    window, first = config.get("sliding_window"), config.get("max_window_layers")
    types = layer_types(config, lambda i: SLIDING if window and i >= first else FULL)
    moe = mixture(config, routing(config, "sigmoid", grouped=True))
    sliding = {"mixer": {"window": window}} if window else {}
    ffns, sides = {"dense": {}, "sparse": {"ffn": moe}}, {FULL: {}, SLIDING: sliding}
    return crossed(table, dense_first(config), ffns, types, sides)


def crossed(
    table: Table,
    ffns: Sequence[str],
    kinds: Mapping[str, Table],
    types: Sequence[str],
    sides: Mapping[str, Table],
) -> Table:
    """Return a table whose layer i changes its ffn as `kinds[ffns[i]]` says, and its attention as
    `sides[types[i]]` does."""
    names = [f"{ffn}_{side.split('_')[0]}" for ffn, side in zip(ffns, types, strict=True)]
    variants = {
        f"{ffn}_{side.split('_')[0]}": kinds[ffn] | sides[side] for ffn in kinds for side in sides
    }
    return patterned(table, names, variants)


def model_glm(config: HfConfig) -> Table:
    """Return the `[model]` table of a Glm4MoeConfig."""
    table = decoder(config, partial=True)
    mixer = table["block"]["mixer"]
    mixer["bias"] = config.get("attention_bias")
    if config.get("use_qk_norm"):
        mixer["qk_norm"] = table["norm"]
    table = started_dense(config, table, routing(config, "sigmoid", grouped=True))
    return with_mtp(config, table)


def model_solar(config: HfConfig) -> Table:
    """Return the `[model]` table of a SolarOpenConfig, whose layers all have experts."""
    config.assume({"intermediate_size": config.get("moe_intermediate_size")})
    table = decoder(config)
    table["block"]["mixer"]["bias"] = config.get("attention_bias")
    table["block"]["ffn"] = mixture(config, routing(config, "sigmoid", grouped=True))
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a dots.llm1 or a GLM-4.5."""
    return [*outer_rows(), *mixtures(config)]


def weights_glm(config: HfConfig) -> list[Row]:
    """Return the weight map of a GLM-4.5, which may look ahead."""
    weight_map = weights(config)
    return [*weight_map, *mtp_rows(config, weight_map)]


def solar(view: FlatModel) -> Table:
    """Return the keys of the experts of all layers."""
    return {key: value for key, value in balanced(view).items() if key != "first_k_dense_replace"}


DOTS1 = Family(
    model_types=("dots1",),
    architecture="Dots1ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {**BIASED, "sliding_window": "block.mixer.window", "layer_types": layer_types_of},
        rotary(),
        balanced,
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)

GLM4_MOE = Family(
    model_types=("glm4_moe",),
    architecture="Glm4MoeForCausalLM",
    model=model_glm,
    weights=weights_glm,
    config=config_writer(
        {**BIASED, "use_qk_norm": present("block.mixer.qk_norm")},
        rotary(fraction_key="partial_rotary_factor"),
        balanced,
        mtp_config,
    ),
    renames=LLAMA.renames,
    tied=(*LLAMA.tied, *COPIES),
)

SOLAR_OPEN = Family(
    model_types=("solar_open",),
    architecture="SolarOpenForCausalLM",
    model=model_solar,
    weights=weights,
    config=config_writer(
        {key: path for key, path in BIASED.items() if key != "intermediate_size"},
        rotary(fraction_key="partial_rotary_factor"),
        solar,
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
