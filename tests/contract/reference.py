"""The layers of the chain once more, in plain NumPy and float64, written from the papers.

Loops instead of reshapes, so that a mistake would have to be made twice, in two different ways.
`w` are the weights of a module by name.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray
Weights = Mapping[str, Array]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.where(x > 0, x, 0),
    "relu2": lambda x: np.where(x > 0, x, 0) ** 2,
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
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
    if kind["kind"] == "layer_norm":
        x = x - x.mean(axis=-1, keepdims=True)
    root = np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return x / root * w["weight"] + w.get("bias", 0.0)


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
    width = int(x.shape[-1] * kind.get("fraction", 1.0)) // 2 * 2
    half, out = width // 2, x.copy()
    for i in range(half):
        a, b = (2 * i, 2 * i + 1) if kind.get("traditional") else (i, i + half)
        turn = np.exp(1j * positions * kind.get("theta", 10000.0) ** (-2 * i / width))
        z = (x[:, a] + 1j * x[:, b]) * turn
        out[:, a], out[:, b] = z.real, z.imag
    return out


def attention(
    x: Array,
    w: Weights,
    kind: Mapping[str, Any],
    position: Mapping[str, Any],
    causal: bool = True,
    segments: Array | None = None,
) -> Array:
    """Vaswani et al. 2017, section 3.2, head by head and query by query. x `[B, T, D]`."""
    B, T, D = x.shape
    H = kind["n_heads"]
    G = kind.get("n_kv_heads") or H
    K = kind.get("head_dim") or D // H
    q, k, v = (linear(x, w, name) for name in "qkv")
    joined = np.zeros((B, T, H * K))
    for b in range(B):
        for h in range(H):
            g = h // (H // G)
            qh, kh, vh = (y[b, :, i * K : (i + 1) * K] for y, i in ((q, h), (k, g), (v, g)))
            if kind.get("qk_norm"):
                qh = norm(qh, below(w, "q_norm"), kind["qk_norm"])
                kh = norm(kh, below(w, "k_norm"), kind["qk_norm"])
            if position["kind"] == "rope":
                qh, kh = (rope(y, np.arange(T), position) for y in (qh, kh))
            for t in range(T):
                seen = [s for s in range(T) if visible(b, t, s, kind, causal, segments)]
                scores = kh[seen] @ qh[t] * (kind.get("scale") or 1 / math.sqrt(K))
                if kind.get("softcap"):
                    scores = kind["softcap"] * np.tanh(scores / kind["softcap"])
                joined[b, t, h * K : (h + 1) * K] = softmax(scores) @ vh[seen]
    return linear(joined, w, "o")


def visible(
    b: int, t: int, s: int, kind: Mapping[str, Any], causal: bool, segments: Array | None
) -> bool:
    if segments is not None and segments[b, t] != segments[b, s]:
        return False
    if causal and s > t:
        return False
    return kind.get("window") is None or abs(t - s) < kind["window"]


def dense(x: Array, w: Weights, kind: Mapping[str, Any]) -> Array:
    """An mlp or a glu."""
    act = ACTIVATIONS[kind["activation"]]
    if kind["kind"] == "mlp":
        return linear(act(linear(x, w, "up")), w, "down")
    return linear(act(linear(x, w, "gate")) * linear(x, w, "up"), w, "down")


def gates(x: Array, w: Weights, kind: Mapping[str, Any]) -> tuple[Array, Array]:
    """Probabilities and gates of all experts, `[N, E]`, zero where not chosen. x `[N, D]`."""
    probs = softmax(x @ w["gate.weight"].T)
    out = np.zeros_like(probs)
    for n, p in enumerate(probs):
        chosen = np.argsort(-p)[: kind["top_k"]]
        out[n, chosen] = p[chosen] / (p[chosen].sum() if kind["normalize"] else 1.0)
    return probs, out


def moe(x: Array, w: Weights, kind: Mapping[str, Any]) -> Array:
    """Every expert on every token, then the sum that the gates weigh."""
    flat = x.reshape(-1, x.shape[-1])
    _, share = gates(flat, below(w, "router"), kind["router"])
    experts = below(w, "experts")
    y = sum(
        share[:, e, None] * dense(flat, {n: v[e] for n, v in experts.items()}, kind["expert"])
        for e in range(kind["n_experts"])
    )
    return np.asarray(y).reshape(x.shape)


def ffn(x: Array, w: Weights, kind: Mapping[str, Any]) -> Array:
    return (moe if kind["kind"] == "moe" else dense)(x, w, kind)


def block(
    x: Array,
    w: Weights,
    kind: Mapping[str, Any],
    position: Mapping[str, Any],
    segments: Array | None = None,
) -> Array:
    """The block as its paper wires it, one case after the other."""

    def mix(h: Array) -> Array:
        return attention(h, below(w, "mixer"), kind["mixer"], position, segments=segments)

    def feed(h: Array) -> Array:
        return ffn(h, below(w, "ffn"), kind["ffn"])

    def n(h: Array, name: str) -> Array:
        return norm(h, below(w, name), kind["norm"])

    placement = kind["placement"]
    if kind.get("arrangement") == "parallel":
        r = "residual"
        if placement == "pre":
            h = n(x, f"{r}.pre")
            return x + mix(h) + feed(h)
        if placement == "post":
            return n(x + mix(x) + feed(x), f"{r}.out")
        if placement == "sandwich":
            h = n(x, f"{r}.pre")
            return x + n(mix(h) + feed(h), f"{r}.post")
        return x + n(mix(x) + feed(x), f"{r}.post")
    a, f = "mixer_residual", "ffn_residual"
    if placement == "pre":
        x = x + mix(n(x, f"{a}.pre"))
        return x + feed(n(x, f"{f}.pre"))
    if placement == "post":
        x = n(x + mix(x), f"{a}.out")
        return n(x + feed(x), f"{f}.out")
    if placement == "sandwich":
        x = x + n(mix(n(x, f"{a}.pre")), f"{a}.post")
        return x + n(feed(n(x, f"{f}.pre")), f"{f}.post")
    x = x + n(mix(x), f"{a}.post")
    return x + n(feed(x), f"{f}.post")


def decoder(
    tokens: Array, w: Weights, config: Mapping[str, Any], segments: Array | None = None
) -> Array:
    """Logits `[B, T, V]` of a whole model."""
    table = w["embed.table.weight"]
    x = table[tokens]
    if config["embed"].get("scale") == "sqrt_dim":
        x = x * math.sqrt(config["dim"])
    position = config["position"]
    for b in range(len(tokens)):
        at = restart(segments[b]) if segments is not None else np.arange(tokens.shape[1])
        if position["kind"] == "learned":
            x[b] += w["position.table.weight"][at]
        if position["kind"] == "sinusoidal":
            x[b] += sinusoids(at, config["dim"], position.get("theta", 10000.0))
    for i in range(config["n_layers"]):
        names = config.get("pattern")
        kind = config["blocks"][names[i % len(names)]] if names else config["block"]
        x = block(x, below(w, f"stack.blocks.{i}"), kind, position, segments)
    x = norm(x, below(w, "norm"), config["norm"])
    head = config["head"]
    logits = x @ (table if head["tied"] else w["head.weight"]).T + w.get("head.bias", 0.0)
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
