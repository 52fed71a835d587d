"""Vectors that an evaluation keeps are of one model, one way of preparing pictures, and one turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from nadir_case import Compass, write_case

from geosearch.evaluation.nadir_data import read_images
from geosearch.evaluation.nadir_vectors import FromModel


@pytest.mark.parametrize("changed", [{"weights_sha256": "d" * 64}, {"preprocessing": {"by": "another hand"}}])
def test_a_retrained_model_of_the_same_name_is_encoded_anew(
    conn: psycopg.Connection[Any], tmp_path: Path, changed: dict[str, Any]
) -> None:
    case = write_case(conn, tmp_path)
    tiles = read_images(conn, ["tiles"])
    encoded = []
    for change in ({}, {}, changed):
        model = Compass()
        model.info = replace(model.info, **change)
        for _ in FromModel(model, case.folder / "cache").blocks(tiles, tiles.place_lat, tiles.place_lon):  # type: ignore[arg-type]
            pass
        encoded.append(model.encoded)
    assert encoded == [5, 0, 5]
