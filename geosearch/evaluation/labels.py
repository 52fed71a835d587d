"""Labels of pictures, put together and accounted for: every picture and every label in, every one of them out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geosearch.errors import InputError
from geosearch.evaluation.composed import Labelled, questions

SHOWN = 5


class Label(NamedTuple):
    """One row: a picture's path or file name, its class, the class within which other values are asked for, its value.

    where: what an error calls the row.
    """

    where: str
    name: str
    own: str
    asked: str
    attribute: str
    value: str


@dataclass(frozen=True)
class Labels:
    """Pictures below a folder and their labels, before they have vectors.

    names: (n,) paths below `folder`. classes, values, asked: as in `Labelled`. read: rows of labels; repeated: those
    that said again what an earlier one had said, and are left out.
    """

    folder: Path
    names: list[str]
    classes: list[str]
    values: dict[str, list[str | None]]
    asked: dict[str, list[str]]
    read: int
    repeated: int

    def labelled(self, vectors: NDArray[Any]) -> Labelled:
        """Return the pictures with their vectors (n, d)."""
        return Labelled(self.names, self.classes, self.values, vectors, self.asked)

    def check(self, attributes: Sequence[str]) -> None:
        """Raise InputError for an attribute that no picture has, or of which nothing can be asked."""
        counted = self.account()["attributes"]
        for attribute in attributes:
            if attribute not in counted:
                raise InputError(f"no picture has the attribute {attribute!r}; there are: {', '.join(self.values)}")
            if not counted[attribute]["questions"]:
                raise InputError(
                    f"no class has two values of {attribute!r}, so nothing can be asked; name the others (--attribute)"
                )

    def texts(self, attributes: Sequence[str]) -> list[str]:
        """Return all values of the attributes, sorted: what is asked for."""
        return sorted({value for attribute in attributes for value in self.values[attribute] if value is not None})

    def account(self) -> dict[str, Any]:
        """Return how many pictures and labels there are, and for each attribute how many of them become questions."""
        labelled = self.labelled(np.empty((len(self.names), 0)))
        attributes = {}
        for name, of in self.values.items():
            asked = questions(labelled, name)
            pictures = sum(value is not None for value in of)
            attributes[name] = {
                "pictures": pictures,
                "values": len({value for value in of if value is not None}),
                "questions": len(asked),
                "not asked": pictures - len({question.image for question in asked}),
            }
        with_any = sum(any(of[i] is not None for of in self.values.values()) for i in range(len(self.names)))
        return {
            "pictures": len(self.names),
            "labelled": with_any,
            "unlabelled": len(self.names) - with_any,
            "labels": self.read,
            "repeated labels left out": self.repeated,
            "attributes": attributes,
        }

    def remarks(self) -> list[str]:
        """Return a sentence for how many pictures and labels there are, and one for each thing that is left out."""
        account = self.account()
        lines = [
            f"{account['pictures']} pictures, {account['labelled']} of them labelled, {account['labels']} labels: "
            + ", ".join(f"{name} {of['questions']} questions" for name, of in account["attributes"].items())
        ]
        if self.repeated:
            lines.append(f"{self.repeated} labels left out: they say again what an earlier line says")
        lines += [
            f"{name}: {of['not asked']} pictures are not asked, only ranked: their class has no other value"
            for name, of in account["attributes"].items()
            if of["not asked"]
        ]
        return lines


def collect(folder: Path, names: Sequence[str], labels: Iterable[Label], where: str) -> Labels:
    """Return the pictures with their labels. names: (n,) paths below the folder. where: how labels are given.

    A label names a picture by its path below the folder or, where only one bears it, by its file's name alone. Raises
    InputError for labels without a picture, of more than one, or that contradict each other.
    """
    find = _Finder(names)
    classes, values = [""] * len(names), defaultdict[str, list[str | None]](lambda: [None] * len(names))
    asked = defaultdict[str, list[str]](lambda: [""] * len(names))
    first: dict[tuple[int, str], Label] = {}
    class_from: dict[int, Label] = {}
    read, missing = 0, list[Label]()
    for label in labels:
        read += 1
        i = find(label)
        if i is None:
            missing.append(label)
            continue
        other = first.setdefault((i, label.attribute), label)
        if other.value != label.value:
            raise InputError(
                f"{label.where}: {names[i]} has {label.attribute} {label.value!r} here and {other.value!r} at "
                f"{other.where}; remove one of them"
            )
        if class_from.setdefault(i, label).own != label.own:
            raise InputError(
                f"{label.where}: {names[i]} is of class {label.own!r} here and of {class_from[i].own!r} at "
                f"{class_from[i].where}; give one class"
            )
        classes[i], values[label.attribute][i], asked[label.attribute][i] = label.own, label.value, label.asked
    if missing:
        shown = "; ".join(f"{label.name} ({label.where})" for label in missing[:SHOWN])
        raise InputError(
            f"{len(missing)} of {read} labels are of pictures that are not below {folder}: {shown}"
            f"{' …' if len(missing) > SHOWN else ''}. Give the folder that holds all pictures (--images)"
        )
    if not read:
        raise InputError(f"{folder}: none of its {len(names)} pictures has a label: those that do {where}")
    return Labels(folder, list(names), classes, dict(values), dict(asked), read, read - len(first))


class _Finder:
    """Pictures' positions by their paths, or by their files' names where these are unique."""

    def __init__(self, names: Sequence[str]) -> None:
        self._paths = {name: i for i, name in enumerate(names)}
        files = [PurePosixPath(name).name for name in names]
        self._files = {file: i for i, file in enumerate(files)}
        self._often = {file for file, times in Counter(files).items() if times > 1}

    def __call__(self, label: Label) -> int | None:
        path = PurePosixPath(label.name).as_posix()
        if path in self._paths:
            return self._paths[path]
        if path in self._often:
            raise InputError(f"{label.where}: several pictures are called {path}; give its path below the folder")
        return self._files.get(path)
