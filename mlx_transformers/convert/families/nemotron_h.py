"""Nemotron-H, Nemotron Nano 2 and Nemotron 3: Mamba-2, a few layers that attend without positions,
and networks or experts of squared relu.

Each published layer is one of the four with a norm; here a mixer and the network behind it are one
block. Defaults are those of `NemotronHConfig`.
"""

from typing import Any

from ...core.errors import ConvertError
from ..config import HfConfig, their_activation
from ..decoder import mlp
from ..family import Family, Table
from ..flat_model import MISSING, FlatModel, PathOrFn, config_writer
from ..layer_types import patterned
from ..rows import BLOCK, Row, at_layers, rows
from ..transforms import Stack
from .bamba import of, scan_heads
from .deepseek import routing
from .mamba import bare
from .mamba2 import ssd_rows

MAMBA, ATTENTION, MLP, MOE = "linear_attention", "full_attention", "mlp", "moe"
BY_LETTER = {"M": MAMBA, "*": ATTENTION, "-": MLP, "E": MOE}
"""The letters of `hybrid_override_pattern`, by which older files name their layers."""
FORMER = {"mamba": MAMBA, "attention": ATTENTION}
MIXERS = (MAMBA, ATTENTION)
USUAL = [MAMBA, MOE, ATTENTION, MLP]
"""The layers of a config that names none."""
NO_EFFECT = (
    *("num_hidden_layers", "mamba_chunk_size", "chunk_size", "expand", "mamba_expand"),
    *("use_mamba_kernels", "mamba_ssm_cache_dtype", "num_logits_to_keep", "output_router_logits"),
    *(
        "tie_word_embeddings",
        "hidden_dropout",
        "n_shared_experts",
        "moe_shared_expert_overlap",
    ),
    # layers that predict further tokens, which transformers and mlx-lm leave out too
    *("num_nextn_predict_layers", "mtp_layers_block_type", "mtp_hybrid_override_pattern"),
)
"""Keys that their code passes over."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a NemotronHConfig."""
    config.ignore(*NO_EFFECT)
    config.expect("attention_bias", False)
    config.expect("sliding_window", None)
    pairs = blocks(config)
    types = layer_types(config)
    config.assume({"num_hidden_layers": len(types)})
    table = bare(config, scan(config)) | {"n_layers": len(pairs)}
    table["head"]["tied"] = False  # whatever `tie_word_embeddings` says
    heads = config.get("num_attention_heads")
    attention = {
        "kind": "attention",
        "n_heads": heads,
        "n_kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim"),
        "dropout": float(config.get("attention_dropout") or 0.0),
    }
    mixers: dict[str, Table] = {MAMBA: {}, ATTENTION: {"mixer": attention}}
    ffns: dict[str, Table] = {"": {}, MLP: {"ffn": network(config, "intermediate_size")}}
    if MOE in types:
        ffns[MOE] = {"ffn": experts(config)}
    names = [types[mixer] + (f"_{types[ffn]}" if ffn is not None else "") for mixer, ffn in pairs]
    variants = {f"{m}_{f}".rstrip("_"): mixers[m] | ffns[f] for m in mixers for f in ffns}
    return patterned(table, names, variants)


def scan(config: HfConfig) -> Table:
    """Return the table of the Mamba-2 mixers."""
    config.expect("mamba_hidden_act", "silu")
    size, groups = config.get("mamba_head_dim"), either(config, "n_groups", "mamba_n_groups")
    least = either(config, "time_step_min", "mamba_dt_min")
    check_of_mlx_lm(config, least)
    return {
        "kind": "mamba2",
        "inner_dim": config.get("mamba_num_heads") * size,
        "head_dim": size,
        "state_dim": config.get("ssm_state_size"),
        "n_groups": groups,
        "norm_groups": groups,
        "conv_width": either(config, "conv_kernel", "mamba_d_conv"),
        "eps": config.get("layer_norm_epsilon"),
        "bias": config.get("use_bias"),
        "out_bias": config.get("use_bias"),
        "conv_bias": either(config, "use_conv_bias", "mamba_conv_bias"),
        "dt_min": least,
        "dt_max": either(config, "time_step_max", "mamba_dt_max"),
        "dt_floor": either(config, "time_step_floor", "mamba_dt_init_floor"),
        "dt_at_least": least,
    }


