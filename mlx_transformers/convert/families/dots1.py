"""dots.llm1 and GLM-4.5: DeepSeek-V3's experts behind ordinary attention with normed queries.

Defaults are those of `Dots1Config` and `Glm4MoeConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import config_writer, present
from ..layer_types import FULL, SLIDING, layer_types, layer_types_of, patterned
from ..mtp import COPIES, mtp_config, mtp_rows, with_mtp
from ..rope import rotary
from ..rows import Row
from .deepseek import balanced, mixtures, routing, started_dense
from .llama import BIASED, LLAMA, decoder, outer_rows


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Dots1Config."""
    table = decoder(config, bias=config.get("attention_bias"))
    table["block"]["mixer"]["qk_norm"] = table["norm"]
    window, first = config.get("sliding_window"), config.get("max_window_layers")
    types = layer_types(config, lambda i: SLIDING if window and i >= first else FULL)
    table = started_dense(config, table, routing(config, "sigmoid", grouped=True))
    return crossed(table, types, window)


def crossed(table: Table, types: list[str], window: int | None) -> Table:
    """Return a table whose layers differ in their ffn, with a window in the sliding ones."""
    given: list[str] = table.pop("pattern", None) or ["all"]
    blocks: Table = table.pop("blocks", None) or {"all": {}}
    ffns = [given[i % len(given)] for i in range(len(types))]
    names = [
        f"{ffn}_{'sliding' if t == SLIDING else 'full'}" for ffn, t in zip(ffns, types, strict=True)
    ]
    sliding = {"mixer": {"window": window}} if window else {}
    variants = {f"{name}_full": diff for name, diff in blocks.items()}
    variants |= {f"{name}_sliding": diff | sliding for name, diff in blocks.items()}
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


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a dots.llm1 or a GLM-4.5."""
    return [*outer_rows(), *mixtures(config)]


def weights_glm(config: HfConfig) -> list[Row]:
    """Return the weight map of a GLM-4.5, which may look ahead."""
    found = weights(config)
    return [*found, *mtp_rows(config, found)]


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
