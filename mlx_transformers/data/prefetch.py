"""Prefetches batches on another thread: mlx-data if installed, else a Python thread."""

import threading
from collections.abc import Callable, Generator
from importlib.util import find_spec
from queue import Empty, Full, Queue
from typing import Any, Literal

import numpy as np

from .shards import Batch

Loader = Literal["mlx-data", "thread", "none"]

AHEAD = 8
"""Batches prefetched."""

BUFFER = 4096
"""Batches per mlx-data buffer, which has to be finite."""


def best_loader() -> Loader:
    """Return the fastest loader installed."""
    return "mlx-data" if find_spec("mlx") and find_spec("mlx.data") else "thread"


def prefetched(make: Callable[[int], Batch], loader: Loader) -> Generator[Batch, None, None]:
    """Yield `make(0)`, `make(1)`, … without end, built before they are needed."""
    if loader == "mlx-data":
        return _mlx_data(make)
    return _thread(make) if loader == "thread" else _at_once(make)


def _at_once(make: Callable[[int], Batch]) -> Generator[Batch, None, None]:
    number = 0
    while True:
        yield make(number)
        number += 1


def _mlx_data(make: Callable[[int], Batch]) -> Generator[Batch, None, None]:
    import mlx.data as dx

    failed: list[BaseException] = []
    flags: set[str] = set()

    def load(sample: dict[str, Any]) -> dict[str, Any]:
        # An exception raised in a transform aborts the process when the stream is freed.
        try:
            arrays = make(int(sample["number"]))
            flags.update(name for name, array in arrays.items() if array.dtype == np.bool_)
            # mlx-data has no bool arrays.
            return {n: a.view(np.uint8) if a.dtype == np.bool_ else a for n, a in arrays.items()}
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


def _thread(make: Callable[[int], Batch]) -> Generator[Batch, None, None]:
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


def _fill(
    make: Callable[[int], Batch], ready: "Queue[Batch | BaseException]", stop: threading.Event
) -> None:
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
