"""The worker: waits for questions, answers them one by one, and embeds new images while nobody asks."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from geosearch.database.connection import connect, database_url
from geosearch.errors import DatabaseError, GeosearchError, SchemaError
from geosearch.search.lookup import find_space
from geosearch.worker import claims
from geosearch.worker.embed import Embedder
from geosearch.worker.metrics import Metrics
from geosearch.worker.pictures import Decoder, InterruptedWorkError
from geosearch.worker.search import Searcher
from geosearch.worker.stop import Stop
from geosearch.worker.vectors import encodes, vectors_of

BACK_OFF_S = (0.5, 30.0)  # the first pause and the longest, while the database is away


@dataclass
class WorkCounts:
    """What a worker did: questions answered and failed, images embedded and rejected."""

    answered: int = 0
    failed: int = 0
    embedded: int = 0
    rejected: int = 0


class LostError(Exception):
    """The database is away."""


class Worker:
    """Answers the questions of one database; several may, on several machines. One thread; end it by `stop.wish()`.

    url: None takes the database that is set, or the private one. once: embed what lacks a vector, answer what waits,
    and end. poll: seconds between two looks where nobody calls. embed: whether to embed new images. time_limit: seconds
    for the picture of a question and for its search. rerank: hold the vectors of the spaces in memory, to search there;
    None: where there is a GPU.
    report: called with what a person may want to know.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        once: bool = False,
        poll: float = 5.0,
        embed: bool = True,
        time_limit: float = 60.0,
        rerank: bool | None = None,
        device: str | None = None,
        report: Callable[[str], None] = lambda message: None,
        metrics: Metrics | None = None,
    ) -> None:
        if url is None:
            # Once, which also migrates a private cluster; one that is stopped later is not started again from here.
            connect().close()
            url = database_url()
        self.url = url
        self.once, self.poll, self.time_limit, self.device = once, poll, time_limit, device
        self.report, self.metrics = report, metrics or Metrics()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.counts, self.stop = WorkCounts(), Stop()
        self.searcher = Searcher(rerank, device)
        self.embedder = Embedder(self.url, device, self.report) if embed else None
        self._called = False
        self._looked = 0.0

    def run(self) -> WorkCounts:
        """Work until it is to end, or with `once` until nothing waits, and return what was done.

        Raises DatabaseError where the database cannot be reached at the start, SchemaError where it is not of this
        release; what happens later is waited out.
        """
        pause, known = BACK_OFF_S[0], False
        while True:
            try:
                with connect(self.url, autocommit=True) as conn, Decoder(self.time_limit, self._ends) as decoder:
                    try:
                        self._prepare(conn)
                        pause, known = BACK_OFF_S[0], True
                        self._session(conn, decoder)
                    except psycopg.Error as error:
                        raise LostError(str(error).strip()) from error
                return self.counts
            except SchemaError:
                raise
            except (LostError, DatabaseError, psycopg.OperationalError) as error:
                self.metrics.connected(False)
                if self.stop.wanted:
                    return self.counts
                if not known:
                    if isinstance(error, DatabaseError):
                        raise
                    raise DatabaseError(f"the worker cannot start: {error}") from error
                self.report(f"the database is away, trying again in {pause:g} s: {str(error).splitlines()[0]}")
            self.stop.wait(pause)
            if self.stop.wanted:
                return self.counts
            pause = min(2 * pause, BACK_OFF_S[1])

    def _prepare(self, conn: psycopg.Connection) -> None:
        conn.execute("select set_config('application_name', 'geosearch worker', false)")
        conn.execute("select set_config('statement_timeout', %s, false)", [str(int(1000 * self.time_limit))])
        # Whatever the login's own settings are: several workers share a table, and write to it.
        conn.execute("select set_config('default_transaction_isolation', 'read committed', false)")
        conn.execute("select set_config('default_transaction_read_only', 'off', false)")
        if not claims.may_answer(conn):
            raise DatabaseError(
                f"user {conn.info.user!r} may not answer questions in database {conn.info.dbname!r}. Let the owner run "
                f'there: grant geosearch_ingest to "{conn.info.user}";'
            )
        # A machine that dies says nothing: after a minute the server ends its session, and with it its locks.
        for name, value in (("idle", "30"), ("interval", "10"), ("count", "3")):
            conn.execute("select set_config(%s, %s, false)", [f"tcp_keepalives_{name}", value])
        conn.add_notify_handler(self._heard)
        claims.listen(conn)
        self.metrics.connected(True)
        self.report(f"{self.name} listens for questions to {conn.info.dbname}")

    def _session(self, conn: psycopg.Connection, decoder: Decoder) -> None:
        """Work on one connection, as long as it lasts."""
        while not self.stop.wanted:
            if not self.once:
                self._answer_all(conn, decoder)
            if self.embedder is not None and not self.stop.wanted and self.embedder.due_in() == 0:
                # Once, the new images are to be among the answers; else who asks does not wait for them.
                go_on = (lambda: not self.stop.wanted) if self.once else (lambda: self._between(conn, decoder))
                embedded = self.embedder.run(conn, go_on)
                self.counts.embedded += embedded.embedded
                self.counts.rejected += embedded.rejected
                self.metrics.embedded(embedded.embedded, embedded.rejected)
            if self.once:
                self._answer_all(conn, decoder)
                return
            if not self._called and not self.stop.wanted:
                due_in = self.poll if self.embedder is None else self.embedder.due_in()
                self._listen(conn, min(self.poll, due_in))
        if self.embedder is not None:
            self.embedder.finish(conn)

    def _between(self, conn: psycopg.Connection, decoder: Decoder) -> bool:
        """Between two images that are embedded: answer who asked meanwhile; False when the worker is to end."""
        try:
            self._listen(conn, 0)
            if self._called or time.monotonic() - self._looked > self.poll:
                self._answer_all(conn, decoder)
        except psycopg.Error as error:  # not of the embedding's own connections
            raise LostError(str(error).strip()) from error
        return not self.stop.wanted

    def _listen(self, conn: psycopg.Connection, seconds: float) -> None:
        """Wait until somebody calls, or so long."""
        if self.stop.wait(seconds, conn.fileno()):
            conn.pgconn.consume_input()
            while (notify := conn.pgconn.notifies()) is not None:
                self._note(notify.relname.decode())

    def _heard(self, notify: psycopg.Notify) -> None:
        self._note(notify.channel)

    def _note(self, channel: str) -> None:
        if channel == "geosearch_query":
            self._called = True
        elif self.embedder is not None:
            self.embedder.images_changed()

    def _ends(self) -> bool:
        return self.stop.wanted

    def _answer_all(self, conn: psycopg.Connection, decoder: Decoder) -> bool:
        """Answer until nothing waits or the worker is to end; return whether there was anything."""
        self._called, self._looked, any_ = False, time.monotonic(), False
        self.metrics.waiting(claims.waiting(conn))
        while not self.stop.wanted:
            question = claims.claim(conn, self.name)
            if question is None:
                break
            any_ = True
            self._answer(conn, decoder, question)
        if any_:
            self._looked = time.monotonic()
            self.metrics.waiting(claims.waiting(conn))
        return any_

    def _answer(self, conn: psycopg.Connection, decoder: Decoder, question: claims.Question) -> None:
        """Answer one question, or fail it with the reason, or give it back when the worker is to end."""
        start = time.monotonic()
        try:
            with self.stop.cancelling(conn.cancel):
                space = find_space(conn, question.space, encodes(question))
                asked = vectors_of(conn, question, space, decoder, self.device)
                if self.stop.wanted:
                    raise InterruptedWorkError
                answers = self.searcher.search(conn, question, space.name, asked)
        except InterruptedWorkError:
            self._give_back(conn, question)
            return
        except psycopg.errors.QueryCanceled:
            if self.stop.wanted:
                self._give_back(conn, question)
                return
            reason = f"the search took longer than {self.time_limit:g} s; ask for a smaller circle, or for fewer images"
        except psycopg.Error as error:
            if conn.closed:
                raise
            hint = error.diag.message_hint
            reason = f"{error.diag.message_primary or error}{f'. {hint}' if hint else ''}"
        except GeosearchError as error:
            reason = str(error)
        except Exception as error:  # one question must not end the worker for all others
            reason = f"the worker could not answer it ({type(error).__name__}: {error})"
        else:
            if claims.finish(conn, question, answers, space.name, asked.model, asked.weight):
                self._count("done", question, start, f"{len(answers)} images")
            else:
                self.report(f"question {question.id}: deleted or locked meanwhile, its answer is dropped")
            return
        if claims.fail(conn, question, reason):
            self._count("failed", question, start, reason)

    def _give_back(self, conn: psycopg.Connection, question: claims.Question) -> None:
        try:
            claims.give_back(conn, question)
        except psycopg.errors.QueryCanceled:  # the cancellation of the search came too late, and met this
            claims.give_back(conn, question)
        self.report(f"question {question.id}: given back")

    def _count(self, state: str, question: claims.Question, start: float, what: str) -> None:
        seconds = time.monotonic() - start
        if state == "done":
            self.counts.answered += 1
        else:
            self.counts.failed += 1
        self.metrics.question(state, seconds)
        # A reason may hold what a stranger wrote: no line breaks and no terminal's codes in a log.
        shown = "".join(character if character.isprintable() else "\ufffd" for character in what)
        self.report(f"question {question.id} {state} in {seconds:.2f} s: {shown}")
