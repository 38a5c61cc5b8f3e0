"""GLM-4.7-Flash: GLM-4.5's balanced experts behind DeepSeek's latent attention.

Defaults are those of `Glm4MoeLiteConfig`.
"""

from ...core.errors import ConvertError
from ..ahead import COPIES, looking_ahead, said_ahead
from ..config import HfConfig
from ..family import Family, Table
from ..pattern import patterned
from ..view import View, spelled
from .deepseek import LATENT, balanced, latent, mixture, paired, routing, turned, weights3
from .llama import LLAMA, decoder

DEFAULTS: Table = {
    "vocab_size": 154880,
    "hidden_size": 2048,
    "intermediate_size": 10240,
    "moe_intermediate_size": 1536,
    "num_hidden_layers": 47,
    "num_attention_heads": 20,
    "num_key_value_heads": 20,
    "n_shared_experts": 1,
    "n_routed_experts": 64,
    "num_experts_per_tok": 4,
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.8,
    "n_group": 1,
    "topk_group": 1,
    "max_position_embeddings": 202752,
    "rms_norm_eps": 1e-5,
    "attention_bias": False,
    "kv_lora_rank": 512,
    "q_lora_rank": 768,
    "qk_nope_head_dim": 192,
    "qk_rope_head_dim": 64,
    "v_head_dim": 256,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a Glm4MoeLiteConfig."""
    config.also("n_routed_experts", "num_local_experts")
    table = decoder(config, **DEFAULTS)
    config.ignore("head_dim", "qk_head_dim")
    table = latent(config, table, neighbours=config.get("rope_interleave", True))
    moe = mixture(config, routing(config, "sigmoid", grouped=True))
    table = patterned(table, layer_ffns(config), {"dense": {}, "sparse": {"ffn": moe}})
    return looking_ahead(config, table)


def layer_ffns(config: HfConfig) -> list[str]:
    """`dense` or `sparse` for each layer; without a word on it all but the first are sparse.

    Raises:
        ConvertError: another kind, or another count than there are layers.
    """
    count = config.get("num_hidden_layers")
    names, dense = config.get("mlp_layer_types", None), config.get("first_k_dense_replace", 1)
    if names is None:
        return ["dense" if i < dense else "sparse" for i in range(count)]
    if len(names) != count or set(names) - {"dense", "sparse"}:
        raise ConvertError(
            f"{config.where}: mlp_layer_types = {names} has to say 'dense' or 'sparse' for each of "
            f"{count} layers."
        )
    return list(names)


def ffns(view: View) -> Table:
    """The experts, and which layers have them: the inverse of `layer_ffns`."""
    said = balanced(view)
    del said["first_k_dense_replace"]
    kinds = ["sparse" if layer["ffn"]["kind"] == "moe" else "dense" for layer in view.layers]
    return said | {"mlp_layer_types": kinds}


GLM4_MOE_LITE = Family(
    model_types=("glm4_moe_lite",),
    architecture="Glm4MoeLiteForCausalLM",
    model=model,
    weights=weights3,
    config=spelled(LATENT, turned, paired, ffns, said_ahead),
    renames=LLAMA.renames,
    tied=(*LLAMA.tied, *COPIES),
)
