"""GLM-4.7-Flash: GLM-4.5's balanced experts behind DeepSeek's latent attention.

Defaults are those of `Glm4MoeLiteConfig`.
"""

from ...core.errors import ConvertError
from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer
from ..layer_types import patterned
from ..mtp import COPIES, mtp_config, with_mtp
from .deepseek import LATENT, balanced, latent, mixture, paired, routing, turned, weights3
from .llama import LLAMA, decoder


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Glm4MoeLiteConfig."""
    table = decoder(config)
    config.ignore("head_dim", "qk_head_dim")
    table = latent(config, table, neighbours=config.get("rope_interleave"))
    moe = mixture(config, routing(config, "sigmoid", grouped=True))
    table = patterned(table, layer_ffns(config), {"dense": {}, "sparse": {"ffn": moe}})
    return with_mtp(config, table)


def layer_ffns(config: HfConfig) -> list[str]:
    """Return `dense` or `sparse` for each layer; by default all but the first are sparse.

    Raises:
        ConvertError: another kind, or another count than there are layers.
    """
    count = config.get("num_hidden_layers")
    names, dense = config.get("mlp_layer_types"), config.get("first_k_dense_replace")
    if names is None:
        return ["dense" if i < dense else "sparse" for i in range(count)]
    if len(names) != count or set(names) - {"dense", "sparse"}:
        raise ConvertError(
            f"{config.where}: mlp_layer_types = {names} has to say 'dense' or 'sparse' for each of "
            f"{count} layers."
        )
    return list(names)


def ffns(view: FlatModel) -> Table:
    """Return the experts and the layers that have them: the inverse of `layer_ffns`."""
    keys = balanced(view)
    del keys["first_k_dense_replace"]
    kinds = ["sparse" if layer["ffn"]["kind"] == "moe" else "dense" for layer in view.layers]
    return keys | {"mlp_layer_types": kinds}


GLM4_MOE_LITE = Family(
    model_types=("glm4_moe_lite",),
    architecture="Glm4MoeLiteForCausalLM",
    model=model,
    weights=weights3,
    config=config_writer(LATENT, turned, paired, ffns, mtp_config),
    renames=LLAMA.renames,
    tied=(*LLAMA.tied, *COPIES),
    defaults={"first_k_dense_replace": 1},
)
