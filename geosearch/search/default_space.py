"""Which of several spaces a question means that names none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from geosearch.encoders.nadir_names import is_nadir


class Named(Protocol):
    """A space. model: None where its vectors are made elsewhere."""

    @property
    def model(self) -> str | None:
        """Return the name of the model whose vectors it holds."""


S = TypeVar("S", bound=Named)


def meant(spaces: Sequence[S]) -> list[S]:
    """Return those of several spaces that a question may mean without naming one, in their order.

    Those with a model, so that words, pictures and catalogued images ask the same space; of these not the features of a
    model before its last step: they are made to be the values of a bank, beside the space of the model itself; and not
    those of nadir-aware models, which read no words.
    """
    found = list(spaces)
    for condition in (_has_model, _is_no_feature, _reads_no_nadirs):
        found = [space for space in found if condition(space)] or found
    return found


def _has_model(space: Named) -> bool:
    return space.model is not None


def _is_no_feature(space: Named) -> bool:
    return space.model is None or not space.model.startswith("features:")


def _reads_no_nadirs(space: Named) -> bool:
    return space.model is None or not is_nadir(space.model)
