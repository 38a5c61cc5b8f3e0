"""One thread that runs the model; requests wait their turn, and stop when their client is gone."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
Item = TypeVar("Item")


class Busy(Exception):
    """Too many requests are waiting."""


class Worker(Generic[T]):
    """Runs everything that touches arrays in a single thread.

    Attributes:
        state: what `load` returned.
    """

    def __init__(self, load: Callable[[], T], waiting: int) -> None:
        """
        Args:
            load: opens the model, in the thread that will use it.
            waiting: requests that may wait or run at once.
        """
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._waiting, self._active = waiting, 0
        self._stops: set[threading.Event] = set()
        self.state: T = self._pool.submit(load).result()

    async def run(self, make: Callable[[T], Iterator[Item]]) -> AsyncGenerator[Item, None]:
        """Yield the items of an iterator that runs in the thread. It is closed after its next item
        when the caller goes away.

        Raises:
            Busy: too many requests are waiting.
        """
        if self._active >= self._waiting:
            raise Busy
        loop, stop = asyncio.get_running_loop(), threading.Event()
        queue: asyncio.Queue[tuple[str, Item | BaseException | None]] = asyncio.Queue()

        def put(kind: str, value: Item | BaseException | None = None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, (kind, value))

        def work() -> None:
            try:
                if stop.is_set():
                    return
                items = make(self.state)
                for item in items:
                    if stop.is_set():
                        return
                    put("item", item)
                put("end")
            except Exception as error:  # it is raised again where the caller waits
                put("error", error)

        self._active += 1
        self._stops.add(stop)
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._finished, stop))
        try:
            while True:
                kind, value = await queue.get()
                if kind == "end":
                    return
                if kind == "error":
                    assert isinstance(value, BaseException)
                    raise value
                yield value  # type: ignore[misc]
        finally:
            stop.set()

    def _finished(self, stop: threading.Event) -> None:
        self._active -= 1
        self._stops.discard(stop)

    def close(self) -> None:
        """End what runs after its next item, and the thread."""
        for stop in list(self._stops):
            stop.set()
        self._pool.shutdown(cancel_futures=True)
