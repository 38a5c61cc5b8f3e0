"""The layers of the chain once more, in plain NumPy and float64, written from the papers.

Loops instead of reshapes, so that a mistake would have to be made twice, in two different ways.
`w` are the weights of a module by name.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from . import reference_relative as relative

Array = np.ndarray
Weights = Mapping[str, Array]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.where(x > 0, x, 0),
    "relu2": lambda x: np.where(x > 0, x, 0) ** 2,
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "gelu_quick": lambda x: x / (1 + np.exp(-1.702 * x)),
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
    "selu": lambda x: (
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(np.minimum(x, 0)) - 1))
    ),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "identity": lambda x: x,
}


def below(w: Weights, prefix: str) -> dict[str, Array]:
    """The weights of a submodule."""
    return {n.removeprefix(prefix + "."): v for n, v in w.items() if n.startswith(prefix + ".")}


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def linear(x: Array, w: Weights, name: str) -> Array:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def norm(x: Array, w: Weights, kind: Mapping[str, Any]) -> Array:
    """Ba et al. 2016, equation 3; Zhang & Sennrich 2019, equation 4."""
    eps = kind.get("eps", 1e-5)
    if kind["kind"] == "none":
        return x
    if kind["kind"] == "dyt":
        return np.asarray(np.tanh(w["alpha"] * x) * w["weight"] + w["bias"])
    if kind["kind"] == "scale_norm":
        w = {"weight": w["g"] / np.sqrt(x.shape[-1])}
    if kind["kind"] == "layer_norm":
        x = x - x.mean(axis=-1, keepdims=True)
    root = np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    scale = w.get("weight", 1.0) + (1.0 if kind.get("unit_offset") else 0.0)
    return x / root * scale + w.get("bias", 0.0)


def sinusoids(positions: Array, dim: int, theta: float = 10000.0) -> Array:
    """Vaswani et al. 2017, section 3.5."""
    table = np.zeros((len(positions), dim))
    for row, p in enumerate(positions):
        for j in range(dim):
            angle = p / theta ** (2 * (j // 2) / dim)
            table[row, j] = math.sin(angle) if j % 2 == 0 else math.cos(angle)
    return table


def rope(x: Array, positions: Array, kind: Mapping[str, Any]) -> Array:
    """Su et al. 2021, equation 12: each pair is a complex number that turns. x `[T, K]`."""
    width = int(x.shape[-1] * kind.get("fraction", 1.0))
    half, out = math.ceil(width / 2), x.copy()
    for i in range(half):
        a, b = (2 * i, 2 * i + 1) if kind.get("traditional") else (i, i + half)
        turn = np.exp(1j * positions * kind.get("theta", 10000.0) ** (-2 * i / width))
        z = (x[:, a] + 1j * x[:, b]) * turn
        out[:, a], out[:, b] = z.real, z.imag
    return out


def alibi(h: int, H: int, t: int, s: int, kind: Mapping[str, Any]) -> float:
    """Press et al. 2021, section 3, for a power of two of heads."""
    slope = 2.0 ** (-kind.get("max_bias", 8.0) * (h + 1) / H)
    return -kind.get("scale", 1.0) * slope * abs(t - s)


def bucket(t: int, s: int, kind: Mapping[str, Any], causal: bool) -> int:
    """Raffel et al. 2020, section 2.1: the row of the table for a key at s and a query at t."""
    n, far, first = kind.get("n_buckets", 32), kind.get("max_distance", 128), 0
    if not causal:
        n //= 2
        first = n if s > t else 0
    distance = max(t - s, 0) if causal else abs(t - s)
    if distance < n // 2:
        return first + distance
    share = math.log(distance / (n // 2)) / math.log(far / (n // 2))
    return first + min(n // 2 + int(share * (n - n // 2)), n - 1)


def position_bias(
    h: int, H: int, t: int, s: int, kind: Mapping[str, Any], w: Weights, causal: bool
) -> float:
    """What a position adds to the score of a query at t and a key at s."""
    if kind["kind"] == "alibi":
        return alibi(h, H, t, s, kind)
    if kind["kind"] == "buckets":
        return float(w["table.weight"][bucket(t, s, kind, causal), h])
    return 0.0


def normed(y: Array, w: Weights, name: str, kind: Mapping[str, Any], K: int) -> Array:
    """Queries or keys `[B, T, H * K]` after `qk_norm`, over what `qk_norm_over` says."""
    over, out = kind.get("qk_norm_over", "head"), y.copy()
    if over == "width":
        return norm(y, below(w, name), kind["qk_norm"])
    for h in range(y.shape[-1] // K):
        mine = below(w, f"{name}.heads.{h}" if over == "each_head" else name)
        out[..., h * K : (h + 1) * K] = norm(y[..., h * K : (h + 1) * K], mine, kind["qk_norm"])
    return out


def attention(
    x: Array,
    w: Weights,
    kind: Mapping[str, Any],
    position: Mapping[str, Any],
    causal: bool = True,
    segments: Array | None = None,
    place: Weights | None = None,
    memory: Array | None = None,
) -> Array:
    """Vaswani et al. 2017, section 3.2, head by head and query by query. x `[B, T, D]`.

    `place` are the weights of the position; keys and values are of `memory [B, S, D]`, if given.
    """
    B, T, D = x.shape
    H = kind["n_heads"]
    G = kind.get("n_kv_heads") or H
    K = kind.get("head_dim") or D // H
    of = x if memory is None else memory
    q, k, v = linear(x, w, "q"), linear(of, w, "k"), linear(of, w, "v")
    last = kind.get("qk_norm_last", False)
    if kind.get("qk_norm") and not last:
        q, k = (normed(y, w, name, kind, K) for y, name in ((q, "q_norm"), (k, "k_norm")))
    if kind.get("clip"):
        q, k, v = (np.clip(y, -kind["clip"], kind["clip"]) for y in (q, k, v))
    joined = np.zeros((B, T, H * K))
    for b in range(B):
        for h in range(H):
            g = h // (H // G)
            qh, kh, vh = (y[b, :, i * K : (i + 1) * K] for y, i in ((q, h), (k, g), (v, g)))
            if position["kind"] == "rope" and memory is None:
                qh, kh = (rope(y, np.arange(T), position) for y in (qh, kh))
            if position["kind"] == "xpos" and memory is None:
                signed = ((qh, 1), (kh, -1))
                qh, kh = (relative.xpos(y, np.arange(T), position, sign) for y, sign in signed)
            if last:
                named = ((qh, "q_norm"), (kh, "k_norm"))
                qh, kh = (norm(y, below(w, name), kind["qk_norm"]) for y, name in named)
            for t in range(T):
                seen = list(range(of.shape[1]))
                if memory is None:
                    seen = [s for s in seen if visible(b, t, s, kind, causal, segments)]
                scores = kh[seen] @ qh[t] * (kind.get("scale") or 1 / math.sqrt(K))
                if kind.get("softcap"):
                    scores = kind["softcap"] * np.tanh(scores / kind["softcap"])
                if memory is None:
                    at = [position_bias(h, H, t, s, position, place or {}, causal) for s in seen]
                    scores = scores + np.array(at)
                if memory is None and position["kind"] in relative.BIASES:
                    bias, own = relative.BIASES[position["kind"]], place or {}
                    scores += [bias(qh[t], kh[s], h, t - s, position, own) for s in seen]
                if "sinks" in w:
                    scores = np.append(scores, w["sinks"][h])
                joined[b, t, h * K : (h + 1) * K] = softmax(scores)[: len(seen)] @ vh[seen]
    if kind.get("gate"):
        assert kind["gate"] == "relu"
        joined = joined * np.maximum(linear(x, w, "g"), 0)
    return linear(joined, w, "o")


def visible(
    b: int, t: int, s: int, kind: Mapping[str, Any], causal: bool, segments: Array | None
) -> bool:
    if segments is not None and segments[b, t] != segments[b, s]:
        return False
    if causal and s > t:
        return False
    if kind.get("chunk"):
        chunks = [(i - began(b, i, segments)) // kind["chunk"] for i in (t, s)]
        if chunks[0] != chunks[1]:
            return False
    return kind.get("window") is None or abs(t - s) < kind["window"]


def began(b: int, t: int, segments: Array | None) -> int:
    """The first token of the run of tokens with one document's id that holds token t."""
    if segments is None:
        return 0
    while t > 0 and segments[b, t - 1] == segments[b, t]:
        t -= 1
    return t


