"""Pictures as data URIs: a page that carries them needs no network and no files beside it."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image

from geosearch.errors import InputError


def thumbnail(source: str | Path | Image.Image | None, side: int = 220, root: str | None = None) -> str | None:
    """Return a JPEG data URI of at most side × side pixels; None where there is nothing to read here.

    source: a picture, a path, or an image's uri. root: the folder in which a relative uri is meant. What is remote is
    never fetched: a page is made without the network.
    """
    if source is None:
        return None
    if isinstance(source, Image.Image):
        picture = source.convert("RGB")
    else:
        path = source if isinstance(source, Path) else local_path(source, root)
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


def local_path(uri: str, root: str | None = None) -> Path | None:
    """Return the path of a file that lies on this machine; None for an address elsewhere or a file that is gone.

    root: the archive's folder, in which a relative path is meant; without one it means nothing.
    """
    if uri.startswith("file://"):
        uri = unquote(urlsplit(uri).path)
    elif "://" in uri or "\0" in uri:
        return None
    path = Path(uri)
    if not path.is_absolute():
        folder = local_folder(root)
        if folder is None or os.path.normpath(uri).startswith(".."):
            return None
        path = folder / uri
    return path if path.is_file() else None


def local_folder(root: str | None) -> Path | None:
    """Return an archive's root as a folder of this machine, None where it is none."""
    if not root or ("://" in root and not root.startswith("file://")):
        return None
    folder = Path(unquote(urlsplit(root).path) if root.startswith("file://") else root)
    return folder if folder.is_absolute() else None
