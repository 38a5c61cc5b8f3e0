"""Compiled functions that count their traces."""

import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

import mlx.core as mx


class Traced:
    """`mx.compile(f)` with captured state, counting traces: each costs seconds of compilation.

    `state` is both an input and an output, since `f` reads it and changes it. A bound method is
    held weakly, since its object usually owns this one: a cycle of references would keep the arrays
    of a finished run alive until the garbage collector's next pass.
    """

    def __init__(self, f: Callable[..., Any], state: list[Any]) -> None:
        function_ref: Callable[[], Callable[..., Any] | None]
        function_ref = weakref.WeakMethod(f) if isinstance(f, MethodType) else lambda: f
        traced = self._traced = [0]

        def counted(*args: object) -> Any:
            traced[0] += 1
            function = function_ref()
            assert function is not None, "a compiled method was called after its object was gone"
            return function(*args)

        self._compiled = mx.compile(counted, inputs=state, outputs=state)

    @property
    def traces(self) -> int:
        """Number of traces so far: one for each shape of arguments."""
        return self._traced[0]

    def __call__(self, *args: object) -> Any:
        return self._compiled(*args)


def compiling() -> bool:
    """Whether `mx.compile` is enabled; if not, every call of a `Traced` is a trace.

    MLX_DISABLE_COMPILE, `mx.disable_compile()` and a missing compiler disable it.
    """
    probe, calls = Traced(lambda x: x + 1, []), 3
    for _ in range(calls):
        mx.eval(probe(mx.array(0)))
    return probe.traces < calls  # the first function of a process may be traced twice
