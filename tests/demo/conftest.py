"""The demo made small: tiles and photographs are planned and rendered once a session."""

from __future__ import annotations

import pytest

from geosearch.demo import archive, photos


@pytest.fixture(scope="session")
def tiles():
    return archive.plan_tiles(150)


@pytest.fixture(scope="session")
def planned(tiles):
    return photos.plan_photos(8, tiles)


@pytest.fixture(scope="session")
def tile_folder(tiles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    archive.write_tiles(folder, tiles)
    return folder


@pytest.fixture(scope="session")
def photo_folder(planned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    photos.write_photos(folder, planned)
    return folder
