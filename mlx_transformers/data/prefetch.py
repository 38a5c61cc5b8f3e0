"""Batches made ahead, on another thread: by mlx-data where it is installed, else by Python."""

import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from queue import Empty, Full, Queue
from typing import Any, Literal

import numpy as np

from .batching import Batch

Loader = Literal["mlx-data", "thread", "none"]

AHEAD = 8
"""Batches that wait ready."""

BUFFER = 4096
"""Batches that one mlx-data buffer plans; a new one is built after them."""


def best_loader() -> Loader:
    """What can be had here."""
    return "mlx-data" if find_spec("mlx") and find_spec("mlx.data") else "thread"


def prefetched(make: Callable[[int], Batch], loader: Loader) -> Iterator[Batch]:
    """`make(0)`, `make(1)`, … in order, without end, made ahead of their use."""
    if loader == "mlx-data":
        return _mlx_data(make)
    return _thread(make) if loader == "thread" else _at_once(make)


def _at_once(make: Callable[[int], Batch]) -> Iterator[Batch]:
    number = 0
    while True:
        yield make(number)
        number += 1


def _mlx_data(make: Callable[[int], Batch]) -> Iterator[Batch]:
    import mlx.data as dx

    failed: list[BaseException] = []
    flags: set[str] = set()

    def load(sample: dict[str, Any]) -> dict[str, Any]:
        # An exception that leaves a transform aborts the process when the stream is freed.
        try:
            made = make(int(sample["number"]))
            flags.update(name for name, array in made.items() if array.dtype == np.bool_)
            # The library takes no truth values.
            return {n: a.view(np.uint8) if a.dtype == np.bool_ else a for n, a in made.items()}
        except BaseException as error:
            failed.append(error)
            return {"failed": np.ones(1, dtype=np.int32)}

    start = 0
    while True:
        numbers = [{"number": number} for number in range(start, start + BUFFER)]
        stream = (
            dx.buffer_from_vector(numbers)
            .sample_transform(load)
            .ordered_prefetch(prefetch_size=AHEAD, num_thread=1)
        )
        for batch in stream:
            if "failed" in batch:
                raise failed[0]
            yield {n: a.view(np.bool_) if n in flags else a for n, a in batch.items()}
        start += BUFFER


def _thread(make: Callable[[int], Batch]) -> Iterator[Batch]:
    ready: Queue[Batch | BaseException] = Queue(AHEAD)
    stop = threading.Event()
    worker = threading.Thread(target=_fill, args=(make, ready, stop), daemon=True)
    worker.start()
    try:
        while True:
            batch = ready.get()
            if isinstance(batch, BaseException):
                raise batch
            yield batch
    finally:
        stop.set()
        while not ready.empty():
            try:
                ready.get_nowait()
            except Empty:
                break
        worker.join()


def _fill(make: Callable[[int], Batch], ready: Queue[Any], stop: threading.Event) -> None:
    number = 0
    item: Batch | BaseException | None = None
    while not stop.is_set():
        if item is None:
            try:
                item = make(number)
            except BaseException as error:
                item = error
        try:
            ready.put(item, timeout=0.1)
        except Full:
            continue
        if isinstance(item, BaseException):
            return
        number, item = number + 1, None
