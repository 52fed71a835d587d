"""The worker's side of the decoder: a picture of a question → RGB pixels, or a reason, within a time."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from geosearch.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

_HEADER = 64 * 1024
_LOOK_S = 0.1  # between two looks at whether the worker is to end


class InterruptedWorkError(Exception):
    """The worker is to end: what it is at goes back to the others."""


class Decoder:
    """One decoding process, started at the first picture and again after it had to be killed; a context manager.

    seconds: for one picture, reading and fetching included. interrupted: asked while it waits.
    """

    def __init__(self, seconds: float, interrupted: Callable[[], bool]) -> None:
        self.seconds, self.interrupted = seconds, interrupted
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            self._process = None

    def decode(self, data: bytes | None, uri: str | None, max_pixels: int, **rules: Any) -> Image:
        """Return a picture given by its file's bytes or its address; rules are those of `sources.read_source`.

        Raises InputError for a picture that cannot be had, within the time or at all; InterruptedWorkError.
        """
        from PIL import Image

        end = time.monotonic() + self.seconds
        process = self._running()
        request = {"size": len(data or b""), "uri": uri, "max_pixels": max_pixels, "seconds": self.seconds, **rules}
        try:
            self._send(process, json.dumps(request).encode() + b"\n" + (data or b""), end)
            answer = json.loads(self._take_line(end))
            if "reason" in answer:
                raise InputError(str(answer["reason"]))
            width, height = int(answer["width"]), int(answer["height"])
            if not 0 < width * height <= max_pixels:
                raise InputError(f"the picture has {width} × {height} pixels")
            return Image.frombytes("RGB", (width, height), self._take(3 * width * height, end))
        except (BrokenPipeError, EOFError) as error:
            self.close()
            if self.interrupted():
                raise InterruptedWorkError from error
            raise InputError("the picture cannot be read: it crashed the decoder, or filled the memory") from error
        except (ValueError, KeyError, TypeError) as error:  # what it says makes no sense: somebody else speaks for it
            self.close()
            raise InputError("the picture cannot be read") from error
        except TimeoutError as error:
            self.close()
            raise InputError(f"reading the picture took longer than {self.seconds:g} s") from error
        except InterruptedWorkError:
            self.close()
            raise

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            # Nothing of the worker's secrets: an attacker who takes this process over finds no database in it.
            kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "GEOSEARCH_"))}
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "geosearch.worker.decoder"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=kept, bufsize=0,
            )  # fmt: skip
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)  # a process that hangs does not read either
            self._rest = b""
        return self._process

    def _send(self, process: subprocess.Popen[bytes], data: bytes, end: float) -> None:
        assert process.stdin is not None
        descriptor, rest = process.stdin.fileno(), memoryview(data)
        while rest:
            self._check(end)
            if select.select([], [descriptor], [], _LOOK_S)[1]:
                rest = rest[os.write(descriptor, rest) :]

    def _check(self, end: float) -> None:
        if self.interrupted():
            raise InterruptedWorkError
        if time.monotonic() > end:
            raise TimeoutError

    def _take_line(self, end: float) -> bytes:
        while b"\n" not in self._rest:
            if len(self._rest) > _HEADER:
                raise EOFError
            self._rest += self._read(end)
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _take(self, size: int, end: float) -> bytearray:
        # One buffer of just that size, and pieces put into it: a picture may take a gigabyte.
        data, filled = bytearray(size), 0
        piece = self._rest
        while True:
            part = piece[: size - filled]
            data[filled : filled + len(part)] = part
            filled += len(part)
            if filled == size:
                self._rest = piece[len(part) :]
                return data
            piece = self._read(end)

    def _read(self, end: float) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while True:
            self._check(end)
            if select.select([descriptor], [], [], _LOOK_S)[0]:
                piece = os.read(descriptor, 1 << 20)
                if not piece:
                    raise EOFError
                return piece
