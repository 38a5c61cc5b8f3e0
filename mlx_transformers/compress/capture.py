"""Records the inputs of linear layers while a model reads text."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from ..core.context import Context
from ..layers.adapters.targets import role_of
from ..layers.ffns.expert import ExpertLinear
from ..layers.linear import ResidualLinear, matrix
from ..models.model import Model, last

See = Callable[[str, mx.array], None]
"""Callback for a layer's path and its input `[..., in]`."""


class Recorder(nn.Module):
    """A linear layer that passes its input to a callback first."""

    def __init__(self, layer: nn.Module, see: Callable[[mx.array], None]) -> None:
        super().__init__()
        self.layer = layer
        self._see = see

    def matrix(self) -> mx.array:
        """The layer's weight, `[out, in]`."""
        return matrix(self.layer)

    def __call__(self, x: mx.array) -> mx.array:
        self._see(x)
        y: mx.array = self.layer(x)
        return y


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the plain linear layers of a model by path, routers included."""
    return {p: m for p, m in sorted(model.named_modules()) if type(m) in LINEAR}


def weight_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that are compressed if nothing else is said, by path: plain linear layers
    and stacks of experts, but not routers, which are small and decide for all that follows."""
    return {
        path: module
        for path, module in sorted(model.named_modules())
        if (type(module) in LINEAR or _plain_experts(module)) and not is_router(path, module)
    }


def is_router(path: str, layer: nn.Module) -> bool:
    """Return whether a layer chooses experts, or the tokens that a block computes."""
    return role_of(path, layer) == "router"


def _plain_experts(module: nn.Module) -> bool:
    return isinstance(module, ExpertLinear) and module.packing is None


LINEAR = (nn.Linear, ResidualLinear)


@contextmanager
def recording(model: nn.Module, paths: Iterable[str], see: See) -> Iterator[None]:
    """Call `see` with the inputs of some layers while a `with` block runs."""
    layers = linear_layers(model)
    originals = {path: layers[path] for path in paths}
    recorders = [(path, Recorder(layer, partial(see, path))) for path, layer in originals.items()]
    model.update_modules(tree_unflatten(recorders))
    try:
        yield
    finally:
        model.update_modules(tree_unflatten(list(originals.items())))


def logits_of(model: Model, tokens: mx.array) -> mx.array:
    """Return the logits `[B, T, V]` of tokens `[B, T]`, in float32.

    An encoder-decoder reads the tokens on both sides. A model without a head over the vocabulary
    returns its own output `[B, ...]`.
    """
    head = model.unembedding()
    if head is None:
        output: mx.array = model(tokens)
        return output.astype(mx.float32)
    ctx = Context()
    h = model.hidden(model.embedded({"tokens": tokens, "source": tokens}, ctx), ctx)
    return head.logits_upcast(last(h, tokens.shape[1]))


def read(model: Model, rows: Sequence[mx.array]) -> None:
    """Run a model over batches of rows `[B, T]`, so that recorders are called."""
    for tokens in rows:
        ctx = Context()
        mx.eval(model.hidden(model.embedded({"tokens": tokens}, ctx), ctx))


def second_moments(
    model: Model, paths: Sequence[str], rows: Sequence[mx.array]
) -> tuple[dict[str, mx.array], int]:
    """Return `XᵀX [in, in]` of the inputs of each layer, and the number of tokens."""
    moments: dict[str, mx.array] = {}

    def see(path: str, x: mx.array) -> None:
        flat = x.reshape(-1, x.shape[-1]).astype(mx.float32)
        moments[path] = moments.get(path, mx.zeros(())) + flat.T @ flat
        mx.eval(moments[path])

    with recording(model, paths, see):
        read(model, rows)
    return moments, sum(tokens.size for tokens in rows)
