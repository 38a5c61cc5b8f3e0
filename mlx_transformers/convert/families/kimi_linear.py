"""Kimi Linear: Kimi Delta Attention, latent attention without positions, DeepSeek-V3's experts.

Defaults are those of `KimiLinearConfig`.
"""

from ...core.errors import ConvertError
from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..kernels import Depthwise
from ..layer_types import FULL
from ..rows import BLOCK, Row, at_layers, rows
from ..transforms import Reshape, Stack
from .bamba import of
from .deepseek import latent_mixer, latents, mixture, routing
from .dots1 import crossed
from .glm4_moe_lite import ffns, layer_ffns
from .llama import GATED, HF_BLOCK, LLAMA, OUTER_ROWS, PRE_NORMS, decoder
from .qwen3_next import LINEAR, head_width

FORMER = {
    "linear_head_dim": "head_dim",
    "linear_num_heads": "num_heads",
    "linear_conv_kernel_dim": "short_conv_kernel_size",
}
"""Keys of linear attention, and their names in the `linear_attn_config` of published files."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a KimiLinearConfig."""
    config.ignore("head_dim", "qk_head_dim", "rope_theta", "tie_word_embeddings")
    for key, built in {
        "mla_use_nope": True,
        "moe_router_activation_func": "sigmoid",
        "moe_layer_freq": 1,
    }.items():
        config.expect(key, built)
    config.assume({"rope_theta": 10000.0, "n_routed_experts": config.get("num_local_experts")})
    table = decoder(config)
    table["position"] = {"kind": "none"}
    table["head"]["tied"] = False  # whatever `tie_word_embeddings` says
    table["block"]["mixer"] = latent_mixer(config)
    moe = mixture(config, routing(config, "sigmoid", grouped=True))
    mixers = {FULL: {}, LINEAR: {"mixer": delta(config)}}
    kinds = {"dense": {}, "sparse": {"ffn": moe}}
    return crossed(table, layer_ffns(config), kinds, mixer_types(config), mixers)


def linear(config: HfConfig, key: str) -> int:
    """Return the value of a key of linear attention, which older files have in a table."""
    former = config.section("linear_attn_config").optional(FORMER[key])
    own = config.get(key)
    return int(own if former is None else former)


def delta(config: HfConfig) -> Table:
    """Return the mixer of layers with linear attention."""
    heads, width = linear(config, "linear_num_heads"), linear(config, "linear_head_dim")
    return {
        "kind": "gated_deltanet",
        "n_heads": heads,
        "key_dim": heads * width,
        "value_dim": heads * width,
        "conv_width": linear(config, "linear_conv_kernel_dim"),
        "activation": config.activation("hidden_act"),
        "decay": "feature",
        "gate_rank": width,
        "gate": "sigmoid",
        "out_rank": width,
        "norm": {"kind": "rms_norm", "eps": config.get("rms_norm_eps")},
    }


