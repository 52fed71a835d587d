"""Vectors made elsewhere: what fits is stored as given, the rest is rejected row by row with its reason."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedding_archive import Archive, archive, catalogue, model

from geosearch.database.archives import ensure_archive
from geosearch.database.spaces import create_space
from geosearch.embedding import vector_files
from geosearch.embedding.imports import ImportCounts, import_vectors
from geosearch.errors import GeosearchError, InputError, UnknownNameError

__all__ = ["archive", "model"]  # fixtures, imported by name


@pytest.fixture
def foreign(archive: Archive) -> Archive:
    """An archive of 20 images and an empty space of 4 dimensions without a model."""
    for i in range(20):
        catalogue(archive.conn, archive.id, f"n{i}", None, bytes([i]) * 32)
    create_space(archive.conn, "foreign", 4)
    return archive


def load(archive: Archive, path: Path, **options: object) -> ImportCounts:
    return import_vectors(archive.url, "foreign", path, "a", **options)  # type: ignore[arg-type]


def rejects(archive: Archive) -> dict[int, tuple[str | None, str]]:
    rows = archive.conn.execute("select line, name, reason from geosearch.reject where stage = 'embed'").fetchall()
    return {line: (name, reason) for line, name, reason in rows}


def vectors(n: int, d: int = 4) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(n, d))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_npz(foreign: Archive, tmp_path: Path, dtype: str) -> None:
    values = vectors(20)
    path = tmp_path / "v.npz"
    np.savez(path, names=[f"n{i}" for i in range(20)], vectors=values.astype(dtype))
    assert load(foreign, path) == ImportCounts(20, 0, 0, 0, 0)
    stored = foreign.vectors("foreign")
    for i, row in enumerate(unit(values)):
        assert stored[f"n{i}"] == pytest.approx(row, abs=2e-3)
    hashes = foreign.conn.execute(
        "select count(*) from geosearch.space_foreign s join geosearch.image i on i.id = s.image_id"
        " where s.content_sha256 = i.content_sha256"
    ).fetchone()
    assert hashes == (20,)
    assert load(foreign, path) == ImportCounts(0, 0, 20, 0, 0)


def test_npz_compressed_and_in_blocks(foreign: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_files, "BLOCK", 3)
    values = vectors(20)
    path = tmp_path / "v.npz"
    np.savez_compressed(path, names=np.array([f"n{i}".encode() for i in range(20)]), vectors=values)
    seen: list[tuple[int, int]] = []
    assert load(foreign, path, progress=lambda done, of: seen.append((done, of))) == ImportCounts(20, 0, 0, 0, 0)
    assert seen[-1] == (20, 20)
    assert len(seen) == 7
    values[7] = [0, 0, 1, 0]
    np.savez(path, names=[f"n{i}" for i in range(20)], vectors=values)
    assert load(foreign, path) == ImportCounts(0, 1, 19, 0, 0)
    assert foreign.vectors("foreign")["n7"] == pytest.approx([0, 0, 1, 0])


@pytest.mark.parametrize("kind", ["list", "large_list", "fixed"])
@pytest.mark.parametrize("number", [pa.float16(), pa.float32(), pa.float64()])
def test_parquet(foreign: Archive, tmp_path: Path, kind: str, number: pa.DataType) -> None:
    values = vectors(20).astype(number.to_pandas_dtype())
    flat = pa.array(values.ravel(), number)
    if kind == "fixed":
        column = pa.FixedSizeListArray.from_arrays(flat, 4)
    elif kind == "list":
        column = pa.ListArray.from_arrays(pa.array(range(0, 81, 4), pa.int32()), flat)
    else:
        column = pa.LargeListArray.from_arrays(pa.array(range(0, 81, 4), pa.int64()), flat)
    path = tmp_path / "v.parquet"
    table = pa.table({"geometry": [b""] * 20, "name": [f"n{i}" for i in range(20)], "features": column})
    pq.write_table(table, path, row_group_size=6)
    assert load(foreign, path) == ImportCounts(20, 0, 0, 0, 0)
    stored = foreign.vectors("foreign")
    for i, row in enumerate(unit(values.astype(float))):
        assert stored[f"n{i}"] == pytest.approx(row, abs=2e-3)


def test_rows_that_do_not_fit_are_rejected_one_by_one(foreign: Archive, tmp_path: Path) -> None:
    other = ensure_archive(foreign.conn, "b")
    catalogue(foreign.conn, other, "elsewhere", None)
    good = [1.0, 2.0, 3.0, 4.0]
    rows: list[tuple[str | None, list[float | None] | None]] = [
        ("n0", good),
        ("n1", [1.0, 2.0, 3.0]),
        ("n2", [0.0, 0.0, 0.0, 0.0]),
        ("n3", [1.0, float("nan"), 0.0, 0.0]),
        ("n4", [1.0, float("inf"), 0.0, 0.0]),
        ("n5", [1.0, None, 0.0, 0.0]),
        ("n6", None),
        (None, good),
        ("", good),
        ("elsewhere", good),
        ("n0", good),
        ("zero\0byte", good),
        ("n7", [1e300, 1e300, 0.0, 0.0]),  # its square overflows, its direction does not
        ("n8", [1e-300, 0.0, 0.0, 0.0]),
    ]
    path = tmp_path / "v.parquet"
    names, values = zip(*rows, strict=True)
    pq.write_table(pa.table({"name": list(names), "vector": pa.array(values, pa.list_(pa.float64()))}), path)
    assert load(foreign, path) == ImportCounts(3, 0, 0, 11, 0)
    told = rejects(foreign)
    expected = {
        2: "3 numbers, not 4", 3: "zero", 4: "not finite", 5: "not finite", 6: "not finite", 7: "no vector",
        8: "no name", 9: "no name", 10: "no image of this name", 11: "came before", 12: "no database can store",
    }  # fmt: skip
    assert set(told) == set(expected)
    for line, words in expected.items():
        assert words in told[line][1], told[line]
    assert told[2][0] == "n1"
    stored = foreign.vectors("foreign")
    assert stored["n7"] == pytest.approx([0.5**0.5, 0.5**0.5, 0, 0], abs=1e-3)
    assert stored["n8"] == pytest.approx([1, 0, 0, 0])
    # Mended and imported again: the rejects of this file are told anew, and only those that are left.
    mended = pa.array([good, None, *[good] * 3], pa.list_(pa.float64()))
    pq.write_table(pa.table({"name": ["n1", "n2", "n3", "n4", "n5"], "vector": mended}), path)
    assert load(foreign, path) == ImportCounts(4, 0, 0, 1, 0)
    assert set(rejects(foreign)) == {2}


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, ("/nonexistent/touched",))


def damaged(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that cannot be used as a whole, each with words of the message it must get."""
    cases: dict[str, tuple[Path, str]] = {}

    def put(name: str, words: str) -> Path:
        cases[name] = (folder / name, words)
        return folder / name

    names, good = [f"n{i}" for i in range(20)], vectors(20)
    np.savez(put("pickled.npz", "never loaded"), names=np.array([Evil()], object), vectors=good)
    np.savez(put("dimension.npz", "5 numbers"), names=names, vectors=vectors(20, 5))
    np.savez(put("counts.npz", "19 names for 20 vectors"), names=names[:-1], vectors=good)
    np.savez(put("integers.npz", "floats of 16, 32 or 64"), names=names, vectors=good.astype(int))
    np.savez(put("flat.npz", "of shape"), names=names, vectors=good.ravel())
    np.savez(put("keys.npz", "it has ids, vectors"), ids=names, vectors=good)
    np.savez(put("columns.npz", "stored by columns"), names=names, vectors=np.asfortranarray(good))
    put("pickle.npz", "neither an npz").write_bytes(pickle.dumps(Evil()))
    put("empty.npz", "neither an npz").write_bytes(b"")
    np.savez(folder / "whole.npz", names=names, vectors=good)
    whole = (folder / "whole.npz").read_bytes()
    put("cut.npz", "is it whole").write_bytes(whole[: len(whole) // 2])
    lying = io.BytesIO()
    np.lib.format.write_array_header_1_0(lying, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 4)})
    with zipfile.ZipFile(put("lying.npz", "not as long as it says"), "w") as file:
        file.writestr("vectors.npy", lying.getvalue())
        buffer = io.BytesIO()
        np.save(buffer, np.array(names))
        file.writestr("names.npy", buffer.getvalue())
    pq.write_table(pa.table({"id": names, "vector": good.tolist()}), put("no_name.parquet", "'name'"))
    pq.write_table(pa.table({"name": names}), put("no_vector.parquet", "no list of floats"))
    two = pa.table({"name": names, "a": good.tolist(), "b": good.tolist()})
    pq.write_table(two, put("two.parquet", "several lists of floats (a, b)"))
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(vectors(20, 5).ravel()), 5)
    pq.write_table(pa.table({"name": names, "vector": fixed}), put("dimension.parquet", "5 numbers"))
    pq.write_table(two, folder / "whole.parquet")
    put("cut.parquet", "is it whole").write_bytes((folder / "whole.parquet").read_bytes()[:400])
    locked = bytearray(whole)
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = locked.find(mark)
        while at >= 0:
            locked[at + flags] |= 1  # says that it is encrypted
            at = locked.find(mark, at + 1)
    put("locked.npz", "encrypted").write_bytes(locked)
    put("absent.npz", "cannot be read")
    return cases


