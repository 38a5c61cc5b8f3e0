"""DeepSeek-V2 and V3: latent attention, many small experts beside shared ones, a dense start.

V3 scores experts by a sigmoid and balances them by a bias. Defaults are those of
`DeepseekV2Config` and `DeepseekV3Config`.
"""

import math

from ...layers.positions.scalings.scaling import log_size
from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, biased, config_writer
from ..layer_types import patterned
from ..mtp import COPIES, mtp_config, mtp_rows, with_mtp
from ..rope import rope_table, rotary
from ..rows import BLOCK, Row, rows
from ..scalings import rope_type
from .llama import GATED, HF_BLOCK, KEYS, LLAMA, OUTER_ROWS, PRE_NORMS, decoder, glu
from .qwen2_moe import experts

LATENT_EPS = 1e-6
"""Of the norms of the short vectors; no key of the config says it."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a DeepseekV2Config."""
    table = decoder(config)
    config.ignore("head_dim", "qk_head_dim", "aux_loss_alpha", "seq_aux", "ep_size")
    config.expect("scoring_func", "softmax")
    config.expect("moe_layer_freq", 1)
    # their code passes it over; the originals' didn't
    config.expect("norm_topk_prob", False)
    method = config.get("topk_method")
    if method not in ("greedy", "group_limited_greedy"):
        config.expect("topk_method", "greedy")
    router = routing(config, "top_k", grouped=method != "greedy")
    return started_dense(config, latent(config, table, neighbours=True), router)


def model3(config: HfConfig) -> Table:
    """Return the `[model]` table of a DeepseekV3Config."""
    table = decoder(config)
    config.ignore("head_dim", "qk_head_dim", "aux_loss_alpha", "seq_aux", "ep_size")
    config.expect("scoring_func", "sigmoid")
    config.expect("topk_method", "noaux_tc")
    config.expect("moe_layer_freq", 1)
    router = routing(config, "sigmoid", grouped=True)
    neighbours = config.get("rope_interleave")
    table = started_dense(config, latent(config, table, neighbours=neighbours), router)
    return with_mtp(config, table)


def routing(config: HfConfig, kind: str, grouped: bool) -> Table:
    """Return the router of a config."""
    router: Table = {
        "kind": kind,
        "top_k": config.get("num_experts_per_tok"),
        "normalize": config.get("norm_topk_prob"),
        "scale": float(config.get("routed_scaling_factor")),
    }
    groups, top_groups = config.get("n_group"), config.get("topk_group")
    if grouped and groups:
        router |= {"n_groups": groups, "top_groups": top_groups}
    return router


def latent(config: HfConfig, table: Table, neighbours: bool) -> Table:
    """Return a table with latent attention."""
    table["position"]["traditional"] = neighbours
    table["block"]["mixer"] = latent_mixer(config) | {"scale": score_scale(config)}
    return table


def latent_mixer(config: HfConfig) -> Table:
    """Return latent attention of a config, with the usual factor of the scores."""
    bias = config.get("attention_bias")
    return {
        "kind": "latent",
        "n_heads": config.get("num_attention_heads"),
        "kv_rank": config.get("kv_lora_rank"),
        "q_rank": config.get("q_lora_rank"),
        "nope_dim": config.get("qk_nope_head_dim"),
        "rope_dim": config.get("qk_rope_head_dim"),
        "value_dim": config.get("v_head_dim"),
        "norm": {"kind": "rms_norm", "eps": LATENT_EPS},
        "bias": bias,
        "out_bias": bias,
        "dropout": float(config.get("attention_dropout") or 0.0),
    }


def mixture(config: HfConfig, router: Table) -> Table:
    """Return the experts of a config, with the shared ones."""
    expert = glu(config, "moe_intermediate_size")
    shared = expert | {"hidden_dim": expert["hidden_dim"] * (config.get("n_shared_experts") or 0)}
    moe = {
        "kind": "moe",
        "n_experts": config.get("n_routed_experts"),
        "router": router,
        "expert": expert,
    }
    if shared["hidden_dim"]:
        moe["shared"] = shared
    return moe


def started_dense(config: HfConfig, table: Table, router: Table) -> Table:
    """Return a table whose first layers are dense and whose others have experts."""
    moe = mixture(config, router)
    return patterned(table, dense_first(config), {"dense": {}, "sparse": {"ffn": moe}})


def dense_first(config: HfConfig) -> list[str]:
    """Return `dense` for each of the first layers and `sparse` for the others."""
    dense, count = config.get("first_k_dense_replace"), config.get("num_hidden_layers")
    return ["dense" if i < dense else "sparse" for i in range(count)]


