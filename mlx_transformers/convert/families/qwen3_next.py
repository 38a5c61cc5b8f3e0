"""Qwen3-Next: three layers of Gated DeltaNet before each that attends behind a gate; experts.

Defaults are those of `Qwen3NextConfig`.
"""

from ...core.errors import ConvertError
from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..kernels import Depthwise
from ..layer_types import FULL, patterned
from ..rope import rotary
from ..rows import BLOCK, Row, at_layers, rows
from ..transforms import Chain, Split, SplitWithin
from .bamba import of
from .llama import HF_BLOCK, KEYS, LLAMA, OUTER_ROWS, PRE_NORMS, decoder
from .mamba2 import value_of
from .qwen2_moe import ROUTED, ffn_rows, mixture, shared

LINEAR = "linear_attention"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Qwen3NextConfig."""
    table = gated_attention(config)
    sparse = mixture(config) | shared(config)
    mixers: dict[str, Table] = {FULL: {}, LINEAR: {"mixer": delta(config)}}
    ffns: dict[str, Table] = {"dense": {}, "sparse": {"ffn": sparse}}
    every, dense = config.get("decoder_sparse_step"), config.get("mlp_only_layers") or []
    names = [
        f"{mixer}_" + ("sparse" if i not in dense and (i + 1) % every == 0 else "dense")
        for i, mixer in enumerate(mixer_types(config))
    ]
    variants = {f"{m}_{f}": mixers[m] | ffns[f] for m in mixers for f in ffns}
    return patterned(table, names, variants)


def gated_attention(config: HfConfig, *, gated: bool = True) -> Table:
    """Return the table of a decoder whose attention has normed queries and keys, and a gate.

    Args:
        config: the config.
        gated: whether the block has the gated network of a Qwen 3.
    """
    table = decoder(config, bias=config.get("attention_bias"), partial=True, gated=gated)
    norm = {**table["norm"], "unit_offset": True}
    table["norm"] = table["block"]["norm"] = norm
    table["block"]["mixer"] |= {"qk_norm": norm, "gate": "sigmoid"}
    return table


def delta(config: HfConfig) -> Table:
    """Return the mixer of layers with linear attention."""
    keys, values = (config.get(f"linear_num_{name}_heads") for name in ("key", "value"))
    return {
        "kind": "gated_deltanet",
        "n_heads": keys,
        "n_value_heads": values,
        "key_dim": delta_widths(config)[0],
        "value_dim": delta_widths(config)[2],
        "conv_width": config.get("linear_conv_kernel_dim"),
        "activation": config.activation("hidden_act"),
        "norm": {"kind": "rms_norm", "eps": config.get("rms_norm_eps")},
    }


def mixer_types(config: HfConfig) -> list[str]:
    """Return `linear_attention` or `full_attention` for each layer."""
    count, every = config.get("num_hidden_layers"), config.optional("full_attention_interval") or 4
    default = [LINEAR if (i + 1) % every else FULL for i in range(count)]
    types = list(config.optional("layer_types") or default)[:count]
    foreign = [name for name in types if name not in (FULL, LINEAR)]
    if foreign or len(types) < count:
        fault = f"holds {foreign[0]!r}" if foreign else f"has {len(types)} of {count} layers"
        raise ConvertError(
            f"{config.where}: layer_types {fault}; it takes {LINEAR!r} or {FULL!r} for each."
        )
    return types


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Qwen3-Next."""
    return [*attention_layers(config), *delta_rows(config), *ffn_rows(config)]


def attention_layers(config: HfConfig) -> list[Row]:
    """Return the rows of embedding, head, norms, and of the layers with attention."""
    full = [i for i, name in enumerate(mixer_types(config)) if name == FULL]
    return [*OUTER_ROWS, *PRE_NORMS, *at_layers(attention_rows(config), full)]


def attention_rows(config: HfConfig) -> list[Row]:
    """Return the rows of gated attention, whose queries and gates are packed head by head."""
    width = config.get("head_dim")
    packed = SplitWithin(config.get("num_attention_heads"), (width, width))
    theirs = f"{HF_BLOCK}.self_attn"
    return [
        Row((f"{BLOCK}.mixer.q", f"{BLOCK}.mixer.g"), f"{theirs}.q_proj", packed),
        *rows(f"{BLOCK}.mixer.{{k,v,o}}", f"{theirs}.{{k,v,o}}_proj"),
        *rows(f"{BLOCK}.mixer.{{q,k}}_norm", f"{theirs}.{{q,k}}_norm"),
    ]


