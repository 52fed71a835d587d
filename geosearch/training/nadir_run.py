"""A run of training, from a database to a model folder: its checkpoint, its log, its plot, going on where it stopped.

In the folder: nadir.json and model.safetensors, the model so far; run/checkpoint.pt, run/log.jsonl and the pictures,
resized, in run/tiles-….npy and run/photos-….npy.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from geosearch.database.archives import get_archive_id
from geosearch.database.connection import connect
from geosearch.encoders import nadir_folder
from geosearch.encoders.registry import pick_device
from geosearch.errors import InputError
from geosearch.nadir.model import NadirModel
from geosearch.nadir.salad import SaladShape
from geosearch.training.nadir import Options, Record, learn
from geosearch.training.nadir_catalogued import Photos, read_photos
from geosearch.training.nadir_ground import Tiles, read_tiles
from geosearch.training.nadir_plot import check_plot, plot_log
from geosearch.training.nadir_ranks import Ranks, ranks
from geosearch.training.nadir_start import begin
from geosearch.training.run_files import append_record, save_checkpoint
from geosearch.training.split import split
from geosearch.whole_files import write_whole

RUN = "run"

Progress = Callable[[str, int, int], None]  # what is read, how many are done, of how many


@dataclass(frozen=True)
class Source:
    """What a run learns from, and begins with. held_out: whether the project's held-out ground stays unseen."""

    tiles: str
    photos: tuple[str, ...] = ()
    model: str = "mini-clip"
    size: int | None = None
    salad: SaladShape | None = None
    held_out: bool = True


def train(
    out: Path,
    source: Source,
    options: Options,
    device: str = "cpu",
    every: int = 250,
    threads: int = 4,
    plot: Path | None = None,
    report: Callable[[Record], None] = lambda _: None,
    ready: Progress = lambda _what, _done, _of: None,
    url: str | None = None,
) -> bool:
    """Train, or go on from ``out/run/checkpoint.pt``, and leave a folder that the registry loads in ``out``.

    Under torchrun all processes call this alike; the first one writes and reports, and is told so by what returns.
    plot: a PNG of the losses, anew at each checkpoint. Raises InputError, UnknownNameError, ModelError, WeightsError.
    """
    if plot is not None:
        check_plot(plot)
    if options.catalogued >= 1 and not source.photos:
        raise InputError("nothing is simulated and no archive of photographs is given; name one with --photos")
    folder = out / RUN
    with ranks(pick_device(device)) as (here, where):
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint, log = folder / "checkpoint.pt", folder / "log.jsonl"
        resume = torch.load(checkpoint, map_location="cpu", weights_only=True) if checkpoint.exists() else None
        if resume is not None:
            _check_options(resume, options, checkpoint)  # before minutes are spent on reading
        model, config = begin(source.model, options.seed, source.size, source.salad)
        size = int(config["picture"]["size"][0])
        tiles, photos = _read(folder, source, options, size, threads, ready, here, url)
        facts = _facts(source, config, tiles, photos)
        if resume is not None:
            _check_facts(resume, facts, checkpoint)
        if here.first:
            _cut(log, int(resume["step"]) if resume else 0)

        def told(record: Record) -> None:
            append_record(log, record)
            report(record)

        def keep(state: dict[str, Any], net: NadirModel) -> None:
            # The folder first: it refuses weights that are not finite, and the last good checkpoint stays.
            trained = {"steps": state["step"], **facts, "options": asdict(options)}
            nadir_folder.write_folder(out, net, {**config, "trained": trained})
            save_checkpoint(checkpoint, {**state, "facts": facts})
            if plot is not None:
                plot_log(log, plot)

        here.wait()  # none may begin to write what another still reads
        mean, std = config["picture"]["mean"], config["picture"]["std"]
        learn(model, tiles, mean, std, options, where, every, resume, told, keep, photos, here)
    return here.first


def _read(
    folder: Path,
    source: Source,
    options: Options,
    size: int,
    threads: int,
    ready: Progress,
    here: Ranks,
    url: str | None,
) -> tuple[Tiles, Photos | None]:
    """Return what is learned from. The first process makes the files of pictures, the others find them made."""
    ground = split() if source.held_out else None
    if not here.first:
        here.wait()
    # No transaction stays open for the minutes in which files are read.
    with connect(url, autocommit=True) as conn:
        for name in source.photos:  # that they are there, before those minutes
            get_archive_id(conn, name)
        tiles = read_tiles(conn, source.tiles, size, folder, ground, threads, lambda done, of: ready("tiles", done, of))
        photos = None
        if source.photos:
            photos = read_photos(conn, source.photos, tiles, source.tiles, size, folder, ground, options.overlap,
                                 threads, lambda done, of: ready("photographs", done, of))  # fmt: skip
    if here.first:
        here.wait()
    return tiles, photos


def _facts(source: Source, config: dict[str, Any], tiles: Tiles, photos: Photos | None) -> dict[str, Any]:
    """Return what makes a run another run than its options do: plain values, for the checkpoint and nadir.json."""
    return {
        "model": source.model,
        "size": int(config["picture"]["size"][0]),
        "salad": dict(config["salad"]),
        "archive of tiles": source.tiles,
        "number of tiles": len(tiles),
        "archives of photographs": list(source.photos),
        "number of photographs": len(photos) if photos is not None else 0,
        "held-out ground": source.held_out,
    }


def _check_options(resume: dict[str, Any], options: Options, checkpoint: Path) -> None:
    options.check_resumed(resume["options"], str(checkpoint))
    if int(resume["step"]) > options.steps:
        raise InputError(
            f"{checkpoint} has {resume['step']} steps done already, and {options.steps} are asked for; "
            "give more --steps, or another folder"
        )


def _check_facts(resume: dict[str, Any], facts: dict[str, Any], checkpoint: Path) -> None:
    before = resume.get("facts", {})
    for name, value in facts.items():
        if name in before and before[name] != value:
            raise InputError(
                f"{checkpoint} is of a run with {name} {_said(before[name])}, not {_said(value)}; "
                "give the same, or another folder"
            )


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _cut(log: Path, step: int) -> None:
    """Leave in the log what was done up to a step: after an interruption it knows steps that are done again."""
    if log.exists():
        lines = log.read_text().splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines.pop()  # it was being written when the run was killed
        kept = "".join(line for line in lines if json.loads(line)["step"] <= step)
        write_whole(log, kept.encode())
