"""The embedding run: images without a vector in a space → vectors, from files, in batches, resumable at any moment."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg

from geosearch.database.archives import get_archive_id
from geosearch.database.connection import connect
from geosearch.database.reorder import restore_order
from geosearch.database.spaces import Space, get_space
from geosearch.database.statistics import refresh_statistics
from geosearch.embedding import files
from geosearch.embedding.address import address
from geosearch.embedding.background import BackgroundWriter, Batch
from geosearch.embedding.encode import check_encoder, encode_each
from geosearch.embedding.identity import encoder_of
from geosearch.embedding.kept_moments import KeptMoments
from geosearch.embedding.missing import Missing, MissingImages
from geosearch.embedding.write import Rejected
from geosearch.encoders.base import Encoder
from geosearch.errors import GeosearchError
from geosearch.item import Item, Place
from geosearch.settings import settings

Progress = Callable[[int, int], None]

REJECTS_A_BATCH = 1000


@dataclass(frozen=True)
class EmbedCounts:
    """The account of a run: embedded + unchanged + rejected + gone is every image it looked at.

    gone: removed from the catalogue meanwhile. seconds: `total` by the clock; `decode` (of all threads together),
    `encode` and `write`, which run at the same time; `wait`: the encoder stood still for want of pictures or because
    the database was behind; `find`: asking which images lack a vector. shares: of the total, decode a thread.
    """

    embedded: int
    unchanged: int
    rejected: int
    gone: int
    seconds: dict[str, float] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)


class Loaded(NamedTuple):
    """What a decoding thread made of an image: something to encode, or a reason, or neither where nothing changed."""

    prepared: Any
    sha256: bytes
    reason: str | None
    seconds: float


def embed(
    database: psycopg.Connection | str | None,
    space: str,
    archive: str | None = None,
    *,
    encoder: Encoder | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    recheck: bool = False,
    progress: Progress | None = None,
    go_on: Callable[[], bool] | None = None,
    say: Callable[[str], None] = lambda _: None,
    moments: KeptMoments | None = None,
) -> EmbedCounts:
    """Embed the images that have no vector in a space, or one of other pixels than the catalogue's.

    A model that reads places gets each image's place with it (geosearch.encoded_place: the nadir, else the footprint's
    middle); a vector made with another place than that is now, as after a nadir was corrected, is made anew.

    database: a URL, a connection (only its address is used: what it has not committed is not seen), or None for the
    default. archive: only its images. encoder: instead of loading the space's model. recheck: read every file again and
    embed those that have changed since, also where the catalogue does not know. progress: called with (done, of).
    go_on: called between images, in the calling thread, which may do other work in it; where it returns False the run
    ends early, with what it began. say: told of the order of the space, which is restored at the end where the run has
    upset it; with go_on it is left to `geosearch space reorder`, since other work waits. So it is with the space's
    moments, which the run adds to: where they are late for other reasons, `geosearch space moments` computes them.
    moments: what earlier runs of the caller have added and not finished; then the caller finishes this run's, too.

    What is encoded is committed at once, in whole batches: a run that was killed is continued by the next. A file that
    is gone or damaged becomes a reject of stage 'embed', is tried again by the next run, and is cleared when that
    succeeds. Several runs may work at once. Raises UnknownNameError, InputError (a space without a model), ModelError,
    WeightsError.
    """
    url = address(database)
    with connect(url, autocommit=True) as reader, connect(url, autocommit=True) as writing:
        found = get_space(reader, space)
        archive_id = None if archive is None else get_archive_id(reader, archive)
        encoder = encoder or encoder_of(reader, found, device)
        check_encoder(encoder, found)
        missing = MissingImages(reader, found, archive_id, recheck, places="place" in encoder.info.reads)
        run = _Run(found, encoder, missing, batch_size or settings().batch_size, threads or decode_threads(), progress)
        run.go_on = go_on
        kept = moments or KeptMoments(writing, found)
        with BackgroundWriter(writing, found, kept) as run.writer:
            counts = run.go()
        refresh_statistics(writing, found.table, counts.embedded)
        if moments is None:
            kept.finish(writing, url, say, only_tell=go_on is not None)
    if counts.embedded:
        restore_order(url, space, say, only_tell=go_on is not None)
    return counts


def decode_threads() -> int:
    """Return how many threads read images: the setting, or one a core and at most 8."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return settings().decode_threads or min(8, cores)


