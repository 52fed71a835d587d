"""A file of places becomes a file of embeddings: whole or not at all, row by row, in flat memory."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_bank import PositionEncoder, random_bank, random_places, relative

from geosearch.errors import InputError
from geosearch.range.embed import embed_file
from geosearch.range.options import Retrieval
from geosearch.range.reference import embed

ENCODER: object = PositionEncoder()


def places_csv(path: Path, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    lat, lon = random_places(np.random.default_rng(seed), n)
    path.write_text("id,lat,lon\n" + "".join(f"p{i},{lat[i]},{lon[i]}\n" for i in range(n)))
    return lat, lon


def vectors(table: pa.Table, dimension: int) -> np.ndarray:
    column = table["embedding"].combine_chunks()
    return column.flatten().to_numpy().reshape(-1, dimension)


@pytest.mark.parametrize("options", [None, Retrieval(mode="topk", k=20)], ids=["soft", "topk"])
def test_rows_columns_and_embeddings(tmp_path: Path, options: Retrieval | None) -> None:
    bank = random_bank()
    lat, lon = places_csv(tmp_path / "p.csv", 5000)
    said: list[tuple[int, int | None]] = []
    report = embed_file(
        bank, tmp_path / "p.csv", tmp_path / "deep" / "out.parquet", options, encoder=ENCODER,
        progress=lambda done, of: said.append((done, of)),
    )  # fmt: skip
    assert (report.rows, report.embedded, report.problems, report.dimension) == (5000, 5000, 0, 32)
    table = pq.read_table(tmp_path / "deep" / "out.parquet")
    assert table.schema.names == ["row", "id", "lat", "lon", "embedding", "problem"]
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 32)
    assert table["row"].to_pylist() == list(range(1, 5001))
    assert table["id"][4321].as_py() == "p4321"
    truth = embed(bank, lat, lon, options, PositionEncoder().encode_places(lat, lon))
    assert relative(vectors(table, 32), truth.embedding) < 1e-5
    assert report.mass_sem == pytest.approx(truth.mass_sem.mean(), rel=1e-4)
    assert report.mass_geo == pytest.approx(truth.mass_geo.mean(), rel=1e-4)
    assert said == [(4096, 5000), (5000, 5000)]


def test_rows_that_are_no_place_stay_with_the_reason(tmp_path: Path) -> None:
    bank = random_bank()
    table = pa.table({"row": [5, 6, 7], "lat": [bank.lat[0], 91.0, -bank.lat[0]], "lon": [bank.lon[0], 0.0, 0.0]})
    pq.write_table(table, tmp_path / "p.parquet")
    options = Retrieval(min_cos=0.999)
    report = embed_file(bank, tmp_path / "p.parquet", tmp_path / "o.parquet", options, encoder=ENCODER)
    assert (report.rows, report.embedded, report.problems) == (3, 1, 2)
    found = pq.read_table(tmp_path / "o.parquet")
    assert found.schema.names == ["row", "lat", "lon", "embedding", "problem"]
    assert found["row"].to_pylist() == [5, 6, 7]
    assert found["problem"].to_pylist() == [
        None,
        "latitude 91 is not within -90 … 90; are latitude and longitude swapped?",
        "no place of the bank within min_cos 0.999",
    ]
    assert found["embedding"].null_count == 2
    assert len(found["embedding"][0]) == 32


def test_half_and_bf16(tmp_path: Path) -> None:
    bank = random_bank()
    lat, lon = places_csv(tmp_path / "p.csv", 50)
    embed_file(bank, tmp_path / "p.csv", tmp_path / "o.parquet", half=True, precision="bf16", encoder=ENCODER)
    table = pq.read_table(tmp_path / "o.parquet")
    assert table.schema.field("embedding").type == pa.list_(pa.float16(), 32)
    truth = embed(bank, lat, lon, None, PositionEncoder().encode_places(lat, lon)).embedding
    assert relative(vectors(table, 32).astype(float), truth) < 1e-2


@pytest.mark.parametrize("factor", [1e6, 1e-9])
def test_values_that_do_not_fit_into_half_are_refused(factor: float, tmp_path: Path) -> None:
    bank = random_bank()
    bank = replace(bank, values=(bank.values * factor).astype(np.float32))
    places_csv(tmp_path / "p.csv", 5)
    with pytest.raises(InputError, match="do not fit into float16; leave out --half"):
        embed_file(bank, tmp_path / "p.csv", tmp_path / "o.parquet", half=True, encoder=ENCODER)
    assert embed_file(bank, tmp_path / "p.csv", tmp_path / "o.parquet", encoder=ENCODER).embedded == 5


def test_an_empty_file_gives_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("lat,lon\n")
    report = embed_file(random_bank(), tmp_path / "p.csv", tmp_path / "o.parquet", encoder=ENCODER)
    assert report.rows == 0
    assert pq.read_table(tmp_path / "o.parquet").num_rows == 0


def test_a_run_that_fails_leaves_nothing_and_spoils_nothing(tmp_path: Path) -> None:
    places_csv(tmp_path / "p.csv", 9000)
    out = tmp_path / "o.parquet"
    out.write_text("what was there")

    def stop(done: int, of: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_file(random_bank(), tmp_path / "p.csv", out, encoder=ENCODER, progress=stop)
    assert out.read_text() == "what was there"
    with pytest.raises(InputError, match="is a folder"):
        embed_file(random_bank(), tmp_path / "p.csv", tmp_path, encoder=ENCODER)
    with pytest.raises(InputError, match="cannot be written"):
        embed_file(random_bank(), tmp_path / "p.csv", tmp_path / "p.csv" / "o.parquet", encoder=ENCODER)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.parquet", "p.csv"]


def test_the_file_of_places_is_never_written_over(tmp_path: Path) -> None:
    places_csv(tmp_path / "p.csv", 5)
    before = (tmp_path / "p.csv").read_text()
    (tmp_path / "link.csv").symlink_to(tmp_path / "p.csv")
    for out in ("p.csv", "link.csv"):
        with pytest.raises(InputError, match="is the file of places itself, which would be lost"):
            embed_file(random_bank(), tmp_path / "p.csv", tmp_path / out, encoder=ENCODER)
    assert (tmp_path / "p.csv").read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.csv", "p.csv"]


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    places_csv(tmp_path / "p.csv", 9000)
    (tmp_path / ".o.parquet.unfinished").symlink_to("/dev/full")
    with pytest.raises(
        InputError, match=r"o\.parquet cannot be written: No space left on device; nothing of it is left"
    ):
        embed_file(random_bank(), tmp_path / "p.csv", tmp_path / "o.parquet", encoder=ENCODER)
    assert [p.name for p in tmp_path.iterdir()] == ["p.csv"]


def test_what_a_killed_run_left_is_written_anew_and_two_runs_never_share_a_file(tmp_path: Path) -> None:
    places_csv(tmp_path / "p.csv", 9)
    left = tmp_path / ".o.parquet.unfinished"
    left.write_text("half a file" * 10_000)
    with left.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="is being written by another run"):
            embed_file(random_bank(), tmp_path / "p.csv", tmp_path / "o.parquet", encoder=ENCODER)
    assert left.exists()  # it is the other's
    assert embed_file(random_bank(), tmp_path / "p.csv", tmp_path / "o.parquet", encoder=ENCODER).embedded == 9
    assert pq.read_table(tmp_path / "o.parquet").num_rows == 9
    assert not left.exists()


MEASURE = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from toy_bank import PositionEncoder, random_bank
from geosearch.range.embed import embed_file
bank = random_bank(500, 12, 500)
embed_file(bank, Path(sys.argv[2]), Path(sys.argv[3]), encoder=PositionEncoder())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_places(tmp_path: Path) -> None:
    """100 000 embeddings of 512 numbers are 205 MB; of 20 000 places or 100 000, a run takes the same."""
    peaks = []
    for n in (20_000, 100_000):
        places_csv(tmp_path / f"{n}.csv", n)
        run = [sys.executable, "-c", MEASURE, str(Path(__file__).parent), tmp_path / f"{n}.csv", tmp_path / "o.parquet"]
        peaks.append(int(subprocess.run(run, check=True, capture_output=True, text=True).stdout))
    assert pq.read_metadata(tmp_path / "o.parquet").num_rows == 100_000
    assert peaks[1] - peaks[0] < 40_000, peaks  # kilobytes
