"""Group 4: RWKV, gated linear recurrences, xLSTM."""

import mlx.core as mx

from mlx_transformers.core.context import Context
from mlx_transformers.layers.mixers.mingru import Mingru
from mlx_transformers.ops.generalized_delta_rule import generalized_delta_rule
from mlx_transformers.ops.linear_attention import linear_attention
from mlx_transformers.ops.linear_recurrence import linear_recurrence
from mlx_transformers.ops.mlstm import MatrixMemory, mlstm
from mlx_transformers.ops.rg_lru import rg_lru
from mlx_transformers.ops.slstm import ScalarMemory, slstm
from mlx_transformers.ops.wkv import empty_state, wkv
from reference_groups import rwkv
from reference_groups.case import Arrays, Case, Rule
from reference_groups.gated import heads_first, scale_of


def hgrn(case: Case) -> Arrays:
    """An elementwise recurrence whose decays are given as logarithms."""
    x, g = case.inputs["x"], case.inputs["g"]
    h = linear_recurrence(mx.exp(g), x, case.inputs.get("initial_state"))
    return {"o": h, "final_state": h[:, -1]}


def mingru(case: Case) -> Arrays:
    """minGRU with the published code's projections."""
    x, weight = case.inputs["x"], case.params["to_hidden_and_gate"]
    out = next((v for k, v in case.params.items() if k.startswith(("to_out", "out"))), None)
    width = weight.shape[0] // 2
    project = out is not None or width != x.shape[-1]
    layer = Mingru(expansion=width / x.shape[-1], project=project).build(x.shape[-1])
    layer.x.weight = weight
    if project:
        layer.o.weight = mx.eye(width) if out is None else out
    state = layer.init_state(x.shape[0], x.shape[1], x.dtype)
    given = next((v for k, v in case.inputs.items() if "hidden" in k or "state" in k), None)
    if given is not None:
        state = {"h": given.reshape(state["h"].shape)}
    y, after = layer.step(x, state, Context())
    return {"out": y, "next_hidden": after["h"][:, None]}


def mlstm_cell(case: Case) -> Arrays:
    """mLSTM from the stored state, or from none."""
    given = case.inputs
    q, k, v = (given[name] for name in "qkv")
    state = MatrixMemory.empty(*q.shape[:2], k.shape[-1], v.shape[-1])
    c, n, m = (_initial(case, name) for name in "cnm")
    if c is not None and n is not None:
        memory = mx.concatenate([c, n.reshape(*c.shape[:-1], 1)], axis=-1)
        state = MatrixMemory(memory, state.m if m is None else m.reshape(state.m.shape))
    gates = (given[name][..., 0] for name in ("igate", "fgate"))
    h, last = mlstm(q, k, v, *gates, state=state, eps=case.options.get("eps", 1e-6))
    memory, m = last
    return {"h": h, "c": memory[..., :-1], "n": memory[..., -1:], "m": m[..., None, None]}


def slstm_cell(case: Case) -> Arrays:
    """sLSTM from the stored states `[h, c, n, m]`, or from none."""
    wx, bias, recurrent = case.inputs["Wx"], case.params["b"], case.params["R"]
    state = ScalarMemory.empty(wx.shape[1], wx.shape[2] // 4)
    given = _initial(case, "states")
    if given is not None and bool((given[2] != 0).any()):
        state = ScalarMemory(*(given[i] for i in range(4)))
    elif given is not None:
        state = ScalarMemory(given[0], given[1], given[2], state.m)
    h, last = slstm((wx + bias).swapaxes(0, 1), recurrent, state)
    return {"h": h.swapaxes(0, 1), "states": mx.stack(list(last))}


def real_gated(case: Case) -> Arrays:
    """RG-LRU with block-diagonal gates, which starts anew at position 0."""
    x, positions = case.inputs["x"], case.inputs["segment_pos"]
    gates = (_blocks(x, case.params, f"{name}_gate") for name in ("input", "a"))
    given = _initial(case, "cache", "h")
    state = mx.zeros((x.shape[0], x.shape[2])) if given is None else given
    y, last = rg_lru(x, *gates, case.params["a_param"], state, positions == 0)
    return {"y": y, "last_h": last}


def _blocks(x: mx.array, params: Arrays, name: str) -> mx.array:
    """The block-diagonal layer `name` with weights `[H, in, out]`."""
    weight, bias = params[f"{name}.w"], params[f"{name}.b"]
    heads = x.reshape(*x.shape[:-1], weight.shape[0], -1)
    y = (heads[..., None, :] @ weight)[..., 0, :] + bias
    return y.reshape(x.shape)


def rwkv4(case: Case) -> Arrays:
    """RWKV-4's wkv: w is the logarithm of the rate, unless `about` calls it a log decay."""
    arrays = case.inputs | case.params
    k, v, w, u = (
        next(arrays[name] for name in names if name in arrays)
        for names in (("k", "key"), ("v", "value"), ("w", "time_decay"), ("u", "time_first"))
    )
    decay = w if "log decay" in str(case.meta.get("about")) else -mx.exp(w)
    state = empty_state(k.shape[0], k.shape[2])
    given = _initial(case, "state")
    if given is not None:
        state = given.squeeze(2) if given.ndim == 4 else given
        state = state if state.shape[1] == 3 else state.swapaxes(1, 2)
    out, last = wkv(k, v, mx.broadcast_to(decay.reshape(-1), k.shape), u.reshape(-1), state)
    last = last[:, :, None] if given is not None and given.ndim == 4 else last
    return {"o": out, "out": out, "output": out, "final_state": last, "state": last}


def rwkv6(case: Case) -> Arrays:
    """RWKV-6's recurrence: the state is read before its token, which enters by a bonus."""
    given = case.inputs
    q, k, v, w = (heads_first(given[name]) for name in "qkvw")
    out, last = linear_attention(
        q,
        k,
        v,
        w,
        scale=scale_of(case),
        state=given.get("initial_state"),
        before=True,
        bonus=given["u"] if "u" in given else case.params["u"],
    )
    return {"o": heads_first(out), "final_state": last}


def rwkv7(case: Case) -> Arrays:
    """RWKV-7's recurrence: a transition that is diagonal plus low rank."""
    given = case.inputs
    r, w, k, v, a, b = (heads_first(given[name]) for name in ("r", "w", "k", "v", "a", "b"))
    out, last = generalized_delta_rule(
        r,
        w,
        k,
        v,
        a,
        b,
        scale=case.options.get("scale") or 1.0,
        state=given.get("initial_state"),
    )
    return {"o": heads_first(out), "final_state": last}


def _initial(case: Case, *names: str) -> mx.array | None:
    """The state before the first token by one of these names, with or without a suffix."""
    given = (f"{prefix}{name}{suffix}" for name in names for prefix, suffix in STATES)
    return next((case.inputs[each] for each in given if each in case.inputs), None)


STATES = (("", ""), ("", "_initial"), ("", "_state"), ("initial_", ""), ("", "0"), ("", "_0"))
"""How published code marks the state before the first token."""

RULES = (
    *rwkv.RULES,
    Rule(r"naive_recurrent_hgrn|\bhgrn\b", hgrn),
    Rule(r"mingru", mingru),
    Rule(r"mlstm", mlstm_cell),
    Rule(r"slstm", slstm_cell),
    Rule(r"RGLRU|RG-LRU", real_gated),
    Rule(r"naive_recurrent_rwkv6", rwkv6),
    Rule(r"dplr|rwkv7_core", rwkv7),
    Rule(r"rwkv4|rwkv_linear_attention", rwkv4),
)
