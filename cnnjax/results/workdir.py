"""The folder of a run's results; another run is never overwritten by accident."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree
from safetensors.numpy import save

from cnnjax.base import durable
from cnnjax.base.errors import InputError
from cnnjax.results import seal
from cnnjax.results.folders import folder_named, shown_path, writing
from cnnjax.results.lock import expect_held
from cnnjax.results.plain import plain
from cnnjax.results.schema import PREDICTIONS

FILES = (  # in the order in which an earlier run's are removed
    "result.json",  # without it a run counts as unfinished
    "config.json",
    "metrics.jsonl",
    "steps.csv",
    "seeds.jsonl",
    "predictions.csv",
    "params.safetensors",
    "curves.png",
    "report.html",  # scripts/page.py makes it, at any time
)
NOT_SEALED = ("result.json", "report.html")  # the seal itself, and what may be anew
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"  # the folder of what it takes to resume
TENSORBOARD, PROFILE = "tensorboard", "profile"  # what is written to be looked at
PROBE_BYTES = 2**26  # the system's figure of free space knows no quota


class Workdir(NamedTuple):
    """A folder for one run: config, metrics, result, parameters and a plot.

    metrics.jsonl and steps.csv grow with each epoch, seeds.jsonl and predictions.csv
    with each seed; every other file appears complete or not at all, and result.json
    last: a run that has one is finished. Without a path, nothing is kept: every method
    does nothing.
    """

    path: Path | None

    def start(self, config: Mapping[str, Any], *, room: int) -> None:
        """Make the folder, remove an earlier run's files, write config and metrics.

        `room` is the number of bytes that the run will write. A file of this size (of
        PROBE_BYTES, if it is larger) is written first, so that a full disk is noticed
        before anything is removed or trained.

        Raises:
            InputError: the folder cannot be made or has no room; nothing is lost.
        """
        if self.path is None:
            return
        probe = durable.aside_of(self.path / "room")
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            durable.sweep(self.path)
            try:
                free = shutil.disk_usage(self.path).free
                if room > free:
                    raise OSError(
                        errno.ENOSPC,
                        f"the run needs {room / 2**20:,.0f} MiB, {free / 2**20:,.0f} "
                        "MiB are free",
                    )
                durable.write_bytes(probe, bytes(min(room, PROBE_BYTES)))
            finally:
                probe.unlink(missing_ok=True)
            for name in FILES:
                (self.path / name).unlink(missing_ok=True)
                if name == "result.json":
                    for folder in (CHECKPOINTS, TENSORBOARD, PROFILE):
                        durable.remove_folder(self.path / folder)
        self._begin(config)

    def restart(self, config: Mapping[str, Any]) -> None:
        """Go on in the folder of an unfinished run: write config and metrics anew.

        Logs are written again by whoever knows what they said; a half line of them, or
        a result.json that counts no more, is removed.

        Raises:
            InputError: the folder cannot be written.
        """
        if self.path is None:
            return
        with self._writing():
            durable.sweep(self.path)
            for name in FILES:
                if name != "config.json":
                    (self.path / name).unlink(missing_ok=True)
        self._begin(config)

    def _begin(self, config: Mapping[str, Any]) -> None:
        self.write_json("config.json", config)
        self.write_bytes(METRICS, b"")

    @contextlib.contextmanager
    def _writing(self, *name: str) -> Iterator[None]:
        """Write into the folder, or a file of it, as long as it is the one we lock."""
        assert self.path is not None
        expect_held(self.path)
        with writing(self.path.joinpath(*name)):
            yield

    def found(self) -> list[str]:
        """Return the names of a run's files that are there."""
        if self.path is None:
            return []
        return [name for name in FILES if os.path.lexists(self.path / name)]

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file; NaN and infinities become null: JSON has neither."""
        text = json.dumps(plain(value), indent=2, allow_nan=False)
        self.write_bytes(name, text.encode() + b"\n")

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json with the digests of all other files: the run is finished.

        Raises:
            InputError: writing fails, a file cannot be read back, or somebody removed
                one without which the run cannot be read.
        """
        if self.path is None:
            return
        names = [name for name in self.found() if name not in NOT_SEALED]
        with self._writing("result.json"):
            for name in ("config.json", METRICS):
                if name not in names:
                    raise InputError(
                        f"{shown_path(self.path / name)} was removed while the run was "
                        "going on; start it again"
                    )
            whole = seal.sealed(self.path, result, names)
        self.write_json("result.json", whole)

    def append_json_lines(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append one line per row to a file immediately."""
        lines = [json.dumps(plain(row), allow_nan=False) for row in rows]
        self.append_lines(name, lines)

    def append_lines(self, name: str, lines: Sequence[str]) -> None:
        """Append lines of text to a file immediately."""
        if self.path is not None:
            text = "".join(f"{line}\n" for line in lines)
            with self._writing(name):  # metrics are there: somebody may remove them
                new = name != METRICS
                durable.append_bytes(self.path / name, text.encode(), new=new)

    def append_predictions(
        self, seed: int, labels: np.ndarray, predictions: np.ndarray | None
    ) -> None:
        """Append a run's predictions to predictions.csv; None (a regression): nothing.

        The file has a header, then one line per example; a missing prediction is
        `types.NO_PREDICTION`, -1.
        """
        if predictions is None or self.path is None:
            return
        pairs = enumerate(zip(labels.tolist(), predictions.tolist(), strict=True))
        lines = [f"{seed},{index},{label},{own}" for index, (label, own) in pairs]
        if not (self.path / "predictions.csv").exists():
            lines.insert(0, PREDICTIONS)
        self.append_lines("predictions.csv", lines)

    def write_params(self, params: PyTree) -> None:
        """Write params.safetensors: one tensor per leaf, named "layer/kernel".

        Raises:
            InputError: writing fails; no partial file is left.
        """
        leaves, _ = jax.tree_util.tree_flatten_with_path(params)
        tensors = {
            "/".join(key.key for key in path): np.ascontiguousarray(leaf)
            for path, leaf in leaves
        }
        self.write_bytes("params.safetensors", save(tensors))

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file whole, or leave what was there: see `base.durable`.

        Raises:
            InputError: writing fails; no partial file is left.
        """
        if self.path is not None:
            with self._writing(name):
                durable.write_bytes(self.path / name, content)


def open_workdir(path: str | None, *, overwrite: bool | None = None) -> Workdir:
    """Return the folder of a run; nothing is made or removed before `start`.

    `overwrite` is of earlier versions: `start` replaces a run that is there; whether it
    may is asked before that (`experiments.beginning.look`).

    Raises:
        InputError: it cannot be a folder.
    """
    if overwrite is not None:
        warnings.warn(
            "open_workdir needs no overwrite: Workdir.start replaces a run",
            DeprecationWarning,
            stacklevel=2,
        )
    return Workdir(None if path is None else folder_named(path))