def convolution(x: Array, w: Weights, kind: Mapping[str, Any], causal: bool = True) -> Array:
    """Output by output, a sum over the neighbours that exist. x `[B, T, D]`."""
    kernel, groups = kind["kernel"], kind.get("groups", 1)
    B, T, D = x.shape
    width, before, y = D // groups, kernel - 1 if causal else kernel // 2, np.zeros(x.shape)
    for b, t, o in np.ndindex(B, T, D):
        y[b, t, o] = w["bias"][o]
        g = o // width
        for j in range(kernel):
            s = t + j - before
            if 0 <= s < T:
                y[b, t, o] += w["weight"][o, j] @ x[b, s, g * width : (g + 1) * width]
    return ACTIVATIONS[kind.get("activation", "identity")](y)


def dense(x: Array, w: Weights, kind: Mapping[str, Any]) -> Array:
    """An mlp, a glu, a clamped glu or a xielu."""
    if kind["kind"] == "clamped_glu":
        g = np.minimum(linear(x, w, "gate"), kind["limit"])
        u = np.clip(linear(x, w, "up"), -kind["limit"], kind["limit"])
        return linear(g / (1 + np.exp(-kind["slope"] * g)) * (u + 1), w, "down")
    if kind["kind"] == "xielu":
        h, beta = linear(x, w, "up"), kind.get("beta", 0.5)
        a, b = np.log1p(np.exp(w["positive"])), beta + np.log1p(np.exp(w["negative"]))
        bent = np.where(h > 0, a * h * h, b * (np.exp(np.minimum(h, 0)) - 1 - h)) + beta * h
        return linear(bent, w, "down")
    act = ACTIVATIONS[kind["activation"]]
    if kind["kind"] == "mlp":
        return linear(act(linear(x, w, "up")), w, "down")
    return linear(act(linear(x, w, "gate")) * linear(x, w, "up"), w, "down")


