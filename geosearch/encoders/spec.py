"""A model's name, parsed: what every family of names gives, and what they share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Published:
    """Where weights that others publish are: `stem` is their file's name in the weights folder, without a suffix.

    repository and file: of a hub; no repository where `place` says in words where the file is.
    package: an installed library that brings the file along, at a path inside it.
    """

    stem: str
    file: str
    repository: str = ""
    place: str = ""
    package: tuple[str, str] | None = None


@dataclass(frozen=True)
class Spec:
    """A parsed name. Either folder is set, or architecture with a tag or a file (published weights if None)."""

    name: str
    family: str
    architecture: str | None = None
    tag: str | None = None
    file: Path | None = None
    folder: Path | None = None
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    pinned: str | None = None
    published: Published | None = None


def split_pin(name: str) -> tuple[str, str | None]:
    """Return (the name without it, the digits of the weights' hash after `@`)."""
    match = re.fullmatch(r"(.+)@([0-9a-f]{8,64})", name)
    return (match[1], match[2]) if match else (name, None)


def pin(name: str, pinned: str | None) -> str:
    """Return a name with its pin put back."""
    return f"{name}@{pinned}" if pinned else name


def shipped(name: str) -> Path:
    """Return the folder of a model that comes with geosearch."""
    from geosearch import weights

    return Path(weights.__path__[0]) / name
