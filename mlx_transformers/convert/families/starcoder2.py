"""StarCoder 2: layer norms, biases everywhere, an ffn without gate, a sliding window.

Defaults are those of `Starcoder2Config`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import biased, spelled
from ..weights import Row, rows
from .llama import BARE, BLOCK, HF_BLOCK, LLAMA, around, decoder

DEFAULTS: Table = {
    "vocab_size": 49152,
    "hidden_size": 3072,
    "intermediate_size": 12288,
    "num_hidden_layers": 30,
    "num_attention_heads": 24,
    "num_key_value_heads": 2,
    "hidden_act": "gelu_pytorch_tanh",
    "max_position_embeddings": 4096,
    "initializer_range": 0.018042,
    "tie_word_embeddings": True,
    "rms_norm_eps": 0.0,
}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a Starcoder2Config."""
    bias = config.get("use_bias", True)
    config.ignore("norm_type", "mlp_type", "use_flash_attention_2", "attention_softmax_in_fp32")
    config.ignore("scale_attention_softmax_in_fp32", "scale_attn_weights")
    table = decoder(config, bias=bias, **DEFAULTS)
    table["norm"] = {"kind": "layer_norm", "eps": config.get("norm_epsilon", 1e-5)}
    table["embed"]["dropout"] = float(config.get("embedding_dropout", 0.0))
    block = table["block"]
    block["norm"] = table["norm"]
    block["dropout"] = float(config.get("residual_dropout", 0.0))
    block["ffn"] = ungated(config, bias)
    if window := config.get("sliding_window", None):
        block["mixer"]["window"] = window
    return table


def ungated(config: HfConfig, bias: bool) -> Table:
    """The two-layer network of a config."""
    return {
        "kind": "mlp",
        "hidden_dim": config.get("intermediate_size"),
        "activation": config.activation("hidden_act"),
        "bias": bias,
    }


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a StarCoder 2."""
    return [*around(), *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.mlp.{{c_fc,c_proj}}")]


STARCODER2 = Family(
    model_types=("starcoder2",),
    architecture="Starcoder2ForCausalLM",
    model=model,
    weights=weights,
    config=spelled(
        {
            **BARE,
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
