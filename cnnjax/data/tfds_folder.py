"""The folder of a prepared TFDS dataset: found, and checked before TFDS reads it.

TFDS imports the Python modules that a folder names, and takes its sizes on trust. A
folder is data: here it may name only TFDS's own features, and files of its own.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from cnnjax.base.errors import InputError, shown
from cnnjax.data.files import read_file
from cnnjax.data.streams import opened, reason
from cnnjax.data.tfds_json import (
    PLAIN,
    check_features,
    check_info,
    damaged,
    read_json,
)

# Names as TFDS parses them, without namespaces and arguments, which are not for
# prepared files.
NAME = re.compile(
    r"([A-Za-z]\w*)(?:/(\w[\w+.-]*))?(?::((?:\d+|\*)(?:\.(?:\d+|\*)){2}))?", re.ASCII
)
VERSION = re.compile(r"(0|[1-9]\d{0,8})(\.(0|[1-9]\d{0,8})){2}", re.ASCII)
MOST_FILES, MOST_NAMES = 100_000, 2**24  # in a folder; bytes of class names
FEATURES, INFO, METADATA = "features.json", "dataset_info.json", "metadata.json"


def find_folder(name: re.Match[str], roots: list[Path]) -> Path | None:
    """Return the folder of a prepared dataset; None: there is none.

    Args:
        name: what `NAME` matched. Without a configuration it is the default one, if
            there is one; without a version, or with `*` in it, it is the latest.
        roots: the folders to search.

    Raises:
        InputError: several folders have it, or what names the default is damaged.
    """
    dataset, config, version = name.groups()
    found = []
    for root in roots:
        folder = root / dataset
        places = [folder / config] if config else [folder]
        if not config and (default := _default_config(folder)):
            places.append(folder / default)
        versions = [_latest(place, version) for place in places]
        found.extend([folder for folder in versions if folder][:1])
    if len(found) > 1:
        raise InputError(
            f"expected tfds:{name[0]} in one folder, got it in {found[0]} and "
            f"{found[1]}; name one of them with --data_dir"
        )
    return found[0] if found else None


def check_folder(folder: Path) -> None:
    """Check what TFDS would take on trust; it imports nothing that a folder names.

    Raises:
        InputError: a file that cannot be read or is no regular file; a feature that is
            not one of TFDS's own; names that lead out of the folder; more examples than
            bytes; another number of class names than of classes; or JSON that is
            damaged.
    """
    num_bytes = 0
    for path in _files(folder):
        with opened(path) as file:
            num_bytes += os.fstat(file.fileno()).st_size
    for feature, count in check_features(folder / FEATURES).items():
        _check_names(folder / f"{feature}.labels.txt", count)
    check_info(folder / INFO, num_bytes=num_bytes)


def digests_of_folder(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file in a folder, by name.

    Raises:
        InputError: a file that cannot be read.
    """
    digests = {}
    for path in _files(folder):
        with opened(path) as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _check_names(path: Path, count: int) -> None:
    if not os.path.lexists(path):
        return  # the classes have no names
    file = read_file(path, sizes=lambda _: range(MOST_NAMES + 1))
    try:
        names = file.content.decode().split("\n")
    except UnicodeDecodeError as error:
        raise damaged(path, "text in UTF-8", f"other bytes ({error})") from error
    given = {name.strip() for name in names} - {""}
    if file.size > MOST_NAMES or len(given) != count:
        raise damaged(path, f"{count} class names, all different", len(given))


def _files(folder: Path) -> list[Path]:
    """Return what is in a folder, without the folders in it."""
    try:
        return [path for path in _listed(folder) if not path.is_dir()]
    except OSError as error:  # the folder can be listed, but not entered
        why = reason(folder, error)
        raise InputError(f"{folder}: cannot be read ({why})") from error


def _listed(folder: Path) -> list[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        why = reason(folder, error)
        raise InputError(f"{folder}: cannot be read ({why})") from error
    if len(paths) > MOST_FILES:
        raise damaged(folder, f"at most {MOST_FILES} files", len(paths))
    return paths


def _default_config(folder: Path) -> str | None:
    path = folder / ".config" / METADATA
    if not os.path.lexists(path):
        return None
    config = read_json(path).get("default_config_name")
    if config is not None and not (isinstance(config, str) and PLAIN.fullmatch(config)):
        raise damaged(path, "the name of a configuration", shown(config))
    return config


def _latest(folder: Path, version: str | None) -> Path | None:
    if not os.path.lexists(folder):
        return None
    asked = (version or "*.*.*").split(".")
    matching = []
    for path in _listed(folder):
        parts = path.name.split(".")
        if not VERSION.fullmatch(path.name) or not os.path.lexists(path / FEATURES):
            continue
        if all(a in ("*", p) for a, p in zip(asked, parts, strict=True)):
            matching.append(([int(part) for part in parts], path))
    return max(matching)[1] if matching else None
