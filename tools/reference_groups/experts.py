"""Group 5: routers and experts."""

import mlx.core as mx
from mlx.utils import tree_unflatten

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.core.context import Context, Layout
from mlx_transformers.layers.ffns.glu import Glu
from mlx_transformers.layers.ffns.mlp import Mlp
from mlx_transformers.layers.ffns.soft_moe import SoftMoe
from mlx_transformers.layers.norms import LayerNorm, RmsNorm
from mlx_transformers.layers.routers.sigmoid import Sigmoid
from mlx_transformers.ops.expert_slots import Slots, expert_capacity, expert_choice, token_choice
from mlx_transformers.ops.router_losses import (
    balance_loss,
    balance_over_layers,
    marked,
    token_mean,
    z_loss,
)
from mlx_transformers.ops.second_choices import keep_choices, normalised
from reference_groups.case import Arrays, Case, Rule

MESH_MINIMUM = 4
"""Fewest slots of an expert in mesh and st-moe-pytorch."""


def second_place_loss(second: mx.array, probs: mx.array, first: mx.array) -> mx.array:
    """Half the balance loss of second choices, whose probabilities leave the first choice out.

    `moe_use_second_place_loss` of tensor2tensor and mesh.

    Args:
        second, first: `[..., T, E]`, 1 at a token's second or first choice.
        probs: `[..., T, E]`.
    """
    rest = probs * (1.0 - first)
    return 0.5 * balance_loss(second, rest / (rest.sum(axis=-1, keepdims=True) + 1e-9))


def combined(slots: Slots, choice: mx.array, gates: mx.array, n_experts: int) -> mx.array:
    """The gates of kept choices over all experts, `[G, T, E]`."""
    kept = mx.where(slots.kept(), gates, 0.0)
    return (kept[..., None] * (choice[..., None] == mx.arange(n_experts))).sum(axis=-2)


def rectified(case: Case, slots: Slots, gates: mx.array) -> Arrays:
    """`y = Σ gate · relu(x w1_e) w2_e`, where the case has experts."""
    if "w1" not in case.params:
        return {}
    rows = slots.gather(case.inputs["x"])
    hidden = mx.maximum(slots.linear(rows, case.params["w1"].swapaxes(1, 2)), 0)
    out = slots.linear(hidden, case.params["w2"].swapaxes(1, 2))
    return {"y": slots.combine(out, gates)}


def best(probs: mx.array, k: int) -> tuple[mx.array, mx.array]:
    """The k largest probabilities, the best first, and their experts."""
    choice = mx.argsort(-mx.stop_gradient(probs), axis=-1)[..., :k]
    return mx.take_along_axis(probs, choice, axis=-1), choice


def integers(x: mx.array) -> mx.array:
    return x.astype(mx.int64)


def switch(case: Case) -> Arrays:
    """`_switch_gating` of mesh: padding (importance 0) is neither routed nor counted."""
    logits, n_experts = case.inputs["logits"], case.options["experts"]
    importance = case.inputs.get("importance")
    probs = mx.softmax(logits, axis=-1)
    gates, choice = best(probs, 1)
    real = mx.ones(logits.shape[:2])
    if importance is not None:
        real = mx.stop_gradient((importance == 1).astype(mx.float32))
    slots = token_choice(choice, real[..., None] > 0, n_experts, case.options["capacity"])
    counted = real[..., None]
    balance = balance_loss(marked(choice, n_experts) * counted, probs * counted)
    return {
        "slots": integers(slots.token),
        "combine": combined(slots, choice, gates, n_experts),
        "kept": slots.kept()[..., 0].astype(mx.uint8),
        "balance_loss": balance.reshape(1),
        "z_loss": z_loss(logits, real).reshape(1),
        **rectified(case, slots, gates),
    }


