"""`geosearch worker`: answers the questions that are asked in SQL."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import DONE_WITH_REJECTS, JsonOption, emit, note


def worker(
    once: Annotated[bool, typer.Option("--once", help="Embed what is new, answer what waits, and end.")] = False,
    poll: Annotated[
        float, typer.Option(min=0.1, help="Look for questions so often where nobody calls.", metavar="SECONDS")
    ] = 5.0,
    no_embed: Annotated[bool, typer.Option("--no-embed", help="Leave new images to others.")] = False,
    time_limit: Annotated[
        float,
        typer.Option(min=1, help="For the picture of one question, and for its search.", metavar="SECONDS"),
    ] = 60.0,
    rerank: Annotated[
        bool | None,
        typer.Option(
            "--rerank/--no-rerank", help="Hold the vectors in memory and search there; if not given, with a GPU only."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Serve counts for Prometheus on this port.", metavar="PORT")
    ] = None,
    metrics_address: Annotated[str, typer.Option(help="The address to serve them on.")] = "127.0.0.1",
    json: JsonOption = False,
) -> None:
    """Answer questions asked with `select geosearch.ask(…)`, and embed newly catalogued images.

    Start as many as you like, on as many machines: each question is answered once. SIGTERM or Ctrl-C ends it when the
    question in hand is answered or given back; what a killed worker had in hand is taken up by the next.
    Exit status with --once: 3 when a question failed or an image was rejected.
    """
    from geosearch.worker.metrics import Metrics, PrometheusMetrics
    from geosearch.worker.run import Worker

    metrics = Metrics() if metrics_port is None else PrometheusMetrics(metrics_port, metrics_address)
    working = Worker(
        once=once, poll=poll, embed=not no_embed, time_limit=time_limit, rerank=rerank, device=device,
        report=note, metrics=metrics,
    )  # fmt: skip
    try:
        with working.stop.by_signals():
            counts = working.run()
    finally:
        working.stop.close()
        metrics.close()
    if once or json:
        emit(counts, json)
    if once and (counts.failed or counts.rejected):
        raise typer.Exit(DONE_WITH_REJECTS)
