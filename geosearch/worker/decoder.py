"""A process of its own that fetches, reads and decodes the pictures of questions: `python -m geosearch.worker.decoder`.

A picture from a stranger may hang or crash a decoder or fill the memory. Here that ends this process and no worker. One
JSON line and the bytes it announces come in, one JSON line and the pixels it announces go out, until the input ends.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import suppress
from typing import Any, BinaryIO

GIB = 1024**3


def main() -> None:
    """Answer requests on standard input until it ends."""
    # A terminal sends these to all processes; this one ends when its worker does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what a library prints must not get among the pixels
    while line := source.readline():
        request = json.loads(line)
        data = source.read(request.pop("size"))
        with suppress(BrokenPipeError):
            _reply(target, request, data)


def _reply(target: BinaryIO, request: dict[str, Any], data: bytes) -> None:
    from geosearch.encoders.pictures import open_image
    from geosearch.errors import GeosearchError
    from geosearch.worker.sources import read_source

    max_pixels, uri = request.pop("max_pixels"), request.pop("uri")
    _limit_memory(max_pixels)
    answer: dict[str, Any] = {}
    pixels = b""
    try:
        if uri is not None:
            data = read_source(uri, **request)
        picture = open_image(data, max_pixels, uri or "the picture")
        if picture.mode != "RGB":
            picture = picture.convert("RGB")
    except GeosearchError as error:
        answer = {"reason": str(error)}
    except Exception as error:  # whatever a decoder makes of hostile bytes is the picture's fault
        answer = {"reason": f"the picture cannot be read ({type(error).__name__}: {error})"}
    else:
        answer, pixels = {"width": picture.width, "height": picture.height}, picture.tobytes()
    target.write(json.dumps(answer).encode() + b"\n")
    target.write(pixels)
    target.flush()


def _limit_memory(max_pixels: int) -> None:
    """Bound this process's address space: what it needs to be there at all, and a few copies of the largest picture."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = 4 * GIB + 16 * max_pixels
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard == resource.RLIM_INFINITY or most < hard:
            resource.setrlimit(resource.RLIMIT_AS, (most, hard))


if __name__ == "__main__":
    main()
