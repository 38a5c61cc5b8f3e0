"""Llama 4 without its vision tower: chunks of attention, layers without positions, experts whose
inputs are weighed.

Queries grow with their position in the layers without positions. Defaults are those of
`Llama4TextConfig`.
"""

from typing import Any

from ...core.errors import ConvertError
from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import MISSING, FlatModel, PathOrFn, biased, config_writer, first_of
from ..layer_types import FULL, patterned
from ..odd_layouts import Unbalanced
from ..rope import rotary
from ..rows import BLOCK, Row, rows
from ..transforms import Chain, Split, Swap
from .jamba import layers_where
from .llama import HF_BLOCK, KEYS, LLAMA, decoder, glu, outer_rows

CHUNKED = "chunked_attention"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Llama4TextConfig."""
    config.ignore("router_aux_loss_coef", "router_jitter_noise", "output_router_logits")
    table = decoder(config, bias=config.get("attention_bias"), gated=False)
    table["position"]["traditional"] = True
    table["block"]["ffn"] = glu(config, "intermediate_size_mlp")
    norm = {"kind": "rms_norm", "eps": config.get("rms_norm_eps"), "weight": False}
    normed = {"qk_norm": norm, "qk_norm_last": True} if config.get("use_qk_norm") else {}
    turned, types, sparse = rotated(config), attention_types(config), expert_layers(config)
    names = [
        f"{'rope' if turned[i] else 'nope'}_{'chunk' if types[i] == CHUNKED else 'full'}_"
        + ("sparse" if i in sparse else "dense")
        for i in range(len(types))
    ]
    places: dict[str, Table] = {"rope": {"mixer": normed}, "nope": {"position": unrotated(config)}}
    keys: dict[str, Table] = {"chunk": {"chunk": config.get("attention_chunk_size")}, "full": {}}
    ffns: dict[str, Table] = {"dense": {}, "sparse": {"ffn": experts(config)}}
    variants = {
        f"{p}_{k}_{f}": places[p] | {"mixer": places[p].get("mixer", {}) | keys[k]} | ffns[f]
        for p in places
        for k in keys
        for f in ffns
    }
    return patterned(table, names, variants)


def unrotated(config: HfConfig) -> Table:
    """Return the positions of layers without rotary ones, where queries may grow."""
    scale, every = config.get("attn_scale"), config.get("floor_scale")
    if not config.get("attn_temperature_tuning") or not scale:
        return {"kind": "none"}
    return {"kind": "none", "growth": float(scale), "growth_every": every, "growth_first": 1}


def rotated(config: HfConfig) -> list[Any]:
    """Return for each layer whether it has rotary positions.

    Raises:
        ConvertError: the config says so for fewer layers, or in steps below 1.
    """
    count, given = config.get("num_hidden_layers"), config.get("no_rope_layers")
    if not given:
        every = step(config, "no_rope_layer_interval")
        given = [int((i + 1) % every != 0) for i in range(count)]
    config.ignore("no_rope_layer_interval")
    if len(given) < count:
        raise ConvertError(f"{config.where}: no_rope_layers has {len(given)} of {count} layers.")
    return list(given[:count])


def attention_types(config: HfConfig) -> list[str]:
    """Return `chunked_attention` or `full_attention` for each layer; by default those with rotary
    positions are chunked.

    Raises:
        ConvertError: another type, or another count than there are layers.
    """
    chunk, turned = config.get("attention_chunk_size"), rotated(config)
    default = [CHUNKED if place and chunk is not None else FULL for place in turned]
    types = list(config.get("layer_types") or default)
    if len(types) < len(turned) or set(types) - {CHUNKED, FULL}:
        raise ConvertError(
            f"{config.where}: layer_types = {types} has to say {CHUNKED!r} or {FULL!r} for each of "
            f"{len(turned)} layers."
        )
    if chunk is None and CHUNKED in types:
        raise ConvertError(
            f"{config.where}: layer_types holds {CHUNKED!r}, and attention_chunk_size is missing."
        )
    return types[: len(turned)]


def expert_layers(config: HfConfig) -> list[int]:
    """Return the layers with experts.

    Raises:
        ConvertError: the config names them in steps below 1.
    """
    named, key = config.get("moe_layers"), "interleave_moe_layer_step"
    if named is not None:
        config.ignore(key)
        return list(named)
    every = step(config, key)
    return list(range(every - 1, config.get("num_hidden_layers"), every))


def step(config: HfConfig, key: str) -> int:
    """Return every how many layers one is of another kind.

    Raises:
        ConvertError: the number is below 1.
    """
    every = int(config.get(key))
    if every < 1:
        raise ConvertError(f"{config.where}: {key} = {every} has to be at least 1.")
    return every


def experts(config: HfConfig) -> Table:
    """Return the experts of a config, and the network that all tokens share."""
    router = {
        "kind": "sigmoid",
        "top_k": config.get("num_experts_per_tok"),
        "normalize": False,
    }
    return {
        "kind": "moe",
        "n_experts": config.get("num_local_experts"),
        "router": router,
        "expert": glu(config),
        "shared": glu(config),
        "weighs": "inputs",
    }


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Llama 4."""
    ours, theirs, width = (
        f"{BLOCK}.ffn",
        f"{HF_BLOCK}.feed_forward",
        config.get("intermediate_size"),
    )
    both = (f"{ours}.experts.gate.weight", f"{ours}.experts.up.weight")
    shared = f"{theirs}.shared_expert.{{gate,up,down}}_proj"
    return [
        *outer_rows(),
        *rows(f"{ours}.{{gate,up,down}}", f"{theirs}.{{gate,up,down}}_proj"),
        *rows(f"{ours}.shared.{{gate,up,down}}", shared),
        Row(both, f"{theirs}.experts.gate_up_proj", Chain(Swap(), Split((width, width), axis=1))),
        Row(f"{ours}.experts.down.weight", f"{theirs}.experts.down_proj", Swap()),
        Row(
            (f"{ours}.router.gate.weight", f"{ours}.router.balance"),
            f"{theirs}.router.weight",
            Unbalanced(),
        ),
    ]


