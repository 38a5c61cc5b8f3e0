"""Command R: attention and ffn side by side behind one norm without bias, scaled logits.

Command R7B (`cohere2`) has a window in three layers of four, and no positions in the fourth.
Defaults are those of `CohereConfig` and `Cohere2Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import PathOrFn, biased, config_writer, present
from ..layer_types import FULL, SLIDING, layer_types, layer_types_of, patterned, window_of
from ..rope import rotary
from ..rows import BLOCK, Row, rows
from ..transforms import Unstack
from .llama import BASIC_KEYS, GATED, HF_BLOCK, LLAMA, OUTER_ROWS, decoder


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a CohereConfig."""
    table = parallel(config)
    if config.get("use_qk_norm"):
        norm = table["norm"]
        table["block"]["mixer"] |= {"qk_norm": norm, "qk_norm_over": "each_head"}
    return table


def model2(config: HfConfig) -> Table:
    """Return the `[model]` table of a Cohere2Config."""
    table = parallel(config)
    for key, built in PUBLISHED.items():
        config.expect(key, built)
    every = config.get("sliding_window_pattern")
    config.ignore("_sliding_window_pattern", "layer_switch")
    types = layer_types(config, lambda i: SLIDING if (i + 1) % every else FULL)
    sliding = {"mixer": {"window": config.get("sliding_window")}}
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


def parallel(config: HfConfig) -> Table:
    """Return the table that both generations share."""
    bias = config.get("attention_bias")
    norm = {"kind": "layer_norm", "eps": config.get("layer_norm_eps"), "bias": False}
    table = decoder(config, bias=bias, norm=norm)
    table["block"]["arrangement"] = "parallel"
    table["position"]["traditional"] = True
    table["head"]["scale"] = float(config.get("logit_scale"))
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Command R."""
    heads = config.get("num_attention_heads")
    groups = config.get("num_key_value_heads") or heads
    return [
        *OUTER_ROWS,
        *GATED,
        *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{HF_BLOCK}.self_attn.{{q,k,v,o}}_proj"),
        Row(f"{BLOCK}.residual.pre", f"{HF_BLOCK}.input_layernorm"),
        *(
            Row(each_head(name, n), f"{HF_BLOCK}.self_attn.{name}", Unstack())
            for name, n in (("q_norm", heads), ("k_norm", groups))
        ),
    ]


def each_head(name: str, heads: int) -> tuple[str, ...]:
    """Return our names of a norm that each head has for itself."""
    return tuple(f"{BLOCK}.mixer.{name}.heads.{h}" for h in range(heads))


SCALED: dict[str, PathOrFn] = {
    **{key: path for key, path in BASIC_KEYS.items() if key != "head_dim"},
    "layer_norm_eps": "norm.eps",
    "attention_bias": biased,
    "logit_scale": "head.scale",
}

COHERE = Family(
    model_types=("cohere",),
    architecture="CohereForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {**SCALED, "use_qk_norm": present("block.mixer.qk_norm")}, rotary(traditional=True)
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)

COHERE2 = Family(
    model_types=("cohere2",),
    architecture="Cohere2ForCausalLM",
    model=model2,
    weights=weights,
    config=config_writer(
        {**SCALED, "sliding_window": window_of, "layer_types": layer_types_of},
        rotary(traditional=True),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