def delta_rows(config: HfConfig) -> list[Row]:
    """Return the rows of Gated DeltaNet, whose projections are packed by heads of keys."""
    ours, theirs = f"{BLOCK}.mixer", f"{HF_BLOCK}.linear_attn"
    heads, width = config.get("linear_num_key_heads"), config.get("linear_key_head_dim")
    per = config.get("linear_num_value_heads") // heads
    values = per * config.get("linear_value_head_dim")
    return [
        Row(
            (f"{ours}.q", f"{ours}.k", f"{ours}.v", f"{ours}.out.g"),
            f"{theirs}.in_proj_qkvz",
            SplitWithin(heads, (width, width, values, values)),
        ),
        Row((f"{ours}.beta", f"{ours}.a"), f"{theirs}.in_proj_ba", SplitWithin(heads, (per, per))),
        *delta_core_rows(config),
    ]


def delta_core_rows(config: HfConfig) -> list[Row]:
    """Return the rows of Gated DeltaNet behind its projections."""
    ours, theirs = f"{BLOCK}.mixer", f"{HF_BLOCK}.linear_attn"
    convolved = Chain(Depthwise(), Split(delta_widths(config)))
    return [
        Row(tuple(f"{ours}.{n}_conv.weight" for n in "qkv"), f"{theirs}.conv1d.weight", convolved),
        *rows(f"{ours}.{{A_log,dt_bias}}", f"{theirs}.{{A_log,dt_bias}}"),
        Row(f"{ours}.out.norm", f"{theirs}.norm"),
        Row(f"{ours}.out.o", f"{theirs}.out_proj"),
    ]


def delta_widths(config: HfConfig) -> tuple[int, int, int]:
    """Return the widths of queries, keys and values of all heads of Gated DeltaNet."""
    keys, values = (
        config.get(f"linear_num_{name}_heads") * config.get(f"linear_{name}_head_dim")
        for name in ("key", "value")
    )
    return keys, keys, values


def types_of(view: FlatModel) -> list[str]:
    """Return the type of each layer's mixer."""
    kinds = [layer["mixer"]["kind"] for layer in view.layers]
    return [FULL if kind == "attention" else LINEAR for kind in kinds]


def head_width(name: str, heads: str) -> PathOrFn:
    """Return a reader of the width of one head, from that of all of them."""

    def read(view: FlatModel) -> int:
        kind = "gated_deltanet"
        return int(value_of(view, kind, name) // value_of(view, kind, heads))

    return read


HYBRID_KEYS: dict[str, PathOrFn] = {
    **KEYS,
    "num_attention_heads": of("attention", "n_heads"),
    "num_key_value_heads": of("attention", "n_kv_heads"),
    "head_dim": of("attention", "head_dim"),
    "attention_bias": of("attention", "bias"),
    "attention_dropout": of("attention", "dropout"),
    "linear_num_key_heads": of("gated_deltanet", "n_heads"),
    "linear_num_value_heads": of("gated_deltanet", "n_value_heads"),
    "linear_key_head_dim": head_width("key_dim", "n_heads"),
    "linear_value_head_dim": head_width("value_dim", "n_value_heads"),
    "linear_conv_kernel_dim": of("gated_deltanet", "conv_width"),
    "layer_types": types_of,
}
"""The keys of Gated DeltaNet and gated attention in turns."""
NEXT_KEYS: dict[str, PathOrFn] = {
    **HYBRID_KEYS,
    **ROUTED,
    "shared_expert_intermediate_size": "block.ffn.shared.hidden_dim",
}

OFFSET = (r"(layernorm|\.[qk]_norm|^model\.norm)\.weight$",)
"""Norms that multiply by `1 + w`: all but the one behind Gated DeltaNet."""
SPARE = (r"^(model\.)?mtp\.",)
"""A head for multi-token prediction, which transformers and mlx-lm leave out too."""

QWEN3_NEXT = Family(
    model_types=("qwen3_next",),
    architecture="Qwen3NextForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        NEXT_KEYS, rotary(fraction_key="partial_rotary_factor"), decoder_sparse_step=1
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
    spare=SPARE,
    offset=OFFSET,
)
