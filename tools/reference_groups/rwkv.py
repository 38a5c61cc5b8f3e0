"""Group 4: the layers of RWKV, by the parameter names of the published code."""

import mlx.core as mx

from mlx_transformers.core.context import Context
from mlx_transformers.layers.ffns.channel_mixing import ChannelMixing, ChannelMixingFfn
from mlx_transformers.layers.mixers.rwkv6 import MIXED, Rwkv6
from mlx_transformers.layers.mixers.rwkv7 import FIRST_VALUES, Rwkv7
from reference_groups.case import Arrays, Case, Rule


def time_mix_6(case: Case) -> Arrays:
    """Time mixing of RWKV-6, or of RWKV-5 where shares and decays are fixed; channel mixing."""
    p, x = case.params, case.inputs["x"]
    dim, ranks = x.shape[-1], {"mix_rank": None, "decay_rank": None}
    dynamic = "time_maa_w1" in p
    if dynamic:
        ranks = {
            "mix_rank": p["time_maa_w2"].shape[1],
            "decay_rank": p["time_decay_w1"].shape[1],
        }
    divisor = case.options.get("head_size_divisor", 8)
    head = case.options.get("head_size") or p["time_faaaa"].shape[-1]
    layer = Rwkv6(head_dim=head, divisor=divisor, **ranks).build(dim)
    if dynamic:
        layer.mix_x = p["time_maa_x"].reshape(-1)
        layer.mix_down.weight = p["time_maa_w1"].T
        layer.mix_up = p["time_maa_w2"].swapaxes(1, 2)
        layer.decay_down.weight = p["time_decay_w1"].T
        layer.decay_up.weight = p["time_decay_w2"].T
    for name in MIXED if dynamic else MIXED[1:]:
        layer[f"mix_{name}"] = of_last(p, name)
    layer.decay = p["time_decay"].reshape(-1)
    layer.bonus = p["time_faaaa"].reshape(layer.n_heads, -1)
    project(layer, p, {"r": "receptance", "k": "key", "v": "value", "g": "gate", "o": "output"})
    outputs = {"time_mix": layer(x, Context())}
    outputs["out"] = outputs["time_mix"]
    if "ffn.key.weight" in p:
        outputs["channel_mix"] = channel_mix(case)
    return outputs


def channel_mix(case: Case) -> mx.array:
    """Channel mixing, with or without a receptance."""
    p, x = case.params, case.inputs["x"]
    under = {name.removeprefix("ffn."): v for name, v in p.items() if name.startswith("ffn.")}
    under = under or p
    hidden, gated = under["key.weight"].shape[0], "receptance.weight" in under
    layer: ChannelMixingFfn = ChannelMixing(hidden_dim=hidden, receptance=gated).build(x.shape[-1])
    layer.mix_k = 1 - of_last(under, "k")
    layer.k.weight, layer.v.weight = under["key.weight"], under["value.weight"]
    if gated:
        layer.mix_r = 1 - of_last(under, "r")
        layer.r.weight = under["receptance.weight"]
    return layer(x, Context())


def time_mix_7(case: Case) -> Arrays:
    """Time mixing of RWKV-7, in the first layer or with the values of the first."""
    p, x = case.params, case.inputs["x"]
    first = next((v for k, v in case.inputs.items() if k.startswith("v_first")), None)
    later = first is not None and case.options.get("layer_id", 1) > 0
    ranks = {
        "decay_rank": p["w1"].shape[1],
        "rate_rank": p["a1"].shape[1],
        "gate_rank": p["g1"].shape[1],
        "value_rank": p["v1"].shape[1] if "v1" in p else 1,
    }
    head = case.options.get("head_size") or p["r_k"].shape[-1]
    layer = Rwkv7(head_dim=head, value_residual=later, **ranks).build(x.shape[-1])
    for name in "rwkvag":
        layer[f"mix_{name}"] = p[f"x_{name}"].reshape(-1)
    maps = {"w": layer.decay, "a": layer.rate, "g": layer.gate}
    for name, low in (maps | ({"v": layer.value} if later else {})).items():
        low.down.weight, low.up.weight = p[f"{name}1"].T, p[f"{name}2"].T
        if name != "g":
            low.offset = p[f"{name}0"].reshape(-1)
    layer.k_scale, layer.k_rate = p["k_k"].reshape(-1), p["k_a"].reshape(-1)
    layer.bonus = p["r_k"].reshape(layer.n_heads, -1)
    project(layer, p, {"r": "receptance", "k": "key", "v": "value", "o": "output"})
    ctx = Context(earlier={FIRST_VALUES: first} if later and first is not None else {})
    y = layer(x, ctx)
    return {"out": y, "v_first_out": ctx.earlier[FIRST_VALUES]}


def of_last(params: Arrays, name: str) -> mx.array:
    """The share of the last token: RWKV-6 stores it, RWKV-5 that of the current token."""
    if f"time_maa_{name}" in params:
        return params[f"time_maa_{name}"].reshape(-1)
    if f"time_mix_{name}" in params:
        return 1 - params[f"time_mix_{name}"].reshape(-1)
    return params[f"x_{name}"].reshape(-1)


def project(layer: object, params: Arrays, names: dict[str, str]) -> None:
    """Set the linear layers and the norm of a time mixing."""
    for own, name in names.items():
        layer[own].weight = params[f"{name}.weight"]  # type: ignore[index]
    norm = layer["norm"]  # type: ignore[index]
    norm.weight, norm.bias = params["ln_x.weight"], params["ln_x.bias"]


RULES = (
    Rule(r"Tmix_x070|RWKV-7 time mix", time_mix_7),
    Rule(r"Tmix_x05|Tmix_x06|RWKV-[56] time mix", time_mix_6),
    Rule(r"CMix_x0", lambda case: {"channel_mix": channel_mix(case), "out": channel_mix(case)}),
)
