"""A folder for results, named by a user; what the system refuses there, in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnjax.base.errors import InputError, expect


def folder_named(path: str) -> Path:
    """Return this folder, which need not exist, with ~ and ~user expanded.

    Raises:
        InputError: the name is empty, contains a NUL, or is a file's; there is no such
            user; or a symbolic link on the way is broken.
    """
    expect("workdir to be a folder's name", path, bool(path) and "\0" not in path)
    try:
        folder = Path(path).expanduser().absolute()
    except (RuntimeError, FileNotFoundError) as error:
        home = isinstance(error, RuntimeError)
        what = "its home folder is not known" if home else "the current folder is gone"
        raise InputError(f"{path}: {what}; give an absolute path") from error
    expect("a folder, not a file", path, not os.path.isfile(folder))
    for place in (folder, *folder.parents):
        if os.path.islink(place) and not os.path.exists(place):
            raise InputError(
                f"expected a folder, got {path}: {shown_path(place)} is a broken "
                f"symbolic link (to {os.readlink(place)}); remove or repair it"
            )
    return folder


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into a one-line message.

    Raises:
        InputError: the system refuses to write.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {shown_path(path)}: {error.strerror or error}; choose "
            "another --workdir or make room there"
        ) from error


def shown_path(path: Path) -> Path:
    """Return a path relative to the current folder if it lies below it."""
    try:
        return path.relative_to(Path.cwd())
    except (ValueError, OSError):
        return path


@contextmanager
def named_in_utf8(folder: Path) -> Iterator[Path]:
    """Return a path to a folder that C++ takes (Orbax's, XLA's): it is UTF-8.

    A path may have bytes that are not UTF-8, or that Python does not read as such in
    the user's locale. Then the folder is named by a number of its parent.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        number = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield Path(f"/proc/self/fd/{number}") / folder.name
        finally:
            os.close(number)
    else:
        yield folder
