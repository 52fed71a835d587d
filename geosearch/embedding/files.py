"""An image's uri → a file on this machine, its bytes and their hash."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from geosearch.errors import InputError

# Smaller files are read once, for the hash and the decoder alike; larger ones are never held in memory whole.
IN_MEMORY = 64 * 1024 * 1024


class Contents(NamedTuple):
    """What a decoder gets: the bytes of a file, or its path where the file is large; and the file's SHA-256."""

    source: bytes | Path
    sha256: bytes


def locate(uri: str | None, root: str | None) -> Path:
    """Return the file that a uri means: an absolute path, a file:// uri, or a path within the archive's root.

    Raises InputError, with the remedy, for anything else: nothing is fetched from a network.
    """
    if not uri:
        raise InputError(
            "the image has no uri: catalogue it from its file, or import its vector (`geosearch embed import`)"
        )
    if "\0" in uri:
        raise InputError(f"the uri {uri!r} holds a zero byte; correct it in the catalogue's source")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", uri)  # two letters at least: C:\ is no scheme
    if scheme and scheme[1].lower() == "file":
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            raise InputError(f"{uri}: lies on another machine ({parts.netloc}); copy it here and catalogue the copy")
        return Path(url2pathname(parts.path))
    if scheme and ("://" in uri or scheme[1].lower() in ("http", "https", "s3", "gs", "az", "ftp")):
        raise InputError(
            f"{uri}: is remote and is not fetched; download the files, and catalogue the copies or import vectors "
            "made elsewhere (`geosearch embed import`)"
        )
    path = Path(uri)
    if path.is_absolute():
        return path
    if not root:
        raise InputError(f"{uri}: is a relative path and its archive has no root; catalogue it with absolute paths")
    inside = os.path.normpath(uri)
    if inside.startswith(".."):
        raise InputError(f"{uri}: leads out of the archive's root {root}; correct it in the catalogue's source")
    if not root.startswith(("/", "file:")) and not Path(root).is_absolute():
        raise InputError(
            f"{uri}: its archive's root {root} is no folder of this machine; catalogue it with absolute paths"
        )
    return locate(root, None) / inside


def read(path: Path) -> Contents:
    """Return a file's contents and hash. Raises InputError when it is gone or cannot be read."""
    try:
        if not path.is_file():  # nor a pipe or a device, which would never end
            raise InputError(f"{path}: there is no such file; was it moved or deleted? Catalogue its folder again.")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > IN_MEMORY:
                return Contents(path, hashlib.file_digest(file, "sha256").digest())
            data = file.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    return Contents(data, hashlib.sha256(data).digest())
