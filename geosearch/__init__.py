"""Search archives of Earth images in PostgreSQL.

>>> import geosearch
>>> with geosearch.connect() as gs:
...     ranking = gs.search(text="snow-covered mountains", near=(46.0, 8.0))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geosearch.item import Item as Item
    from geosearch.search.client import connect as connect

__all__ = ["Item", "connect"]
__version__ = "0.1.0"

# Imported on first use: `import geosearch` must not cost what numpy, psycopg or torch cost.
_HOMES = {"connect": "geosearch.search.client", "Item": "geosearch.item"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'geosearch' has no attribute {name!r}")
