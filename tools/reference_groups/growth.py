"""Group 10: dynamic sparse training, Net2Net and sparse upcycling."""

import mlx.core as mx
from mlx.utils import tree_unflatten

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.core.context import Context
from mlx_transformers.layers.ffns.mlp import Mlp
from mlx_transformers.layers.ffns.moe import Moe, MoeFfn
from mlx_transformers.layers.routers.top_k import TopK
from mlx_transformers.ops.growth import expert_copies, widen_in, widen_out
from mlx_transformers.ops.sparse_training import drop_and_grow, update_fraction
from reference_groups.case import Arrays, Case, Rule


def rigl(case: Case) -> Arrays:
    """One update of RigL, and its cosine schedule over the run."""
    o, inputs = case.options, case.inputs
    end, alpha = o["T_end"], o["alpha"]
    fraction = update_fraction(mx.array(o["step"]), end, alpha)
    weight, mask = drop_and_grow(inputs["weight"], inputs["mask"], inputs["score_grow"], fraction)
    steps = inputs.get("steps", mx.arange(11, dtype=mx.int64) * end // 10)
    return {
        "new_mask": mask.astype(mx.uint8),
        "new_weight": weight,
        "steps": steps,
        "drop_fraction": update_fraction(steps, end, alpha),
        "drop_fraction_here": fraction.reshape(1),
    }


def identity(dim: int) -> tuple[mx.array, mx.array]:
    """Weight and bias of the layer that changes nothing; after relu it stays exact."""
    return mx.eye(dim), mx.zeros(dim)


def net2net(case: Case) -> Arrays:
    """A network of three layers with relu, wider by the mapping, and deeper by an identity."""
    p, mapping = case.params, case.inputs["mapping"]

    def relu(x: mx.array) -> mx.array:
        return mx.maximum(x, 0)

    def out(h: mx.array, w2: mx.array) -> mx.array:
        return relu(h @ w2.T + p["b2"]) @ p["w3"].T + p["b3"]

    x = case.inputs["x"]
    wide = {
        "wide_w1": widen_out(p["w1"], mapping),
        "wide_b1": widen_out(p["b1"], mapping),
        "wide_w2": widen_in(p["w2"], mapping),
    }
    first = relu(x @ p["w1"].T + p["b1"])
    weight, bias = identity(first.shape[-1])
    return wide | {
        "y": out(first, p["w2"]),
        "y_wide": out(relu(x @ wide["wide_w1"].T + wide["wide_b1"]), wide["wide_w2"]),
        "y_deep": out(relu(first @ weight.T + bias), p["w2"]),
    }


def upcycled(case: Case, dense: Mlp, k: int, normalize: bool) -> tuple[MoeFfn, mx.array]:
    """A mixture whose experts are copies of the dense network, and its output."""
    p, n_experts = case.params, case.params["router"].shape[0]
    router, dim = TopK(top_k=k, normalize=False), p["w1"].shape[1]
    moe = MoeFfn(Moe(n_experts=n_experts, router=router, expert=dense), dim)
    if normalize:
        # of a copy: a config with one gate that is always 1 is refused, as it teaches nothing
        moe.router = router.model_copy(update={"normalize": True}).build(dim, n_experts)
    copies = {name: expert_copies(p[name], n_experts) for name in ("w1", "b1", "w2", "b2")}
    names = {"w1": "up.weight", "b1": "up.bias", "w2": "down.weight", "b2": "down.bias"}
    weights = [(f"experts.{names[name]}", copies[name]) for name in names if name in copies]
    moe.update(tree_unflatten([*weights, ("router.gate.weight", p["router"])]))
    return moe, moe(case.inputs["x"], Context())


def upcycling(case: Case) -> Arrays:
    """A dense network as top-k experts, with gates that sum to 1 and with raw ones."""
    p, x = case.params, case.inputs["x"]
    k = case.options.get("top_k", case.options.get("k", named_k(case.meta["title"])))
    dense = Mlp(hidden_dim=p["w1"].shape[0], activation="gelu", bias=True)
    ffn = dense.build(p["w1"].shape[1])
    ffn.update(tree_unflatten([("up.weight", p["w1"]), ("up.bias", p["b1"]),
                               ("down.weight", p["w2"]), ("down.bias", p["b2"])]))  # fmt: skip
    _, normal = upcycled(case, dense, k, normalize=True)
    plain_moe, plain = upcycled(case, dense, k, normalize=False)
    gates, _ = plain_moe.router(x, Context())
    return {
        "dense": ffn(x, Context()),
        "moe_renormalised": normal,
        "moe_plain_gates": plain,
        "gate_sum": gates.sum(axis=-1),
    }


def named_k(title: str) -> int:
    """The k of a title such as "top-2 of 4"; 2 where it has none."""
    _, found, rest = title.partition("top-")
    return int(rest.split()[0]) if found else 2


RULES = (
    Rule(r"RigL", rigl),
    Rule(r"Net2", net2net),
    Rule(r"upcycling", upcycling),
)
