"""Check: what `geosearch doctor` says of one part."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One part: its state is 'ok', 'warn' (works, but) or 'fail'; `mend` says what to do about the last two."""

    name: str
    state: str
    found: str
    mend: str | None = None
