"""An evaluation of nadir-aware retrieval from start to end: archives, a model, a space or files of answers → recall."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from geosearch.errors import InputError
from geosearch.evaluation import nadir_answers, nadir_fit, nadir_relevant, nadir_table
from geosearch.evaluation.nadir_data import read_images
from geosearch.evaluation.nadir_report import Measured, Progress, measure, silent
from geosearch.evaluation.nadir_vectors import VectorSource
from geosearch.evaluation.nadir_ways import (
    CONCAT,
    CONCAT_FILTER,
    CONCAT_PRIOR,
    PRIOR,
    UNKNOWN,
    WAYS,
    Prior,
    Rotations,
)
from geosearch.geometry import PHOTO_REACH_M
from geosearch.whole_files import write_whole


def default_ways(source: VectorSource, priors: Mapping[str, Prior]) -> list[str]:
    """Return all ways that a source allows, those with a prior only where there is one."""
    reads_nadirs = source.null is not None
    lacking = {PRIOR, CONCAT_PRIOR} - set(priors)
    if not reads_nadirs:
        lacking |= {CONCAT, CONCAT_FILTER, CONCAT_PRIOR, UNKNOWN}
    return [way for way in WAYS if way not in lacking]


def by_vectors(
    conn: psycopg.Connection[Any],
    photos: str,
    tiles: Sequence[str],
    source: VectorSource,
    ways: Sequence[str] = (),
    *,
    rotations: Rotations = "none",
    priors: Mapping[str, Prior] | None = None,
    radius_m: float = PHOTO_REACH_M,
    progress: Progress | None = None,
) -> Measured:
    """Measure the photographs of an archive over the tiles of others, in some ways or in all that are possible."""
    _check_archives(photos, tiles)
    chosen = list(dict.fromkeys(ways)) or default_ways(source, priors or {})
    measured = measure(
        conn,
        read_images(conn, [photos]),
        read_images(conn, tiles),
        source,
        chosen,
        rotations=rotations,
        priors=priors,
        radius_m=radius_m,
        progress=progress,
    )
    return replace(measured, facts={"photos": photos, "tiles_of": list(tiles), **measured.facts})


def by_answers(
    conn: psycopg.Connection[Any],
    photos: str,
    tiles: Sequence[str],
    paths: Sequence[Path],
    progress: Progress | None = None,
) -> Measured:
    """Judge files of ranked answers, each a way of its file's name. Photographs need no file, only a footprint."""
    _check_archives(photos, tiles)
    asked, known = read_images(conn, [photos]), read_images(conn, tiles)
    shown = asked.only(~np.isnan(asked.middle_lat))
    if not len(shown):
        raise InputError(f"no photograph of archive {photos} has a footprint: nothing can be judged")
    if len({path.stem for path in paths}) < len(paths):
        raise InputError("two files of answers have one name; rename one: the name says which rows are whose")
    for path in paths:
        next(nadir_answers.read(path), None)  # that it can be read, before what takes minutes
    step = progress or silent
    relevant = nadir_relevant.relevant(conn, shown, known, step("footprints"))
    facts: dict[str, Any] = {
        "photos": photos,
        "tiles_of": list(tiles),
        "photographs": len(asked),
        "without_footprint": len(asked) - len(shown),
        "tiles": len(known),
    }
    ranks = {}
    for path in paths:
        ranks[path.stem], account = nadir_answers.judge(path, asked, known, shown, relevant)
        facts |= {f"{path.stem}: {what}": count for what, count in account.items()}
    return Measured(shown, known, relevant, {}, ranks, facts)


def fit(
    conn: psycopg.Connection[Any],
    photos: str,
    tiles: Sequence[str],
    source: VectorSource,
    fitted_on: str,
    save: Path | None = None,
    progress: Progress | None = None,
) -> nadir_fit.Priors:
    """Return priors fitted on an archive of photographs that are not the measured ones. Raises InputError."""
    nadir_fit.check_fitted_on(fitted_on, photos)
    ways = (PRIOR, CONCAT_PRIOR) if source.null is not None else (PRIOR,)
    step = progress or silent
    images = read_images(conn, [fitted_on])
    priors = nadir_fit.fit_priors(
        conn, images, read_images(conn, tiles), source, ways, progress=step("footprints of the prior")
    )
    if save is not None:
        nadir_fit.write_priors(save, priors, {"photos": fitted_on, "tiles": list(tiles), "vectors": source.name})
    return priors


def rows(measured: Measured, draws: int = nadir_table.DRAWS, seed: int = nadir_table.SEED) -> list[dict[str, Any]]:
    """Return the table of what was measured; see `nadir_table.rows`."""
    return nadir_table.rows(
        measured.ranks, measured.photos, measured.relevant, len(measured.tiles), draws=draws, seed=seed
    )


def write_csv(path: Path, table: Sequence[dict[str, Any]]) -> None:
    """Write the rows of a table to a CSV file, whole or not at all. Raises InputError."""
    columns = list(dict.fromkeys(name for row in table for name in row))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_whole(path, out.getvalue().encode())


def printed(table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows and columns that people look at first, each interval in one."""
    shown = []
    for row in table:
        if row["ground"] == nadir_table.OTHER and row["region"] != nadir_table.ALL:
            continue
        line = {name: row[name] for name in ("region", "ground", "photographs", "way")}
        line |= {f"R@{k}": f"{row[f'R@{k}']:.1f}" for k in nadir_table.KS}
        line["R@1 between"] = _between(row, "R@1")
        lead = row.get("R@1 lead")
        line["lead"] = None if lead is None else f"{lead:+.1f}"
        line["lead between"] = _between(row, "R@1 lead")
        shown.append(line)
    return shown


def _check_archives(photos: str, tiles: Sequence[str]) -> None:
    if photos in tiles:
        raise InputError(f"archive {photos} both asks and is ranked: every image would find itself; rank others")


def _between(row: dict[str, Any], name: str) -> str | None:
    low, high = row.get(f"{name} low"), row.get(f"{name} high")
    return None if low is None or high is None else f"{low:.1f} … {high:.1f}"
