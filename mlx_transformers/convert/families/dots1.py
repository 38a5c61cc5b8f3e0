"""dots.llm1 and GLM-4.5: DeepSeek-V3's experts behind ordinary attention with normed queries.

Defaults are those of `Dots1Config` and `Glm4MoeConfig`.
"""

from ..ahead import COPIES, ahead_rows, looking_ahead, said_ahead
from ..config import HfConfig
from ..family import Family, Table
from ..pattern import FULL, SLIDING, attended, layer_types, patterned
from ..rope import rotary
from ..view import given, spelled
from ..weights import Row
from .deepseek import balanced, mixtures, routing, started_dense
from .llama import BIASED, LLAMA, around, decoder

DEFAULTS: Table = {
    "vocab_size": 152064,
    "hidden_size": 4608,
    "intermediate_size": 10944,
    "num_hidden_layers": 62,
    "num_key_value_heads": 32,
    "moe_intermediate_size": 1408,
    "n_shared_experts": None,
    "n_routed_experts": None,
    "num_experts_per_tok": None,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 0,
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
}
GLM: Table = DEFAULTS | {
    "vocab_size": 151552,
    "hidden_size": 4096,
    "num_hidden_layers": 46,
    "num_attention_heads": 96,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "n_shared_experts": 1,
    "n_routed_experts": 128,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 1,
    "norm_topk_prob": True,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a Dots1Config."""
    table = decoder(config, bias=config.get("attention_bias", False), **DEFAULTS)
    config.also("n_routed_experts", "num_local_experts")
    table["block"]["mixer"]["qk_norm"] = table["norm"]
    window, first = config.get("sliding_window", 4096), config.get("max_window_layers", 62)
    types = layer_types(config, lambda i: SLIDING if window and i >= first else FULL)
    table = started_dense(config, table, routing(config, "sigmoid", grouped=True))
    return crossed(table, types, window)


def crossed(table: Table, types: list[str], window: int | None) -> Table:
    """A table whose layers differ in their ffn already, with a window in the sliding ones."""
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
    """The `[model]` table of a Glm4MoeConfig."""
    config.also("n_routed_experts", "num_local_experts")
    table = decoder(config, fraction=0.5, **GLM)
    mixer = table["block"]["mixer"]
    mixer["bias"] = config.get("attention_bias", False)
    if config.get("use_qk_norm", False):
        mixer["qk_norm"] = table["norm"]
    table = started_dense(config, table, routing(config, "sigmoid", grouped=True))
    return looking_ahead(config, table)


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a dots.llm1 or a GLM-4.5."""
    return [*around(), *mixtures(config)]


def weights_glm(config: HfConfig) -> list[Row]:
    """The weight map of a GLM-4.5, which may look ahead."""
    found = weights(config)
    return [*found, *ahead_rows(config, found)]


DOTS1 = Family(
    model_types=("dots1",),
    architecture="Dots1ForCausalLM",
    model=model,
    weights=weights,
    config=spelled(
        {**BIASED, "sliding_window": "block.mixer.window", "layer_types": attended},
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
    config=spelled(
        {**BIASED, "use_qk_norm": given("block.mixer.qk_norm")},
        rotary(fraction_key="partial_rotary_factor"),
        balanced,
        said_ahead,
    ),
    renames=LLAMA.renames,
    tied=(*LLAMA.tied, *COPIES),
)
