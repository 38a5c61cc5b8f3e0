"""Group 1: retention and xPos."""

import math
from typing import cast

import mlx.core as mx

from mlx_transformers.core.context import Context, Cursor
from mlx_transformers.layers.ffns.mlp import Activation
from mlx_transformers.layers.mixers.retention import Retention
from mlx_transformers.layers.norms import RmsNorm
from mlx_transformers.layers.positions.rope import Rope
from mlx_transformers.layers.positions.scalings.inclusive import InclusiveScaling
from mlx_transformers.layers.positions.xpos import Xpos
from mlx_transformers.ops.linear_attention import linear_attention
from mlx_transformers.ops.retention import retention_log_decays
from reference_groups.case import Arrays, Case, Rule

GATES = {"swish": "silu", "silu": "silu", "gelu": "gelu", "relu": "relu"}
"""Names of activations in torchscale, and ours."""


def retention_core(case: Case) -> Arrays:
    """Retention of heads `[B, H, T, K]`, with the state after the last token."""
    q, k, v = (case.inputs[name] for name in "qkv")
    heads, length = q.shape[1:3]
    decays = mx.broadcast_to(
        mx.array(retention_log_decays(heads))[None, :, None], (1, heads, length)
    )
    scale = q.shape[-1] ** -0.5
    state = case.inputs.get("initial_state")
    out, last = linear_attention(q, k, v, decays, scale=scale, state=state)
    return {"o": out, "final_state": last}


def retention_layer(case: Case) -> Arrays:
    """Torchscale's layer: rotated queries and keys, RMS norm of heads, an output gate."""
    options, x = case.options, case.inputs["x"]
    kind = Retention(
        n_heads=options["heads"],
        key_dim=case.params["q_proj"].shape[0],
        value_dim=options["value_dim"],
        gate=cast(Activation, GATES[options["gate"]]),
        norm=RmsNorm(weight=False, eps=options["layernorm_eps"]),
        parallel=True,
    )
    layer = kind.build(x.shape[-1])
    for ours, theirs in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj")):
        layer[ours].weight = case.params[theirs]
    layer.out.g.weight, layer.out.o.weight = case.params["g_proj"], case.params["out_proj"]
    rope = Rope(traditional=True, scaling=InclusiveScaling()).build(x.shape[-1], x.shape[1])
    return {"out": layer(x, Context(position=rope))}


def xpos(case: Case) -> Arrays:
    """Queries and keys at the last positions, centred on the middle of all; as many positions as
    there are keys, and those before them that the option `offset` counts."""
    q, k = (case.inputs[name][:, None] for name in "qk")
    options = case.options
    length = max(k.shape[2], q.shape[2] + options.get("offset", 0))
    position = Xpos(traditional=True, base=options["scale_base"]).build(
        q.shape[-1], 2 * math.ceil(length / 2)
    )
    at_end = [Context(cursor=Cursor(offset=length - x.shape[2])) for x in (q, k)]
    q, _ = position.rotate(q, q, at_end[0])
    _, k = position.rotate(k, k, at_end[1])
    return {"q_rot": q[:, 0], "k_rot": k[:, 0]}


RULES = (
    Rule(r"MultiScaleRetention", retention_layer),
    Rule(r"naive_retention", retention_core),
    Rule(r"XPOS", xpos),
)
