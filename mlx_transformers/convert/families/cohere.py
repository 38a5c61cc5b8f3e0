"""Command R: attention and ffn side by side behind one norm without bias, scaled logits.

Command R7B (`cohere2`) has a window in three layers of four, and no positions in the fourth.
Defaults are those of `CohereConfig` and `Cohere2Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..pattern import FULL, SLIDING, attended, layer_types, patterned
from ..rope import rotary
from ..transforms import Unstack
from ..view import Told, biased, given, spelled
from ..weights import Row, rows
from .llama import BARE, BLOCK, ENDS, GATED, HF_BLOCK, LLAMA, decoder

DEFAULTS: Table = {
    "vocab_size": 256000,
    "hidden_size": 8192,
    "intermediate_size": 22528,
    "num_hidden_layers": 40,
    "num_attention_heads": 64,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "rms_norm_eps": 0.0,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a CohereConfig."""
    table = parallel(config, theta=500000.0)
    if config.get("use_qk_norm", False):
        norm = table["norm"]
        table["block"]["mixer"] |= {"qk_norm": norm, "qk_norm_over": "each_head"}
    return table


def model2(config: HfConfig) -> Table:
    """The `[model]` table of a Cohere2Config."""
    table = parallel(config, theta=10000.0)
    for key, built in PUBLISHED.items():
        config.expect(key, built)
    every = config.get("sliding_window_pattern", 4)
    config.ignore("_sliding_window_pattern", "layer_switch")
    types = layer_types(config, lambda i: SLIDING if (i + 1) % every else FULL)
    sliding = {"mixer": {"window": config.get("sliding_window", 4096)}}
    return patterned(table, types, {FULL: {"position": {"kind": "none"}}, SLIDING: sliding})


PUBLISHED = {
    "order_of_interleaved_layers": "local_attn_first",
    "position_embedding_type": "rope_gptj",
    "rotary_pct": 1.0,
    "use_embedding_sharing": True,
    "use_gated_activation": True,
    "use_parallel_block": True,
    "use_parallel_embedding": False,
    "use_qk_norm": False,
}
"""Keys of the published files of `cohere2` that its code doesn't ask for, and what it does."""


def parallel(config: HfConfig, theta: float) -> Table:
    """What both generations share."""
    bias = config.get("attention_bias", False)
    table = decoder(config, bias=bias, **{**DEFAULTS, "rope_theta": theta})
    eps = config.get("layer_norm_eps", 1e-5)
    norm = {"kind": "layer_norm", "eps": eps, "bias": False}
    table["norm"] = table["block"]["norm"] = norm
    table["block"]["arrangement"] = "parallel"
    table["position"]["traditional"] = True
    table["head"]["scale"] = float(config.get("logit_scale", 0.0625))
    return table


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a Command R."""
    heads = config.get("num_attention_heads")
    groups = config.get("num_key_value_heads") or heads
    return [
        *ENDS,
        *GATED,
        *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{HF_BLOCK}.self_attn.{{q,k,v,o}}_proj"),
        Row(f"{BLOCK}.residual.pre", f"{HF_BLOCK}.input_layernorm"),
        *(
            Row(each_head(name, n), f"{HF_BLOCK}.self_attn.{name}", Unstack())
            for name, n in (("q_norm", heads), ("k_norm", groups))
        ),
    ]


def each_head(name: str, heads: int) -> tuple[str, ...]:
    """Our names of a norm that every head has for itself."""
    return tuple(f"{BLOCK}.mixer.{name}.heads.{h}" for h in range(heads))


SCALED: dict[str, Told] = {
    **{key: told for key, told in BARE.items() if key != "head_dim"},
    "layer_norm_eps": "norm.eps",
    "attention_bias": biased,
    "logit_scale": "head.scale",
}

COHERE = Family(
    model_types=("cohere",),
    architecture="CohereForCausalLM",
    model=model,
    weights=weights,
    config=spelled(
        {**SCALED, "use_qk_norm": given("block.mixer.qk_norm")}, rotary(traditional=True)
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)

COHERE2 = Family(
    model_types=("cohere2",),
    architecture="Cohere2ForCausalLM",
    model=model2,
    weights=weights,
    config=spelled(
        {**SCALED, "sliding_window": "block.mixer.window", "layer_types": attended},
        rotary(traditional=True),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
