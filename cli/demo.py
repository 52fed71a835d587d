"""`geosearch demo`: the whole of it on real imagery, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import JsonOption, emit, note, progress


def demo(
    out: Annotated[Path, typer.Option(help="Where the page is written.", metavar="FILE")] = Path(
        "demo-output/index.html"
    ),
    tiles: Annotated[int, typer.Option(min=1, max=50_000, help="About how many tiles the Earth is cut into.")] = 4000,
    photographs: Annotated[int, typer.Option(min=1, max=5000, help="How many photographs are simulated.")] = 240,
    model: Annotated[str, typer.Option(help="The model that embeds them (`geosearch model list`).")] = "mini-clip",
    places: Annotated[int, typer.Option(min=100, max=200_000, help="Places of the bank of RANGE.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Another seed simulates other photographs.")] = 1,
    json: JsonOption = False,
) -> None:
    """Catalogue NASA's Blue Marble in tiles, embed it, and ask it with simulated astronaut photographs.

    Makes archives bluemarble-demo and astronaut-demo, spaces demo, demo_colours and demo_features, and bank demo, and
    writes one HTML page. What an earlier run has done is not done again.
    """
    from geosearch.demo.run import run

    with progress() as bar:
        tasks: dict[str, Any] = {}

        def tell(title: str, done: int, of: int) -> None:
            if title not in tasks:
                tasks[title] = bar.add_task(title, total=None)
            bar.update(tasks[title], completed=done, total=of or None)

        found = run(
            out.absolute(), tiles=tiles, photographs=photographs, model=model, places=places, seed=seed, tell=tell
        )
    if json:
        emit(found.to_dict(), json=True)
        return
    rows = []
    for line in found.table:
        for by, recall in (("model", line.recall), ("colours", line.colours), ("chance", line.chance)):
            shares = {f"R@{k}": f"{100 * share:.1f}" for k, share in recall.at.items()}
            rows.append({"photographs": line.photographs, "search": line.search, "by": by, **shares})
    emit(rows)
    note("The photographs are simulated.")
    print(found.page)
