"""The land mask of the maps in `geosearch.search`, made from Blue Marble: `python -m geosearch.demo.landmask`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 1440, 720  # a quarter of a degree a pixel


def land(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where Blue Marble (…, 3) shows land: water there is blue or black, snow bright and only a little blue."""
    red, green, blue = np.moveaxis(rgb.astype(np.int16), -1, 0)
    water = (blue - red > 7) & (blue >= green - 2) & (red < 150)
    return ~water & (red + green + blue > 20)


def main() -> None:
    """Write `geosearch/search/land.png`: 8 bits, 255 where all of a pixel is land."""
    from PIL import Image, ImageFilter

    from geosearch.bluemarble.raster import data_folder

    with Image.open(data_folder() / "bmng.jpg") as picture:
        whole = np.asarray(picture.convert("RGB"))
    mask = Image.fromarray(land(whole).astype(np.uint8) * 255).filter(ImageFilter.MedianFilter(5))
    small = mask.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    levels = (np.asarray(small).astype(float) / 17).round().astype(np.uint8) * 17  # 16 greys pack better than 256
    target = Path(__file__).resolve().parent.parent / "search" / "land.png"
    Image.fromarray(levels.astype(np.uint8)).save(target, optimize=True)
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
