"""`geosearch range embed`, `refresh`, `similar`, `map`: what a bank is asked."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import DONE_WITH_REJECTS, WRONG_USAGE, JsonOption, answer_rows, counted, emit, fail, note, progress

if TYPE_CHECKING:
    from geosearch.range.options import Retrieval


class Mode(StrEnum):
    """Which places of a bank count."""

    soft = "soft"
    topk = "topk"
    top1 = "top1"
    mean = "mean"


class Precision(StrEnum):
    """What products are computed in."""

    fp32 = "fp32"
    bf16 = "bf16"


BankArgument = Annotated[str, typer.Argument(help="The bank.", metavar="BANK")]
BankOption = Annotated[str, typer.Option(help="The bank.", metavar="BANK")]
BetaOption = Annotated[
    float, typer.Option(help="Share of places with like keys, the rest is near places': 1 is RANGE, 0 HAVER.")
]
TauSemOption = Annotated[
    float | None, typer.Option(help="How much likeness counts; if not given 12, with --beta 1 it is 15.")
]
TauGeoOption = Annotated[float, typer.Option(help="How much nearness counts.")]
MinCosOption = Annotated[
    float | None, typer.Option(help="Cosine of the angle beyond which places are not near at all.")
]
ModeOption = Annotated[
    Mode, typer.Option(help="soft: all places; topk: the best k by weight; top1: the best; mean: the k best alike.")
]
KeptOption = Annotated[int, typer.Option("--k", help="How many places topk and mean keep.")]
PrecisionOption = Annotated[
    Precision, typer.Option(help="bf16 is faster on processors and GPUs that have it, and errs by 0.0001 to 0.005.")
]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1; the setting if not given.")]


def embed(
    bank: BankOption,
    places: Annotated[
        Path, typer.Option(help="CSV with a header, Parquet, or a layer of points; degrees.", metavar="FILE")
    ],
    out: Annotated[
        Path, typer.Option(help="The Parquet file to be written; one that is there is replaced.", metavar="FILE")
    ],
    lat: Annotated[str | None, typer.Option(help="The latitude's column, unless it is lat, latitude or y.")] = None,
    lon: Annotated[
        str | None, typer.Option(help="The longitude's column, unless it is lon, lng, long, longitude or x.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Which layer, where the file has several.")] = None,
    beta: BetaOption = 0.5,
    tau_sem: TauSemOption = None,
    tau_geo: TauGeoOption = 40.0,
    min_cos: MinCosOption = None,
    mode: ModeOption = Mode.soft,
    k: KeptOption = 100,
    precision: PrecisionOption = Precision.fp32,
    half: Annotated[bool, typer.Option("--half", help="Write float16: half the size, an error of 0.0005.")] = False,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Embed the places of a file, millions of them, into a Parquet file.

    It holds the rows of the file in their order: row, the file's columns, embedding (float32), problem. A row that is
    no place keeps its row, without an embedding and with the reason; then the exit status is 3.
    """
    from geosearch.database.connection import connect
    from geosearch.range.embed import embed_file
    from geosearch.range.store import read_bank

    options = _options(beta, tau_sem, tau_geo, min_cos, mode, k)
    with connect() as conn:
        found = read_bank(conn, bank)
    with progress() as bar:
        report = embed_file(
            found,
            places,
            out,
            options,
            device=_device(device),
            precision=precision.value,
            half=half,
            lat=lat,
            lon=lon,
            layer=layer,
            progress=counted(bar, "embed"),
        )
    emit(report, json)
    if report.problems:
        note(f"{report.problems} of {report.rows} rows have no embedding; column `problem` says why")
        raise typer.Exit(DONE_WITH_REJECTS)


def refresh(
    bank: BankArgument,
    beta: BetaOption = 0.5,
    tau_sem: TauSemOption = None,
    tau_geo: TauGeoOption = 40.0,
    min_cos: MinCosOption = None,
    mode: ModeOption = Mode.soft,
    k: KeptOption = 100,
    precision: PrecisionOption = Precision.fp32,
    device: DeviceOption = None,
    anew: Annotated[bool, typer.Option("--anew", help="Compute every image again.")] = False,
    json: JsonOption = False,
) -> None:
    """Store the embedding of every catalogued image that has a place, in table range_BANK_stored.

    Only what is new or was moved is computed, unless the bank or the options changed. Stopped or killed, it is
    continued by the next run.
    """
    from geosearch.range.refresh import refresh as run

    options = _options(beta, tau_sem, tau_geo, min_cos, mode, k)
    with progress() as bar:
        report = run(
            None,
            bank,
            options,
            device=_device(device),
            precision=precision.value,
            anew=anew,
            progress=counted(bar, "refresh"),
        )
    emit(report, json)
    if report.up_to_date:
        note("Nothing to do: no image was added, removed or moved since.")
    if report.lonely:
        note(f"{report.lonely} images have no place of the bank within --min-cos, hence no embedding")
        raise typer.Exit(DONE_WITH_REJECTS)


