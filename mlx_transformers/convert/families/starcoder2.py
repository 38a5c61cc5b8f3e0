"""StarCoder 2: layer norms, biases everywhere, an ffn without gate, a sliding window.

Defaults are those of `Starcoder2Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import biased, config_writer
from ..rope import rotary
from ..rows import BLOCK, Row, rows
from .llama import BASIC_KEYS, HF_BLOCK, LLAMA, decoder, outer_rows


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a Starcoder2Config."""
    bias = config.get("use_bias")
    config.ignore("norm_type", "mlp_type", "use_flash_attention_2", "attention_softmax_in_fp32")
    config.ignore("scale_attention_softmax_in_fp32", "scale_attn_weights")
    norm = {"kind": "layer_norm", "eps": config.get("norm_epsilon")}
    table = decoder(config, bias=bias, gated=False, norm=norm)
    table["embed"]["dropout"] = float(config.get("embedding_dropout"))
    block = table["block"]
    block["dropout"] = float(config.get("residual_dropout"))
    block["ffn"] = ungated(config, bias)
    if window := config.get("sliding_window"):
        block["mixer"]["window"] = window
    return table


def ungated(config: HfConfig, bias: bool) -> Table:
    """Return the two-layer network of a config."""
    return {
        "kind": "mlp",
        "hidden_dim": config.get("intermediate_size"),
        "activation": config.activation("hidden_act"),
        "bias": bias,
    }


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a StarCoder 2."""
    return [*outer_rows(), *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.mlp.{{c_fc,c_proj}}")]


STARCODER2 = Family(
    model_types=("starcoder2",),
    architecture="Starcoder2ForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **BASIC_KEYS,
            "norm_epsilon": "norm.eps",
            "use_bias": biased,
            "embedding_dropout": "embed.dropout",
            "residual_dropout": "block.dropout",
            "sliding_window": "block.mixer.window",
        },
        rotary(),
    ),
    renames=LLAMA.renames,
    tied=LLAMA.tied,
)
