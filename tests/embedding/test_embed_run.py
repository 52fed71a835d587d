"""The embedding run: what is missing is filled, what is broken is told, and nothing is lost or doubled."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import pytest
from embedding_archive import Archive, archive, catalogue, model, picture
from PIL import Image
from tiny_model import write_model

from geosearch.database.archives import ensure_archive, remove_archive
from geosearch.database.connection import connect
from geosearch.database.spaces import create_space, drop_space, get_space
from geosearch.embedding import missing
from geosearch.embedding.identity import encoder_of, record_model
from geosearch.embedding.run import EmbedCounts, embed
from geosearch.encoders import registry
from geosearch.encoders.base import ModelInfo
from geosearch.errors import InputError, ModelError, UnknownNameError
from geosearch.item import Item

__all__ = ["archive", "model"]  # fixtures, imported by name


def outcome(counts: EmbedCounts) -> tuple[int, int, int, int]:
    return counts.embedded, counts.unchanged, counts.rejected, counts.gone


def test_every_image_gets_the_vector_of_its_picture(archive: Archive) -> None:
    for i in range(23):
        archive.save(f"p{i}", i)
    seen: list[tuple[int, int]] = []
    counts = embed(archive.url, "tiny", batch_size=5, threads=3, progress=lambda done, of: seen.append((done, of)))
    assert outcome(counts) == (23, 0, 0, 0)
    assert seen[-1] == (23, 23)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    stored = archive.vectors()
    direct = registry.load(archive.model, "cpu").encode([Item(image=picture(i)) for i in range(23)])
    for i in range(23):
        assert stored[f"p{i}"] == pytest.approx(direct[i], abs=1e-3)  # stored in half precision
        assert np.linalg.norm(stored[f"p{i}"]) == pytest.approx(1, abs=2e-3)


def test_second_run_has_nothing_to_do_and_loads_no_picture(archive: Archive) -> None:
    archive.save("one", 1)
    embed(archive.url, "tiny")
    at = archive.conn.execute("select embedded_at from geosearch.space_tiny").fetchone()
    (archive.folder / "one.png").unlink()
    assert outcome(embed(archive.url, "tiny")) == (0, 1, 0, 0)
    assert archive.conn.execute("select embedded_at from geosearch.space_tiny").fetchone() == at


def test_shares_of_time_are_told(archive: Archive) -> None:
    for i in range(6):
        archive.save(f"p{i}", i)
    counts = embed(archive.url, "tiny", batch_size=2)
    assert set(counts.shares) == {"decode", "encode", "write", "wait", "find"}
    assert all(0 < share <= 1 for share in counts.shares.values())
    # What the encoding thread does, one after the other, cannot take longer than the run.
    one_by_one = sum(counts.seconds[stage] for stage in ("find", "encode", "wait"))
    assert one_by_one <= counts.seconds["total"]


def test_broken_files_are_rejected_and_the_others_go_on(archive: Archive) -> None:
    for i in range(7):
        archive.save(f"good{i}", i)
    (archive.folder / "text.png").write_text("not a picture")
    (archive.folder / "empty.png").write_bytes(b"")
    whole = (archive.folder / "good0.png").read_bytes()
    (archive.folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("text", "empty", "cut", "vanished"):
        catalogue(archive.conn, archive.id, name, str(archive.folder / f"{name}.png"))
    catalogue(archive.conn, archive.id, "remote", "https://example.org/x.jpg")
    catalogue(archive.conn, archive.id, "nowhere", None)
    catalogue(archive.conn, archive.id, "outside", "../../secret.png")
    catalogue(archive.conn, archive.id, "folder", str(archive.folder))
    assert outcome(embed(archive.url, "tiny", batch_size=2)) == (7, 0, 8, 0)
    reasons = archive.rejects()
    assert set(reasons) == {"text", "empty", "cut", "vanished", "remote", "nowhere", "outside", "folder"}
    for name in ("text", "empty", "cut", "vanished"):
        assert f"{name}.png" in reasons[name]
    assert "empty" in reasons["empty"]
    assert "no such file" in reasons["vanished"]
    assert "not fetched" in reasons["remote"]
    assert "out of the archive's root" in reasons["outside"]
    # Tried again by the next run: still one reject an image.
    assert outcome(embed(archive.url, "tiny")) == (0, 7, 8, 0)
    assert len(archive.rejects()) == 8


def test_a_mended_file_is_embedded_and_its_reject_cleared(archive: Archive) -> None:
    catalogue(archive.conn, archive.id, "late", "late.png")  # relative to the archive's root
    catalogue(archive.conn, archive.id, "never", "never.png")
    assert outcome(embed(archive.url, "tiny")) == (0, 0, 2, 0)
    picture(3).save(archive.folder / "late.png")
    assert outcome(embed(archive.url, "tiny")) == (1, 0, 1, 0)
    assert set(archive.rejects()) == {"never"}


def test_file_uris_with_odd_names(archive: Archive) -> None:
    path = archive.folder / "mit Leerzeichen & ü%20.png"
    picture(1).save(path)
    catalogue(archive.conn, archive.id, "uri", path.as_uri())
    catalogue(archive.conn, archive.id, "path", path.name)
    assert outcome(embed(archive.url, "tiny")) == (2, 0, 0, 0)


def test_changed_pixels_are_embedded_anew(archive: Archive) -> None:
    archive.save("stays", 1)
    archive.save("changes", 2)
    embed(archive.url, "tiny")
    before = archive.vectors()
    archive.save("changes", 99)  # the catalogue sees the new file
    assert outcome(embed(archive.url, "tiny")) == (1, 1, 0, 0)
    after = archive.vectors()
    assert np.array_equal(before["stays"], after["stays"])
    assert not np.allclose(before["changes"], after["changes"], atol=1e-3)
    assert outcome(embed(archive.url, "tiny")) == (0, 2, 0, 0)


def test_recheck_finds_changes_that_the_catalogue_has_not_seen(archive: Archive) -> None:
    archive.save("known", 1)
    archive.save("unhashed", 2, hashed=False)
    archive.save("same", 3)
    embed(archive.url, "tiny")
    for name in ("known", "unhashed"):
        picture(50).save(archive.folder / f"{name}.png")
    assert outcome(embed(archive.url, "tiny")) == (0, 3, 0, 0)
    assert outcome(embed(archive.url, "tiny", recheck=True)) == (2, 1, 0, 0)
    vectors = archive.vectors()
    assert vectors["known"] == pytest.approx(vectors["unhashed"], abs=1e-3)
    assert outcome(embed(archive.url, "tiny")) == (0, 3, 0, 0)  # the catalogue's hash has followed


def test_an_archive_alone(archive: Archive) -> None:
    archive.save("mine", 1)
    other = ensure_archive(archive.conn, "b")
    catalogue(archive.conn, other, "theirs", str(archive.folder / "mine.png"))
    assert outcome(embed(archive.url, "tiny", "b")) == (1, 0, 0, 0)
    assert set(archive.vectors()) == {"theirs"}
    assert outcome(embed(archive.url, "tiny", "a")) == (1, 0, 0, 0)
    with pytest.raises(UnknownNameError, match="archive"):
        embed(archive.url, "tiny", "c")


def test_pages_and_gaps_between_ids(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing, "PAGE", 4)
    for i in range(30):
        archive.save(f"p{i}", i)
    archive.conn.execute("delete from geosearch.image where id % 7 in (1, 2, 3, 4)")
    left = archive.conn.execute("select count(*) from geosearch.image").fetchone()
    counts = embed(archive.conn, "tiny", batch_size=3)
    assert left is not None
    assert outcome(counts) == (left[0], 0, 0, 0)
    locks = archive.conn.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchone()
    assert locks == (0,)


class Slow:
    """An encoder that can be stopped in the middle, and counts what it was given."""

    def __init__(self, inner: object, before: object = None) -> None:
        self.inner, self.before, self.encoded = inner, before, 0
        self.info: ModelInfo = inner.info  # type: ignore[attr-defined]

    def prepare(self, item: Item) -> object:
        return self.inner.prepare(item)  # type: ignore[attr-defined]

    def encode(self, items: object) -> object:
        return self.inner.encode(items)  # type: ignore[attr-defined]

    def encode_prepared(self, prepared: list[object]) -> object:
        self.encoded += len(prepared)
        if self.before:
            self.before()  # type: ignore[operator]
        return self.inner.encode_prepared(prepared)  # type: ignore[attr-defined]


def test_two_runs_at_once_share_the_work(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing, "PAGE", 8)
    for i in range(40):
        archive.save(f"p{i}", i)
    both = threading.Barrier(2)
    once = [both.wait, lambda: None]
    encoders = [Slow(registry.load(archive.model, "cpu")) for _ in range(2)]
    for encoder in encoders:  # neither goes on before the other has begun
        steps = iter([once[0]])
        encoder.before = lambda steps=steps: next(steps, lambda: None)()
    results: list[EmbedCounts] = []
    threads = [
        threading.Thread(target=lambda e=e: results.append(embed(archive.url, "tiny", encoder=e, batch_size=4)))
        for e in encoders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 2
    assert len(archive.vectors()) == 40
    assert sum(counts.embedded for counts in results) == 40
    assert sum(encoder.encoded for encoder in encoders) == 40  # nothing was done twice


def test_images_removed_meanwhile_are_counted_not_fatal(archive: Archive) -> None:
    for i in range(6):
        archive.save(f"p{i}", i)
    encoder = Slow(registry.load(archive.model, "cpu"))

    def remove() -> None:
        archive.conn.execute("delete from geosearch.image where name in ('p0', 'p5')")

    encoder.before = remove
    assert outcome(embed(archive.url, "tiny", encoder=encoder, batch_size=10)) == (4, 0, 0, 2)
    archive_b = ensure_archive(archive.conn, "b")
    catalogue(archive.conn, archive_b, "x", str(archive.folder / "p1.png"))
    encoder.before = lambda: remove_archive(archive.conn, "b")
    assert outcome(embed(archive.url, "tiny", encoder=encoder)) == (0, 4, 0, 1)


def test_one_picture_that_breaks_the_network_is_rejected(archive: Archive) -> None:
    for i in range(4):
        archive.save(f"p{i}", i)
    inner = registry.load(archive.model, "cpu")
    bad = inner.prepare(Item(image=picture(2))).tensor

    class Breaks(Slow):
        def encode_prepared(self, prepared: list[object]) -> object:
            if any(one.tensor.equal(bad) for one in prepared):  # type: ignore[attr-defined]
                raise ModelError("gave a non-finite vector")
            return inner.encode_prepared(prepared)

    assert outcome(embed(archive.url, "tiny", encoder=Breaks(inner))) == (3, 0, 1, 0)
    assert archive.rejects() == {"p2": "gave a non-finite vector"}
    assert outcome(embed(archive.url, "tiny", encoder=Breaks(inner))) == (0, 3, 1, 0)  # also when it is alone


def test_a_model_that_fails_on_everything_ends_the_run(archive: Archive) -> None:
    for i in range(8):
        archive.save(f"p{i}", i)
    encoder = Slow(registry.load(archive.model, "cpu"))

    def fail() -> None:
        raise ModelError("are its weights whole?")

    encoder.before = fail
    with pytest.raises(ModelError, match="weights whole"):
        embed(archive.url, "tiny", encoder=encoder)
    assert not archive.rejects()


def test_an_error_of_the_database_ends_the_run_with_its_message(archive: Archive) -> None:
    for i in range(8):
        archive.save(f"p{i}", i)
    encoder = Slow(registry.load(archive.model, "cpu"))
    encoder.before = lambda: drop_space(archive.conn, "tiny") if encoder.encoded == 4 else None
    with pytest.raises(Exception, match="space_tiny"):
        embed(archive.url, "tiny", encoder=encoder, batch_size=2)


def test_the_model_of_a_space_is_insisted_upon(archive: Archive, tmp_path: Path) -> None:
    name = write_model(tmp_path / "m", seed=1)
    create_space(archive.conn, "mine", 24, record_model(archive.conn, registry.describe(name)))
    write_model(tmp_path / "m", seed=2)  # trained again, into the same folder
    with pytest.raises(ModelError, match="cannot be compared"):
        embed(archive.url, "mine")
    # The new weights get a name of their own, and both stay.
    again = record_model(archive.conn, registry.describe(name))
    assert again.startswith(f"{name}@")
    assert record_model(archive.conn, registry.describe(name)) == again
    create_space(archive.conn, "mine2", 24, again)
    archive.save("one", 1)
    assert outcome(embed(archive.url, "mine2")) == (1, 0, 0, 0)
    changed = replace(registry.describe(name), preprocessing={"size": [1, 1]})
    with pytest.raises(ModelError, match="another preprocessing"):
        record_model(archive.conn, changed)


def test_a_space_without_a_model_says_what_to_do(archive: Archive) -> None:
    create_space(archive.conn, "foreign", 8)
    with pytest.raises(InputError, match="embed import foreign"):
        embed(archive.url, "foreign")
    with pytest.raises(InputError, match="24 dimensions"):
        embed(archive.url, "foreign", encoder=registry.load(archive.model, "cpu"))
    with pytest.raises(UnknownNameError, match="tiny"):
        embed(archive.url, "other")
    assert encoder_of(archive.conn, get_space(archive.conn, "tiny")).info.dimension == 24


def test_the_ingest_role_may_embed(archive: Archive, superuser_url: str) -> None:
    archive.save("one", 1)
    catalogue(archive.conn, archive.id, "none", "none.png")
    name = f"gsembed_{uuid.uuid4().hex[:12]}"  # roles belong to the whole server
    parts = urlsplit(superuser_url)
    url = urlunsplit(parts._replace(netloc=f"{name}:x@{parts.netloc.rpartition('@')[2]}"))
    with connect(superuser_url, autocommit=True) as admin:
        admin.execute(f"create role {name} login password 'x' in role geosearch_ingest")
        try:
            assert outcome(embed(url, "tiny")) == (1, 0, 1, 0)
            Image.new("RGB", (9, 9), "red").save(archive.folder / "none.png")
            assert outcome(embed(url, "tiny")) == (1, 1, 0, 0)
        finally:
            # Its temporary tables go with its sessions, which end a moment after their connections.
            while admin.execute("select from pg_stat_activity where usename = %s", [name]).fetchone():
                time.sleep(0.05)
            admin.execute(f"drop role {name}")
