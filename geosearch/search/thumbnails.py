"""Pictures as data URIs: a page that carries them needs no network and no files beside it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from geosearch.errors import InputError


def thumbnail(source: str | Path | Image.Image | None, side: int = 220) -> str | None:
    """Return a JPEG data URI of at most side × side pixels; None where there is nothing to read here.

    A remote URI is never fetched: a page is made without the network.
    """
    if source is None:
        return None
    if isinstance(source, Image.Image):
        picture = source.convert("RGB")
    else:
        path = local_path(str(source))
        if path is None:
            return None
        from geosearch.encoders.pictures import open_image

        try:
            picture = open_image(path)
        except (InputError, OSError):
            return None
    picture = picture.copy()
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def local_path(uri: str) -> Path | None:
    """Return the path of a file that lies on this machine; None for an address elsewhere or a file that is gone."""
    from urllib.parse import unquote, urlsplit

    if uri.startswith("file://"):
        uri = unquote(urlsplit(uri).path)
    elif "://" in uri:
        return None
    path = Path(uri)
    return path if path.is_file() else None