def top_2(case: Case) -> Arrays:
    """`_top_2_gating` of mesh; importance between 0 and 1 asks for the second slot alone."""
    options, logits = case.options, case.inputs["logits"]
    n_experts, importance = options["experts"], case.inputs.get("importance")
    full = mx.ones(logits.shape[:2]) if importance is None else (importance == 1).astype(mx.float32)
    some = full if importance is None else (importance > 0).astype(mx.float32)
    probs = mx.softmax(logits, axis=-1)
    first_gate, first = best(probs, 1)
    chosen = marked(first, n_experts) * full[..., None]
    second_gate, second = best(probs * (1 - chosen), 1)
    gates = mx.concatenate([first_gate * full[..., None], second_gate], axis=-1)
    choice = mx.concatenate([first, second], axis=-1)
    gates = normalised(gates)
    balance = balance_loss(chosen, probs * full[..., None])
    if options.get("second_place_loss"):
        taken = marked(second, n_experts) * some[..., None]
        balance = balance + second_place_loss(taken, probs, chosen)
    uniform = case.inputs.get("uniform")
    kept = keep_choices(
        mx.stop_gradient(gates),
        options.get("policy", "all"),
        options.get("threshold", 0.2),
        None if uniform is None else mx.stack([mx.zeros_like(uniform), uniform], axis=-1),
    )
    routed = kept & (mx.stack([full, some], axis=-1) > 0)
    slots = token_choice(choice, routed, n_experts, options["capacity"])
    return {
        "slots": integers(slots.token),
        "combine": combined(slots, choice, gates, n_experts),
        "balance_loss": balance.reshape(1),
        **rectified(case, slots, gates),
    }


def choosing_experts(case: Case) -> Arrays:
    """`ExpertsChooseMaskedRouter` of flaxformer: padding has score 0, and may still be chosen."""
    probs = mx.softmax(case.inputs["logits"], axis=-1)
    padding = case.inputs.get("padding_mask")
    if padding is not None:
        probs = probs * padding.astype(mx.float32)[..., None]
    slots = expert_choice(probs, case.options["capacity"])
    return {
        "chosen": integers(slots.token),
        "combine": mx.where(slots.kept(), probs, 0.0),
        "experts_per_token": integers(slots.kept().sum(axis=-1)),
        **rectified(case, slots, probs),
    }


def choosing_tokens(case: Case) -> Arrays:
    """`TokensChooseMaskedRouter` of flaxformer."""
    options, probs = case.options, mx.softmax(case.inputs["logits"], axis=-1)
    n_experts, padding = options["experts"], case.inputs.get("padding_mask")
    gates, choice = best(probs, options["k"])
    real = mx.ones(probs.shape[:2]) if padding is None else padding.astype(mx.float32)
    counted = real[..., None]
    routed = mx.broadcast_to(counted > 0, gates.shape)
    first = gates[..., 0] * real if options.get("prioritised") else None
    slots = token_choice(choice, routed, n_experts, options["capacity"], first)
    balance = balance_loss(marked(choice, n_experts) * counted, probs * counted)
    return {
        "slots": integers(slots.token),
        "combine": combined(slots, choice, gates, n_experts),
        "balance_loss": balance.reshape(1),
        **rectified(case, slots, gates),
    }


def st_moe(case: Case) -> Arrays:
    """`TopNGating` of st-moe-pytorch; its balance loss counts the first choices that it kept."""
    options, x = case.options, case.inputs["x"]
    n_experts, k = options["experts"], options["top_n"]
    logits = x @ case.params["to_gates"].T
    probs = mx.softmax(logits, axis=-1)
    gates, choice = best(probs, k)
    gates = normalised(gates)
    thresholds = options["threshold"]
    given = [thresholds] * (k - 1) if isinstance(thresholds, int | float) else thresholds
    uniform = case.inputs["uniform"].transpose(1, 2, 0)
    levels = mx.array([1e-9, *given])
    routed = keep_choices(mx.stop_gradient(gates), "random", levels, uniform)
    capacity = expert_capacity(
        x.shape[1], n_experts, options["capacity_factor"], minimum=MESH_MINIMUM
    )
    slots = token_choice(choice, routed, n_experts, capacity)
    outputs = {
        "slots": integers(slots.token),
        "combine": combined(slots, choice, gates, n_experts),
    }
    if not options.get("training", True):
        return outputs | {name: mx.zeros(1) for name in LOSSES}
    first = marked(choice[..., :1], n_experts)
    kept = first * slots.kept()[..., :1]
    losses = (balance_loss(kept, probs), z_loss(logits), balance_loss(first, probs))
    return outputs | dict(zip(LOSSES, (each.reshape(1) for each in losses), strict=True))


