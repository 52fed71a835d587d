"""One lock a data folder: of several commands that start or stop the cluster at once, one does and the others wait."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geosearch.errors import ServerError


@contextmanager
def lock(folder: Path, timeout_s: float = 300) -> Iterator[None]:
    """Hold the folder's lock. It ends with the process, so kill -9 leaves nothing behind."""
    # flock on the folder itself: no lock file whose owner or mode could be wrong.
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ServerError(f"{folder} cannot be opened ({error.strerror}). Name another in GEOSEARCH_HOME.") from error
    try:
        end = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ServerError(
                        f"another geosearch command has been starting or stopping the cluster in {folder} for "
                        f"{timeout_s:g} s. Look for it with `ps`, end it, and try again."
                    ) from None
                time.sleep(0.05)
            except OSError as error:
                raise ServerError(
                    f"{folder} cannot be locked ({error.strerror}), as on some network drives. "
                    "Name a folder on a local disk in GEOSEARCH_HOME."
                ) from error
        yield
    finally:
        os.close(handle)
