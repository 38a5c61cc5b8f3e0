"""InternLM 1, 2 and 3: LLaMA with biases; the second packs queries, keys and values by groups.

transformers doesn't have them: published files carry the code of their authors (`auto_map`), and
mlx-lm has models of its own for InternLM 2 and 3.
"""

from collections.abc import Callable
from typing import Any

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..rope import rope_parameters
from ..rows import BLOCK, Row, rows
from ..transforms import SplitGroups
from .llama import KEYS, LLAMA, decoder, weights

DEFAULTS: dict[str, Any] = {
    "vocab_size": 103168,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 32768,
    "num_key_value_heads": None,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_parameters": None,
    "rope_scaling": None,
    "tie_word_embeddings": False,
}
"""Defaults of `InternLM2Config`."""


def internlm(config: HfConfig) -> Table:
    """Return the `[model]` table of a config of InternLM 1, whose `rotary` has base and scaling."""
    rotary = config.optional("rotary") or {}
    config.assume({"rope_theta": float(rotary.get("base", 10000.0))})
    table = decoder(config, bias=bool(config.get("bias")))
    kind = rotary.get("type", "origin")
    if kind == "dynamic":
        factor = float(rotary.get("scaling_factor", 1.0))
        scaling = {"kind": kind, "factor": factor, "trained_len": table["max_seq_len"]}
        table["position"]["scaling"] = scaling
    elif kind != "origin":
        raise config.refuse("rotary.type", kind, "'origin' and 'dynamic' are")
    return table


def internlm2(config: HfConfig) -> Table:
    """Return the `[model]` table of a config of InternLM 2."""
    return positioned(config, decoder(config, bias=bool(config.get("bias"))))


def internlm3(config: HfConfig) -> Table:
    """Return the `[model]` table of a config of InternLM 3.

    `bias` is that of the networks. The authors' output projections have it too, those of mlx-lm
    have `qkv_bias`: where there is a file, its tensors tell.
    """
    bias, qkv_bias = bool(config.get("bias")), bool(config.get("qkv_bias"))
    table = decoder(config, bias=qkv_bias)
    out_bias = bias if "auto_map" in config else qkv_bias
    if config.tensors:
        out_bias = any(name.endswith("self_attn.o_proj.bias") for name in config.tensors)
    table["block"]["mixer"]["out_bias"] = out_bias
    table["block"]["ffn"]["bias"] = bias
    return positioned(config, table)


def positioned(config: HfConfig, table: Table) -> Table:
    """Return the table with mlx-lm's option of rotating neighbours."""
    if config.optional("rope_traditional"):
        table["position"]["traditional"] = True
    return table


def packed(config: HfConfig) -> list[Row]:
    """Return the weight map of an InternLM 2."""
    theirs, n_heads = "model.layers.{i}", config.get("num_attention_heads")
    groups = config.get("num_key_value_heads") or n_heads
    split = SplitGroups(n_heads, groups, config.get("hidden_size") // n_heads)
    qkv = tuple(f"{BLOCK}.mixer.{name}" for name in "qkv")
    return [
        Row("embed.table", "model.tok_embeddings"),
        Row("norm", "model.norm"),
        Row("head", "output"),
        Row(qkv, f"{theirs}.attention.wqkv", split),
        Row(f"{BLOCK}.mixer.o", f"{theirs}.attention.wo"),
        Row(f"{BLOCK}.mixer_residual.pre", f"{theirs}.attention_norm"),
        Row(f"{BLOCK}.ffn_residual.pre", f"{theirs}.ffn_norm"),
        *rows(f"{BLOCK}.ffn.{{gate,up,down}}", f"{theirs}.feed_forward.{{w1,w3,w2}}"),
    ]


def rotary(view: FlatModel) -> Table:
    """Return the keys of positions; readers take either name of a scaling's kind."""
    position = view.layers[0]["position"]
    parameters = rope_parameters(position)
    theta, kind = parameters.pop("rope_theta"), parameters["rope_type"]
    scaling = {"rope_scaling": parameters | {"type": kind}} if kind != "default" else {}
    traditional = {"rope_traditional": True} if position.get("traditional") else {}
    return {"rope_theta": theta, **scaling, **traditional}


def base(view: FlatModel) -> Table:
    """Return InternLM 1's table of positions."""
    position = view.layers[0]["position"]
    scaling = position.get("scaling")
    kind = {"type": "dynamic", "scaling_factor": scaling["factor"]} if scaling else {}
    return {"rotary": {"base": position["theta"], "type": "origin", **kind}}


def family(
    number: str,
    model: Callable[[HfConfig], Table],
    rows_of: Callable[[HfConfig], list[Row]],
    keys: dict[str, PathOrFn],
    positions: Callable[[FlatModel], Table],
    **defaults: Any,
) -> Family:
    """Return one generation; `keys` are those of its biases."""
    head = "output" if rows_of is packed else "lm_head"
    table = "tok_embeddings" if rows_of is packed else "embed_tokens"
    return Family(
        model_types=(f"internlm{number}",),
        architecture=f"InternLM{number}ForCausalLM",
        model=model,
        weights=rows_of,
        config=config_writer({**KEYS, **keys}, positions),
        defaults=DEFAULTS | defaults,
        renames=LLAMA.renames if rows_of is weights else (),
        dropped=(r"attention\.rope\.inv_freq$",),
        tied=((f"{head}.weight", f"model.{table}.weight"),),
    )


BIAS: dict[str, PathOrFn] = {"bias": "block.mixer.bias"}
INTERNLM = family("", internlm, weights, BIAS, base, bias=True, max_position_embeddings=2048)
INTERNLM2 = family("2", internlm2, packed, BIAS, rotary, bias=True)
INTERNLM3 = family(
    "3",
    internlm3,
    weights,
    {"qkv_bias": "block.mixer.bias", "bias": "block.ffn.bias"},
    rotary,
    vocab_size=128512,
    bias=False,
    qkv_bias=False,
)
