"""Composition → answers: its parts made vectors once, then one statement for each lambda, all in one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.errors import Diagnostic

from geosearch.compose.reference import LEAST_DEVIATION
from geosearch.database.archives import get_archive_id
from geosearch.item import Item
from geosearch.search.compose import Composition, Part
from geosearch.search.composed import ComposedPlan, ComposedRanking, ComposedResult, Likeness, RankedPart
from geosearch.search.lookup import SearchedSpace, answering, default_lambda, find_image, find_space, stored_vector
from geosearch.search.ranking import answer_facts
from geosearch.search.statements import COMPOSE, values

Unit = NDArray[np.float32]
Encode = Callable[[SearchedSpace, Item], Unit]


def compose(conn: psycopg.Connection[Any], encode: Encode, asked: Sequence[Composition]) -> list[ComposedRanking]:
    """Return a ranking for each of some compositions, which differ in lambda alone.

    encode: returns the vector (d,) of an image or a text by the model of a space.
    """
    first = asked[0]
    counts = [any(weights) for weights in zip(*(one.shares(0.5) for one in asked), strict=True)]
    space = find_space(conn, first.space, encodes=any(part.kind != "like" for part in first.parts))
    if first.archive is not None:
        get_archive_id(conn, first.archive)  # before a model is loaded for nothing
    vectors = [
        encode(space, _item(part)) if used and part.kind != "like" else None
        for part, used in zip(first.parts, counts, strict=True)
    ]
    with answering(conn):
        shown = []
        for number, part in enumerate(first.parts):
            if part.kind == "like":
                image = find_image(conn, cast("str | int", part.given), first.archive)
                shown.append(RankedPart(part.kind, image.full_name, 0, None, None, image.uri, image.root))
                if counts[number]:
                    vectors[number] = stored_vector(conn, space, image)
            else:
                shown.append(_shown(part))
        for vector in vectors:
            if vector is not None:
                space.check_vector(vector)
        default = default_lambda(conn, space) if first.method == "weicom" else 0.5
        return [_ranked(conn, space, one, default, shown, vectors) for one in asked]


def _ranked(
    conn: psycopg.Connection[Any],
    space: SearchedSpace,
    asked: Composition,
    default: float,
    shown: Sequence[RankedPart],
    vectors: Sequence[Unit | None],
) -> ComposedRanking:
    from pgvector import Vector

    weights = asked.shares(default)
    used = [number for number, weight in enumerate(weights) if weight]

    def spread(numbers: Sequence[float] | None) -> list[float | None]:
        """Return numbers of the parts that count in the places of all."""
        found: list[float | None] = [None] * len(weights)
        for number, value in zip(used, numbers or (), strict=False):
            found[number] = value
        return found

    arguments = {
        **values(asked),
        "space": space.name,
        "vectors": [
            Vector(vector) for vector, weight in zip(vectors, weights, strict=True) if vector is not None and weight
        ],
        "weights": [weights[number] for number in used],
        "population": asked.population,
        "method": "weicom" if asked.method == "weicom" else "mean",  # of images or texts alone, others weigh nothing
        "late": asked.late,
    }
    with _heard(conn) as notes:
        rows = conn.execute(COMPOSE, arguments).fetchall()
    strategy, moments, candidates, touched, scored, means, deviations = rows[0][:7]
    parts = tuple(
        replace(part, weight=weight, mean=mean, deviation=deviation)
        for part, weight, mean, deviation in zip(shown, weights, spread(means), spread(deviations), strict=True)
    )
    results = [
        ComposedResult(**answer_facts(*row[8:]), parts=tuple(map(_likeness, parts, spread(row[7][0]))))
        for row in rows
        if row[8] is not None
    ]
    plan = ComposedPlan(
        strategy, asked.population, moments, candidates, touched, scored, asked.k, len(results), candidates <= asked.k
    )
    return ComposedRanking(
        plan,
        results,
        parts,
        asked,
        space.name,
        default_lambda=default,
        lam=asked.used_lambda(default),
        notes=tuple(notes),
    )


def _likeness(part: RankedPart, similarity: float | None) -> Likeness:
    if similarity is None or part.mean is None or part.deviation is None:
        return Likeness(similarity, None)
    if part.deviation < LEAST_DEVIATION:  # what does not vary says nothing
        return Likeness(similarity, 0.0)
    return Likeness(similarity, float(np.sign(part.weight)) * (similarity - part.mean) / part.deviation)


def _item(part: Part) -> Item:
    if part.kind == "image":
        return Item(image=part.given)  # type: ignore[arg-type]
    return Item(text=cast("str", part.given))


def _shown(part: Part) -> RankedPart:
    if part.kind != "image":
        return RankedPart(part.kind, str(part.given), 0, None, None)
    label = part.given.name if isinstance(part.given, Path) else "a picture"
    return RankedPart(part.kind, label, 0, None, None, part.given)  # type: ignore[arg-type]


@contextmanager
def _heard(conn: psycopg.Connection[Any]) -> Iterator[list[str]]:
    """Give what the database has to say meanwhile, each with its hint."""
    said: list[str] = []

    def hear(notice: Diagnostic) -> None:
        hint = f". {notice.message_hint}" if notice.message_hint else ""
        said.append(f"{notice.message_primary}{hint}")

    conn.add_notice_handler(hear)
    try:
        yield said
    finally:
        conn.remove_notice_handler(hear)
