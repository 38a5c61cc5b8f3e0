"""A compiled function that knows how often it was traced."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx


class Traced:
    """`mx.compile(f)` over captured state, counting traces: each is seconds of compilation.

    `state` is captured both ways: what is read must be an input, what a trace leaves behind must
    come back as an output.
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
    """Whether `mx.compile` is in force; where it isn't, every call of a `Traced` is a trace.

    MLX_DISABLE_COMPILE and `mx.disable_compile()` turn it off, and so does a missing compiler.
    """
    probe = Traced(lambda x: x + 1, [])
    for _ in range(2):
        mx.eval(probe(mx.array(0)))
    return probe.traces == 1
