"""Every exception of geosearch. A message says what happened, to what, and what to do next."""

from __future__ import annotations


class GeosearchError(Exception):
    """Base of all: catch this one to catch them all. The command line prints it and exits with status 1."""


class DatabaseError(GeosearchError):
    """The database cannot be reached, is too old, lacks an extension or a permission."""


class ServerError(DatabaseError):
    """The private PostgreSQL cluster cannot be created, started or stopped."""


class SchemaError(DatabaseError):
    """The database's schema is missing, older or newer than this geosearch."""


class UnknownNameError(GeosearchError):
    """No archive, image, model, space or reader bears that name; the message lists those that exist."""

    def __init__(self, kind: str, name: str, known: list[str] | None = None, remedy: str = "") -> None:
        text = f"no {kind} is named {name!r}"
        if known:
            text += f"; there {'is' if len(known) == 1 else 'are'}: {', '.join(known)}"
        elif known is not None:
            text += f"; there is no {kind} yet"
        super().__init__(f"{text}. {remedy}".rstrip())
        self.kind, self.name, self.known = kind, name, known


class InputError(GeosearchError):
    """Something that was given cannot be used: a coordinate, a file, a vector, an option."""


class CatalogError(GeosearchError):
    """A source as a whole cannot be catalogued (a single bad row is a reject, not an error)."""


class ModelError(GeosearchError):
    """A model cannot be loaded or does not do what is asked of it."""


class WeightsError(ModelError):
    """A model's weights are missing or are not what they should be; the message says how to get them."""
