"""A digest of every file of a checkpoint, and of every array in it.

Orbax restores a flipped bit without a word; nothing is used here whose digest differs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.base import digests, durable
from cnnjax.results.checkpoints import arrays as stored
from cnnjax.results.checkpoints.snapshot import Snapshot

FILE = "manifest.json"
ARRAYS = "arrays"  # the folder of Orbax's files
FORMAT = 1
PARTS = ("files", "arrays", "facts")
MOST_BYTES = 2**28  # of a manifest: 4,000 epochs of 100 seeds take a tenth


class DamagedError(Exception):
    """What is wrong with a checkpoint, in a few words."""


def write(folder: Path, snapshot: Snapshot) -> None:
    """Write a snapshot into an existing, empty folder, and flush it to the disk.

    Raises:
        OSError, ValueError: it cannot be written; something partial may be left.
    """
    stored.write(folder / ARRAYS, snapshot.arrays)
    content = {
        "format": FORMAT,
        "files": {name: _of_file(folder / name) for name in _files(folder)},
        "arrays": {name: _of_array(a) for name, a in snapshot.arrays.items()},
        "facts": snapshot.facts,
    }
    signed = {**content, "digest": digests.of_json(content)}
    durable.write_bytes(folder / FILE, json.dumps(signed).encode())
    durable.flush_tree(folder)


def read(folder: Path) -> Snapshot:
    """Read a snapshot, after every digest has been compared.

    Raises:
        DamagedError: a file is missing, left over, or differs from its digest.
    """
    content = read_manifest(folder)
    listed: Mapping[str, Any] = content["files"]
    there = set(_files(folder))
    for name in sorted(there.symmetric_difference(listed)):
        raise DamagedError(f"{name} is {'not listed' if name in there else 'missing'}")
    for name, expected in listed.items():
        try:
            got = _of_file(folder / name)
        except OSError as error:
            raise DamagedError(f"{name} cannot be read: {error.strerror}") from error
        if got != expected:
            raise DamagedError(f"{name} is not what was written (its digest differs)")
    try:
        arrays = stored.read(folder / ARRAYS)
    except Exception as error:  # whatever Orbax and TensorStore raise
        raise DamagedError(f"Orbax cannot read it ({type(error).__name__})") from error
    if {name: _of_array(array) for name, array in arrays.items()} != content["arrays"]:
        raise DamagedError("an array is not what was written (its digest differs)")
    return Snapshot(arrays, content["facts"])


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a manifest without the files that it lists.

    Raises:
        DamagedError: it is missing, damaged, or of another program or version.
    """
    path = folder / FILE
    try:
        if path.is_symlink() or not path.is_file():
            raise DamagedError(f"it has no {FILE}: it is not whole, or not ours")
        if path.stat().st_size > MOST_BYTES:
            raise DamagedError(f"{FILE} is too large")
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise DamagedError(f"{FILE} is damaged")
        digest = content.pop("digest", None)
        same = digest == digests.of_json(content)
    except OSError as error:
        raise DamagedError(f"{FILE} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{FILE} is damaged") from error
    if not same:
        raise DamagedError(f"{FILE} is not what was written (its digest differs)")
    if content.get("format") != FORMAT:
        raise DamagedError(f"it has format {content.get('format')}, not {FORMAT}")
    if not all(isinstance(content.get(name), dict) for name in PARTS):
        raise DamagedError(f"{FILE} is damaged")
    return content


def _files(folder: Path) -> list[str]:
    """Return what is below a folder, except the manifest.

    Raises:
        DamagedError: there is something that is neither a file nor a folder.
    """
    names = []
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root) / name
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise DamagedError(f"{name} is not a file")
        names += [(Path(root) / name).relative_to(folder).as_posix() for name in files]
    return sorted(name for name in names if name != FILE)


def _of_file(path: Path) -> dict[str, Any]:
    """Return the size of a file, in bytes, and its digest."""
    return {"bytes": path.stat().st_size, "sha256": digests.of_file(path)}


def _of_array(array: np.ndarray) -> dict[str, Any]:
    """Return the type, the shape and the digest of an array."""
    content = np.ascontiguousarray(array)
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "sha256": hashlib.sha256(content.tobytes()).hexdigest(),
    }
