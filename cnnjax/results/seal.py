"""The seal of a finished run: result.json has digests of the other files and of itself.

Readers compare them, so that a damaged or edited file is never used. A run that was
written before there were seals, or by hand, has none, and is read as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax.base import digests
from cnnjax.base.errors import InputError
from cnnjax.results.plain import plain


def sealed(folder: Path, result: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Return a result with the digests of these files, and of itself.

    Raises:
        OSError: a file cannot be read.
    """
    files = {name: digests.of_file(folder / name) for name in names}
    whole = {**plain(result), "files": files}
    return {**whole, "digest": digests.of_json(whole)}


def check_result(path: Path, result: Mapping[str, Any]) -> None:
    """Check the seal of result.json itself.

    Raises:
        InputError: it is not what the run wrote.
    """
    rest = {name: value for name, value in result.items() if name != "digest"}
    is_sealed = "digest" in result or "files" in result
    if is_sealed and result.get("digest") != digests.of_json(rest):
        raise InputError(_told(path))


def check_files(folder: Path, result: Mapping[str, Any]) -> None:
    """Check the files of a run against the seal in its result.

    Raises:
        InputError: one is missing, cannot be read, or is not what the run wrote.
    """
    files = result.get("files")
    for name, digest in files.items() if isinstance(files, dict) else ():
        path = folder / Path(name).name
        try:
            same = path.is_file() and digests.of_file(path) == digest
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        if not same:
            raise InputError(_told(path))


def _told(path: Path) -> str:
    return (
        f"{path} is not what the run wrote (its sha256 differs): it was damaged or "
        "edited; bring it back, or train that run again"
    )
