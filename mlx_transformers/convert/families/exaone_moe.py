"""K-EXAONE: EXAONE 4's windows and positions behind pre norms, with DeepSeek-V3's experts.

Defaults are those of `ExaoneMoeConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer
from ..layer_types import layer_types_of
from ..rope import rotary
from ..rows import BLOCK, Row
from .deepseek import mixture, mixtures, routing
from .dots1 import crossed
from .exaone4 import sides, sliding_types
from .glm4_moe_lite import ffns, layer_ffns
from .llama import HF_BLOCK, KEYS, LLAMA, decoder, outer_rows

DEEPSEEK = {"n_routed_experts": "num_experts", "n_shared_experts": "num_shared_experts"}
"""Keys that have other names here than in DeepSeek's config."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an ExaoneMoeConfig."""
    config.assume({deepseek: config.get(key) for deepseek, key in DEEPSEEK.items()})
    table = decoder(config)
    table["block"]["mixer"]["qk_norm"] = table["norm"]
    moe = mixture(config, routing(config, "sigmoid", grouped=True))
    kinds = {"dense": {}, "sparse": {"ffn": moe}}
    return crossed(table, layer_ffns(config), kinds, sliding_types(config), sides(config))


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a K-EXAONE."""
    balance = Row(f"{BLOCK}.ffn.router.balance", f"{HF_BLOCK}.mlp.e_score_correction_bias")
    return [*outer_rows(), balance, *mixtures(config)]


def experts(view: FlatModel) -> Table:
    """Return the keys of the experts."""
    return {DEEPSEEK.get(key, key): value for key, value in ffns(view).items()}


EXAONE_MOE = Family(
    model_types=("exaone_moe",),
    architecture="ExaoneMoeForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {**KEYS, "sliding_window": "block.mixer.window", "layer_types": layer_types_of},
        rotary(),
        experts,
    ),
    renames=(
        *LLAMA.renames,
        # mlx-lm's name
        (r"\.mlp\.gate\.e_score_correction_bias$", ".mlp.e_score_correction_bias"),
    ),
    spare=(r"^mtp\.",),
    tied=LLAMA.tied,
)
