"""Of groups 2 to 5: attention free transformers, H3, Hyena, product keys, and TTT."""

import mlx.core as mx
from reference_ops.hyena import decay_window, hyena, long_convolution
from reference_ops.ttt import ttt_linear

from mlx_transformers.ops.attention_free import attention_free
from mlx_transformers.ops.lookup import lookup
from mlx_transformers.ops.norms import layer_norm
from mlx_transformers.ops.product_keys import best_keys
from mlx_transformers.ops.short_conv import short_convolution
from reference_groups.case import Arrays, Case, Rule


def linear(p: Arrays, name: str, x: mx.array) -> mx.array:
    y = x @ p[f"{name}.weight"].T
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def attention_free_transformer(case: Case) -> Arrays:
    """Full, with biases of low rank, and simple; local: no bias from `window` positions on."""
    q, k, v = (case.inputs[name].swapaxes(1, 2) for name in "qkv")
    index = mx.arange(q.shape[2])
    seen = index[:, None] >= index if case.options.get("causal") else None
    full = case.params.get("bias")
    if full is None and "u" in case.params:
        full = case.params["u"] @ case.params["w"].T
    found = {}
    for name in case.cotangents:
        bias = mx.zeros(index.shape * 2) if name == "simple" or full is None else full
        if name == "local":
            near = mx.abs(index[:, None] - index) < case.options["window"]
            bias = mx.where(near, bias, 0.0)
        out = mx.sigmoid(q) * attention_free(k, v, bias[None], seen)
        found[name] = out.swapaxes(1, 2)
    return found


def h3(case: Case) -> Arrays:
    p, u, width = case.params, case.inputs["u"], case.options["head_dim"]
    B, T, D = u.shape
    q, k, v = (linear(p, f"{name}_proj", u) for name in "qkv")
    c = p["ssm_k_kernel.C"][0]
    # a B that isn't learned is the first unit vector
    b = p.get("ssm_k_kernel.B", mx.broadcast_to(mx.arange(c.shape[1]) == 0, c.shape))
    shift = mx.stack([(c[:, s:] * b[:, : c.shape[1] - s]).sum(axis=1) for s in range(c.shape[1])])
    k = short_convolution(k, shift.T[:, ::-1]) + p["ssm_k_D"] * k
    q, k, v = (x.reshape(B, T, D // width, width).transpose(0, 3, 2, 1) for x in (q, k, v))
    pairs = k[:, :, None] * v[:, None]
    mixed = long_convolution(pairs, p["kernel.k"]) + p["D"][:, None] * pairs
    y = (q[:, :, None] * mixed).sum(axis=1)
    return {"y": linear(p, "output_linear", y.reshape(B, D, T).swapaxes(1, 2))}


def hyena_operator(case: Case) -> Arrays:
    p, u, options = case.params, case.inputs["u"], case.options
    (_, T, D), order, longest = u.shape, options["order"], options["l_max"]
    x = linear(p, "in_proj", u)
    x = short_convolution(x, p["short_filter.weight"][:, 0]) + p["short_filter.bias"]
    T = min(T, longest)
    x = x[:, :T]
    *gates, v = mx.split(x, order + 1, axis=-1)
    h = p["filter_fn.pos_emb.z"][0, :T]
    layers = sorted({int(name.split(".")[2]) for name in p if ".implicit_filter." in name})
    weights = [i for i in layers if f"filter_fn.implicit_filter.{i}.weight" in p]
    for i in weights:
        h = linear(p, f"filter_fn.implicit_filter.{i}", h)
        if i != weights[-1]:
            h = mx.sin(p["filter_fn.implicit_filter.1.freq"][0] * h)
    if options.get("modulate", True):
        window = decay_window(T, longest, D * (order - 1), options.get("shift", 0.0))
        h = h * window
    if options.get("normalized"):
        h = h / mx.abs(h).sum(axis=-1, keepdims=True)
    filters = h.T.reshape(order - 1, D, T)
    skips = p["filter_fn.bias"].reshape(order - 1, D)
    return {"y": linear(p, "out_proj", hyena(gates, v, filters, skips))}


def product_keys(case: Case) -> Arrays:
    p, x, options = case.params, case.inputs["x"], case.options
    heads, _, _, width = p["keys"].shape
    if "pre_layernorm.weight" in p:
        x = layer_norm(x, p["pre_layernorm.weight"], p["pre_layernorm.bias"], 1e-5)
    q = linear(p, "to_queries", x).reshape(*x.shape[:2], 2, heads, width)
    if "norm.weight" in p:
        q = layer_norm(q, p["norm.weight"], p["norm.bias"], 1e-5)
    scores = [(q[:, :, half, :, None] * p["keys"][:, :, half]).sum(axis=-1) for half in range(2)]
    best, rows = best_keys(*scores, options["topk"])
    values = lookup(p["values.weight"], rows.flatten(-2))
    weights = mx.maximum(best, 0) if options.get("non_competitive_gates") else mx.softmax(best, -1)
    combine = next((w for name, w in p.items() if name.startswith("maybe_concat_combine")), None)
    if combine is None:
        out = (weights.flatten(-2)[..., None] * values).sum(axis=-2)
    else:
        # the published code leaves the weights out where it combines the sums of heads
        sums = values.reshape(*x.shape[:2], heads, -1, width).sum(axis=-2)
        out = sums.flatten(-2) @ combine.T
    if "output_norm.weight" in p:
        out = layer_norm(out, p["output_norm.weight"], p["output_norm.bias"], 1e-5)
    return {"out": out}


def ttt(case: Case) -> Arrays:
    arrays, options = case.inputs | case.params, case.options
    q, scale = arrays["q"], options.get("scale")
    scale = q.shape[-1] ** -0.5 if scale is None or isinstance(scale, str) else scale
    B, H, _, K = q.shape
    start = arrays.get("initial_state", mx.zeros((B, H, K, K)))
    start_bias = arrays.get("initial_state_bias", mx.zeros((B, H, 1, K)))
    o, (h, hb) = ttt_linear(
        q * scale,
        *(arrays[name] for name in ("k", "v", "eta", "w", "b")),
        (start, start_bias),
        batch=options["mini_batch"],
        eps=options.get("eps", 1e-6),
    )
    return {"o": o, "h": h, "hb": hb}


RULES = (
    Rule(r"AFTSimple|attention free transformer", attention_free_transformer),
    Rule(r"h3\.py H3", h3),
    Rule(r"HyenaOperator", hyena_operator),
    Rule(r"\bPKM\b", product_keys),
    Rule(r"ttt_linear", ttt),
)
