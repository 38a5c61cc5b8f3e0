"""Group 4: gated linear attention and delta rules."""

import mlx.core as mx

from mlx_transformers.ops.attention import attention
from mlx_transformers.ops.delta_rule import delta_product, delta_rule
from mlx_transformers.ops.linear_attention import linear_attention
from mlx_transformers.ops.masks import Mask
from mlx_transformers.ops.slot_attention import slot_attention
from reference_groups.case import Arrays, Case, Rule


def heads_first(x: mx.array) -> mx.array:
    """`[B, T, H, ...]` as `[B, H, T, ...]`, and the other way round."""
    return x.swapaxes(1, 2)


def qkv(case: Case) -> list[mx.array]:
    """Queries, keys and values, heads first."""
    return [heads_first(case.inputs[name]) for name in "qkv"]


def scale_of(case: Case) -> float:
    """The factor of the output: `K^-0.5` unless the options say a number."""
    scale = case.options.get("scale")
    width: int = case.inputs["q"].shape[-1]
    return width**-0.5 if scale is None or str(scale).startswith("K") else float(scale)


def log_decay(case: Case, heads: int) -> mx.array | None:
    """Log-decays of `heads` heads, `[B, H, T]` or with features, from those of tokens or heads."""
    g = (case.inputs | case.params).get("g")
    if g is None:
        return None
    if g.ndim == 1:
        return mx.broadcast_to(g[None, :, None], (1, heads, case.inputs["q"].shape[1]))
    g = heads_first(g)
    return mx.repeat(g, heads // g.shape[1], axis=1)


def gated(case: Case) -> Arrays:
    """GLA or its simple form: a decay per feature, or per head."""
    q, k, v = qkv(case)
    out, last = linear_attention(
        q,
        k,
        v,
        log_decay(case, v.shape[1]),
        scale=scale_of(case),
        state=case.inputs.get("initial_state"),
    )
    return {"o": heads_first(out), "final_state": last}


def delta(case: Case) -> Arrays:
    """DeltaNet, and Gated DeltaNet or Kimi Delta Attention where there are log-decays."""
    q, k, v = qkv(case)
    beta = heads_first(case.inputs["beta"])
    if beta.ndim == 4:
        return delta_per_value(case, q, k, v, beta)
    out, last = delta_rule(
        q,
        k,
        v,
        mx.repeat(beta, v.shape[1] // beta.shape[1], axis=1),
        log_decay(case, v.shape[1]),
        scale=scale_of(case),
        state=case.inputs.get("initial_state"),
    )
    return {"o": heads_first(out), "final_state": last}


def delta_per_value(case: Case, q: mx.array, k: mx.array, v: mx.array, beta: mx.array) -> Arrays:
    """DeltaNet with a step size for each feature of the values: each is a head of width 1."""
    (B, H, T, V), group = v.shape, v.shape[1] // q.shape[1]

    def alone(x: mx.array) -> mx.array:  # [B, H, T, V] as [B, H V, T, 1]
        return x.swapaxes(2, 3).reshape(B, H * V, T, 1)

    q, k = (mx.repeat(x, group * V, axis=1) for x in (q, k))
    state = case.inputs.get("initial_state")
    if state is not None:
        state = state.swapaxes(2, 3).reshape(B, H * V, -1, 1)
    out, last = delta_rule(q, k, alone(v), alone(beta)[..., 0], scale=scale_of(case), state=state)
    out = out.reshape(B, H, V, T).swapaxes(2, 3)
    return {"o": heads_first(out), "final_state": last.reshape(B, H, V, -1).swapaxes(2, 3)}


def corrections(case: Case) -> Arrays:
    """Gated DeltaProduct: several corrections per token, after one decay."""
    q, k, v = qkv(case)
    out, last = delta_product(
        q,
        k,
        v,
        heads_first(case.inputs["beta"]),
        log_decay(case, v.shape[1]),
        scale=float(case.options.get("scale") or 1.0),
        state=case.inputs.get("initial_state"),
    )
    return {"o": heads_first(out), "final_state": last}


def forgetting(case: Case) -> Arrays:
    """Softmax attention whose scores fade with the gates between key and query."""
    q, k, v = qkv(case)
    sums = mx.cumsum(heads_first(case.inputs["g"]), axis=2)
    mask = Mask(causal=True, window=case.options.get("window"))
    bias = sums[..., :, None] - sums[..., None, :]
    scale = float(case.options.get("scale") or q.shape[-1] ** -0.5)
    return {"o": heads_first(attention(q, k, v, scale=scale, mask=mask, bias=bias))}


def slots(case: Case) -> Arrays:
    """Gated slot attention; states of keys are `[B, H, K, slots]` there, of heads of keys.

    Without decays the strengths are scores, normalised by the sum of their exponentials so far.
    """
    q, k, v = qkv(case)
    group = q.shape[1] // k.shape[1]
    strength = heads_first(case.inputs["s"])
    if "g" in case.inputs:
        decay = heads_first(case.inputs["g"])
    else:
        total = mx.logcumsumexp(strength, axis=2)
        decay = mx.concatenate([total[:, :, :1], total[:, :, :-1]], axis=2) - total
        strength = mx.exp(strength - total)
    k, v, strength, decay = (mx.repeat(x, group, axis=1) for x in (k, v, strength, decay))
    first = case.inputs.get("k0"), case.inputs.get("v0")
    state = None
    if first[0] is not None and first[1] is not None:
        state = tuple(
            mx.repeat(x, q.shape[1] // x.shape[1], axis=1)
            for x in (first[0].swapaxes(2, 3), first[1])
        )
    out, (keys, values) = slot_attention(
        q, k, v, strength, decay, scale=scale_of(case), state=state
    )
    return {
        "o": heads_first(out),
        "k_state": keys.swapaxes(2, 3)[:, ::group],
        "v_state": values[:, ::group],
    }


RULES = (
    Rule(r"ops\.gsa\.", slots),
    Rule(r"ops\.(simple_)?gla\.", gated),
    Rule(r"ops\.(gated_delta_rule|delta_rule|kda)\.", delta),
    Rule(r"gated_delta_product", corrections),
    Rule(r"forgetting_attn", forgetting),
)
