"""The simulated benchmark's figures as Markdown tables, and a document that keeps them between its markers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from geosearch.errors import InputError
from geosearch.evaluation.nadir_table import ALL, HELD_OUT, KS
from geosearch.evaluation.nadir_ways import CONCAT, CONCAT_FILTER, CONCAT_PRIOR, FILTER, IMAGE, PRIOR

Row = Mapping[str, Any]
SHOWN = (IMAGE, FILTER, PRIOR, CONCAT, CONCAT_FILTER, CONCAT_PRIOR)
_BLOCK = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the Markdown tables of a report of `nadir_earth_run.run`, by name."""
    made = {"model": _model(report), "aims": _aims(report), "priors": _priors(report), "baselines": _baselines(report)}
    for law, found in report["laws"].items():
        made |= {
            f"ways-{law}": _ways(found["rows"]),
            f"regions-{law}": _regions(found["rows"]),
            f"bands-{law}": _bands(found["bands"]),
        }
    if any("rotations" in found for found in report["laws"].values()):
        made["rotations"] = _rotations(report)
    if "real" in report:
        made["real"] = _real(report["real"])
    return made


def check_places(document: str, unmeasured: Collection[str]) -> None:
    """Raise InputError where a document has no place for a table, or one for a table that is not measured."""
    names = [found["name"] for found in _BLOCK.finditer(document)]
    lacking = sorted({*names} & {*unmeasured})
    if not names:
        raise InputError("the document has no place for a table: <!-- table: NAME --> … <!-- end -->, each on a line")
    if lacking:
        raise InputError(
            f"the document has places for {', '.join(lacking)}, which this run does not measure; "
            "ask for them (--rotations, --real), or take the places out"
        )


def fill(document: str, made: Mapping[str, str]) -> str:
    """Return a document with what stands between `<!-- table: NAME -->` and `<!-- end -->` replaced by the tables.

    Raises InputError where it has no such place, or one for a table that was not made.
    """
    check_places(document, {found["name"] for found in _BLOCK.finditer(document)} - set(made))
    return _BLOCK.sub(lambda found: f"{found[1]}{made[found['name']]}\n{found[3]}", document)


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *lines))


def _model(report: Mapping[str, Any]) -> str:
    lines = [
        ("model", f"`{report['model']}`, weights `{str(report['weights_sha256'])[:12]}…`, scale {report['scale']:.2f}"),
        ("tiles", _count(report["tiles"])),
    ]
    for law, found in report["laws"].items():
        facts, away = found["facts"], found["offsets"]
        lines.append((
            law,
            f"{_count(facts['photographs'])} photographs, {_count(found['counted'])} counted, "
            f"{_count(facts['asked'] - found['counted'])} without a relevant tile; "
            f"{facts['relevant_tiles_a_photograph']} relevant tiles each; "
            f"offsets: half within {away['50%']:.0f} km, 95 % within {away['95%']:.0f}, all within {away['100%']:.0f}",
        ))  # fmt: skip
    return _table(("", ""), lines)


def _aims(report: Mapping[str, Any]) -> str:
    """What was aimed at before anything was measured, and what came: means of the regions."""
    lines = []
    for law, found in report["laws"].items():
        mean = {row["way"]: row for row in found["rows"] if row["region"].startswith("mean of")}
        if not mean:
            continue
        both, filtered = mean[CONCAT], mean[CONCAT_FILTER]
        best = max((row["R@1"], way) for way, row in mean.items())
        lines.append((
            law,
            f"{both['R@1 lead']:+.1f}{_interval(both, 'R@1 lead')}",
            f"{filtered['R@100']:.1f}{_interval(filtered, 'R@100')}",
            f"{best[1]}, {best[0]:.1f}",
        ))  # fmt: skip
    header = ("law", "R@1 of concat above image (aim: +2)", f"R@100 of {CONCAT_FILTER} (aim: 97)", "best way, R@1")
    return _table(header, lines)


def _ways(rows: Sequence[Row]) -> str:
    """All K of each way, on all, held-out and other ground; R@1 with its interval and its lead over the image alone."""
    lines = []
    for row in rows:
        if row["region"] != ALL:
            continue
        ground = (
            f"{row['ground']} ({_count(row['photographs'])})" if row["ground"] != ALL else _count(row["photographs"])
        )
        recalls = [f"{row[f'R@{k}']:.1f}" for k in KS]
        recalls[0] += _interval(row, "R@1")
        lead = f"{row['R@1 lead']:+.1f}{_interval(row, 'R@1 lead')}" if "R@1 lead" in row else ""
        lines.append((ground, row["way"], *recalls, lead))
    return _table(("photographs", "way", *(f"R@{k}" for k in KS), "R@1 above image"), lines)


