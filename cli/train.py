"""`geosearch train`: train the small models of this project, or models of one's own in the same way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import JsonOption, emit, progress

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

app = typer.Typer(no_args_is_help=True, help="Train the small models that this project ships.")


@app.callback()
def train() -> None:
    """Train the small models that this project ships."""


@app.command()
def clip(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run: checkpoint, log, and the finished model.")],
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Steps in all; a longer run goes on from a shorter.")
    ] = 3600,
    batch: Annotated[int, typer.Option("--batch", min=2, help="Pairs of views a step.")] = 192,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the weights and of the views.")] = 20,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 …")] = "cpu",
    every: Annotated[int, typer.Option("--every", min=1, help="Steps between checkpoints.")] = 250,
    json: JsonOption = False,
) -> None:
    """Train mini-clip on views of Blue Marble: tiles, simulated photographs and captions.

    An interrupted run goes on from its last checkpoint when the command is given again.
    """
    from geosearch.training.clip import Options
    from geosearch.training.clip import train as run

    options = Options(steps=steps, batch=batch, seed=seed)
    with progress() as bar:
        task = bar.add_task("training", total=steps)
        run(
            out,
            options,
            device,
            every,
            _watcher(bar, task, "pairs"),
        )
        bar.update(task, completed=steps)
    _emit_trained(out, steps, f"geosearch evaluate clip --model open_clip:local-dir:{out.absolute()}", json)


@app.command()
def location(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run: views, checkpoint, log, the finished model.")],
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Steps in all; a longer run goes on from a shorter.")
    ] = 500,
    places: Annotated[
        int, typer.Option("--places", min=100, help="Places to learn from, three views of each.")
    ] = 48000,
    degree: Annotated[
        int, typer.Option("--degree", min=1, max=40, help="Spherical harmonics below this degree: how fine it is.")
    ] = 10,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the places, the weights and the batches.")] = 22,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 …")] = "cpu",
    every: Annotated[int, typer.Option("--every", min=1, help="Steps between checkpoints.")] = 250,
    json: JsonOption = False,
) -> None:
    """Train mini-location: places into the space of mini-clip's images, of which Blue Marble gives views.

    The views are made first, once a folder, and kept there. An interrupted run goes on when the command is given again.
    """
    from geosearch.training.location import Options
    from geosearch.training.location import train as run

    options = Options(steps=steps, places=places, degree=degree, seed=seed)
    with progress() as bar:
        views, task = bar.add_task("views of places", total=places), bar.add_task("training", total=steps)
        run(
            out,
            options,
            device,
            every,
            _watcher(bar, task, "places"),
            lambda ready: bar.update(views, completed=ready),
        )
        bar.update(task, completed=steps)
    _emit_trained(out, steps, f"geosearch evaluate location --model satclip:local-dir:{out.absolute()}", json)


def _watcher(bar: Progress, task: TaskID, what: str) -> Callable[[dict[str, float]], None]:
    """Return what shows a record of training in a bar. what: of which a share is right."""

    def show(record: dict[str, float]) -> None:
        said = f"loss {record['loss']:.2f} {what} right {record['right']:.0%}"
        bar.update(task, completed=int(record["step"]), description=said)

    return show


def _emit_trained(out: Path, steps: int, try_it: str, json: bool) -> None:
    emit({"model": str(out.absolute()), "steps": steps, "try it": try_it}, json)