class _Run:
    """One run: a window of images being decoded, a batch being filled, pages that wait for their last commit."""

    writer: BackgroundWriter
    go_on: Callable[[], bool] | None = None

    def __init__(
        self,
        space: Space,
        encoder: Encoder,
        missing: MissingImages,
        batch: int,
        threads: int,
        progress: Progress | None,
    ) -> None:
        self.space, self.encoder, self.missing = space, encoder, missing
        self.batch_size, self.threads, self.progress = batch, threads, progress
        self.window: deque[tuple[Missing, int, Future[Loaded]]] = deque()
        self.ready: list[tuple[Missing, int, Loaded]] = []
        self.rejected: list[tuple[Missing, int, str]] = []
        self.open_pages: Counter[int] = Counter()
        self.found = self.unchanged = self.same = self.total = 0
        self.seconds = dict.fromkeys(("total", "find", "decode", "encode", "write", "wait"), 0.0)

    def go(self) -> EmbedCounts:
        start = time.perf_counter()
        self.total = self.missing.count() if self.progress else 0
        with ThreadPoolExecutor(self.threads, "decode") as pool:
            try:
                self._feed(pool)
            finally:
                for _, _, future in self.window:
                    future.cancel()
        self.seconds["total"] = time.perf_counter() - start
        return self._account()

    def _feed(self, pool: ThreadPoolExecutor) -> None:
        pages = self.missing.pages(before_waiting=self._finish, go_on=self.go_on)
        while True:
            start, other = time.perf_counter(), self.seconds["encode"] + self.seconds["wait"]
            page = next(pages, None)
            # Less what was finished on the way, before waiting for a page of another run.
            other = self.seconds["encode"] + self.seconds["wait"] - other
            self.seconds["find"] += time.perf_counter() - start - other
            if page is None:
                break
            self.unchanged += page.unchanged
            self.open_pages[page.number] = len(page.images)
            for image in page.images:
                if self.go_on is not None and not self.go_on():
                    # The rest of this page is never done, and it goes back when the connection is closed.
                    self._finish()
                    return
                self.found += 1
                self.window.append((image, page.number, pool.submit(self._load, image)))
                # Enough ahead that the encoder never waits for a slow file, little enough that memory is bounded.
                if len(self.window) >= 2 * self.batch_size + 2 * self.threads:
                    self._take()
            self._release_pages()
        self._finish()

    def _load(self, image: Missing) -> Loaded:
        """Read, hash, decode and preprocess one image; in a decoding thread. Never raises: a reason is an answer."""
        start = time.perf_counter()
        prepared, sha256, reason = None, b"", None
        try:
            path = files.locate(image.uri, image.root)
            contents = files.read(path)
            sha256 = contents.sha256
            if sha256 != image.stored_sha256 or image.moved or not self.missing.scope["recheck"]:
                prepared = self._prepare(contents, str(path), image.place)
        except GeosearchError as error:
            reason = str(error)
        except Exception as error:  # one file, whatever is in it, must not end the run for a million others
            reason = f"{image.uri}: cannot be read ({type(error).__name__}: {error})"
        return Loaded(prepared, sha256, reason, time.perf_counter() - start)

    def _prepare(self, contents: files.Contents, name: str, place: Place | None) -> Any:
        from geosearch.encoders.pictures import open_image

        return self.encoder.prepare(Item(image=open_image(contents.source, name=name), place=place))

    def _take(self) -> None:
        """Move the oldest image of the window into the batch, and the batch through the encoder when it is full."""
        image, page, future = self.window.popleft()
        start = time.perf_counter()
        loaded = future.result()
        self.seconds["wait"] += time.perf_counter() - start
        self.seconds["decode"] += loaded.seconds
        if loaded.reason is None and loaded.prepared is None:
            self.same += 1
            self.open_pages[page] -= 1
        elif loaded.reason is not None:
            self.rejected.append((image, page, loaded.reason))
        else:
            self.ready.append((image, page, loaded))
        if len(self.ready) >= self.batch_size or len(self.rejected) >= REJECTS_A_BATCH:
            self._encode()

    def _encode(self) -> None:
        """Encode what is ready and hand it over, with the rejects so far."""
        if not self.ready and not self.rejected:
            return
        ready, self.ready = self.ready, []
        rejected, self.rejected = self.rejected, []
        start = time.perf_counter()
        vectors, failed = encode_each(self.encoder, [loaded.prepared for _, _, loaded in ready])
        self.seconds["encode"] += time.perf_counter() - start
        good = [one for i, one in enumerate(ready) if i not in failed]
        rejected += [(*ready[i][:2], reason) for i, reason in failed.items()]
        self._write(
            Batch(
                [image.image_id for image, _, _ in good],
                vectors,
                [loaded.sha256 for _, _, loaded in good],
                [Rejected(image.archive_id, image.name, reason, image.uri) for image, _, reason in rejected],
                Counter(page for _, page, _ in good) + Counter(page for _, page, _ in rejected),
                [image.place for image, _, _ in good] if "place" in self.encoder.info.reads else None,
            )
        )

    def _write(self, batch: Batch) -> None:
        start = time.perf_counter()
        self.writer.put(batch)
        self.seconds["wait"] += time.perf_counter() - start
        self._release_pages()

    def _finish(self) -> None:
        """Encode and commit all that is begun, and let its pages go."""
        while self.window:
            self._take()
        self._encode()
        start = time.perf_counter()
        self.writer.drain()
        self.seconds["wait"] += time.perf_counter() - start
        self._release_pages()

    def _release_pages(self) -> None:
        while self.writer.committed:
            self.open_pages.subtract(self.writer.committed.popleft())
        for number in [number for number, left in self.open_pages.items() if left == 0]:
            self.missing.release(number)
            del self.open_pages[number]
        if self.progress:
            done = self.writer.done + self.same
            self.progress(done, max(self.total, done))

    def _account(self) -> EmbedCounts:
        writer = self.writer
        self.seconds["write"] = writer.seconds
        if self.found != writer.done + self.same:  # a defect here, never the user's
            raise AssertionError(f"{self.found} images in, {writer.done} + {self.same} out of the run")
        total = self.seconds["total"] or 1.0
        shares = {name: self.seconds[name] / total for name in ("decode", "encode", "write", "wait", "find")}
        shares["decode"] /= self.threads
        return EmbedCounts(
            writer.embedded, self.unchanged + self.same, writer.rejected, writer.gone, self.seconds, shares
        )