def types_of(view: FlatModel) -> list[str]:
    """Return the attention type of each layer."""
    return [CHUNKED if layer["mixer"].get("chunk") else FULL for layer in view.layers]


def turned_layers(view: FlatModel) -> list[int]:
    """Return the layers with rotary positions, as ones."""
    return [int(layer["position"]["kind"] == "rope") for layer in view.layers]


def tuned(view: FlatModel) -> Table:
    """Return the keys of the growth of queries."""
    nope = [x["position"] for x in view.layers if x["position"]["kind"] == "none"]
    if not nope or not nope[0].get("growth"):
        return {"attn_temperature_tuning": False}
    return {
        "attn_temperature_tuning": True,
        "attn_scale": nope[0]["growth"],
        "floor_scale": nope[0]["growth_every"],
    }


def normed(view: FlatModel) -> bool:
    """Whether queries and keys are normalised in the layers with rotary positions."""
    return any(layer["mixer"].get("qk_norm") for layer in view.layers)


def dense_width(view: FlatModel) -> Any:
    """Return the width of networks where there are no experts."""
    dense = [x["ffn"] for x in view.layers if x["ffn"]["kind"] != "moe"]
    return dense[0]["hidden_dim"] if dense else MISSING


TEXT_KEYS: dict[str, PathOrFn] = {
    **KEYS,
    "intermediate_size": lambda view: first_of(view, "block.ffn.expert.hidden_dim"),
    "intermediate_size_mlp": dense_width,
    "attention_bias": biased,
    "num_local_experts": "block.ffn.n_experts",
    "num_experts_per_tok": "block.ffn.router.top_k",
    "moe_layers": lambda view: layers_where(view, "ffn", "moe"),
    "no_rope_layers": turned_layers,
    "attention_chunk_size": lambda view: view.get("block.mixer.chunk"),
    "layer_types": types_of,
    "use_qk_norm": normed,
}

LLAMA4 = Family(
    model_types=("llama4_text",),
    architecture="Llama4ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(TEXT_KEYS, rotary(traditional=True), tuned),
    renames=((r"^language_model\.", ""), *LLAMA.renames),
    tied=LLAMA.tied,
)