def _regions(rows: Sequence[Row]) -> str:
    """R@1 of each way, a line a region and one for its held-out part; the lead of the concatenation over the image."""
    lines = []
    for region in dict.fromkeys(row["region"] for row in rows):
        for ground in (ALL, HELD_OUT):
            of = {row["way"]: row for row in rows if (row["region"], row["ground"]) == (region, ground)}
            if IMAGE not in of:
                continue
            count = of[IMAGE]["photographs"]
            title = f"**{region}**" if (region == ALL or region.startswith("mean of")) and ground == ALL else region
            both, filtered = of.get(CONCAT, {}), of.get(CONCAT_FILTER, {})
            lines.append((
                title if ground == ALL else f"{region}, {HELD_OUT}",
                "" if count is None else _count(count),
                *(f"{of[way]['R@1']:.1f}" if way in of else "–" for way in SHOWN),
                f"{both['R@1 lead']:+.1f}{_interval(both, 'R@1 lead')}" if both else "–",
                f"{filtered['R@100']:.1f}" if filtered else "–",
            ))  # fmt: skip
    header = ("nadirs near", "photographs", *SHOWN, "concat above image", f"R@100, {CONCAT_FILTER}")
    return _table(header, lines)


def _bands(bands: Sequence[Row]) -> str:
    return _table(
        ("from the nadir, km", "photographs", *SHOWN),
        [
            (f"{band['from_km']}–{band['to_km']}", _count(band["photographs"]), *(f"{band[way]:.1f}" for way in SHOWN))
            for band in bands
        ],
    )


def _priors(report: Mapping[str, Any]) -> str:
    laws = report["laws"]
    lines = []
    for name, facts in report["priors"].items():
        weights = "; ".join(f"{w['sharpness']:.1f}, {w['weight']:.2f}" for w in facts["weights"].values())
        at = [f"{laws[law]['priors'][name][way]['R@1']:.1f}" for law in laws for way in (PRIOR, CONCAT_PRIOR)]
        lines.append((name, weights, *at))
    header = [f"{way}, {law}" for law in laws for way in (PRIOR, CONCAT_PRIOR)]
    return _table(("offsets fitted to", "s, w; with concat", *header), lines)


def _baselines(report: Mapping[str, Any]) -> str:
    lines = []
    for law, found in report["laws"].items():
        whole = {r["way"]: r for r in found["rows"] if (r["region"], r["ground"]) == (ALL, ALL)}
        named = {report["model"]: whole, **found["baselines"]}
        for name, of in named.items():
            ways = [of.get(way) for way in (IMAGE, FILTER, PRIOR)]
            lines.append((law, name, *(f"{way[f'R@{k}']:.1f}" if way else "–" for way in ways for k in (1, 10))))
        lines.append(
            (law, "no picture: the nearest tile", *["–"] * 4, *(f"{found['nearest'][f'R@{k}']:.1f}" for k in (1, 10)))
        )
    header = [f"R@{k}, {way}" for way in (IMAGE, FILTER, PRIOR) for k in (1, 10)]
    return _table(("law", "pictures by", *header), lines)


def _rotations(report: Mapping[str, Any]) -> str:
    lines = []
    for law, found in report["laws"].items():
        plain = {r["way"]: r for r in found["rows"] if (r["region"], r["ground"]) == (ALL, ALL)}
        for kind, of in {"none": plain, **found.get("rotations", {})}.items():
            lines += [(law, kind, way, *(f"{of[way][f'R@{k}']:.1f}" for k in KS)) for way in (IMAGE, CONCAT)]
    return _table(("law", "rotations", "way", *(f"R@{k}" for k in KS)), lines)


def _real(rows: Sequence[Row]) -> str:
    ways = [key for key in rows[0] if key not in ("name", "offset_km", "tiles", "expected")]
    return _table(
        ("photograph", "km from nadir", "tiles with its middle", "expected by chance", *ways),
        [
            (
                row["name"],
                str(row["offset_km"]),
                str(row["tiles"]),
                _count(row["expected"]),
                *(_count(row[way]) for way in ways),
            )
            for row in rows
        ],
    )


def _interval(row: Row, key: str) -> str:
    low, high = row.get(f"{key} low"), row.get(f"{key} high")
    if low is None or high is None:
        return ""
    sign = "+" if key.endswith("lead") else ""
    return f" ({low:{sign}.1f} – {high:{sign}.1f})"


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}".replace(",", " ")
