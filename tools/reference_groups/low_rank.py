"""Group 2: hashing, low rank and kernels in the place of softmax attention."""

import math

import mlx.core as mx

from mlx_transformers.ops.activations import ACTIVATIONS
from mlx_transformers.ops.linear_attention import (
    cosine_features,
    elu_plus_one,
    normalised_linear_attention,
    taylor_features,
)
from mlx_transformers.ops.linear_attention import linear_attention as recurrence
from mlx_transformers.ops.linformer import linformer_attention
from mlx_transformers.ops.lsh import LshPattern, hash_buckets, lsh_attention
from mlx_transformers.ops.nystrom import depthwise_conv, nystrom_attention
from mlx_transformers.ops.random_features import generalized_features, softmax_features
from reference_groups.case import Arrays, Case, Rule


def heads_first(x: mx.array) -> mx.array:
    """`[B, T, H, K]` as `[B, H, T, K]`, and the other way round."""
    return x.swapaxes(1, 2)


def split(x: mx.array, n_heads: int) -> mx.array:
    """`[B, T, H * K]` as `[B, H, T, K]`."""
    return heads_first(x.reshape(*x.shape[:2], n_heads, -1))


def merge(x: mx.array) -> mx.array:
    """`[B, H, T, K]` as `[B, T, H * K]`."""
    return heads_first(x).flatten(2)


def linear_attention(case: Case) -> Arrays:
    """Attention by `elu + 1`; a causal one also has the sums after the last token."""
    q, k, v = (heads_first(case.inputs[name]) for name in "qkv")
    mask, causal = case.inputs.get("key_mask"), bool(case.options.get("causal"))
    valid = None if mask is None else mask.astype(mx.bool_)
    eps = case.options.get("eps", 1e-6)
    out, last = normalised_linear_attention(
        elu_plus_one(q), elu_plus_one(k), v, eps=eps, causal=causal, valid=valid
    )
    if not causal:
        return {"out": heads_first(out)}
    return {"out": heads_first(out), "final_kv": last[..., :-1], "final_k_sum": last[..., -1]}


def based(case: Case) -> Arrays:
    """Linear attention by the Taylor series of the exponential, with or without its normaliser."""
    q, k, v = (case.inputs[name] for name in "qkv")
    scale = case.options.get("scale")
    q = q if scale is None else q * (scale * q.shape[-1] ** 0.5)
    features = taylor_features(q), taylor_features(k), v
    if case.options.get("normalised", True):
        eps = case.options.get("eps", 1e-6)
        return {"o": normalised_linear_attention(*features, eps=eps)[0]}
    return {"o": recurrence(*features, scale=1.0)[0]}


def cosformer(case: Case) -> Arrays:
    """cosFormer's attention with its projections; its rows come first in time."""
    w, options, query = case.params, case.options, case.inputs["query"]
    key = case.inputs.get("key", case.inputs.get("kv", query))
    value = case.inputs.get("value", key)
    causal, longest = bool(options.get("causal")), max(query.shape[0], key.shape[0])
    act = elu_plus_one if options.get("act") == "elu" else ACTIVATIONS["relu"]

    def projected(x: mx.array, name: str) -> mx.array:
        y = x.swapaxes(0, 1) @ w[f"{name}_proj.weight"].T
        return split(y + w.get(f"{name}_proj.bias", mx.array(0.0)), options["heads"])

    def features(x: mx.array, name: str) -> mx.array:
        angle = mx.arange(1, x.shape[0] + 1) * (0.5 * math.pi / longest)
        return cosine_features(act(projected(x, name)), angle)

    q, k = features(query, "q"), features(key, "k")
    sums = mx.cumsum(k, axis=2) if causal else k.sum(axis=2, keepdims=True)
    # the published code holds the normaliser at 1e-6 or above, and adds nothing to it
    short = mx.maximum(1e-6 - (q * sums).sum(axis=-1, keepdims=True), 0.0)
    y = merge(normalised_linear_attention(q, k, projected(value, "v"), eps=short, causal=causal)[0])
    if "out_proj.weight" in w:
        y = y @ w["out_proj.weight"].T + w.get("out_proj.bias", mx.array(0.0))
    return {"out": y.swapaxes(0, 1)}


def linformer(case: Case) -> Arrays:
    """Self-attention over keys and values that are projected along time."""
    w, x, heads = case.params, case.inputs["x"], case.options["heads"]
    memory = case.inputs.get("context", x)
    e, f = w["proj_k"], w.get("proj_v", w["proj_k"])
    keys = memory @ w["to_k"].T
    values = memory @ w["to_v"].T if "to_v" in w else keys
    q = split(x @ w["to_q"].T, heads)
    shared = 1 if case.options.get("one_kv_head") else heads
    y = linformer_attention(
        q, split(keys, shared), split(values, shared), e.T, f.T, scale=q.shape[-1] ** -0.5
    )
    return {"out": merge(y) @ w["out_w"].T + w["out_b"]}


