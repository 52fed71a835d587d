"""The page of a ranking: self-contained, safe, and drawn right where maps go wrong."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from geosearch.search.page import degrees, kilometres, ranking_page
from geosearch.search.query import Query
from geosearch.search.ranking import Plan, Ranking, Result
from geosearch.search.thumbnails import local_path, thumbnail
from geosearch.search.worldmap import Mark, circle_map, world_map

SQUARE = {"type": "Polygon", "coordinates": [[[9, 44], [11, 44], [11, 46], [9, 46], [9, 44]]]}
SPLIT = {
    "type": "MultiPolygon",
    "coordinates": [
        [[[179, -17], [180, -17], [180, -16], [179, -16], [179, -17]]],
        [[[-180, -17], [-179, -17], [-179, -16], [-180, -16], [-180, -17]]],
    ],
}


class Checker(HTMLParser):
    """Counts open elements and collects every address that a browser would fetch."""

    void = frozenset({"meta", "img", "br", "link", "input", "circle", "image", "rect", "path"})

    def __init__(self):
        super().__init__()
        self.open, self.addresses = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.void:
            self.open.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href", "srcset", "data")]

    def handle_startendtag(self, tag, attrs):
        self.addresses += [value for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag


def check(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert all(address.startswith("data:") for address in checker.addresses), checker.addresses
    assert "<script" not in page
    assert "url(http" not in page
    return checker


def ranking(near=None, shape=SQUARE, name="a", uri=None, **query):
    result = Result(1, 7, name, "atlas", 0.5, 12_345.6 if near else None, 45.0, 10.0, uri, shape)
    return Ranking(Plan("exact", 10, 9, 10, 1, False), [result], Query.of(text="desert", near=near, **query), "four")


@pytest.mark.parametrize("near", [None, (45, 10), (-17, 180), (90, 0), (-90, 0)])
@pytest.mark.parametrize("radius_km", [0, 50, 2500, 20_100])
def test_pages_are_whole_and_load_nothing(near, radius_km):
    check(ranking_page(ranking(near, radius_km=radius_km)))
    check(ranking_page(ranking(near, SPLIT, radius_km=radius_km)))


def test_names_cannot_become_markup(tmp_path):
    page = ranking_page(ranking(name="<script>alert(1)</script>\"'"))
    check(page)
    assert "&lt;script&gt;" in page


def test_a_page_without_answers_says_so():
    empty = Ranking(Plan("exact", 0, 0, 10, 0, True), [], Query.of(text="desert", near=(0, 0)), "four")
    page = ranking_page(empty)
    check(page)
    assert "No image" in page


def test_thumbnails_are_small_and_of_local_files_only(tmp_path, monkeypatch):
    path = tmp_path / "large picture.png"
    Image.new("RGB", (900, 600), (10, 200, 30)).save(path)
    assert 200 < len(thumbnail(str(path))) < 4000
    assert thumbnail(path.as_uri()) == thumbnail(str(path))
    assert local_path("https://example.org/a.jpg") is None
    # A relative path is meant in its archive's folder, and only there.
    assert local_path("large picture.png") is None
    assert local_path("large picture.png", str(tmp_path)) == path
    assert local_path("large picture.png", tmp_path.as_uri()) == path
    assert local_path("../" + tmp_path.name + "/large picture.png", str(tmp_path)) is None
    assert local_path("large picture.png", "https://example.org") is None
    assert thumbnail("https://example.org/a.jpg") is None
    assert thumbnail(str(tmp_path / "gone.png")) is None
    assert thumbnail(None) is None
    # A question's own path is one of the user's, and may be relative.
    monkeypatch.chdir(tmp_path)
    assert thumbnail(Path("large picture.png")) == thumbnail(str(path))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert thumbnail(str(tmp_path / "broken.png")) is None


def paths(svg, kind):
    return re.findall(rf'<g class="mark {kind}">.*?<path d="([^"]*)"', svg)


def test_a_footprint_across_the_antimeridian_does_not_run_across_the_map():
    (drawn,) = paths(world_map([Mark(SPLIT, "hit")]), "hit")
    across = [float(x) for x in re.findall(r"[ML](-?[\d.]+) ", drawn)]
    assert max(across) - min(across) < 20
    # Round a middle on the antimeridian it lies in the middle.
    svg = circle_map(-16.5, 180, 500_000, [Mark(SPLIT, "hit")])
    across = [float(x) for x in re.findall(r"[ML](-?[\d.]+) ", paths(svg, "hit")[0])]
    assert max(map(abs, across)) < 150


def test_what_lies_beyond_the_disc_is_not_drawn():
    assert 'class="mark hit"' not in circle_map(-45, -170, 1_000_000, [Mark(SQUARE, "hit")])
    assert 'class="mark hit"' in circle_map(45, 10, 1_000_000, [Mark(SQUARE, "hit")])


def test_numbers_as_people_write_them():
    assert degrees(-3.5, 60.25).replace("\u202f", " ") == "3.50° S, 60.25° E"
    assert kilometres(2_500_000).replace("\u202f", " ").replace("\u00a0", " ") == "2 500 km"
