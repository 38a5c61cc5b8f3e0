"""HyperCLOVA X: Granite's multipliers, with norms on both sides of attention and ffn.

Defaults are those of `HyperCLOVAXConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import View, spelled
from ..weights import Row, rows
from .granite import MULTIPLIED
from .llama import BLOCK, HF_BLOCK, LLAMA, decoder
from .llama import weights as llama_weights


def model(config: HfConfig) -> Table:
    """The `[model]` table of a HyperCLOVAXConfig."""
    table = decoder(config, bias=config.get("attention_bias", False))
    table["embed"]["scale"] = float(config.get("embedding_multiplier", None) or 1.0)
    table["block"]["scale"] = float(config.get("residual_multiplier", None) or 1.0)
    if scale := config.get("attention_multiplier", None):
        table["block"]["mixer"]["scale"] = float(scale)
    # a factor, where Granite's key of the same name is a divisor
    table["head"]["scale"] = float(config.get("logits_scaling", None) or 1.0)
    if config.get("use_post_norm", True):
        table["block"]["placement"] = "sandwich"
    return table


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a HyperCLOVA X."""
    ours = f"{BLOCK}.{{mixer,ffn}}_residual.post"
    return [*llama_weights(config), *rows(ours, f"{HF_BLOCK}.{{post_norm1,post_norm2}}")]


def normed(view: View) -> Table:
    """Whether norms follow, too."""
    return {"use_post_norm": view.get("block.placement") == "sandwich"}


HYPERCLOVAX = Family(
    model_types=("hyperclovax",),
    architecture="HyperCLOVAXForCausalLM",
    model=model,
    weights=weights,
    config=spelled(
        {**MULTIPLIED, "mlp_bias": "block.ffn.bias", "logits_scaling": "head.scale"},
        rotary(),
        normed,
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