def score_scale(config: HfConfig) -> float:
    """Return `m² / √K`, where m is the magnitude of YaRN's `mscale_all_dim`."""
    width = config.get("qk_nope_head_dim") + config.get("qk_rope_head_dim")
    rope = rope_table(config)
    rope.ignore(*rope.data)
    slope = rope.optional("mscale_all_dim")
    size = log_size(rope.get("factor"), slope) if rope_type(rope) != "default" and slope else 1.0
    return float(size * size * width**-0.5)


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a DeepSeek-V2 or V3."""
    return [
        *OUTER_ROWS,
        *PRE_NORMS,
        *latents(config),
        *mixtures(config),
    ]


def weights3(config: HfConfig) -> list[Row]:
    """Return the weight map of a DeepSeek-V3, which may look ahead."""
    weight_map = weights(config)
    return [*weight_map, *mtp_rows(config, weight_map)]


def latents(config: HfConfig) -> list[Row]:
    """Return the rows of latent attention."""
    ours, theirs = f"{BLOCK}.mixer", f"{HF_BLOCK}.self_attn"
    full_rank = config.get("q_lora_rank") is None
    return [
        Row(f"{ours}.q", f"{theirs}.q_proj" if full_rank else f"{theirs}.q_b_proj"),
        *rows(f"{ours}.q_{{down,norm}}", f"{theirs}.q_{{a_proj,a_layernorm}}"),
        *rows(f"{ours}.kv_{{down,norm}}", f"{theirs}.kv_{{a_proj_with_mqa,a_layernorm}}"),
        Row(f"{ours}.kv", f"{theirs}.kv_b_proj"),
        Row(f"{ours}.o", f"{theirs}.o_proj"),
    ]


def mixtures(config: HfConfig) -> list[Row]:
    """Return the rows of dense networks, of experts with a balanced router, and of shared ones."""
    shared = f"{HF_BLOCK}.mlp.shared_experts.{{gate,up,down}}_proj"
    return [
        *GATED,
        *experts(config.get("n_routed_experts")),
        Row(f"{BLOCK}.ffn.router.balance", f"{HF_BLOCK}.mlp.gate.e_score_correction_bias"),
        *rows(f"{BLOCK}.ffn.shared.{{gate,up,down}}", shared),
    ]


def balanced(view: FlatModel) -> Table:
    """Return the keys of the experts, their router and the number of dense layers."""
    sparse = [layer["ffn"]["kind"] == "moe" for layer in view.layers]
    width = view.number("block.ffn.expert.hidden_dim")
    shared = view.get("block.ffn.shared.hidden_dim") if view.has("block.ffn.shared") else 0
    return {
        "moe_intermediate_size": width,
        "n_routed_experts": view.get("block.ffn.n_experts"),
        "n_shared_experts": shared // width,
        "num_experts_per_tok": view.get("block.ffn.router.top_k"),
        "norm_topk_prob": view.get("block.ffn.router.normalize"),
        "routed_scaling_factor": view.get("block.ffn.router.scale"),
        "n_group": view.get("block.ffn.router.n_groups"),
        "topk_group": view.get("block.ffn.router.top_groups"),
        "first_k_dense_replace": sparse.index(True),
    }


LATENT: dict[str, PathOrFn] = {
    **KEYS,
    "num_key_value_heads": "block.mixer.n_heads",
    "head_dim": "block.mixer.rope_dim",
    "attention_bias": biased,
    "kv_lora_rank": "block.mixer.kv_rank",
    "q_lora_rank": "block.mixer.q_rank",
    "qk_nope_head_dim": "block.mixer.nope_dim",
    "qk_rope_head_dim": "block.mixer.rope_dim",
    "v_head_dim": "block.mixer.value_dim",
}
"""Recipe paths of the keys of latent attention."""


def chosen(view: FlatModel) -> Table:
    """Return V2's method of choosing experts by groups."""
    grouped = view.get("block.ffn.router.n_groups") not in (None, 1)
    return {"topk_method": "group_limited_greedy" if grouped else "greedy"}


def turned(view: FlatModel) -> Table:
    """Return the rotary keys, with the factor of the scores: the inverse of `score_scale`."""
    traditional = bool(view.get("block.position.traditional"))
    keys = rotary(traditional=traditional)(view)
    width = view.number("block.mixer.nope_dim") + view.number("block.mixer.rope_dim")
    size = math.sqrt(view.number("block.mixer.scale") * math.sqrt(width))
    factor = keys["rope_parameters"].get("factor")
    if factor is not None and not math.isclose(size, 1.0):
        keys["rope_parameters"]["mscale_all_dim"] = (size - 1) / (log_size(factor, 1.0) - 1)
    return keys


def paired(view: FlatModel) -> Table:
    """Whether the pairs of V3 are neighbours or halves."""
    return {"rope_interleave": bool(view.get("block.position.traditional"))}


DEEPSEEK_V2 = Family(
    model_types=("deepseek_v2",),
    architecture="DeepseekV2ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(LATENT, turned, balanced, chosen),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)

DEEPSEEK_V3 = Family(
    model_types=("deepseek_v3",),
    architecture="DeepseekV3ForCausalLM",
    model=model3,
    weights=weights3,
    config=config_writer(
        LATENT, turned, paired, balanced, mtp_config, topk_method="noaux_tc", scoring_func="sigmoid"
    ),
    renames=LLAMA.renames,
    tied=(*LLAMA.tied, *COPIES),
)
