"""TTT-Linear: a linear model per head that learns by gradient descent while it reads.

The state is the weight W and bias c of `f(x) = x + LN(x W + c)`. Each token is a training example:
from its key k, f is to give its value v; one step of size η on the squared error follows. Within a
mini-batch all gradients are taken at W of its start, so that it is computed by matrix products
(the dual form). Sun et al. 2024, "Learning to (Learn at Test Time)" (arXiv:2407.04620), sections
2.3 to 2.7, with the normalised inner model of its code.
"""

import mlx.core as mx

from mlx_transformers.core.shapes import BHTK


def ttt_linear(
    q: BHTK,
    k: BHTK,
    v: BHTK,
    rates: mx.array,
    scale: mx.array,
    shift: mx.array,
    state: tuple[mx.array, mx.array],
    *,
    batch: int,
    eps: float = 1e-6,
) -> tuple[BHTK, tuple[mx.array, mx.array]]:
    """Read a row in mini-batches of tokens; equals `ttt_linear_naive`.

    Args:
        q: queries, scaled.
        k: keys, the inputs of the inner model.
        v: values, its targets.
        rates: step sizes `[B, H, T, 1]`; that of a token weighs the gradients of all tokens of its
            mini-batch so far.
        scale, shift: of the layer norm of the inner model, `[H, K]`.
        state: W `[B, H, K, K]` and c `[B, H, 1, K]` before the row.
        batch: tokens of a mini-batch; the last may be shorter.
        eps: of the layer norm.

    Returns:
        Outputs, and the state behind the row.
    """
    out = []
    for start in range(0, q.shape[2], batch):
        q_b, k_b, v_b, eta = (x[:, :, start : start + batch] for x in (q, k, v, rates))
        W, c = state
        grad = _gradient(k_b @ W + c, v_b - k_b, scale, shift, eps)
        steps = mx.tril(mx.broadcast_to(eta, (*eta.shape[:3], eta.shape[2])))
        y = q_b @ W + c - (steps * (q_b @ k_b.swapaxes(-1, -2)) + steps) @ grad
        last = eta[:, :, -1:]
        state = (
            W - (last * k_b).swapaxes(-1, -2) @ grad,
            c - (last * grad).sum(axis=2, keepdims=True),
        )
        out.append(y + _norm(y, eps)[0] * scale[:, None] + shift[:, None])
    return (out[0] if len(out) == 1 else mx.concatenate(out, axis=2)), state


def ttt_linear_naive(
    q: BHTK,
    k: BHTK,
    v: BHTK,
    rates: mx.array,
    scale: mx.array,
    shift: mx.array,
    state: tuple[mx.array, mx.array],
    *,
    batch: int,
    eps: float = 1e-6,
) -> tuple[BHTK, tuple[mx.array, mx.array]]:
    """The definition, token by token, with the inner gradient left to autodiff."""

    def error(W: mx.array, c: mx.array, key: mx.array, target: mx.array) -> mx.array:
        fit = _norm(key @ W + c, eps)[0] * scale[:, None] + shift[:, None]
        return ((fit - target) ** 2).sum() / 2

    out = []
    W, c = state
    for start in range(0, q.shape[2], batch):
        grads = [mx.zeros_like(W), mx.zeros_like(c)]
        now = W, c
        for t in range(start, min(start + batch, q.shape[2])):
            key, target = k[:, :, t : t + 1], (v - k)[:, :, t : t + 1]
            new = mx.grad(error, argnums=(0, 1))(W, c, key, target)
            grads = [a + b for a, b in zip(grads, new, strict=True)]
            eta = rates[:, :, t : t + 1]
            now = W - eta * grads[0], c - eta * grads[1]
            y = q[:, :, t : t + 1] @ now[0] + now[1]
            out.append(y + _norm(y, eps)[0] * scale[:, None] + shift[:, None])
        W, c = now
    return mx.concatenate(out, axis=2), (W, c)


def _norm(x: mx.array, eps: float) -> tuple[mx.array, mx.array]:
    """x with mean 0 and variance 1, and the factor that made it so."""
    centred = x - x.mean(axis=-1, keepdims=True)
    factor = mx.rsqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    return centred * factor, factor


def _gradient(
    fit: mx.array, target: mx.array, scale: mx.array, shift: mx.array, eps: float
) -> mx.array:
    """The derivative of `|LN(fit) - target|² / 2` by `fit`."""
    unit, factor = _norm(fit, eps)
    g = (unit * scale[:, None] + shift[:, None] - target) * scale[:, None]
    along = (g * unit).mean(axis=-1, keepdims=True)
    return (g - g.mean(axis=-1, keepdims=True) - unit * along) * factor
