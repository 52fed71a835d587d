"""Recall of nadir-aware retrieval as rows: all photographs, the six regions, held-out ground; with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosearch.errors import InputError
from geosearch.evaluation.composed_bootstrap import interval
from geosearch.evaluation.nadir_data import Images
from geosearch.evaluation.nadir_ways import IMAGE
from geosearch.evaluation.probe import cells
from geosearch.evaluation.recall import chance
from geosearch.geometry import Floats, distance_m
from geosearch.training.split import split

KS = (1, 5, 10, 20, 100)
REGION_M = 2_500_000.0
ALL, HELD_OUT, OTHER = "all", "held-out ground", "other ground"
CHANCE = "chance"
DRAWS, SEED = 1000, 1

Group = tuple[str, str]  # region or "all", ground


def groups(photos: Images) -> dict[Group, NDArray[np.bool_]]:
    """Return the groups that are reported apart, by region and ground, and which photographs (q,) are in each.

    Regions: "all", and the six places, of the photographs whose nadir lies within REGION_M. Grounds: "all", "held-out
    ground", of those whose true centre lies in a cap of the project's split, and "other ground".
    """
    held_out = split().region(photos.middle_lat, photos.middle_lon) >= 0
    grounds = {ALL: np.ones(len(photos), bool), HELD_OUT: held_out, OTHER: ~held_out}
    found: dict[Group, NDArray[np.bool_]] = {(ALL, ground): of for ground, of in grounds.items()}
    for name, lat, lon in zip(split().names, split().lat, split().lon, strict=True):
        near = distance_m(photos.nadir_lat, photos.nadir_lon, lat, lon) <= REGION_M  # False where it is not known
        found |= {(name, ground): near & of for ground, of in grounds.items()}
    return found


def rows(
    ranks: Mapping[str, Floats],
    photos: Images,
    relevant: Sequence[NDArray[np.int64]] = (),
    tiles: int = 0,
    ks: Sequence[int] = KS,
    draws: int = DRAWS,
    seed: int = SEED,
) -> list[dict[str, Any]]:
    """Return a row a group and way: its photographs, and Recall@k in percent, for each k.

    ranks: by way, of each photograph's first right tile (q,), as `Measured` has them. relevant, tiles: the right tiles
    of each photograph, and how many there are in all, for a row of what a random order would find; left out without.
    "R@k low" and "R@k high" bound the middle 95 % of draws (percentile bootstrap) of the 10° cells in which the true
    centres lie, with all photographs in them: neighbours show the same ground. "R@k lead" is what the way is above
    "image", in points, with its own bounds over the same draws. The last rows are the plain mean of the regions that
    have photographs. Groups without photographs are left out. Raises InputError where there is none at all.
    """
    ways = list(ranks)
    every = np.stack([ranks[way] for way in ways], axis=1)
    counted: NDArray[np.bool_] = np.any(~np.isnan(every), axis=1)
    if not counted.any():
        raise InputError("no photograph has a right tile: there is nothing to measure")
    hits = np.stack([every <= k for k in ks], axis=2).astype(float)
    often = _draws(cells(photos.middle_lat, photos.middle_lon), counted, draws, seed)
    table: list[dict[str, Any]] = []
    regional: list[tuple[Floats, Floats]] = []
    for (region, ground), members in groups(photos).items():
        inside = members & counted
        if not inside.any():
            continue
        found = hits[inside].mean(0), _drawn(hits[inside], often[:, inside])
        if region != ALL and ground == ALL:
            regional.append(found)
        account = {
            "region": region,
            "ground": ground,
            "photographs": int(inside.sum()),
            "without_relevant": int((members & ~counted).sum()),
        }
        if relevant:
            right = [len(relevant[i]) for i in np.flatnonzero(inside).tolist()]
            by = chance(right, np.full(len(right), tiles), ks)
            table.append({**account, "way": CHANCE, **{f"R@{k}": round(100 * by.at[k], 2) for k in ks}})
        table += [{**account, **row} for row in _rows(ways, ks, *found)]
    if regional:
        mean, drawn = (np.mean([of[i] for of in regional], axis=0) for i in (0, 1))
        account = {
            "region": f"mean of {len(regional)} regions",
            "ground": ALL,
            "photographs": None,
            "without_relevant": None,
        }
        table += [{**account, **row} for row in _rows(ways, ks, mean, drawn)]
    return table


def _rows(ways: Sequence[str], ks: Sequence[int], found: Floats, drawn: Floats) -> list[dict[str, Any]]:
    """Return a row a way of recalls (ways, ks) and of those of the draws (draws, ways, ks)."""
    base = ways.index(IMAGE) if IMAGE in ways else None
    made = []
    for i, way in enumerate(ways):
        row: dict[str, Any] = {"way": way}
        for j, k in enumerate(ks):
            row[f"R@{k}"] = round(100 * float(found[i, j]), 2)
            row[f"R@{k} low"], row[f"R@{k} high"] = _interval(100 * drawn[:, i, j])
            if base is not None and i != base:
                row[f"R@{k} lead"] = round(100 * float(found[i, j] - found[base, j]), 2)
                row[f"R@{k} lead low"], row[f"R@{k} lead high"] = _interval(100 * (drawn[:, i, j] - drawn[:, base, j]))
        made.append(row)
    return made


def _interval(values: Floats) -> tuple[float | None, float | None]:
    return (None, None) if np.isnan(values).all() else interval(values)


def _draws(cell: NDArray[np.int64], counted: NDArray[np.bool_], draws: int, seed: int) -> Floats:
    """Return how often each photograph (draws, q) is drawn: as often as its cell, of those that are counted."""
    present, index = np.unique(cell[counted], return_inverse=True)
    times = np.random.default_rng(seed).multinomial(len(present), np.full(len(present), 1 / len(present)), draws)
    often = np.zeros((draws, len(cell)))
    often[:, counted] = times[:, index]
    return often


def _drawn(hits: Floats, often: Floats) -> Floats:
    """Return the recalls (draws, ways, ks) of photographs with hits (p, ways, ks), drawn so often (draws, p)."""
    count = often.sum(1)
    total = (often @ hits.reshape(len(hits), -1)).reshape(-1, *hits.shape[1:])
    return np.asarray(total / np.where(count, count, np.nan)[:, None, None])
