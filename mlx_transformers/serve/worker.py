"""One thread that runs the model; requests wait their turn, and stop when their client is gone."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar, cast

T = TypeVar("T")
Item = TypeVar("Item")

GRACE_S = 5.0
"""Seconds that a decoding step gets to end before the process leaves without it. The first step of
a model compiles, which takes long on a busy machine."""


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
        self._waiting = waiting
        self._stops: dict[Future[None], threading.Event] = {}
        self.state: T = self._pool.submit(load).result()

    async def run(self, make: Callable[[T], Iterator[Item]]) -> AsyncGenerator[Item, None]:
        """Yield the items of an iterator that runs in the thread. It is closed after its next item
        when the caller goes away; the items end early when the worker is closed.

        Raises:
            Busy: too many requests are waiting.
        """
        if len(self._stops) >= self._waiting:
            raise Busy
        loop, stop = asyncio.get_running_loop(), threading.Event()
        queue: asyncio.Queue[tuple[str, Item | BaseException | None]] = asyncio.Queue()

        def put(kind: str, value: Item | BaseException | None = None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(queue.put_nowait, (kind, value))

        def work() -> None:
            try:
                if stop.is_set():
                    return
                for item in make(self.state):
                    if stop.is_set():
                        return
                    put("item", item)
            except Exception as error:  # it is raised again where the caller waits
                put("error", error)

        def finish(future: Future[None]) -> None:
            self._stops.pop(future, None)
            put("end")

        future = self._pool.submit(work)
        self._stops[future] = stop
        future.add_done_callback(finish)
        try:
            while True:
                kind, value = await queue.get()
                if kind == "end":
                    return
                if kind == "error":
                    assert isinstance(value, BaseException)
                    raise value
                yield cast(Item, value)
        finally:
            stop.set()

    def close(self, grace_s: float = GRACE_S) -> bool:
        """Stop what runs after its next item, refuse what waits, and end the thread.

        Args:
            grace_s: seconds to wait for the item.

        Returns:
            Whether the thread is idle: False where an item takes longer. Python would wait for the
            thread at exit, so that the process has to leave by `os._exit` then.
        """
        for stop in list(self._stops.values()):
            stop.set()
        running = list(self._stops)
        self._pool.shutdown(wait=False, cancel_futures=True)
        return not wait(running, grace_s).not_done