def check_of_mlx_lm(config: HfConfig, least: float) -> None:
    """Refuse what transformers passes over and mlx-lm computes with, where the two differ.

    Args:
        config: the config.
        least: the smallest step size, which transformers takes for the bound.

    Raises:
        ConvertError: names the key.
    """
    key = "mamba_dt_limit" if "mamba_dt_limit" in config else "time_step_limit"
    limit, end = config.optional(key), float("inf")
    if limit is not None and [*limit] not in ([0.0, end], [least, end]):
        raise ConvertError(
            f"{config.where}: {key} = {limit} is not built: mlx-lm bounds the step sizes by it, "
            f"transformers by time_step_min = {least} alone. If the model was trained so, take the "
            "key out."
        )
    # The other way round transformers writes itself, and the tensors have the biases.
    if config.optional("mamba_proj_bias") and not config.get("use_bias"):
        raise ConvertError(
            f"{config.where}: mamba_proj_bias = True beside use_bias = False is not built: mlx-lm "
            "goes by the former, transformers by the latter. Set both to what the tensors have."
        )


def either(config: HfConfig, key: str, former: str) -> Any:
    """Return the value of a key under its former name, or its present one."""
    return config.get(former if former in config else key)


def network(config: HfConfig, width: str) -> Table:
    """Return a network of two layers, whose width is under the key `width`."""
    return mlp(config.get(width), config.activation("mlp_hidden_act"), config.get("mlp_bias"))


def experts(config: HfConfig) -> Table:
    """Return the experts of a config, which have no biases, and the network that all share."""
    latent = config.get("moe_latent_size")
    if latent is not None and config.get("mlp_bias"):
        raise config.refuse("mlp_bias", True, "False is, where moe_latent_size is set")
    return {
        "kind": "moe",
        "n_experts": config.get("n_routed_experts"),
        "router": routing(config, "sigmoid", grouped=True),
        "expert": network(config, "moe_intermediate_size") | {"bias": False},
        "shared": network(config, "moe_shared_expert_intermediate_size"),
        "latent": latent,
    }


def layer_types(config: HfConfig) -> list[str]:
    """Return the type of each published layer.

    Raises:
        ConvertError: one of them is unknown.
    """
    named, pattern = config.get("layers_block_type"), config.optional("hybrid_override_pattern")
    if named is None:
        named = [BY_LETTER.get(x, x) for x in pattern] if pattern is not None else USUAL
    types = [FORMER.get(name, name) for name in named]
    if foreign := set(types) - {*BY_LETTER.values()}:
        raise ConvertError(
            f"{config.where}: layers_block_type holds {min(foreign)!r}; "
            f"{', '.join(map(repr, BY_LETTER.values()))} are built."
        )
    return types


