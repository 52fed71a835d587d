"""Runs keep the moments of their space: right at their end, or known to be late and said to be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psycopg
import pytest
from embedding_archive import Archive, archive, catalogue, model
from moments_truth import never_wrong

from geosearch.database.moments import compute_moments, edition_of, moments_state
from geosearch.database.spaces import create_space, drop_space, get_space
from geosearch.embedding import background, kept_moments, missing, vector_files
from geosearch.embedding.imports import import_vectors
from geosearch.embedding.run import embed
from geosearch.embedding.write import Written
from geosearch.encoders import registry
from geosearch.encoders.base import ModelInfo
from geosearch.item import Item

__all__ = ["archive", "model"]  # fixtures, imported by name


class Watched:
    """An encoder that does something before each batch."""

    def __init__(self, archive: Archive, *before: Callable[[], object]) -> None:
        self.inner, self.before = registry.load(archive.model, "cpu"), iter(before)
        self.info: ModelInfo = self.inner.info

    def prepare(self, item: Item) -> object:
        return self.inner.prepare(item)  # type: ignore[attr-defined]

    def encode(self, items: object) -> object:
        return self.inner.encode(items)  # type: ignore[arg-type]

    def encode_prepared(self, prepared: list[object]) -> object:
        next(self.before, lambda: None)()
        return self.inner.encode_prepared(prepared)  # type: ignore[attr-defined]


def save(archive: Archive, *numbers: int) -> None:
    for number in numbers:
        archive.save(f"p{number}", number)


def current(archive: Archive, space: str = "tiny") -> bool:
    return never_wrong(archive.conn, space).current


def edition(archive: Archive, space: str = "tiny") -> int | None:
    return edition_of(archive.conn, get_space(archive.conn, space))


@pytest.fixture
def dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computing moments anew is never cheap beside a run: what it does not keep itself stays late."""
    monkeypatch.setattr(kept_moments, "CHEAP_ROWS", -1)
    monkeypatch.setattr(kept_moments, "CHEAP_TIMES", 0)


def test_the_first_run_computes_them_and_the_next_add_to_them(archive: Archive) -> None:
    save(archive, *range(12))
    said: list[str] = []
    embed(archive.url, "tiny", batch_size=5, say=said.append)
    assert current(archive)
    first = edition(archive)
    for more in ((12,), range(13, 30)):
        save(archive, *more)
        embed(archive.url, "tiny", batch_size=4, say=said.append)
        assert current(archive)
    assert edition(archive) == first
    assert moments_state(archive.conn, "tiny").counted == 30
    # One row for the count, whatever number of batches there was.
    rows = archive.conn.execute("select count(*) from geosearch.change where subject like 'vectors %'").fetchone()
    assert rows == (1,)
    assert said == []


@pytest.mark.usefixtures("dear")
def test_many_small_batches_are_added_together(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_moments, "_TOGETHER", 5)
    monkeypatch.setattr(background, "_AHEAD", 1)
    compute_moments(archive.url, "tiny")
    save(archive, *range(23))
    embed(archive.url, "tiny", batch_size=2)
    assert current(archive)


@pytest.mark.usefixtures("dear")
def test_two_runs_at_once_both_add(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing, "PAGE", 8)
    compute_moments(archive.url, "tiny")
    before = edition(archive)
    save(archive, *range(40))
    both = threading.Barrier(2)  # neither goes on before the other has begun
    said: list[str] = []

    def run() -> None:
        embed(archive.url, "tiny", encoder=Watched(archive, both.wait), batch_size=4, say=said.append)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert current(archive)
    assert (edition(archive), len(archive.vectors())) == (before, 40)
    assert len(said) <= 1  # of the first to end: late until the other has added its own


@pytest.mark.usefixtures("dear")
def test_a_run_that_fails_leaves_them_late_and_so_does_the_next(archive: Archive) -> None:
    save(archive, 1)
    embed(archive.url, "tiny")
    compute_moments(archive.url, "tiny")
    save(archive, *range(2, 9))

    def fail() -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        embed(archive.url, "tiny", encoder=Watched(archive, lambda: None, fail), batch_size=3)
    assert len(archive.vectors()) == 4
    assert not current(archive)
    said: list[str] = []
    embed(archive.url, "tiny", batch_size=3, say=said.append)
    assert not current(archive)
    assert [text for text in said if "geosearch space moments tiny" in text] == said != []
    assert compute_moments(archive.url, "tiny").current
    assert current(archive)


