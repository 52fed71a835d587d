"""Files that are there whole or not at all: written beside their place and moved."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from geosearch.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; what has its name stays until the new one is whole. Raises InputError.

    A device, a pipe or a link such as /dev/stdout is written to and not replaced.
    """
    beside = path.parent / f".{os.getpid()}.tmp"
    try:
        if path.exists() and (path.is_symlink() or not path.is_file()):
            path.write_bytes(content)
            return
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); name another file") from error
