"""Every fast op beside its plain form: time and peak memory of forward and backward, in one run.

    python tools/bench_ops.py [--rounds 7] [name ...]

Shapes are the pieces of a 5.5M-parameter LLaMA step, 8 rows of 256 tokens. The forms of a group
take turns, so a busy machine slows all of them; compare within a group alone.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import mlx_transformers  # noqa: F401  (prepares the backend, before MLX)

import mlx.core as mx  # isort: skip

from mlx_transformers.ops.activations import ACTIVATIONS, PLAIN
from mlx_transformers.ops.attention import attention, attention_fused, attention_naive
from mlx_transformers.ops.glu import glu, glu_naive
from mlx_transformers.ops.grouped_matmul import Dispatch, DispatchNaive
from mlx_transformers.ops.masks import Mask
from mlx_transformers.ops.rotary import rotate, rotate_fused
from mlx_transformers.ops.xent import (
    cross_entropy,
    cross_entropy_fused,
    cross_entropy_naive,
    linear_cross_entropy,
    linear_cross_entropy_naive,
)

Form = Callable[..., mx.array]
Group = tuple[dict[str, Form], list[mx.array]]


def attend(rows: int, length: int, window: int | None) -> Group:
    how = {"scale": 32**-0.5, "mask": Mask(window=window)}
    shapes = [(rows, heads, length, 32) for heads in (8, 4, 4)]
    forms = {"mx.fast": attention_fused, "naive": attention_naive, "ours": attention}
    return (
        {name: partial(form, **how) for name, form in forms.items()},
        [mx.random.normal(shape) for shape in shapes],
    )


def loss(n: int, vocab_size: int) -> Group:
    rest = (mx.random.randint(0, vocab_size, (n,)), mx.ones(n))
    forms = {"mx.fast": cross_entropy_fused, "naive": cross_entropy_naive, "ours": cross_entropy}
    return (
        {name: lambda x, f=form: f(x, *rest)[0] for name, form in forms.items()},
        [mx.random.normal((n, vocab_size))],
    )


def head(n: int, vocab_size: int, dim: int) -> Group:
    rest = (mx.random.randint(0, vocab_size, (n,)), mx.ones(n))
    forms = {"naive": linear_cross_entropy_naive, "ours": linear_cross_entropy}
    return (
        {name: lambda h, w, f=form: f(h, w, *rest)[0] for name, form in forms.items()},
        [mx.random.normal((n, dim)), mx.random.normal((vocab_size, dim)) * 0.02],
    )


def gate(name: str) -> Group:
    forms = {
        "naive": lambda g, u: glu_naive(g, u, name),
        "ours": lambda g, u: glu(g, u, name),
    }
    return forms, [mx.random.normal((2048, 768)) for _ in range(2)]


def activate(name: str) -> Group:
    return {"naive": PLAIN[name], "ours": ACTIVATIONS[name]}, [mx.random.normal((2048, 768))]


def turn() -> Group:
    inv_freq = 1e4 ** -(mx.arange(0, 32, 2) / 32)
    forms = {"mx.fast": rotate_fused, "ours": rotate}
    return (
        {name: lambda x, f=form: f(x, inv_freq) for name, form in forms.items()},
        [mx.random.normal((8, 8, 256, 32))],
    )


def route(n: int, n_experts: int, top_k: int, dim: int, hidden_dim: int) -> Group:
    choice = mx.argpartition(mx.random.normal((n, n_experts)), top_k, axis=-1)[:, :top_k]

    def ffn(make: Callable[..., Dispatch | DispatchNaive], *args: mx.array) -> mx.array:
        x, gates, w_gate, w_up, w_down = args
        d = make(choice, n_experts)
        rows = d.gather(x)
        rows = glu(d.linear(rows, w_gate), d.linear(rows, w_up), "silu")
        return d.combine(d.linear(rows, w_down), gates)

    forms = {
        "every expert": DispatchNaive,
        "single rows": partial(Dispatch, block=1),
        "ours": Dispatch,
    }
    up, down = (n_experts, hidden_dim, dim), (n_experts, dim, hidden_dim)
    shapes = [(n, dim), (n, top_k), up, up, down]
    return (
        {name: partial(ffn, make) for name, make in forms.items()},
        [mx.random.normal(shape) * 0.1 for shape in shapes],
    )


GROUPS: dict[str, Callable[[], Group]] = {
    "attention 8x256": lambda: attend(8, 256, None),
    "attention 1x2048 window 128": lambda: attend(1, 2048, 128),
    "cross-entropy 2048x4096": lambda: loss(2048, 4096),
    "linear cross-entropy 2048x32000x256": lambda: head(2048, 32000, 256),
    "swiglu 2048x768": lambda: gate("silu"),
    "geglu 2048x768": lambda: gate("gelu_tanh"),
    "silu 2048x768": lambda: activate("silu"),
    "rotary 8x8x256x32": turn,
    "experts 2048 tokens, 2 of 8, 256x384": lambda: route(2048, 8, 2, 256, 384),
}


def measure(forms: dict[str, Form], args: list[mx.array], rounds: int) -> None:
    """Print each form's best time and peak, and the ratio of the first form's to both."""
    mx.eval(args)

    def step(form: Form, *args: mx.array) -> tuple[mx.array, ...]:
        def total(*args: mx.array) -> mx.array:
            return mx.square(form(*args)).sum()

        return mx.value_and_grad(total, argnums=tuple(range(len(args))))(*args)

    steps = {name: mx.compile(partial(step, form)) for name, form in forms.items()}
    seconds, peak = dict.fromkeys(steps, float("inf")), dict.fromkeys(steps, 0)
    for run in steps.values():
        mx.eval(run(*args))
    for _ in range(rounds):
        for name, run in steps.items():
            mx.reset_peak_memory()
            held, start = mx.get_active_memory(), time.perf_counter()
            mx.eval(run(*args))
            seconds[name] = min(seconds[name], time.perf_counter() - start)
            peak[name] = max(peak[name], mx.get_peak_memory() - held)
    first = next(iter(steps))
    for name in steps:
        print(
            f"  {name:13s}{1e3 * seconds[name]:9.1f} ms {seconds[first] / seconds[name]:6.2f} x"
            f"{peak[name] / 2**20:9.1f} MiB {peak[name] / peak[first]:6.2f} of its memory"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="groups whose name holds one of these words")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    for title, make in GROUPS.items():
        if not args.names or any(name in title for name in args.names):
            mx.random.seed(0)
            print(title)
            measure(*make(), args.rounds)


if __name__ == "__main__":
    main()