def test_a_run_killed_before_it_could_add_is_made_good_by_the_next(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(archive, 1, 2)
    embed(archive.url, "tiny")
    save(archive, 3, 4)
    with monkeypatch.context() as killed:
        killed.setattr(kept_moments.KeptMoments, "finish", lambda *_, **__: None)
        embed(archive.url, "tiny")
    assert len(archive.vectors()) == 4
    assert not current(archive)
    assert embed(archive.url, "tiny").embedded == 0
    assert current(archive)


@pytest.mark.usefixtures("dear")
@pytest.mark.parametrize("when", [0, 1, 2])
def test_moments_computed_between_the_batches_of_a_run_are_not_added_to(archive: Archive, when: int) -> None:
    save(archive, 0)
    embed(archive.url, "tiny")
    compute_moments(archive.url, "tiny")
    save(archive, *range(1, 7))
    steps: list[Callable[[], object]] = [lambda: None] * 3
    steps[when] = lambda: compute_moments(archive.url, "tiny", anew=True)
    embed(archive.url, "tiny", encoder=Watched(archive, *steps), batch_size=2)
    assert not current(archive)
    compute_moments(archive.url, "tiny")
    assert current(archive)


def test_what_a_run_changes_or_loses_is_computed_anew(archive: Archive) -> None:
    save(archive, *range(6))
    embed(archive.url, "tiny")
    first = edition(archive)
    archive.save("p3", 99)  # other pixels
    embed(archive.url, "tiny")
    assert current(archive)
    second = edition(archive)
    assert first != second
    save(archive, *range(10, 16))
    remove = "delete from geosearch.image where name in ('p10', 'p2')"
    counts = embed(archive.url, "tiny", encoder=Watched(archive, lambda: archive.conn.execute(remove)), batch_size=3)
    assert counts.gone == 1
    assert current(archive)
    assert edition(archive) != second


@pytest.mark.usefixtures("dear")
def test_what_a_run_changes_is_said_to_be_late_where_computing_is_dear(archive: Archive) -> None:
    save(archive, *range(6))
    said: list[str] = []
    embed(archive.url, "tiny", say=said.append)
    assert not current(archive)
    assert len(said) == 1
    assert "geosearch space moments tiny" in said[0]
    compute_moments(archive.url, "tiny")
    archive.save("p3", 99)
    save(archive, 7)
    embed(archive.url, "tiny", batch_size=10, say=said.append)
    assert not current(archive)
    assert len(said) == 2


def test_a_worker_adds_but_computes_nothing_anew(archive: Archive) -> None:
    save(archive, *range(4))
    said: list[str] = []
    embed(archive.url, "tiny", go_on=lambda: True, say=said.append)
    assert not current(archive)
    assert len(said) == 1
    compute_moments(archive.url, "tiny")
    save(archive, *range(4, 8))
    embed(archive.url, "tiny", go_on=lambda: True, say=said.append)
    assert current(archive)
    archive.conn.execute("delete from geosearch.image where name = 'p1'")
    save(archive, 8)
    embed(archive.url, "tiny", go_on=lambda: True, say=said.append)
    assert not current(archive)


def test_a_space_of_very_many_dimensions_is_left_to_the_command(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_moments, "LONGEST_KEPT", 20)
    compute_moments(archive.url, "tiny")
    save(archive, 1, 2)
    said: list[str] = []
    embed(archive.url, "tiny", say=said.append)
    assert not current(archive)
    assert len(said) == 1
    compute_moments(archive.url, "tiny")
    assert current(archive)


def test_a_right_that_is_missing_ends_no_run(archive: Archive, superuser_url: str) -> None:
    save(archive, 1, 2)
    said: list[str] = []
    with psycopg.connect(superuser_url, autocommit=True) as admin:
        admin.execute("revoke insert on geosearch.moments from geosearch_ingest, geosearch_admin")
        url = f"{archive.url}&options=-crole%3Dgeosearch_ingest"
        assert embed(url, "tiny", say=said.append).embedded == 2
    assert len(said) == 1
    assert "may not write the moments of space tiny" in said[0]


def test_of_a_space_that_was_dropped_meanwhile_nothing_is_said(archive: Archive) -> None:
    compute_moments(archive.url, "tiny")
    moments = kept_moments.KeptMoments(archive.conn, get_space(archive.conn, "tiny"))
    moments.add(np.ones((2, 24)), Written(2, 0, 0, 0))
    drop_space(archive.conn, "tiny")
    said: list[str] = []
    moments.finish(archive.conn, archive.url, said.append)
    assert said == []


def test_an_import_keeps_them(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_files, "BLOCK", 3)
    create_space(archive.conn, "foreign", 4)
    for i in range(20):
        catalogue(archive.conn, archive.id, f"n{i}", None, bytes([i]) * 32)
    values = np.random.default_rng(5).normal(size=(20, 4)) * 3 + 1
    first = None
    for end in (
        8,
        15,
        15,
        20,
    ):  # the second time nothing is new; where some are, a block of old and new cannot be added
        np.savez(tmp_path / "v.npz", names=[f"n{i}" for i in range(end)], vectors=values[:end])
        import_vectors(archive.url, "foreign", tmp_path / "v.npz", "a")
        assert current(archive, "foreign")
        first = first or edition(archive, "foreign")
    np.savez(tmp_path / "w.npz", names=["n3"], vectors=-values[3:4])
    import_vectors(archive.url, "foreign", tmp_path / "w.npz", "a")
    assert current(archive, "foreign")
    assert edition(archive, "foreign") != first