LOSSES = ("balance_loss", "z_loss", "balance_loss_before_cut")


def fairscale(case: Case) -> Arrays:
    """`top2gating` of fairscale and torchscale: one group; padding counts in P, but not in f."""
    options, logits = case.options, case.inputs["logits"]
    tokens, n_experts = logits.shape
    probs = mx.softmax(logits, axis=-1)
    first = mx.argmax(mx.stop_gradient(probs), axis=-1, keepdims=True)
    noisy = logits + case.inputs["gumbel"] if "gumbel" in case.inputs else logits
    noisy = mx.stop_gradient(noisy)
    rest = mx.where(marked(first, n_experts) > 0, -mx.inf, noisy)
    choice = mx.concatenate([first, mx.argmax(rest, axis=-1, keepdims=True)], axis=-1)
    gates = mx.take_along_axis(probs, choice, axis=-1)
    before = options.get("normalize_before_dropping")
    gates = normalised(gates) if before else gates
    routed = mx.ones(gates.shape, mx.bool_)
    if options.get("policy") == "random":
        uniform = case.inputs["uniform"].reshape(-1, 1)
        random = mx.concatenate([mx.zeros_like(uniform), uniform], axis=-1)
        routed = keep_choices(mx.stop_gradient(gates), "random", 0.5, random)
    real = mx.ones((tokens,))
    if "padding" in case.inputs:
        real = 1.0 - case.inputs["padding"].astype(mx.float32)
        routed = routed & (real[:, None] > 0)
    priority = probs.max(axis=-1)[None] if options.get("batch_prioritized") else None
    slots = token_choice(choice[None], routed[None], n_experts, fairscale_slots(case), priority)
    kept = mx.where(slots.kept()[0], gates, 0.0)
    gates = kept if before else normalised(kept, 1.2e-7)
    balance = balance_loss(marked(choice[:, :1], n_experts) * real[:, None], probs)
    return {
        "slots": integers(slots.token[0]),
        "combine": combined(slots, choice[None], gates[None], n_experts)[0],
        "balance_loss": balance.reshape(1),
    }


def fairscale_slots(case: Case) -> int:
    """The slots of an expert: `2 ceil(T / E)`, or a share of all tokens in evaluation."""
    options, (tokens, n_experts) = case.options, case.inputs["logits"].shape
    if "capacity" in options:
        return int(options["capacity"])
    share = options.get("eval_capacity_fraction") or 0
    if share > 0 and not options.get("training", False):
        return expert_capacity(tokens, n_experts, share * n_experts, rounding="up")
    return expert_capacity(tokens, n_experts, 2.0, rounding="even_share")


def deepseek(case: Case) -> Arrays:
    """`Gate` of DeepSeek-V3 and V2: sigmoid scores or a softmax, in groups, with a bias or none.

    Groups are compared by their two best scores where there is a bias, else by their best.
    """
    options, params = case.options, case.params
    sigmoid = "sigmoid" in case.function.lower() or options.get("score_func") == "sigmoid"
    groups = options.get("groups") or 1
    limits = {}
    if groups > 1:
        limits = {"n_groups": groups, "top_groups": options["topk_groups"]}
    config = Sigmoid(
        top_k=options["k"],
        normalize=sigmoid,
        scale=float(options.get("route_scale", 1.0)),
        scores="sigmoid" if sigmoid else "softmax",
        **limits,
    )
    router = config.build(params["weight"].shape[1], params["weight"].shape[0])
    router.gate.weight = params["weight"]
    if "bias" in params:
        router.balance = params["bias"]
        gates, choice = router(case.inputs["x"], Context())
    else:
        scores = router.scores(case.inputs["x"])
        choice = config.choose(scores, by="best")
        gates = config.gates(scores, choice)
    dense = (gates[..., None] * (choice[..., None] == mx.arange(router.n_experts))).sum(axis=-2)
    return {"weights_dense": dense, "chosen": integers(mx.sort(choice, axis=-1))}


