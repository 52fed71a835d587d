"""Saved questions → answers: claimed, encoded, searched and written down by `geosearch worker`."""
