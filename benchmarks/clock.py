"""Times ways and checks what they answer."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from archive import Archive
from cases import Question, recall
from numpy.typing import NDArray
from rivals import SqlWay, Way

WARM_UP = 3  # questions that every way answers before the clock runs


class Tally:
    """What was seen of one way in one case."""

    def __init__(self) -> None:
        self.ms: list[float] = []
        self.cpu_ms: list[float] = []
        self.parts: dict[str, list[float]] = {}
        self.recalls: list[float] = []
        self.short: list[bool] = []
        self.per_second: float | None = None

    def check(self, archive: Archive, question: Question, answers: NDArray[np.int64]) -> None:
        """Note how good the answers are."""
        self.recalls.append(recall(archive, question, answers))
        self.short.append(len(answers) < question.due)

    def summary(self) -> dict[str, Any]:
        """Return the figures: milliseconds, mean recall, shares of the queries at recall 0 and with too few answers."""
        found: dict[str, Any] = {
            "p50": float(np.median(self.ms)),
            "p95": float(np.percentile(self.ms, 95)),
            "mean": float(np.mean(self.ms)),
            "recall": float(np.mean(self.recalls)),
            "zero": float(np.mean(np.array(self.recalls) == 0)),
            "short": float(np.mean(self.short)),
        }
        if self.cpu_ms and not np.isnan(self.cpu_ms).any():
            found["cpu_mean"] = float(np.mean(self.cpu_ms))
        for name, times in self.parts.items():
            found[name] = {"p50": float(np.median(times)), "p95": float(np.percentile(times, 95))}
        if self.per_second is not None:
            found["per_second"] = self.per_second
        return found


def one_client(archive: Archive, ways: list[Way], questions: list[Question]) -> dict[str, dict[str, Any]]:
    """Ask every way every question, the ways in turn within a question, each time another one first."""
    tallies = {way.name: Tally() for way in ways}
    for way in ways:
        for question in questions[:WARM_UP]:
            way.prepare(question)
            way.ask(question)
    for number, question in enumerate(questions):
        first = number % len(ways)
        for way in ways[first:] + ways[:first]:
            tally = tallies[way.name]
            way.prepare(question)
            busy = way.cpu_ms() if isinstance(way, SqlWay) else 0.0
            started = time.perf_counter()
            answers = way.ask(question)
            tally.ms.append((time.perf_counter() - started) * 1000)
            if isinstance(way, SqlWay):
                tally.cpu_ms.append(way.cpu_ms() - busy)
            for name, ms in way.parts_ms().items():
                tally.parts.setdefault(name, []).append(ms)
            tally.check(archive, question, answers)
    return {name: tally.summary() for name, tally in tallies.items()}


def many_clients(
    archive: Archive, ways: list[Way], questions: list[Question], clients: int
) -> dict[str, dict[str, Any]]:
    """Let clients ask one way at the same time, each all questions from a place of its own on; way after way."""
    found = {}
    for way in ways:
        tally = Tally()
        forks = [way.fork() for _ in range(clients)]
        for fork in forks:
            for question in questions:
                fork.prepare(question)
            fork.ask(questions[0])
        answers: list[tuple[Question, NDArray[np.int64]]] = []
        errors: list[BaseException] = []
        gate = threading.Barrier(clients + 1)

        def client(number: int, fork: Way) -> None:
            start = number * len(questions) // clients
            gate.wait()  # noqa: B023
            try:
                for question in questions[start:] + questions[:start]:
                    began = time.perf_counter()
                    ids = fork.ask(question)
                    tally.ms.append((time.perf_counter() - began) * 1000)  # noqa: B023
                    answers.append((question, ids))  # noqa: B023
            except BaseException as error:  # raised again below, in the main thread
                errors.append(error)  # noqa: B023

        threads = [threading.Thread(target=client, args=pair) for pair in enumerate(forks)]
        for thread in threads:
            thread.start()
        gate.wait()
        started = time.perf_counter()
        for thread in threads:
            thread.join()
        tally.per_second = clients * len(questions) / (time.perf_counter() - started)
        for fork in forks:
            if fork is not way:
                fork.close()
        if errors:
            raise errors[0]
        for question, ids in answers:
            tally.check(archive, question, ids)
        found[way.name] = tally.summary()
    return found