def gates(x: Array, w: Weights, kind: Mapping[str, Any]) -> tuple[Array, Array]:
    """Scores and gates of all experts, `[N, E]`, zero where not chosen. x `[N, D]`."""
    logits = linear(x, w, "gate")
    if kind["kind"] == "sparse_mixer":
        return logits, np.stack([one_by_one(s, kind) for s in logits])
    by_sigmoid = kind["kind"] == "sigmoid"
    alone = by_sigmoid and kind.get("scores", "sigmoid") == "sigmoid"
    scores = 1 / (1 + np.exp(-logits)) if alone else softmax(logits)
    out = np.zeros_like(scores)
    for n, p in enumerate(scores):
        worth = p + w["balance"] if by_sigmoid else p.copy()
        if kind.get("n_groups"):
            groups = np.split(np.arange(len(p)), kind["n_groups"])
            best = [np.sort(worth[g])[::-1][: 2 if by_sigmoid else 1].sum() for g in groups]
            for g in np.argsort(best)[: kind["n_groups"] - kind["top_groups"]]:
                worth[groups[g]] = -np.inf
        chosen = np.argsort(-worth)[: kind.get("top_k", 2)]
        total = p[chosen].sum() if kind["normalize"] else 1.0
        if kind["kind"] == "gshard":
            levels = {"all": -1.0, "none": np.inf, "threshold": kind.get("threshold")}
            routed = p[chosen] / total > levels[kind["policy"]]
            chosen = chosen[routed | (np.arange(len(chosen)) == 0)]
        out[n, chosen] = kind.get("scale", 1.0) * p[chosen] / total
    return scores, out


