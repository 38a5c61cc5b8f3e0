"""A training step that keeps optimizer state and gradients in a file, and pages of them in memory.

    for page in reversed(pages):                 whole parameters; the backward ends with the first
        write(g)                                 the sum over microbatches
    norm = |g / weight|                          of all pages
    for page in pages:
        w, m = update(w, clip(g, norm), m)       compiled; g and m are read before it
        write(m)                                 while the next page is computed

The operations on each number are those of the step in memory, so that both give the same weights
to the bit. It is for optimizers whose update of a parameter reads the state of no other parameter.
The file is scratch: checkpoints hold the state, and a resumed run copies it into a new file.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.optimizers as mlx_optim
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from ..core.tree import Tree, assign, select, size_bytes
from ..optim.clip import norm_of, square_sum
from ..optim.periodic import groups_of
from ..runs.stored import Scratch, Stored
from .forward import Batch
from .state import TrainState
from .step import Step
from .traced import Traced

PAGE_BYTES = 32 * 2**20
"""Most state, gradients and new weights of a page; a parameter with more is a page of its own."""

Arrays = dict[str, mx.array]
"""Arrays by dotted path."""


class Page(NamedTuple):
    """Parameters that are updated together, by path; the places of their gradients and state."""

    grads: dict[str, Stored]
    state: dict[str, Stored]


class OffloadedStep(Step):
    """The training step with optimizer state and gradients in a file.

    Args:
        train_state: with an optimizer whose state has not been evaluated; it is moved to the file.
        folder: a folder on the disk to use.
        args, options: as in `Step`.

    Raises:
        RunError: the disk has not enough space, or can't be written.
    """

    def __init__(self, train_state: TrainState, *args: Any, folder: Path, **options: Any) -> None:
        trained = train_state.model.trainable_parameters()
        live = live_state(train_state.optimizer)
        scratch = Scratch(folder, size_bytes(live) + size_bytes(trained))
        names = flat(trained)
        self._grads = {name: scratch.append(mx.zeros_like(x)) for name, x in names.items()}
        for path in [path for path in flat(live) if owner(path, names)]:
            # Looked up one by one, since a list of the arrays would hold all that were computed.
            assign(live, tree_unflatten([(path, scratch.append(flat(live)[path]))]))
        self._keeps = True
        super().__init__(train_state, *args, **options)

    def rebuild(self) -> None:
        """Compile anew; the functions of the pages have shapes of their own."""
        super().rebuild()
        optimizer = self.train_state.optimizer
        self._live = live_state(optimizer)
        sizes = paged_bytes(optimizer, self.model.trainable_parameters())
        stored: dict[str, dict[str, Stored]] = {name: {} for name in sizes}
        for path, leaf in flat(self._live).items():
            if name := owner(path, sizes):
                stored[name][path] = leaf
        self.pages = [
            Page(
                {name: self._grads[name] for name in page},
                {path: leaf for name in page for path, leaf in stored[name].items()},
            )
            for page in divide(sizes)
        ]
        self._moved = Traced(self._move, [])
        self._finished = Traced(self._finish, self.state)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Undo what the steps inside the block changed: they keep neither weights nor state.

        Old weights beside new ones would take twice their memory.
        """
        with super().undone():
            self._keeps = False
            try:
                yield
            finally:
                self._keeps = True

    def _computed(
        self, microbatches: Sequence[Batch], keys: mx.array, rewire_key: mx.array | None
    ) -> Arrays:
        """Compute all gradients before the first update, since their norm is needed."""
        return self.apply(self.gradient(microbatches, keys))

    def gradient(self, microbatches: Sequence[Batch], keys: mx.array) -> Tree:
        """Return weight and parts of the loss, summed over microbatches, and the gradients' norm.

        The gradients themselves are in the file.
        """
        sums: Tree = None
        squares = dict.fromkeys(self._grads, mx.array(0.0))
        for batch, key in zip(microbatches, keys, strict=True):
            outputs = self._first(batch, key)
            grads, more = flat(outputs.pop("grads")), sums is not None
            sums = outputs if sums is None else tree_map(mx.add, sums, outputs)
            scale = self._scale(sums["weight"])
            for page, page_grads in behind(self._summed(grads, more)):
                squares |= {name: square_sum(g / scale) for name, g in page_grads.items()}
                mx.async_eval(squares)
                write(page.grads, page_grads)
            mx.eval(sums, scale, squares)
        return {**sums, "scale": scale, "norm": norm_of(list(squares.values()))}

    def _summed(self, grads: Arrays, more: bool) -> Iterator[tuple[Page, Arrays]]:
        """Yield each page with its gradients, queued; with `more`, added to those in the file."""
        for page in reversed(self.pages):
            page_grads = {name: grads.pop(name) for name in page.grads}
            if more:
                page_grads = {name: page.grads[name].read() + g for name, g in page_grads.items()}
            mx.async_eval(page_grads)
            yield page, page_grads

    def apply(self, total: Tree) -> Arrays:
        """Update the weights by the gradients in the file; returns the step's metrics.

        Args:
            total: what `gradient` returned.
        """
        scale, norm = total.pop("scale"), total.pop("norm")
        scalars = {path: x for path, x in flat(self._live).items() if isinstance(x, mx.array)}
        after = dict(scalars)
        for page, moved in behind(self._updated(scalars, after, scale, norm)):
            if self._keeps:
                write(page.state, moved)
        assign(self._live, tree_unflatten(list(after.items())))
        metrics: Arrays = self._finished(total, scale, norm)
        return metrics

    def _updated(
        self, scalars: Arrays, after: Arrays, scale: mx.array, norm: mx.array
    ) -> Iterator[tuple[Page, Arrays]]:
        """Update page by page; yields each with its new state, queued, and sets `after`."""
        trained = flat(self.model.trainable_parameters())
        for index, page in enumerate(self.pages):
            old = {name: trained.pop(name) for name in page.grads}
            new, moved, scalars_after = self._moved(
                index, old, read(page.grads), read(page.state), scalars, scale, norm
            )
            mx.async_eval(new, moved, scalars_after)
            if self._keeps:
                self.model.update(tree_unflatten(list(new.items())))
            after.update(scalars_after)
            yield page, moved

    def _move(
        self,
        index: int,
        old: Arrays,
        arrays: Arrays,
        state: Arrays,
        scalars: Arrays,
        scale: mx.array,
        norm: mx.array,
    ) -> tuple[Arrays, Arrays, Arrays]:
        """Update the parameters of a page, if all gradients are finite.

        Returns:
            The parameters, their state, and the optimizer's own scalars.
        """
        assign(self._live, tree_unflatten([*state.items(), *scalars.items()]))
        params, finite = tree_unflatten(list(old.items())), mx.isfinite(norm)
        grads = tree_map(lambda g: g / scale, tree_unflatten(list(arrays.items())))
        grads, _ = self.config.clip.build(lambda tree: norm)(grads, params)
        new = flat(self.train_state.optimizer.apply_gradients(grads, params))
        live = flat(self._live)
        moved, after = {path: live[path] for path in state}, {path: live[path] for path in scalars}
        assign(self._live, tree_unflatten(list(self.pages[index].state.items())))
        return (
            select(finite, new, old),
            select(finite, moved, state),
            select(finite, after, scalars),
        )


