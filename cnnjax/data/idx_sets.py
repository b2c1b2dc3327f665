"""Which idx files of a folder belong together, by their names.

MNIST's makers named their files train-images-idx3-ubyte; EMNIST, QMNIST and others put
their own name before (emnist-letters-train-images-idx3-ubyte), torchvision puts them
into MNIST/raw, and 7-Zip unpacks each into a folder of its name.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cnnjax.base.errors import InputError, unknown_name

NAME = re.compile(
    r"(?:(?P<set>.+?)[-_.])?(?P<part>train|t10k|test)[-_.](?P<kind>images|labels)"
    r"[-_.]idx\d[-_.][a-z]+\d*(?:\.gz)?"
)
ROLES = tuple((p, k) for p in ("train", "test") for k in ("images", "labels"))
MOST_FOLDERS, DEPTH = 1000, 4

# NIST Special Database 19, as EMNIST divides it (G. Cohen et al., "EMNIST", 2017,
# arXiv:1702.05373). Letters that look alike in both cases are one class there.
_ALL = (*string.digits, *string.ascii_uppercase, *string.ascii_lowercase)
_MERGED = tuple(name for name in _ALL if name not in "cijklmopsuvwxyz")
EMNIST_CLASSES = {
    "byclass": _ALL,
    "bymerge": _MERGED,
    "balanced": _MERGED,
    "letters": ("none", *string.ascii_lowercase),  # labels are from 1
    "digits": tuple(string.digits),
    "mnist": tuple(string.digits),
}


class IdxSet(NamedTuple):
    """Four files of one data set: training images and labels, then those for tests."""

    prefix: str  # what stands before "train-images" in the files' names
    place: str  # the folder that has them, from the one that is searched
    paths: tuple[Path, ...]

    @property
    def name(self) -> str:
        """Its folder and its prefix: what no other set has."""
        return "/".join(filter(None, (self.place, self.prefix)))

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of its classes, where they are known."""
        publisher, _, division = self.prefix.lower().partition("-")
        return EMNIST_CLASSES.get(division) if publisher == "emnist" else None

    @property
    def transposed(self) -> bool:
        """Whether its images lie on their side: EMNIST's rows are columns."""
        return self.class_names is not None


def choose(folder: Path, name: str) -> IdxSet | None:
    """Return the set of this name, or with name "" the only one; None: there is none.

    The four plain names, directly in the folder, go before all others.

    Raises:
        InputError: several sets and no name, or a name that not exactly one has.
    """
    there = find(folder)
    fitting = [one for one in there if name in (one.name, one.prefix)]
    if not name:
        plain = [one for one in there if not one.name]
        fitting = plain or there
    if len(fitting) > 1:
        names = sorted(one.name for one in fitting)
        raise InputError(
            f"expected one set of idx files in {folder}, got {', '.join(names)}; name "
            f"one, as in --dataset=idx:{names[0]}"
        )
    if name and there and not fitting:
        raise unknown_name("set of idx files", name, [one.name for one in there])
    return next(iter(fitting), None)


def find(folder: Path) -> list[IdxSet]:
    """Return every complete set in a folder and below it, those nearest to it first."""
    begun: dict[tuple[Path, str], dict[tuple[str, str], Path]] = {}
    for path in _files(folder):
        if match := NAME.fullmatch(path.name):
            unpacked = NAME.fullmatch(path.parent.name) and path.parent != folder
            home = path.parent.parent if unpacked else path.parent
            part = "train" if match["part"] == "train" else "test"
            role = part, match["kind"]
            begun.setdefault((home, match["set"] or ""), {}).setdefault(role, path)
    found = []
    for (home, prefix), paths in begun.items():
        if set(paths) == set(ROLES):
            place = "" if home == folder else home.relative_to(folder).as_posix()
            found.append(IdxSet(prefix, place, tuple(paths[role] for role in ROLES)))
    return found


def _files(folder: Path) -> Iterator[Path]:
    """Yield files level by level, in the order of their names."""
    folders, seen = [folder], 0
    for _ in range(DEPTH):
        below: list[Path] = []
        for parent in folders:
            seen += 1
            if seen > MOST_FOLDERS:
                return
            try:
                entries = sorted(os.scandir(parent), key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in entries:
                path = Path(entry.path)
                if entry.is_dir():
                    below.append(path)
                elif path.is_file():
                    yield path
        folders = below
