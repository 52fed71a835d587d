"""Problems: what is doubtful about an image that is catalogued all the same. Kept in ``image.problems``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from geosearch.catalog.batch import Batch, Reject, unstorable
from geosearch.catalog.footprints import centres
from geosearch.geometry import distance_m

IMPOSSIBLE_NADIR = "impossible nadir"
SELF_CROSSING = "self-crossing footprint"
NO_AREA = "footprint without area"
FUTURE = "date in the future"

# The horizon: from h above a sphere one sees as far as R · arccos(R / (R + h)), which is 2 300 km at h = 440 km,
# the highest that the space station flew. What a photograph shows cannot lie beyond; its middle least of all.
# In 17 763 real photographs the distances stop at 1 566 km and go on, for ten wrong ones, at 2 370 km.
HORIZON_M = 2_300_000.0
MAX_NAME = 1000  # characters; a unique index holds at most 2 704 bytes


def flag(batch: Batch, now: datetime | None = None) -> Batch:
    """Add what can be seen from the row alone: an impossible nadir, a date in the future (more than a day)."""
    both = ~np.isnan(batch.nadir).any(axis=1) & np.array([shape is not None for shape in batch.footprint], bool)
    rows = np.flatnonzero(both)
    if len(rows):
        lat, lon = centres(batch.footprint[rows])
        away = distance_m(batch.nadir[rows, 0], batch.nadir[rows, 1], lat, lon)
        for i in rows[away > HORIZON_M]:
            batch.problems[i] += (IMPOSSIBLE_NADIR,)
    # A day of grace: clocks and time zones.
    latest = (now or datetime.now(UTC)) + timedelta(days=1)
    bound = latest.isoformat()[:10]
    for i, moment in enumerate(batch.captured_at):
        # Text compares first: dates in the past, nearly all, cost no parsing.
        if moment and moment[:10] >= bound and datetime.fromisoformat(moment) > latest:
            batch.problems[i] += (FUTURE,)
    return batch


def refuse(batch: Batch, seen: dict[str, int]) -> Batch:
    """Turn rows without a usable name, with one that this source used before, or with broken text into rejects.

    seen: names of the run so far with their lines; the first row of a name is the one that counts.
    """
    texts = list(zip(batch.name, (uri or "" for uri in batch.uri), batch.properties, strict=True))
    broken = unstorable("".join(map("".join, texts))) is not None  # all at once: nearly always nothing is
    keep = np.ones(len(batch), bool)
    for i, name in enumerate(batch.name):
        line = int(batch.line[i])
        if not name:
            reason = "the image has no name"
        elif len(name) > MAX_NAME:
            reason = f"the name has {len(name)} characters, more than {MAX_NAME}"
        elif broken and (fault := unstorable("".join(texts[i]))):
            reason = f"its name, uri or properties: {fault}"
        elif name in seen:
            reason = "an image of that name came before" + (f", on line {seen[name]}" if seen[name] else "")
        else:
            seen[name] = line
            continue
        keep[i] = False
        batch.rejects.append(Reject(reason, line or None, name[:MAX_NAME] or None, batch.properties[i]))
    return batch.only(keep)
