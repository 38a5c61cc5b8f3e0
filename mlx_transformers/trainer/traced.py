"""Compiled functions that count their traces."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx


class Traced:
    """`mx.compile(f)` with captured state, counting traces: each costs seconds of compilation.

    `state` is both an input and an output, since `f` reads it and changes it.
    """

    def __init__(self, f: Callable[..., Any], state: list[Any]) -> None:
        self.traces = 0

        def counted(*args: Any) -> Any:
            self.traces += 1
            return f(*args)

        self._compiled = mx.compile(counted, inputs=state, outputs=state)

    def __call__(self, *args: Any) -> Any:
        return self._compiled(*args)


def compiling() -> bool:
    """Whether `mx.compile` is enabled; if not, every call of a `Traced` is a trace.

    MLX_DISABLE_COMPILE, `mx.disable_compile()` and a missing compiler disable it.
    """
    probe = Traced(lambda x: x + 1, [])
    for _ in range(2):
        mx.eval(probe(mx.array(0)))
    return probe.traces == 1
