"""Work ahead: an iterator that runs in a thread of its own, a little before whoever takes from it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def ahead(source: Iterator[T], size: int = 2) -> Iterator[Iterator[T]]:
    """Give an iterator over `source`, which runs at most `size` items ahead; its exceptions come out here.

    Leaving the block ends the thread at the source's next item.
    """
    waiting: queue.Queue[tuple[str, T | None, BaseException | None]] = queue.Queue(size)
    stopped = threading.Event()

    def put(what: tuple[str, T | None, BaseException | None]) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(what, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in source:
                if not put(("item", item, None)):
                    return
            put(("end", None, None))
        except BaseException as error:
            put(("error", None, error))

    def items() -> Iterator[T]:
        while True:
            kind, item, error = waiting.get()
            if error is not None:
                raise error
            if kind == "end":
                return
            yield item  # type: ignore[misc]

    thread = threading.Thread(target=work, name="geosearch-catalog-reader", daemon=True)
    thread.start()
    try:
        yield items()
    finally:
        stopped.set()
        thread.join()
