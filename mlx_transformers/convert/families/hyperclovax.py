"""HyperCLOVA X: Granite's multipliers, with norms on both sides of attention and ffn.

Defaults are those of `HyperCLOVAXConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer
from ..rope import rotary
from ..rows import BLOCK, Row, rows
from .granite import MULTIPLIED
from .llama import HF_BLOCK, LLAMA, decoder
from .llama import weights as llama_weights


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a HyperCLOVAXConfig."""
    table = decoder(config, bias=config.get("attention_bias"))
    table["embed"]["scale"] = float(config.get("embedding_multiplier") or 1.0)
    table["block"]["scale"] = float(config.get("residual_multiplier") or 1.0)
    if scale := config.get("attention_multiplier"):
        table["block"]["mixer"]["scale"] = float(scale)
    # a factor, where Granite's key of the same name is a divisor
    table["head"]["scale"] = float(config.get("logits_scaling") or 1.0)
    if config.get("use_post_norm"):
        table["block"]["placement"] = "sandwich"
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a HyperCLOVA X."""
    ours = f"{BLOCK}.{{mixer,ffn}}_residual.post"
    return [*llama_weights(config), *rows(ours, f"{HF_BLOCK}.{{post_norm1,post_norm2}}")]


def normed(view: FlatModel) -> Table:
    """Whether norms follow, too."""
    return {"use_post_norm": view.get("block.placement") == "sandwich"}


HYPERCLOVAX = Family(
    model_types=("hyperclovax",),
    architecture="HyperCLOVAXForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {**MULTIPLIED, "mlp_bias": "block.ffn.bias", "logits_scaling": "head.scale"},
        rotary(),
        normed,
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
