"""Composition: images and texts asked for in one question, checked before anything is loaded or connected.

WeiCom (Psomas et al., "Composed image retrieval for remote sensing", arXiv 2405.15587) for any number of parts: see
geosearch/compose/reference.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from geosearch.compose.parts import shares
from geosearch.errors import InputError
from geosearch.search.query import Filters, check_choice, check_picture, check_text, check_words, filters, plain

if TYPE_CHECKING:
    from PIL.Image import Image

POPULATIONS = ("space", "candidates")
METHODS = ("weicom", "mean", "image", "text")
LATE = ("compute", "refuse")
LAMBDAS = tuple(step / 10 for step in range(11))

Kind = Literal["image", "like", "text", "without"]


class Part(NamedTuple):
    """One thing that is asked with. given: a path or a picture, a catalogued image's name or id, or some words."""

    kind: Kind
    given: Path | Image | str | int


@dataclass(frozen=True, kw_only=True)
class Composition(Filters):
    """One question made of images and texts: at least one of images, like, texts and without.

    images: files or pictures already decoded. like: catalogued images, by name, "archive/name" or id. texts: what is
    to be seen. without: what is not. lam: the weight of all texts, from 0 (images alone) to 1 (texts alone), shared out
    evenly among them; None: the default of the space's model. weights: instead, a positive number for each part, in the
    order of images, like, texts, without.
    population: what mean and deviation of a similarity are taken over, the whole space or the candidates alone.
    method: weicom; or of its baselines mean (of the similarities themselves), image or text (these parts alone).
    late: what to do where the moments of the space are not those of its vectors: compute mean and deviation by a scan,
    or refuse. strategy: auto, exact or fast. Raises InputError for anything else.
    """

    STRATEGIES: ClassVar[tuple[str, ...]] = ("auto", "exact", "fast")

    images: tuple[Path | Image, ...] = ()
    like: tuple[str | int, ...] = ()
    texts: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    lam: float | None = None
    weights: tuple[float, ...] | None = None
    population: str = "space"
    method: str = "weicom"
    late: str = "compute"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.parts:
            raise InputError("a composed question needs at least one of image, like, text and without")
        for image in self.images:
            check_picture(image)
        for like in self.like:
            if like is None:
                raise InputError("like is the name or the id of a catalogued image, not None")
            check_text("like", like, numbers=True)
        for text in (*self.texts, *self.without):
            check_words("text of a part", text)
        check_choice("population", self.population, POPULATIONS)
        check_choice("method", self.method, METHODS)
        check_choice("way with late moments", self.late, LATE)
        if self.lam is not None and self.weights is not None:
            raise InputError("give lambda or the weights of all parts, not both")
        if self.lam is not None and (isinstance(self.lam, bool) or not isinstance(self.lam, Real)):
            raise InputError(f"lambda is a number from 0 to 1, not {self.lam!r}")
        if (self.method == "image" and not self.seen) or (self.method == "text" and not self.said):
            raise InputError(f"method {self.method} needs a part that is {self._a_kind}; use another method")
        self.shares(0.5)  # lambda and weights are checked there

    @classmethod
    def of(
        cls,
        *,
        image: Any = None,
        like: Any = None,
        text: Any = None,
        without: Any = None,
        weights: Sequence[float | str] | None = None,
        **rest: Any,
    ) -> Composition:
        """Make a composition from what a person types: one of each kind or several; the rest as `filters` takes it."""
        return cls(
            images=tuple(Path(one) if isinstance(one, str) else one for one in _several("image", image)),
            like=tuple(plain(one) for one in _several("like", like)),
            texts=_several("text", text),
            without=_several("without", without),
            weights=None if weights is None else tuple(_number(weight) for weight in _several("weights", weights)),
            **filters(**rest),
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        """All that is asked with, in the order of the weights."""
        return (
            *(Part("image", image) for image in self.images),
            *(Part("like", like) for like in self.like),
            *(Part("text", text) for text in self.texts),
            *(Part("without", text) for text in self.without),
        )

    @property
    def seen(self) -> int:
        """How many parts are images."""
        return len(self.images) + len(self.like)

    @property
    def said(self) -> int:
        """How many parts are texts, wanted or not."""
        return len(self.texts) + len(self.without)

    @property
    def uses_lambda(self) -> bool:
        """Whether lambda counts: it does where both kinds do and no weights are given."""
        return self.weights is None and self.method in ("weicom", "mean") and bool(self.seen and self.said)

    def used_lambda(self, default: float) -> float | None:
        """Return the lambda that counts, None where none does. default: what it is where none is given."""
        if not self.uses_lambda:
            return None
        return default if self.lam is None else float(self.lam)

    def swept(self, lambdas: Sequence[float] = LAMBDAS) -> list[Composition]:
        """Return this composition with each of some lambdas. Raises InputError where lambda does not count."""
        if not self.uses_lambda or self.lam is not None:
            raise InputError(
                "a sweep shows what lambda does: it needs an image and a text, method weicom or mean, and neither "
                "lambda nor weights"
            )
        if not len(lambdas):
            raise InputError("a sweep needs at least one lambda")
        return [replace(self, lam=lam) for lam in lambdas]

    def shares(self, default: float) -> list[float]:
        """Return the signed weights of all parts, whose absolute values sum to 1; 0 for what a method leaves out.

        default: lambda where none is given.
        """
        lam = default if self.lam is None else self.lam
        if not 0 <= lam <= 1:  # NaN is refused as well
            raise InputError(f"lambda is the weight of the text, from 0 (image alone) to 1 (text alone), not {lam}")
        # Where one kind alone counts it has all the weight.
        lam = {"image": 0.0, "text": 1.0}.get(self.method, float(lam))
        found = shares(self.seen, len(self.texts), len(self.without), lam, self.weights)
        if self.method == "image":
            found[self.seen :] = [0.0] * self.said
        elif self.method == "text":
            found[: self.seen] = [0.0] * self.seen
        total = math.fsum(map(abs, found))
        return [weight / total for weight in found]

    @property
    def _a_kind(self) -> str:
        return "an image" if self.method == "image" else "a text"


def _several(name: str, given: Any) -> tuple[Any, ...]:
    """Return what was given one by one: nothing, one thing or several."""
    if given is None:
        return ()
    if isinstance(given, str | bytes | Path) or hasattr(given, "convert"):
        return (given,)
    if isinstance(plain(given), int):
        return (given,)
    try:
        return tuple(given)
    except TypeError as error:
        raise InputError(f"{name} cannot be {type(given).__name__}") from error


def _number(weight: Any) -> float:
    try:
        return float(weight)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"weights are numbers, not {weight!r}") from error