def losses(case: Case) -> Arrays:
    """The balance losses of Mixtral and Switch in transformers, and the z loss."""
    logits, k = case.inputs["logits"], case.options["k"]
    n_experts, probs = logits.shape[-1], mx.softmax(logits, axis=-1)
    chosen = marked(best(probs, k)[1], n_experts)
    layers = mx.stack([token_mean(chosen), token_mean(probs), mx.ones((len(logits), n_experts))])
    found = {
        "mixtral": balance_over_layers(layers.sum(axis=1)),
        "switch_topk": balance_loss(chosen, probs),
        "switch_top1": balance_loss(marked(best(probs, 1)[1], n_experts), probs),
        "z": z_loss(logits),
    }
    return {name: value.reshape(1) for name, value in found.items()}


def capacities(case: Case) -> Arrays:
    """The published formulas of the expert capacity, row by row."""
    names = ("tokens", "experts", "factor")
    rows = list(zip(*(case.inputs[name].tolist() for name in names), strict=True))
    rows = [(tokens, experts, round(factor, 6)) for tokens, experts, factor in rows]
    mesh = [expert_capacity(*row, minimum=MESH_MINIMUM) for row in rows]
    found = {
        "mesh_top2": mesh,
        "st_moe": mesh,
        "fairscale_top1": [expert_capacity(*row, rounding="even_share", minimum=0) for row in rows],
        "fairscale_top2": [expert_capacity(*row[:2], 2.0, rounding="even_share") for row in rows],
    }
    exact = mx.array([tokens / experts * factor for tokens, experts, factor in rows])
    return {name: mx.array(v, dtype=mx.int64) for name, v in found.items()} | {
        "switch_paper": exact
    }


def soft(case: Case) -> Arrays:
    """`SoftMoE` of soft-moe-pytorch: normalised tokens are mixed."""
    options, params, x = case.options, case.params, case.inputs["x"]
    names = [name for name in params if name.startswith("experts.experts.")]
    dim, n_experts = x.shape[-1], options["experts"]
    norm = LayerNorm(bias=False) if options.get("layernorm") else RmsNorm(eps=1e-24)
    numbers = sorted({int(name.split(".")[3]) for name in names})
    up, down = (_stacked(case, n_experts, number) for number in (numbers[0], numbers[-1]))
    weights = {"down.weight": down["weight"], "down.bias": down["bias"]}
    width, gelu = down["weight"].shape[-1], "gelu"
    expert: Mlp | Glu = Mlp(hidden_dim=width, activation=gelu, bias=True)
    if options.get("geglu"):
        expert = Glu(hidden_dim=width, activation=gelu, bias=True)
        for kind in ("weight", "bias"):
            weights[f"up.{kind}"], weights[f"gate.{kind}"] = mx.split(up[kind], 2, axis=1)
    else:
        weights |= {"up.weight": up["weight"], "up.bias": up["bias"]}
    layer = SoftMoe(
        n_experts=n_experts, slots=options["slots"], expert=expert, norm=norm, reads_normed=True
    ).build(dim)
    layer.update(tree_unflatten([(f"experts.{name}", value) for name, value in weights.items()]))
    layer.slots = params["slot_embeds"]
    layer.norm.weight, layer.slot_norm.weight = params["norm.gamma"], params["slot_norm.gamma"]
    valid = case.inputs.get("mask")
    layout = Layout(valid=None if valid is None else valid.astype(mx.bool_))
    return {"out": layer(x, Context(layout))}


def _stacked(case: Case, n_experts: int, number: int) -> Arrays:
    """The weights of linear layer `number` of all experts, stacked."""
    name = "experts.experts.{}." + str(number) + ".{}"
    return {
        kind: mx.stack([case.params[name.format(e, kind)] for e in range(n_experts)])
        for kind in ("weight", "bias")
    }


RULES = (
    Rule("_switch_gating", switch),
    Rule("_top_2_gating", top_2),
    Rule("ExpertsChoose|expert choice", choosing_experts),
    Rule("TokensChoose", choosing_tokens),
    Rule("TopNGating \\(|ST-MoE top", st_moe),
    Rule("top2gating", fairscale),
    Rule("Gate.*DeepSeek|model\\.py Gate", deepseek),
    Rule("load_balancing_loss_func", losses),
    Rule("capacity by published", capacities),
    Rule("SoftMoE", soft),
)