def one_by_one(scores: Array, kind: Mapping[str, Any]) -> Array:
    """Gates of a sparse mixer for the scores `[E]` of a token."""
    out, left = np.zeros_like(scores), list(range(len(scores)))
    for _ in range(kind.get("top_k", 2)):
        best = max(left, key=lambda e: scores[e])
        top = scores[best]
        far = 2 * kind.get("reach", 0.01)
        near = [e for e in left if (top - scores[e]) / max(abs(scores[e]), top) <= far]
        out[best] = 1 / np.exp(scores[near] - top).sum()
        left.remove(best)
    return out


def moe(x: Array, w: Weights, kind: Mapping[str, Any]) -> Array:
    """Every expert on every token, then the sum that the gates weigh, and what is shared."""
    flat = x.reshape(-1, x.shape[-1])
    _, share = gates(flat, below(w, "router"), kind["router"])
    experts = below(w, "experts")
    inner = linear(flat, w, "latent_down") if kind.get("latent") else flat
    of_inputs = kind.get("weighs") == "inputs"
    y = np.zeros_like(inner)
    for e in range(kind["n_experts"]):
        own, gate = {n: v[e] for n, v in experts.items()}, share[:, e, None]
        chosen = np.where(
            gate > 0, dense(gate * inner if of_inputs else inner, own, kind["expert"]), 0
        )
        y = y + (chosen if of_inputs else gate * chosen)
    if kind.get("latent"):
        y = linear(y, w, "latent_up")
    if kind.get("shared"):
        always = dense(flat, below(w, "shared"), kind["shared"])
        if kind.get("shared_gate"):
            always = always / (1 + np.exp(-linear(flat, w, "shared_gate")))
        y = y + always
    return np.asarray(y).reshape(x.shape)


def latent(
    x: Array, w: Weights, kind: Mapping[str, Any], position: Mapping[str, Any], causal: bool = True
) -> Array:
    """DeepSeek-V2, appendix C, equations 37 to 47, head by head and query by query."""
    B, T, _ = x.shape
    H, N, R, V = (kind[name] for name in ("n_heads", "nope_dim", "rope_dim", "value_dim"))
    at = np.arange(T)
    c_q = x
    if kind.get("q_rank"):
        c_q = norm(linear(x, w, "q_down"), below(w, "q_norm"), kind["norm"])
    q = linear(c_q, w, "q").reshape(B, T, H, N + R)
    down = linear(x, w, "kv_down")
    c = norm(down[..., : kind["kv_rank"]], below(w, "kv_norm"), kind["norm"])
    kv = linear(c, w, "kv").reshape(B, T, H, N + V)
    joined = np.zeros((B, T, H, V))
    for b, h in np.ndindex(B, H):
        q_turned, k_turned = q[b, :, h, N:], down[b, :, kind["kv_rank"] :]
        if position["kind"] == "rope":
            q_turned, k_turned = (rope(y, at, position) for y in (q_turned, k_turned))
        scores = q[b, :, h, :N] @ kv[b, :, h, :N].T + q_turned @ k_turned.T
        scores = scores * (kind.get("scale") or (N + R) ** -0.5)
        if causal:
            scores = np.where(at[None] <= at[:, None], scores, -np.inf)
        joined[b, :, h] = softmax(scores) @ kv[b, :, h, N:]
    return linear(joined.reshape(B, T, -1), w, "o")


def ffn(x: Array, w: Weights, kind: Mapping[str, Any]) -> Array:
    if kind["kind"] == "channel_mixing":
        return channel_mixing(x, w)
    return (moe if kind["kind"] == "moe" else dense)(x, w, kind)


def channel_mixing(x: Array, w: Weights) -> Array:
    """RWKV-4, equations 18 and 19."""

    def mixed(name: str) -> Array:
        before = np.concatenate([np.zeros_like(x[:, :1]), x[:, :-1]], axis=1)
        share = w[f"mix_{name}"]
        return (x * share + before * (1 - share)) @ w[f"{name}.weight"].T

    y = np.maximum(mixed("k"), 0) ** 2 @ w["v.weight"].T
    return y / (1 + np.exp(-mixed("r"))) if "mix_r" in w else y