def test_files_that_cannot_be_used_say_why_and_change_nothing(foreign: Archive, tmp_path: Path) -> None:
    for name, (path, words) in damaged(tmp_path).items():
        with pytest.raises(InputError) as caught:
            load(foreign, path)
        assert words in str(caught.value), (name, str(caught.value))
        assert path.name in str(caught.value)
    assert foreign.vectors("foreign") == {}
    two = tmp_path / "two.parquet"
    with pytest.raises(InputError, match="'c' is not there"):
        load(foreign, two, vector_column="c")
    assert load(foreign, two, vector_column="b") == ImportCounts(20, 0, 0, 0, 0)


def test_what_an_import_may_not_do(foreign: Archive, tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    np.savez(path, names=["n0"], vectors=vectors(1))
    with pytest.raises(InputError, match="cannot be compared"):
        import_vectors(foreign.url, "tiny", path, "a")
    with pytest.raises(UnknownNameError, match="archive"):
        import_vectors(foreign.url, "foreign", path, "nowhere")
    with pytest.raises(GeosearchError, match="space"):
        import_vectors(foreign.url, "nowhere", path, "a")


def test_a_reject_of_another_space_stays(foreign: Archive, tmp_path: Path) -> None:
    create_space(foreign.conn, "second", 4)
    path = tmp_path / "v.npz"
    np.savez(path, names=["unknown"], vectors=vectors(1))
    load(foreign, path)
    import_vectors(foreign.url, "second", path, "a")
    payloads = foreign.conn.execute("select payload from geosearch.reject order by payload").fetchall()
    assert [json.loads(p)["space"] for (p,) in payloads] == ["foreign", "second"]
