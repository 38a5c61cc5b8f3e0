"""Group 6: adaptive and conditional depth."""

from collections.abc import Callable

import mlx.core as mx

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.ops.act import Halting
from mlx_transformers.ops.attention import attention
from mlx_transformers.ops.depth_routing import binary_cross_entropy, top_tokens
from mlx_transformers.ops.exits import confident, margin
from mlx_transformers.ops.masks import Mask
from mlx_transformers.ops.router_losses import entropy
from reference_groups.case import Arrays, Case, Rule


def universal(case: Case) -> Arrays:
    """`ACT_basic`: interpolated outputs, and no remainder for tokens that never halt."""
    inputs, params, options = case.inputs, case.params, case.options
    x, out = inputs["state"], mx.zeros_like(inputs["state"])
    halting = Halting.start(x.shape[:2])
    for step in range(options["max_hop"]):
        x = x + inputs["time_enc"][:, : x.shape[1]] + inputs["pos_enc"][:, step, None]
        p = mx.sigmoid(x @ params["p_w"][0] + params["p_b"])
        weight, halting = halting.step(p, options["threshold"])
        x = x + mx.tanh(x @ params["w1"]) @ params["w2"] + 0.3 * x.mean(axis=1, keepdims=True)
        out = weight[..., None] * x + (1 - weight[..., None]) * out
    return {
        "out": out,
        "remainders": halting.remainder,
        "n_updates": halting.updates.astype(mx.int64),
        "ponder_cost": halting.ponder().mean().reshape(1),
    }


def mixture_of_depths(case: Case) -> Arrays:
    """The router's tokens in training, and those of the predictor in inference."""
    x, params = case.inputs["x"], case.params
    B, T, D = x.shape
    scores = x @ params["router_w"][0] + params["router_b"]
    k = case.options.get("k") or int(case.options["capacity"] * T)
    slots = top_tokens(scores, k)
    rows = slots.gather(x).reshape(B, k, D)
    inner = _branch(case, rows, Mask())
    weighed = slots.combine(inner.reshape(1, B * k, D), scores[..., None])
    chosen = slots.kept()[..., 0]
    logits = mx.stop_gradient(x) @ params["aux_w"][0] + params["aux_b"]
    predicted = logits > 0
    alone = _branch(case, x, Mask(valid=predicted)) * scores[..., None]
    return {
        "out": x + weighed,
        "out_no_residual": mx.where(chosen[..., None], weighed, x),
        "selected": chosen.astype(mx.uint8),
        "aux_loss": binary_cross_entropy(logits, chosen).reshape(1),
        "eval_out": mx.where(predicted[..., None], x + alone, x),
        "eval_selected": predicted.astype(mx.uint8),
    }


def _branch(case: Case, x: mx.array, mask: Mask) -> mx.array:
    """The case's block without its outer residual connection: attention, then a network."""
    project: Callable[[str], mx.array] = lambda name: (x @ case.params[name])[:, None]  # noqa: E731
    scale = x.shape[-1] ** -0.5
    heads = attention(project("wq"), project("wk"), project("wv"), scale=scale, mask=mask)
    a = heads[:, 0] @ case.params["wo"]
    return a + mx.tanh((x + a) @ case.params["w1"]) @ case.params["w2"]


def exit_layer(confident: mx.array) -> mx.array:
    """The first layer at which each row is confident, `[L, ...]` to `[...]`; else the last."""
    n_layers = confident.shape[0]
    first = mx.argmax(confident.astype(mx.int32), axis=0)
    return mx.where(confident.any(axis=0), first, n_layers - 1)


def early_exit(case: Case) -> Arrays:
    """Measures of confidence at each layer, and the first layer that is confident."""
    logits = case.inputs["hidden"] @ case.params["head"].T
    probs = mx.softmax(logits, axis=-1)
    measure = case.options.get("measure", "entropy")
    sure = confident(logits, measure, case.options["threshold"])
    return {
        "entropy": entropy(probs),
        "margin": margin(probs),
        "max_prob": probs.max(axis=-1),
        "exit_layer": exit_layer(sure).astype(mx.int64),
    }


RULES = (
    Rule("ACT_basic|adaptive computation time", universal),
    Rule("MoDTransformerBlock|mixture of depths", mixture_of_depths),
    Rule("early exit", early_exit),
)