def scaled(f: Callable[[Array], Array], gain: Array) -> Callable[[Array], Array]:
    """A function whose features are multiplied by a gain (LayerScale)."""
    return lambda h: f(h) * gain


def block(
    x: Array,
    w: Weights,
    kind: Mapping[str, Any],
    position: Mapping[str, Any],
    segments: Array | None = None,
    place: Weights | None = None,
    memory: Array | None = None,
    causal: bool = True,
) -> Array:
    """The block as its papers wire it, one case after the other."""
    if kind.get("position"):
        position, place = kind["position"], below(w, "position")

    def mix(h: Array) -> Array:
        mixer = below(w, "mixer")
        return attention(h, mixer, kind["mixer"], position, causal, segments, place)

    def read(h: Array) -> Array:
        return attention(h, below(w, "cross"), kind["cross"], position, memory=memory)

    def feed(h: Array) -> Array:
        return ffn(h, below(w, "ffn"), kind["ffn"])

    def n(h: Array, name: str) -> Array:
        own = kind.get("ffn_norm") if name.startswith("ffn") else None
        return norm(h, below(w, name), own or kind["norm"])

    def join(x: Array, y: Array) -> Array:
        return kind.get("skip", 1.0) * x + kind.get("scale", 1.0) * y

    def residual(x: Array, f: Callable[[Array], Array], r: str) -> Array:
        if kind.get("layer_scale"):
            f = scaled(f, w[f"{r}.gain"])
        if kind["placement"] == "pre":
            return join(x, f(n(x, f"{r}.pre")))
        if kind["placement"] == "pre_skip":
            h = n(x, f"{r}.pre")
            return join(h, f(h))
        if kind["placement"] == "post":
            return n(join(x, f(x)), f"{r}.out")
        if kind["placement"] == "sandwich":
            return join(x, n(f(n(x, f"{r}.pre")), f"{r}.post"))
        return join(x, n(f(x), f"{r}.post"))

    if kind.get("arrangement") == "parallel":
        return residual(x, lambda h: mix(h) + feed(h), "residual")
    if kind.get("arrangement") == "parallel_norms":
        return join(x, mix(n(x, "mixer_residual.pre")) + feed(n(x, "ffn_residual.pre")))
    y = residual(x, mix, "mixer_residual")
    if kind.get("cross"):
        y = residual(y, read, "cross_residual")
    if kind.get("ffn"):
        y = residual(y, feed, "ffn_residual")
    if kind.get("branch"):
        y = n(y + convolution(x, below(w, "branch"), kind["branch"], causal), "branch_residual.out")
    return y


def tower(
    tokens: Array,
    w: Weights,
    config: Mapping[str, Any],
    segments: Array | None = None,
    causal: bool = True,
    memory: Array | None = None,
    table: Array | None = None,
) -> Array:
    """What a stack makes of tokens, `[B, T, D]`; types are all 0."""
    table = w["embed.table.weight"] if table is None else table
    x = table[tokens]
    embed = config["embed"]
    if embed.get("scale") == "sqrt_dim":
        x = x * math.sqrt(x.shape[-1])
    if "n_types" in embed:
        x = x + w["embed.types.weight"][0]
    position = config["position"]
    for b in range(len(tokens)):
        at = restart(segments[b]) if segments is not None else np.arange(tokens.shape[1])
        if position["kind"] == "learned":
            x[b] += w["position.table.weight"][at]
        if position["kind"] == "sinusoidal":
            x[b] += sinusoids(at, x.shape[-1], position.get("theta", 10000.0))
    if "norm" in embed:
        x = norm(x, below(w, "embed.norm"), embed["norm"])
    if "width" in embed:
        x = linear(x, w, "embed.project")
    place = below(w, "position")

    def run(i: int, x: Array) -> Array:
        names = config.get("pattern")
        kind = config["blocks"][names[i % len(names)]] if names else config["block"]
        unit, n = config.get("unit", 1), config["n_layers"]
        shared = config.get("n_distinct", n) // unit
        own = i // unit * shared // (n // unit) * unit + i % unit
        mine = below(w, f"stack.blocks.{own}")
        return block(x, mine, kind, position, segments, place, memory, causal)

    if "depth" in config:
        x = universal(x, below(w, "stack.depth"), config["depth"], config["n_layers"], run)
    else:
        for i in range(config["n_layers"]):
            x = run(i, x)
    return norm(x, below(w, "norm"), config["norm"])


