"""How fast tables are catalogued: `python benchmarks/catalog.py [--rows 100000]`.

Writes three tables of random places with a fixed seed — points, corner quadrilaterals as the ISS table has them, boxes
of 3° — and catalogues each twice into an archive of its own, which it removes afterwards. Wall-clock rows a second
depend on what else the machine does; CPU time does so much less, and is given for the reading process and for the
server's process (where it runs on this machine). Both run at the same time, so that on two free cores the slower of
the two sets the rate: the last column.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
import psycopg

from geosearch.catalog.ingest import add
from geosearch.database.archives import remove_archive
from geosearch.database.connection import connect
from geosearch.geometry import destination


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    with connect() as conn, tempfile.TemporaryDirectory() as folder:
        version = conn.execute("select current_setting('server_version'), postgis_lib_version()").fetchone()
        conn.commit()
        print(f"{machine()}; PostgreSQL {version[0]}, PostGIS {version[1]}; {rows} rows")
        print(
            f"{'table':<14}{'run':<11}{'rows/s':>9}{'reader µs/row':>15}{'server µs/row':>15}{'on two free cores':>19}"
        )
        for name, write in (("points", points), ("quadrilaterals", quadrilaterals), ("boxes", boxes)):
            path = Path(folder) / f"{name}.csv"
            write(path, rows, np.random.default_rng(1))
            archive = f"benchmark-{uuid.uuid4().hex[:8]}"
            try:
                for run in ("first", "unchanged"):
                    print(f"{name:<14}{run:<11}{measure(conn, path, archive, rows)}", flush=True)
            finally:
                conn.rollback()
                remove_archive(conn, archive)
                conn.commit()


def measure(conn: psycopg.Connection, path: Path, archive: str, rows: int) -> str:
    """Catalogue once; return the figures as text."""
    reader, server = time.process_time(), server_seconds(conn)
    counts = add(conn, path, archive)
    reader = time.process_time() - reader
    ended = server_seconds(conn)
    if counts.rows != rows or counts.rejected:
        raise SystemExit(f"{path} was not read whole: {counts}")
    line = f"{counts.rows / counts.seconds:>9.0f}{reader / rows * 1e6:>15.1f}"
    if server is None or ended is None:
        return line + f"{'elsewhere':>15}"
    return line + f"{(ended - server) / rows * 1e6:>15.1f}{rows / max(reader, ended - server):>19.0f}"


def server_seconds(conn: psycopg.Connection) -> float | None:
    """CPU seconds that the connection's server process has used; None where it is not on this machine."""
    try:
        fields = Path(f"/proc/{conn.info.backend_pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if "/" not in (conn.info.host or ""):
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine() -> str:
    """Describe the machine and how busy it is."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        models = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    return f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def points(path: Path, n: int, rng: np.random.Generator) -> None:
    """Names, places, dates, URLs and two more columns."""
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["name", "lat", "lon", "date", "url", "cloud", "sensor"])
        out.writerows(
            (f"image-{i}", f"{a:.5f}", f"{o:.5f}", f"20{i % 24:02}-{i % 12 + 1:02}-01T00:00:00Z",
             f"https://example.org/{i}.jpg", i % 100, "camera")
            for i, (a, o) in enumerate(zip(lat, lon, strict=True))
        )  # fmt: skip


def quadrilaterals(path: Path, n: int, rng: np.random.Generator) -> None:
    """The ISS table's columns: photographs of 30 to 300 km under the station's orbit, some across ±180."""
    lat = np.degrees(np.arcsin(rng.uniform(-0.78, 0.78, n)))
    lon = rng.uniform(-180, 180, n)
    bearing = rng.uniform(0, 360, (n, 1)) + np.array([225.0, 315.0, 45.0, 135.0])
    size = rng.uniform(15e3, 150e3, (n, 1))
    y, x = destination(np.repeat(lat[:, None], 4, 1), np.repeat(lon[:, None], 4, 1), bearing, np.repeat(size, 4, 1))
    corners = [f"{corner}_{axis}" for corner in ("LL", "UL", "UR", "LR") for axis in ("LAT", "LON")]
    facts = ["MISSION", "ROLL", "FRAME", "YYYYMMDD", "NADIR_LAT", "NADIR_LON", "SQ_KM_AREA", "ORIENTATION", "URL"]
    quads = np.round(np.stack([y, x], -1).reshape(n, 8), 6)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(corners + facts)
        out.writerows(
            [*quad, f"ISS{i // 5000:03}", "E", i, f"20{i % 24:02}{i % 12 + 1:02}01", round(a, 1), round(o, 1), 9, 1.5,
             f"https://example.org/ISS{i // 5000:03}/ISS-E-{i}.JPG"]
            for i, (quad, a, o) in enumerate(zip(quads.tolist(), lat, lon, strict=True))
        )  # fmt: skip


def boxes(path: Path, n: int, rng: np.random.Generator) -> None:
    """Boxes of 3° by 3°."""
    south, west = rng.uniform(-80, 77, n), rng.uniform(-180, 177, n)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["name", "west", "south", "east", "north"])
        out.writerows(
            (f"tile-{i}", f"{w:.4f}", f"{s:.4f}", f"{w + 3:.4f}", f"{s + 3:.4f}")
            for i, (w, s) in enumerate(zip(west, south, strict=True))
        )


if __name__ == "__main__":
    main()