def similar(
    bank: BankOption,
    near: Annotated[str, typer.Option(help="The place, in degrees: -3,-60.", metavar="LAT,LON")],
    k: Annotated[int, typer.Option("-k", help="How many images.")] = 10,
    radius_km: Annotated[
        float | None, typer.Option(help="Only images that may show ground so near to the place.", metavar="KM")
    ] = None,
    archive: Annotated[str | None, typer.Option(help="Only images of this archive.")] = None,
    space: Annotated[str | None, typer.Option(help="The space to search in, where the bank does not tell.")] = None,
    beta: BetaOption = 0.5,
    tau_sem: TauSemOption = None,
    tau_geo: TauGeoOption = 40.0,
    min_cos: MinCosOption = None,
    mode: ModeOption = Mode.soft,
    keep: Annotated[int, typer.Option("--keep", help="How many places topk and mean keep.")] = 100,
    json: JsonOption = False,
) -> None:
    """Find the images that look like what the bank lets expect at a place."""
    from geosearch.database.connection import connect
    from geosearch.errors import InputError
    from geosearch.range.similar import similar as ask
    from geosearch.search.query import parse_place

    try:
        place = parse_place(near)
    except InputError as error:
        raise fail(str(error), WRONG_USAGE) from error
    options = _options(beta, tau_sem, tau_geo, min_cos, mode, keep)
    with connect(autocommit=True) as conn:
        found = ask(conn, bank, place, k, options, radius_km=radius_km, archive=archive, space=space)
    emit(found if json else answer_rows(found), json)


def map_(
    out: Annotated[Path, typer.Option(help="The PNG file to be written.", metavar="FILE")],
    bank: Annotated[str | None, typer.Option(help="A bank: the map of its RANGE embeddings.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Or a location encoder by itself.")] = None,
    bbox: Annotated[
        str | None, typer.Option(help="Only this box, in degrees; west may exceed east.", metavar="S,W,N,E")
    ] = None,
    width: Annotated[int, typer.Option(min=8, max=20_000, help="Pixels.")] = 720,
    land_only: Annotated[bool, typer.Option("--land-only", help="Leave the sea white.")] = False,
    beta: BetaOption = 0.5,
    tau_sem: TauSemOption = None,
    tau_geo: TauGeoOption = 40.0,
    min_cos: MinCosOption = None,
    mode: ModeOption = Mode.soft,
    k: KeptOption = 100,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Draw embeddings as colours: three independent components as red, green and blue; like places, like colours."""
    if (bank is None) == (encoder is None):
        raise fail("give either --bank or --encoder", WRONG_USAGE)
    from geosearch.errors import InputError
    from geosearch.evaluation.ica_map import SAMPLE, grid, ica_map
    from geosearch.range.maps import encode_bank, encode_encoder, parse_box, watched

    try:
        box = None if bbox is None else parse_box(bbox)
    except InputError as error:
        raise fail(str(error), WRONG_USAGE) from error
    if bank is not None:
        encode = encode_bank(bank, _options(beta, tau_sem, tau_geo, min_cos, mode, k), _device(device))
    else:
        assert encoder is not None
        encode = encode_encoder(encoder)
    pixels = grid(width, box)[0].size
    with progress() as bar:
        of = None if land_only else pixels + min(SAMPLE, pixels)
        ica_map(watched(encode, counted(bar, "map"), of), out, width, box, land_only)
    emit({"written": str(out), "bank": bank, "encoder": encoder, "bbox": box, "width": width}, json)


def _options(
    beta: float, tau_sem: float | None, tau_geo: float, min_cos: float | None, mode: Mode, k: int
) -> Retrieval:
    from geosearch.errors import InputError
    from geosearch.range.options import Retrieval

    try:
        return Retrieval(beta, tau_sem, tau_geo, min_cos, mode.value, k)
    except InputError as error:
        raise fail(str(error), WRONG_USAGE) from error


def _device(device: str | None) -> str:
    from geosearch.encoders.registry import pick_device

    found = pick_device(device)
    return "cpu" if found == "mps" else found  # which has no double precision