def universal(
    x: Array,
    w: Weights,
    kind: Mapping[str, Any],
    n_layers: int,
    run: Callable[[int, Array], Array],
) -> Array:
    """Dehghani et al. 2018, appendix C, with sinusoidal steps and interpolated outputs."""
    total, out = np.zeros(x.shape[:2]), np.zeros_like(x)
    for i in range(n_layers):
        x = x + sinusoids(np.array([i]), x.shape[-1])[0]
        p = 1 / (1 + np.exp(-(x @ w["halt.weight"][0] + w["halting_bias"])))
        halts = total + p > kind.get("threshold", 0.99)
        share = np.where(total >= 1, 0.0, np.where(halts, 1 - total, p))
        total = total + share
        x = run(i, x)
        out = share[..., None] * x + (1 - share[..., None]) * out
    return out


def decoder(
    tokens: Array, w: Weights, config: Mapping[str, Any], segments: Array | None = None
) -> Array:
    """Logits `[B, T, V]` of a whole model."""
    x = tower(tokens, w, config, segments)
    return vocabulary(x, below(w, "head"), config["head"], w["embed.table.weight"])


def encoder(tokens: Array, w: Weights, config: Mapping[str, Any]) -> Array:
    """Logits `[B, T, V]` of an encoder with a head of masked words."""
    x = tower(tokens, w, config, causal=False)
    return vocabulary(x, below(w, "head"), config["head"], w["embed.table.weight"])


def encoder_decoder(source: Array, tokens: Array, w: Weights, config: Mapping[str, Any]) -> Array:
    """Logits `[B, T, V]` of the target."""
    table = w["decoder.embed.table.weight"]
    first = None if "encoder.embed.table.weight" in w else table
    memory = tower(source, below(w, "encoder"), config["encoder"], causal=False, table=first)
    x = tower(tokens, below(w, "decoder"), config["decoder"], memory=memory)
    return vocabulary(x, below(w, "head"), config["head"], table)


def vocabulary(x: Array, w: Weights, head: Mapping[str, Any], table: Array) -> Array:
    """Logits of the head kinds `lm` and `mlm`."""
    if head["kind"] == "mlm":
        x = ACTIVATIONS[head["activation"]](linear(x, w, "map"))
        x = norm(x, below(w, "norm"), head["norm"])
    x = x * head.get("scale", 1.0)
    logits = x @ (table if head["tied"] else w["weight"]).T + w.get("bias", 0.0)
    cap = head.get("softcap")
    return cap * np.tanh(logits / cap) if cap else logits


def restart(segments: Array) -> Array:
    """Positions that begin anew with every document of a packed row."""
    at, out = 0, []
    for t, name in enumerate(segments):
        at = at + 1 if t and segments[t - 1] == name else 0
        out.append(at)
    return np.array(out)


def cross_entropy(
    logits: Array, targets: Array, weights: Array, smoothing: float = 0.0, z_loss: float = 0.0
) -> tuple[float, float]:
    """(total, plain) sums over tokens; Szegedy et al. 2016, section 7, with the z loss of PaLM."""
    total = plain = 0.0
    V = logits.shape[-1]
    for row, y, weight in zip(
        logits.reshape(-1, V), targets.reshape(-1), weights.reshape(-1), strict=True
    ):
        lse = math.log(np.exp(row - row.max()).sum()) + row.max()
        q = np.full(V, smoothing / V)
        q[y] += 1 - smoothing
        total += weight * (-(q * (row - lse)).sum() + z_loss * lse**2)
        plain += weight * (lse - row[y])
    return total, plain