def mixer_types(config: HfConfig) -> list[str]:
    """Return `linear_attention` or `full_attention` for each layer; older files list their numbers,
    which begin at 1.

    Raises:
        ConvertError: a layer has another type, or none.
    """
    count, former = config.get("num_hidden_layers"), config.section("linear_attn_config")
    full, kda = (former.optional(f"{name}_layers") for name in ("full_attn", "kda"))
    types: list[str | None] = [FULL if i and i % 4 == 0 else LINEAR for i in range(count)]
    if full is not None and kda is not None:
        numbers = range(1, count + 1)
        types = [FULL if n in full else LINEAR if n in kda else None for n in numbers]
    types = list(config.get("layer_types") or types)
    if len(types) != count or set(types) - {FULL, LINEAR}:
        raise ConvertError(
            f"{config.where}: layer_types = {types} has to say {FULL!r} or {LINEAR!r} for each of "
            f"{count} layers."
        )
    return [str(name) for name in types]


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Kimi Linear."""
    types = mixer_types(config)
    full, kda = ([i for i, name in enumerate(types) if name == kind] for kind in (FULL, LINEAR))
    return [
        *OUTER_ROWS,
        *PRE_NORMS,
        *at_layers(latents(config), full),
        *at_layers(delta_rows(linear(config, "linear_num_heads")), kda),
        *GATED,
        *expert_rows(config.get("num_local_experts")),
    ]


def delta_rows(n_heads: int) -> list[Row]:
    """Return the rows of Kimi Delta Attention with H heads."""
    ours, theirs = f"{BLOCK}.mixer", f"{HF_BLOCK}.self_attn"
    return [
        *rows(f"{ours}.{{q,k,v}}", f"{theirs}.{{q,k,v}}_proj"),
        *rows(f"{ours}.{{q,k,v}}_conv", f"{theirs}.{{q,k,v}}_conv1d", Depthwise()),
        *rows(f"{ours}.{{down,a,beta}}", f"{theirs}.{{f_a,f_b,b}}_proj"),
        *rows(f"{ours}.out.{{g_down,g,o}}", f"{theirs}.{{g_a,g_b,o}}_proj"),
        Row(f"{ours}.out.norm", f"{theirs}.o_norm"),
        Row(f"{ours}.dt_bias", f"{theirs}.dt_bias"),
        Row(f"{ours}.A_log", f"{theirs}.A_log", Reshape((1, 1, n_heads, 1), (n_heads,))),
    ]


def expert_rows(count: int) -> list[Row]:
    """Return the rows of experts with a balanced router, and of those that all tokens share."""
    ours, theirs = f"{BLOCK}.ffn", f"{HF_BLOCK}.block_sparse_moe"
    shared = f"{theirs}.shared_experts.{{gate,up,down}}_proj"
    each = f"{theirs}.experts.{{e}}.{{w1,w3,w2}}"
    return [
        Row(f"{ours}.router.gate", f"{theirs}.gate"),
        Row(f"{ours}.router.balance", f"{theirs}.gate.e_score_correction_bias"),
        *rows(f"{ours}.experts.{{gate,up,down}}", each, Stack(), count),
        *rows(f"{ours}.shared.{{gate,up,down}}", shared),
    ]


def types_of(view: FlatModel) -> list[str]:
    """Return the type of each layer's mixer."""
    return [FULL if x["mixer"]["kind"] == "latent" else LINEAR for x in view.layers]


RENAMED = {
    "n_routed_experts": "num_experts",
    "n_shared_experts": "num_shared_experts",
    "num_experts_per_tok": "num_experts_per_token",
    "norm_topk_prob": "moe_renormalize",
    "n_group": "num_expert_group",
}
"""Keys of experts in DeepSeek's config, and in this one."""


def experts(view: FlatModel) -> Table:
    """Return the keys of the experts."""
    return {RENAMED.get(key, key): value for key, value in ffns(view).items()}


KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "intermediate_size": "block.ffn.hidden_dim",
    "num_hidden_layers": "n_layers",
    "hidden_act": of("gated_deltanet", "activation"),
    "model_max_length": "max_seq_len",
    "initializer_range": "init.std",
    "rms_norm_eps": "norm.eps",
    "num_attention_heads": of("latent", "n_heads"),
    "num_key_value_heads": of("latent", "n_heads"),
    "attention_bias": of("latent", "bias"),
    "attention_dropout": of("latent", "dropout"),
    "kv_lora_rank": of("latent", "kv_rank"),
    "q_lora_rank": of("latent", "q_rank"),
    "qk_nope_head_dim": of("latent", "nope_dim"),
    "qk_rope_head_dim": of("latent", "rope_dim"),
    "v_head_dim": of("latent", "value_dim"),
    "linear_num_heads": of("gated_deltanet", "n_heads"),
    "linear_head_dim": head_width("key_dim", "n_heads"),
    "linear_conv_kernel_dim": of("gated_deltanet", "conv_width"),
    "layer_types": types_of,
}

KIMI_LINEAR = Family(
    model_types=("kimi_linear",),
    architecture="KimiLinearForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS, experts, tie_word_embeddings=False),
    renames=(
        *LLAMA.renames,
        # as transformers saves dense layers, whose names it turns back with those of experts
        (r"\.block_sparse_moe\.(gate|up|down)_proj\.", r".mlp.\1_proj."),
    ),
)
