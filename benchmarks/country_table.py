"""Make a table for probes from polygons: random places on land, and which country each lies in.

    python benchmarks/country_table.py countries.geojson countries.csv --places 10000

The polygons (GeoJSON in longitude and latitude, such as Natural Earth's countries) carry the name in a property. Places
are uniform on the sphere; those in no polygon are left out. Then:

    geosearch evaluate range probe --table countries.csv --lat lat --lon lon --target country --classes
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import shapely


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("polygons", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--places", type=int, default=10_000)
    parser.add_argument("--name", default="admin", help="the property that names a country")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    features = json.loads(options.polygons.read_text("utf-8"))["features"]
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in features]
    names = [feature["properties"][options.name] for feature in features]
    tree = shapely.STRtree(shapes)
    rng = np.random.default_rng(options.seed)
    rows: list[tuple[float, float, str]] = []
    while len(rows) < options.places:
        lat = np.degrees(np.arcsin(rng.uniform(-1, 1, options.places)))
        lon = rng.uniform(-180, 180, options.places)
        points, polygons = tree.query(shapely.points(lon, lat), predicate="within")
        first = np.unique(points, return_index=True)[1]  # a border place belongs to the first that claims it
        rows += [(round(lat[points[i]], 5), round(lon[points[i]], 5), names[polygons[i]]) for i in first]
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["lat", "lon", "country"])
        writer.writerows(rows[: options.places])


if __name__ == "__main__":
    main()