def blocks(config: HfConfig) -> list[tuple[int, int | None]]:
    """Return the published layers of each block: a mixer, and the network behind it, if any.

    Raises:
        ConvertError: a network stands behind no mixer.
    """
    pairs: list[tuple[int, int | None]] = []
    for i, name in enumerate(layer_types(config)):
        if name in MIXERS:
            pairs.append((i, None))
        elif pairs and pairs[-1] == (i - 1, None):
            pairs[-1] = (i - 1, i)
        else:
            raise ConvertError(
                f"{config.where}: layer {i} of layers_block_type, {name!r}, follows no layer of "
                f"{MAMBA!r} or {ATTENTION!r}. Networks are built behind these only."
            )
    return pairs


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Nemotron-H."""
    types = layer_types(config)
    found = [
        Row("embed.table", "backbone.embeddings"),
        Row("norm", "backbone.norm_f"),
        Row("head", "lm_head"),
    ]
    for block, (mixer, ffn) in enumerate(blocks(config)):
        ours, theirs = f"{BLOCK}.mixer", f"backbone.layers.{mixer}.mixer"
        attends = rows(f"{ours}.{{q,k,v,o}}", f"{theirs}.{{q,k,v,o}}_proj")
        own = attends if types[mixer] == ATTENTION else ssd_rows(ours, theirs)
        own = [*own, Row(f"{BLOCK}.mixer_residual.pre", f"backbone.layers.{mixer}.norm")]
        if ffn is not None:
            own += ffn_rows(config, f"backbone.layers.{ffn}")
        found += at_layers(own, [block])
    return found


def ffn_rows(config: HfConfig, layer: str) -> list[Row]:
    """Return the rows of a published layer with a network or experts."""
    ours, theirs = f"{BLOCK}.ffn", f"{layer}.mixer"
    each, count = f"{theirs}.experts.{{e}}.{{up,down}}_proj", config.get("n_routed_experts")
    return [
        Row(f"{BLOCK}.ffn_residual.pre", f"{layer}.norm"),
        *rows(f"{ours}.{{up,down}}", f"{theirs}.{{up,down}}_proj"),
        *rows(f"{ours}.experts.{{up,down}}", each, Stack(), count),
        *rows(f"{ours}.shared.{{up,down}}", f"{theirs}.shared_experts.{{up,down}}_proj"),
        *rows(f"{ours}.latent_{{down,up}}", f"{theirs}.{{fc1,fc2}}_latent_proj"),
        Row(f"{ours}.router.gate", f"{theirs}.gate"),
        Row(f"{ours}.router.balance", f"{theirs}.gate.e_score_correction_bias"),
    ]


def types_of(view: FlatModel) -> list[str]:
    """Return the type of each published layer: the inverse of `blocks`."""
    types = []
    for layer in view.layers:
        types.append(ATTENTION if layer["mixer"]["kind"] == "attention" else MAMBA)
        if layer.get("ffn"):
            types.append(MOE if layer["ffn"]["kind"] == "moe" else MLP)
    return types


def networks(view: FlatModel) -> Table:
    """Return the keys of networks, experts and their router."""
    dense = [x["ffn"] for x in view.layers if x.get("ffn") and x["ffn"]["kind"] != "moe"]
    sparse = [x["ffn"] for x in view.layers if x.get("ffn") and x["ffn"]["kind"] == "moe"]
    plain = [*dense, *(moe["shared"] for moe in sparse if moe.get("shared"))]
    keys: Table = {}
    if plain:
        keys["mlp_hidden_act"] = their_activation(plain[0]["activation"])
        keys["mlp_bias"] = bool(plain[0].get("bias"))
    if dense:
        keys["intermediate_size"] = dense[0]["hidden_dim"]
    if sparse:
        router = sparse[0]["router"]
        keys |= {
            "n_routed_experts": sparse[0]["n_experts"],
            "moe_intermediate_size": sparse[0]["expert"]["hidden_dim"],
            "moe_shared_expert_intermediate_size": (sparse[0].get("shared") or {}).get(
                "hidden_dim", MISSING
            ),
            "moe_latent_size": sparse[0].get("latent"),
            "num_experts_per_tok": router["top_k"],
            "norm_topk_prob": router["normalize"],
            "routed_scaling_factor": router.get("scale", MISSING),
            "n_group": router.get("n_groups"),
            "topk_group": router.get("top_groups"),
        }
    return keys


KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "layers_block_type": types_of,
    "max_position_embeddings": "max_seq_len",
    "layer_norm_epsilon": "norm.eps",
    "num_attention_heads": of("attention", "n_heads"),
    "num_key_value_heads": of("attention", "n_kv_heads"),
    "head_dim": of("attention", "head_dim"),
    "attention_dropout": of("attention", "dropout"),
    "mamba_num_heads": scan_heads,
    "mamba_head_dim": of("mamba2", "head_dim"),
    "ssm_state_size": of("mamba2", "state_dim"),
    "n_groups": of("mamba2", "n_groups"),
    "conv_kernel": of("mamba2", "conv_width"),
    "use_bias": of("mamba2", "bias"),
    "use_conv_bias": of("mamba2", "conv_bias"),
    "time_step_min": of("mamba2", "dt_at_least"),
    "time_step_max": of("mamba2", "dt_max"),
    "time_step_floor": of("mamba2", "dt_floor"),
    "initializer_range": "init.std",
}

NEMOTRON_H = Family(
    model_types=("nemotron_h",),
    architecture="NemotronHForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS, networks, tie_word_embeddings=False),
    renames=((r"^model\.", "backbone."),),
    spare=(r"^mtp\.",),
)
