"""Image files on disk: walked in one order, hashed, and found by the name that a table gives them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from geosearch.errors import CatalogError

MISSING_FILE = "image file not found"


def walk(folder: Path) -> Iterator[Path]:
    """Yield the folder's files in sorted order, its subfolders' too; hidden ones and linked folders are left out."""

    def unreadable(error: OSError) -> None:
        raise CatalogError(f"{error.filename} cannot be read: {error.strerror}") from error

    for here, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(here) / name
            if not name.startswith(".") and path.is_file():  # a pipe would never end
                yield path


def with_suffix(source: Path, suffixes: frozenset[str]) -> list[Path]:
    """Return the source itself, or the files below it whose suffix (lower case, with its dot) is one of these."""
    if source.is_file():
        return [source]
    return [path for path in walk(source) if path.suffix.lower() in suffixes]


def name_below(path: Path, source: Path) -> str:
    """Return an image's name: its path below the source, or the file's own name when it is the source."""
    return path.relative_to(source).as_posix() if source.is_dir() else path.name


def sha256_of(path: Path) -> bytes:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


class FileFinder:
    """Turns what a source calls its image file into a path or URL, and the content's hash where the file is here."""

    def __init__(self, folder: Path | None = None) -> None:
        self._by_name: dict[str, Path] = {}
        self._by_stem: dict[str, Path] = {}
        for path in walk(folder) if folder else ():
            self._by_name.setdefault(path.name.lower(), path)
            self._by_stem.setdefault(path.stem.lower(), path)
        self._searching = folder is not None

    def find(self, reference: str | None, base: Path, name: str) -> tuple[str | None, bytes | None, bool]:
        """Return (uri, content_sha256, missing): a file of the folder by its name, else the reference made absolute.

        reference: a URL, or a path relative to `base`. name: the image's own name, which may name a file too.
        missing: a path was given and no file is there.
        """
        if self._searching:
            for wanted in (_file_name(reference), name):
                found = wanted and (self._by_name.get(wanted.lower()) or self._by_stem.get(_stem(wanted)))
                if found:
                    return str(found), sha256_of(found), False
        if not reference:
            return None, None, False
        if "://" in reference and not reference.startswith("file://"):
            return reference, None, False
        path = base.absolute() / (unquote(urlsplit(reference).path) if reference.startswith("file://") else reference)
        path = Path(os.path.normpath(path))
        try:
            return (str(path), sha256_of(path), False) if path.is_file() else (str(path), None, True)
        except (OSError, ValueError):  # ValueError: a NUL in the name
            return str(path), None, True


def _file_name(reference: str | None) -> str | None:
    if not reference:
        return None
    return PurePosixPath(unquote(urlsplit(reference).path) if "://" in reference else reference).name or None


def _stem(name: str) -> str:
    return PurePosixPath(name).stem.lower() if PurePosixPath(name).suffix else name.lower()
