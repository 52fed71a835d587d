"""When to end: signals, and waits that a signal cuts short."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """A wish to end, by SIGTERM, SIGINT or `wish`; what waits for it or for a connection's word wakes at once."""

    def __init__(self) -> None:
        self.wanted = False
        self._read, self._write = os.pipe()
        self._cancel: Callable[[], object] | None = None

    def close(self) -> None:
        """Free what it holds."""
        os.close(self._read)
        os.close(self._write)

    def wish(self) -> None:
        """Ask to end; may be called from a signal handler or another thread."""
        if not self.wanted:
            self.wanted = True
            os.write(self._write, b".")
            if self._cancel is not None:
                self._cancel()

    @contextmanager
    def cancelling(self, cancel: Callable[[], object]) -> Iterator[None]:
        """Call `cancel` when the wish comes within the block, or came before."""
        self._cancel = cancel
        try:
            if self.wanted:
                cancel()
            yield
        finally:
            self._cancel = None

    @contextmanager
    def by_signals(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT for the wish; in the main thread only."""

        def handle(number: int, frame: FrameType | None) -> None:
            self.wish()

        before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self, seconds: float, descriptor: int | None = None) -> bool:
        """Wait so long, or until the wish or something to read comes; return whether there is something to read."""
        descriptors = [self._read] if descriptor is None else [self._read, descriptor]
        readable, _, _ = select.select(descriptors, [], [], seconds)
        return descriptor is not None and descriptor in readable
