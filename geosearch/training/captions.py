"""Captions composed from what a view shows; each knows which attributes it claims, so that truth can be checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geosearch.training.ground import ATTRIBUTES, CONTINENTS, SURFACES, attribute

Flags = NDArray[np.bool_]

_WORDS: dict[str, tuple[str, ...]] = {
    "desert": ("desert", "a desert", "a dry desert", "sand and bare rock", "dunes", "arid land", "a sandy desert"),
    "forest": ("forest", "a dense forest", "dark green forest", "woodland", "a forest"),
    "snow": ("snow", "snow and ice", "land under snow", "ice", "an ice sheet", "snow-covered land", "a glacier"),
    "green": ("farmland", "grassland", "fields and grass", "green plains", "cropland", "savanna"),
    "coast": ("a coast", "coast", "a coastline", "the sea shore", "land and sea", "a coast with the sea"),
    "island": ("an island", "island", "a small island in the sea", "islands in the ocean", "islands"),
    "lake": ("a lake", "lake", "a large lake", "an inland lake", "lakes"),
    "mountains": ("mountains", "a mountain range", "high mountains", "mountain ridges and valleys", "mountain"),
    "tropical": ("rainforest", "tropical rainforest", "tropical forest", "jungle"),
    "boreal": ("taiga", "boreal forest", "northern forest", "coniferous forest"),
}
_JOINED: dict[tuple[str, str], tuple[str, ...]] = {
    ("mountains", "snow"): ("snow-covered mountains", "snowy mountains", "mountains with snow"),
    ("mountains", "desert"): ("desert mountains", "bare mountains", "dry mountains"),
    ("mountains", "forest"): ("forested mountains", "wooded mountains"),
    ("coast", "desert"): ("a desert coast", "a dry coast", "desert beside the sea"),
    ("coast", "forest"): ("a forested coast", "a green coast"),
    ("coast", "snow"): ("a snow-covered coast", "an icy coast"),
    ("coast", "mountains"): ("a mountainous coast", "mountains by the sea"),
    ("island", "mountains"): ("a mountainous island",),
    ("lake", "forest"): ("a lake in the forest", "forest and lakes"),
    ("lake", "desert"): ("a lake in the desert",),
}
_NAMES = {c: c.title() for c in CONTINENTS}
_FRAMES = (
    "{}", "{}", "a photo of {}", "a satellite image of {}", "a photograph of {} from space", "{} seen from space",
    "an astronaut photograph of {}", "a satellite photograph of {}", "{} from above",
)  # fmt: skip


def compose(flags: Flags, rng: np.random.Generator) -> tuple[list[str], Flags]:
    """Return one caption a view, and the flags (n, len(ATTRIBUTES)) that it claims: a subset of the view's."""
    texts, claims = [], np.zeros_like(flags)
    for row, claim in zip(flags, claims, strict=True):
        text, claimed = _phrase([s for s in SURFACES if row[attribute(s)]], rng)
        where = [c for c in CONTINENTS if row[attribute(c)]]
        if where and (not claimed or rng.random() < 0.3):
            name = where[rng.integers(len(where))]
            text, claimed = f"{text} in {_NAMES[name]}" if claimed else _NAMES[name], [*claimed, name]
        claim[[attribute(name) for name in claimed]] = True
        texts.append(_FRAMES[rng.integers(len(_FRAMES))].format(text or "the Earth"))
    return texts, claims


def vocabulary() -> list[str]:
    """Return every phrase that a caption can hold."""
    words = [w for group in (*_WORDS.values(), *_JOINED.values()) for w in group]
    return [*words, *_NAMES.values(), *(f.format("") for f in _FRAMES)]


def _phrase(shown: list[str], rng: np.random.Generator) -> tuple[str, list[str]]:
    if not shown:
        return "", []
    joined = [pair for pair in _JOINED if pair[0] in shown and pair[1] in shown]
    if joined and rng.random() < 0.4:
        pair = joined[rng.integers(len(joined))]
        return _JOINED[pair][rng.integers(len(_JOINED[pair]))], list(pair)
    first = shown[rng.integers(len(shown))]
    text, claimed = _WORDS[first][rng.integers(len(_WORDS[first]))], [first]
    others = [s for s in shown if s != first and {s, first} not in ({"tropical", "forest"}, {"boreal", "forest"})]
    if others and rng.random() < 0.25:
        second = others[rng.integers(len(others))]
        text, claimed = f"{text} and {_WORDS[second][rng.integers(len(_WORDS[second]))]}", [first, second]
    return text, claimed


assert set(_WORDS) == set(SURFACES) <= set(ATTRIBUTES)