def flat(tree: Tree) -> dict[str, Any]:
    """Return the leaves of a tree by their dotted paths."""
    return dict(tree_flatten(tree))


def read(places: dict[str, Stored]) -> Arrays:
    """Read arrays from the file."""
    return {path: place.read() for path, place in places.items()}


def write(places: dict[str, Stored], arrays: Arrays) -> None:
    """Write arrays to their places in the file."""
    for path, array in arrays.items():
        places[path].write(array)


def behind(queued: Iterable[tuple[Page, Arrays]]) -> Iterator[tuple[Page, Arrays]]:
    """Yield each item once the next is queued, so that it is written while that is computed."""
    pending: list[tuple[Page, Arrays]] = []
    for item in queued:
        pending.append(item)
        if len(pending) > 1:
            yield pending.pop(0)
    yield from pending


def live_state(optimizer: mlx_optim.Optimizer) -> list[Any]:
    """Return the live containers of the state of all parameter groups."""
    return [part.state for part in groups_of(optimizer)]


def owner(path: str, parameters: dict[str, Any]) -> str | None:
    """Return the parameter that a leaf of `live_state` belongs to; None: to the optimizer."""
    name = path.partition(".")[2]
    while name and name not in parameters:
        name = name.rpartition(".")[0]
    return name or None


def paged_bytes(optimizer: mlx_optim.Optimizer, parameters: Tree) -> dict[str, int]:
    """Return the bytes of each parameter's state, gradient and new weights, by path.

    The state may be in memory or in a file.
    """
    sizes = {name: 2 * array.nbytes for name, array in flat(parameters).items()}
    for path, leaf in flat(live_state(optimizer)).items():
        if name := owner(path, sizes):
            sizes[name] += leaf.nbytes
    return sizes


def divide(sizes: dict[str, int]) -> list[list[str]]:
    """Divide parameters, by their `paged_bytes`, into pages in the model's order."""
    pages: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not pages or size > room:
            pages.append([])
            room = PAGE_BYTES
        pages[-1].append(name)
        room -= size
    return pages


def largest_page(optimizer: mlx_optim.Optimizer, parameters: Tree) -> int:
    """Return the bytes of state, gradients and new weights of the largest page."""
    sizes = paged_bytes(optimizer, parameters)
    return max(sum(sizes[name] for name in page) for page in divide(sizes))
