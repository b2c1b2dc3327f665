"""Keep rows in a JSON lines file, with the environment of the measurement."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Collection, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import shapes

from cnnjax.base import durable
from cnnjax.base.errors import InputError, expect
from cnnjax.base.printable import printable_values
from cnnjax.results.environment import describe_environment
from cnnjax.results.fields import lines_of, parse

PEERS = ("torch", "opacus", "keras")


class Results:
    """A file to append rows to; without a path, none are kept."""

    def __init__(self, path: str | None) -> None:
        """Make the folder, and check before measuring that the file can be written.

        Raises:
            InputError: the file cannot be written.
        """
        self.run = datetime.datetime.now(datetime.UTC).isoformat()
        self.path = None if path is None else Path(path).expanduser()
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            durable.append_bytes(self.path, b"")
        except OSError as error:
            raise InputError(
                f"cannot write {path}: {error.strerror}; choose another --out"
            ) from error

    def append(self, rows: Iterable[dict[str, Any]], **shared: Any) -> None:
        """Append rows, each with the shared fields, run, command and environment.

        Raises:
            InputError: the file cannot be written; the rows before are still there.
        """
        if self.path is None:
            return
        told = {**shared, "run": self.run, "command": sys.argv}
        told["environment"] = environment()
        lines = "".join(json.dumps({**told, **row}) + "\n" for row in rows)
        try:
            durable.append_bytes(self.path, lines.encode())
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error


def read(path: Path, *, benchmarks: Collection[str]) -> list[dict[str, Any]]:
    """Read the rows of a file that `Results` has written, in order.

    Whatever a text in it says, a page or a terminal shows it.

    Raises:
        InputError: it cannot be read, is damaged, or has rows of other benchmarks, or
            without a field that is shown.
    """
    rows = []
    for line in lines_of(path):
        row = printable_values(parse(path, line))
        known = row.get("benchmark") in tuple(benchmarks)
        expect(f"rows of {', '.join(benchmarks)} in {path}", str(row)[:60], known)
        rows.append(shapes.check(path, row))
    return rows


def environment() -> dict[str, Any]:
    """Return the environment of rows, with the peers' versions (None: absent)."""
    return {**describe_environment(), "peers": {name: _version(name) for name in PEERS}}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
