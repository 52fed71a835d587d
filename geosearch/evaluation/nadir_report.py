"""Nadir-aware retrieval measured: the ranks of right tiles, their recall group by group, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from geosearch.errors import InputError
from geosearch.evaluation import nadir_relevant, nadir_ways
from geosearch.evaluation.nadir_data import Images
from geosearch.evaluation.nadir_vectors import ANGLES, VectorSource
from geosearch.evaluation.nadir_ways import NONE, Block, Prior, Queries, Rotations
from geosearch.evaluation.recall import first_hits
from geosearch.geometry import PHOTO_REACH_M, Floats

Progress = Callable[[str], Callable[[int, int], None]]


def silent(_: str) -> Callable[[int, int], None]:
    """Tell nobody."""
    return lambda _done, _of: None


@dataclass(frozen=True)
class Measured:
    """What was measured. photos: those with a footprint and a vector, q; tiles: all of the database.

    relevant: rows of the tiles that are right for each photograph. answers: by way, rows of the best tiles (q, depth),
    NONE where there are no more or the photograph was not asked, since nothing is right for it. ranks: by way, the
    rank (q,) of the first right tile; inf: not among the answers; NaN: there is none. facts: what is to be said of the
    run, plain JSON values: what was measured, and what was left out, counted.
    """

    photos: Images
    tiles: Images
    relevant: list[NDArray[np.int64]]
    answers: Mapping[str, NDArray[np.int32]]
    ranks: Mapping[str, Floats]
    facts: Mapping[str, Any]


def measure(
    conn: psycopg.Connection[Any],
    photos: Images,
    tiles: Images,
    source: VectorSource,
    ways: Sequence[str],
    *,
    rotations: Rotations = "none",
    depth: int = 100,
    priors: Mapping[str, Prior] | None = None,
    radius_m: float = PHOTO_REACH_M,
    progress: Progress | None = None,
) -> Measured:
    """Rank the tiles for each photograph in each way, and find its first right one.

    photos, tiles: of `nadir_data.read_images`; source: of `nadir_vectors`. ways: names in `nadir_ways.WAYS`. rotations:
    see `nadir_ways.rank`. priors: by way, "prior" and "concat+prior". progress: called with what is about to be done,
    returns what is called with (done, of). Raises InputError where nothing can be measured, which it explains.
    """
    step = progress or silent
    facts: dict[str, Any] = {"vectors": source.name, "rotations": rotations, "radius_km": radius_m / 1000}
    asked, queries, left_out = ask(photos, source)
    relevant = nadir_relevant.relevant(conn, asked, tiles, step("footprints"))
    some = np.flatnonzero([len(rows) > 0 for rows in relevant])
    if not len(some):
        raise InputError("no photograph overlaps a tile: give archives of the same ground")
    angles = ANGLES if rotations != "none" else (0,)
    there = np.zeros(len(tiles), bool)

    def blocks() -> Any:
        for block in source.blocks(tiles, tiles.place_lat, tiles.place_lon, angles):
            there[block.start : block.start + len(block)] = block.there
            yield block

    part = asked.only(some)
    best = nadir_ways.rank(
        queries.only(some, nadir_relevant.near(conn, part, tiles, radius_m)),
        blocks, ways, depth, rotations, priors, step("photographs")
    )  # fmt: skip
    if not there.any():
        raise InputError(f"no tile has a vector by {source.name}: are their files here, or is the space embedded?")
    answers = {way: np.full((len(asked), depth), NONE, np.int32) for way in ways}
    for way, rows in best.items():
        answers[way][some] = rows
    facts |= left_out | {"tiles": len(tiles), "tiles_without_vector": int((~there).sum())}
    facts |= {"relevant_tiles_a_photograph": round(float(np.mean([len(relevant[i]) for i in some])), 1)}
    ranks = {way: first_hits(answers[way].tolist(), [set(r.tolist()) for r in relevant]) for way in ways}
    return Measured(asked, tiles, relevant, answers, ranks, facts)


def ask(photos: Images, source: VectorSource) -> tuple[Images, Queries, dict[str, int]]:
    """Return the photographs that can be asked, their vectors, and how many were left out, by reason.

    Without a footprint nothing can be judged, without a vector nothing asked. One without a nadir that can be trusted
    is asked as one whose nadir is not known.
    """
    shown = photos.only(~np.isnan(photos.middle_lat))
    found: list[Block] = list(source.blocks(shown, shown.nadir_lat, shown.nadir_lon))
    there = np.concatenate([block.there for block in found]) if found else np.zeros(0, bool)
    if not there.any():
        raise InputError(
            f"no photograph has a footprint and a vector by {source.name} "
            f"(of {len(photos)}, {len(shown)} with a footprint): catalogue footprints, or bring the files here; "
            "for a space, embed the archive into it"
        )
    asked = shown.only(there)
    image = np.concatenate([block.image[0] for block in found])[there]
    nadir = None if source.null is None else np.concatenate([_present(block.nadir) for block in found])[there]
    facts = {
        "photographs": len(photos),
        "without_footprint": len(photos) - len(shown),
        "without_vector": int((~there).sum()),
        "asked": len(asked),
        "asked_without_nadir": int(np.isnan(asked.nadir_lat).sum()),
        "of_these_impossible_nadir": int(asked.impossible.sum()),
    }
    return asked, Queries(image, nadir, source.null, source.scale, asked.nadir_lat, asked.nadir_lon), facts


def _present(nadir: NDArray[Any] | None) -> NDArray[Any]:
    assert nadir is not None
    return nadir
