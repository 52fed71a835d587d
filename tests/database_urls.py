"""Addresses of databases, for tests."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit


def replace_in_url(url: str, *, database: str, user: str | None = None, password: str | None = None) -> str:
    """Return the URL with another database and, where given, another user."""
    parts = urlsplit(url)
    netloc = parts.netloc
    if user is not None:
        login = quote(user) + (f":{quote(password)}" if password else "")
        netloc = f"{login}@{netloc.rpartition('@')[2]}"
    return urlunsplit((parts.scheme, netloc, f"/{quote(database)}", parts.query, parts.fragment))
