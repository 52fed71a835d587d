"""`geosearch train`: train the small models of this project, or models of one's own in the same way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import JsonOption, counted, emit, progress

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


@app.command()
def nadir(
    tiles: Annotated[str, typer.Option("--tiles", help="Archive of the tiles that photographs are to find.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run: checkpoint, log, and the finished model.")],
    photos: Annotated[
        list[str] | None,
        typer.Option("--photos", help="Archive of photographs with footprints to learn from; may be repeated."),
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate/--no-simulate", help="Photographs of the tiles, simulated from Blue Marble.")
    ] = True,
    share: Annotated[
        float,
        typer.Option("--share", min=0, max=1, help="Share of a batch's pairs whose photograph is one of --photos."),
    ] = 0.5,
    overlap: Annotated[
        float,
        typer.Option(
            "--min-overlap", min=0, max=1, help="Intersection over union of footprints that makes a right pair."
        ),
    ] = 0.0,
    model: Annotated[
        str, typer.Option("--model", help="What to begin with: an OpenCLIP model, timm:NAME, a nadir-aware model.")
    ] = "mini-clip",
    size: Annotated[int | None, typer.Option("--size", min=14, help="Pixels a side; by default what suits it.")] = None,
    shape: Annotated[
        str | None,
        typer.Option("--shape", help="SALAD's: small, base, large, full, or as 16x32+256; by default what suits it."),
    ] = None,
    trainable: Annotated[
        int, typer.Option("--trainable", min=-1, help="Blocks of the tower that learn, from its end; -1: all.")
    ] = 3,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Steps in all; a longer run goes on from a shorter.")
    ] = 3000,
    batch: Annotated[int, typer.Option("--batch", min=2, help="Pairs a step, in all processes together.")] = 96,
    rate: Annotated[float, typer.Option("--learning-rate", min=0, help="Learning rate of what is new.")] = 5e-4,
    tower_rate: Annotated[float, typer.Option("--tower-rate", min=0, help="The tower's share of it.")] = 0.3,
    precision: Annotated[
        str, typer.Option("--precision", help="bf16, fp16, or off for single precision throughout.")
    ] = "bf16",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the weights and of the batches.")] = 26,
    split: Annotated[
        bool, typer.Option("--split/--no-split", help="Keep off the ground that the project holds out for evaluation.")
    ] = True,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 …")] = "cpu",
    every: Annotated[int, typer.Option("--every", min=1, help="Steps between checkpoints.")] = 250,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads that decode pictures.")] = 4,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="PNG of the losses, drawn anew at each checkpoint.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train a nadir-aware model on tiles of the database and photographs of them, catalogued or simulated.

    An interrupted run goes on from its last checkpoint when the command is given again. On several GPUs:
    `torchrun --nproc-per-node 4 --no-python geosearch train nadir … --device cuda`.
    """
    from geosearch.training.nadir import Options
    from geosearch.training.nadir_run import Source
    from geosearch.training.nadir_run import train as run
    from geosearch.training.nadir_start import shape_of

    options = Options(steps=steps, batch=batch, learning_rate=rate, tower_rate=tower_rate, seed=seed, overlap=overlap,
                      trainable=None if trainable < 0 else trainable, catalogued=share if simulate else 1.0,
                      precision=precision)  # fmt: skip
    source = Source(tiles, tuple(photos or ()), model, size, shape_of(shape) if shape else None, split)
    with progress() as bar:
        reading = {what: counted(bar, what) for what in ("tiles", "photographs")}
        task = bar.add_task("training", total=steps)
        first = run(out, source, options, device, every, threads, plot, _watcher(bar, task, "pairs"),
                    lambda what, done, of: reading[what](done, of))  # fmt: skip
        bar.update(task, completed=steps)
    if first:
        _emit_trained(out, steps, f"geosearch space create mine --model nadir:local-dir:{out.absolute()}", json)


def _watcher(bar: Progress, task: TaskID, what: str) -> Callable[[dict[str, float]], None]:
    """Return what shows a record of training in a bar. what: of which a share is right."""

    def show(record: dict[str, float]) -> None:
        said = f"loss {record['loss']:.2f} {what} right {record['right']:.0%}"
        bar.update(task, completed=int(record["step"]), description=said)

    return show


def _emit_trained(out: Path, steps: int, try_it: str, json: bool) -> None:
    emit({"model": str(out.absolute()), "steps": steps, "try it": try_it}, json)