def lsh(case: Case) -> Arrays:
    """Reformer's attention with given rotations."""
    qk, v, options = case.inputs["qk"], case.inputs["v"], case.options
    if "input_attn_mask" in case.inputs:
        raise LookupError("input_attn_mask, a mask of pairs, is not built: use input_mask.")
    n_buckets = qk.shape[1] // options["bucket_size"]
    rotations = mx.stop_gradient(case.inputs["rotations"])
    if options.get("rehash_each_round", True):
        buckets = hash_buckets(qk, rotations, [n_buckets])
    else:  # one hash, whose best buckets are the rounds, the best one last
        turned = mx.stop_gradient(qk) @ rotations[:, 0]
        order = mx.argsort(mx.concatenate([turned, -turned], axis=-1), axis=-1)
        buckets = order[..., -options["n_hashes"] :].swapaxes(1, 2).astype(mx.int32)
    mask = next((m for name, m in case.inputs.items() if "mask" in name), None)

    pattern = LshPattern(
        options["bucket_size"],
        causal=options.get("causal", False),
        across_buckets=options.get("attend_across_buckets", True),
        duplicates=options.get("allow_duplicate_attention", True),
    )
    valid, scale = None if mask is None else mask.astype(mx.bool_), qk.shape[-1] ** -0.5

    def attend(values: mx.array) -> mx.array:
        return lsh_attention(qk, values, buckets, pattern, scale=scale, valid=valid)

    every = mx.broadcast_to(mx.eye(qk.shape[1]), (*qk.shape[:2], qk.shape[1]))
    rounds = mx.arange(buckets.shape[1])[:, None] * n_buckets
    return {"out": attend(v), "attention": attend(every), "buckets": buckets + rounds}


def nystrom(case: Case) -> Arrays:
    """Nyström attention with its convolution of the values."""
    w, x, options = case.params, case.inputs["x"], case.options
    q, k, v = (split(y, options["heads"]) for y in mx.split(x @ w["to_qkv"].T, 3, axis=-1))
    mask = next((m for name, m in case.inputs.items() if "mask" in name), None)
    valid = None if mask is None else mask.astype(mx.bool_)
    y = nystrom_attention(
        q,
        k,
        v,
        n_landmarks=options["landmarks"],
        iterations=options.get("pinv_iterations", 6),
        scale=q.shape[-1] ** -0.5,
        valid=valid,
        start="batch",
    )
    if "res_conv" in w:
        real = v if valid is None else mx.where(valid[:, None, :, None], v, 0.0)
        y = y + depthwise_conv(real, w["res_conv"].flatten(1))
    y = merge(y) @ w["out_w"].T
    return {"out": y + w["out_b"] if "out_b" in w else y}


def performer(case: Case) -> Arrays:
    """FAVOR+ with a given projection, and the gradients of the package, which stops its maxima."""

    def run(arrays: Arrays, through: bool) -> Arrays:
        q, k = (_features(case, arrays, name, through) for name in "qk")
        causal = bool(case.options.get("causal"))
        # the package adds 1e-6 to each feature of the summed keys where it is causal
        eps = 1e-6 * q.sum(axis=-1, keepdims=True) if causal else 0.0
        out, _ = normalised_linear_attention(q, k, arrays["v"], eps=eps, causal=causal)
        return {"out": out, "q_features": q, "k_features": k}

    outputs = run(case.inputs, through=True)
    wanted = [name for name in "qkv" if case.expects(f"grad_detached.{name}")]
    if not wanted:
        return outputs

    def loss(arrays: Arrays) -> mx.array:
        found = run(case.inputs | arrays, through=False)
        return sum((mx.sum(c * found[name]) for name, c in case.cotangents.items()), mx.array(0.0))

    grads = mx.grad(loss)({name: mx.stop_gradient(case.inputs[name]) for name in wanted})
    return outputs | {f"grad_detached.{name}": grads[name] for name in wanted}


def _features(case: Case, arrays: Arrays, name: str, through: bool) -> mx.array:
    x, projection, eps = arrays[name], arrays.get("projection"), case.options.get("eps")
    kernel = case.options.get("kernel", "softmax")
    if case.options.get("no_projection") or kernel == "no_projection":
        # normalised exponentials (Shen et al. 2018), of keys over time unless it is causal
        if name == "k" and case.options.get("causal"):
            return mx.exp(x)
        return mx.softmax(x, axis=-1 if name == "q" else -2)
    if kernel == "softmax":
        assert projection is not None
        return softmax_features(
            x,
            projection,
            eps=1e-4 if eps is None else eps,
            maximum="features" if name == "q" else "positions",
            through_maximum=through,
        )
    name = case.options.get("kernel_fn", "relu" if kernel.startswith("generali") else kernel)
    activation = {**ACTIVATIONS, "exp": mx.exp, "elu": elu_plus_one}[name.lower()]
    eps = case.options.get("kernel_epsilon", 1e-3) if eps is None else eps
    return generalized_features(x, projection, activation, eps=eps)


RULES = (
    Rule(r"ops\.based\.", based),
    Rule(r"LinearAttention\b", linear_attention),
    Rule(r"CosformerAttention", cosformer),
    Rule(r"LinformerSelfAttention", linformer),
    Rule(r"LSHAttention", lsh),
    Rule(r"NystromAttention", nystrom),
    Rule(r"softmax_kernel|generalized_kernel|FAVOR", performer),
)
