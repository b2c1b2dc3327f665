"""Checkpoints by name: saved in the background, found again, and pruned."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from cnnjax.base import durable
from cnnjax.base.errors import InputError
from cnnjax.results.checkpoints import manifest
from cnnjax.results.checkpoints.manifest import DamagedError
from cnnjax.results.checkpoints.snapshot import Snapshot
from cnnjax.results.folders import shown_path
from cnnjax.results.lock import expect_held

# group of seeds, epochs done, updates of the next epoch done: in the order of training
NAME = re.compile(r"\d{7}-(\d{9}-\d{9}|ended)")
KEEP = 2


def name_of(group: int, epoch: int, update: int) -> str:
    """Return the name of a checkpoint within training.

    >>> name_of(0, 3, 120)
    '0000000-000000003-000000120'
    """
    return f"{group:07d}-{epoch:09d}-{update:09d}"


def name_of_ended(group: int) -> str:
    """Return the name of a group's last checkpoint: it sorts after all its others."""
    return f"{group:07d}-ended"


class Found(NamedTuple):
    """A good checkpoint, and what was wrong with newer ones."""

    name: str
    snapshot: Snapshot


class Store:
    """The checkpoints of a run. The caller holds the lock of the run's folder.

    A checkpoint is written under another name, flushed, and renamed: it is whole, or it
    is not there. `save` returns before it is written; a save that failed is told by the
    next call of `save` or `wait`.
    """

    def __init__(self, folder: Path, *, keep: int = KEEP, sweep: bool = True) -> None:
        """Use a folder, which its first save makes; remove what was never finished.

        Without `sweep` it only reads: the run may be going on.

        Raises:
            InputError: the folder is a link or a file.
        """
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise InputError(
                f"expected a folder of checkpoints, got {folder}; remove it"
            )
        self.folder, self.keep = folder, keep
        self._scores: dict[str, float | None] = {}
        self._damaged: set[str] = set()
        self._saver = ThreadPoolExecutor(1, "checkpoint")
        self._saving: Future[None] | None = None
        if sweep:
            durable.sweep(folder, f"*{durable.SUFFIX}")  # all here is ours

    def save(
        self, name: str, snapshot: Snapshot, *, score: float | None = None
    ) -> None:
        """Save a snapshot in the background; first wait for the save before it.

        `score` says how good it is: the best is kept as well as the newest.

        Raises:
            InputError: the save before it failed.
        """
        self.wait()
        self._scores[name] = score
        snapshot = snapshot._replace(facts={**snapshot.facts, "score": score})
        self._saving = self._saver.submit(self._save, name, snapshot)

    def wait(self) -> None:
        """Wait until the last save is on the disk.

        Raises:
            InputError: it failed.
        """
        saving, self._saving = self._saving, None
        if saving is None:
            return
        try:
            saving.result()
        except InputError:
            raise
        except Exception as error:
            told = (
                getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
            )
            raise InputError(
                f"cannot save a checkpoint in {shown_path(self.folder)}: {told}; make "
                "room there"
            ) from error

    def is_used(self) -> bool:
        """Whether there is anything in the folder, whatever it is."""
        return self.folder.is_dir() and any(self.folder.iterdir())

    def names(self) -> list[str]:
        """Return the names of what looks like a checkpoint, the oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(p.name for p in self.folder.iterdir() if NAME.fullmatch(p.name))

    def newest(
        self,
        *,
        on_damaged: Callable[[str], None],
        wanted: Callable[[str], bool] = lambda _: True,
    ) -> Found | None:
        """Return the newest good checkpoint; None: there is none.

        `on_damaged` is told of each newer one that cannot be used. `wanted(name)` says
        which to look at.
        """
        if self.folder.is_dir():
            for path in sorted(self.folder.iterdir()):
                if not NAME.fullmatch(path.name):
                    on_damaged(f"{path.name}: not the name of a checkpoint")
        for name in reversed(self.names()):
            if not wanted(name):
                continue
            try:
                return Found(name, self.read(name))
            except DamagedError as error:
                self._damaged.add(name)
                on_damaged(f"{name}: {error}")
        return None

    def read(self, name: str) -> Snapshot:
        """Read one checkpoint.

        Raises:
            DamagedError: it is not what was written.
        """
        path = self.folder / name
        try:
            if path.is_symlink() or not path.is_dir():
                raise DamagedError("it is not a folder")
            return manifest.read(path)
        except OSError as error:
            raise DamagedError(f"it cannot be read: {error.strerror}") from error

    def close(self) -> None:
        """Wait for the last save, whatever becomes of it, and end the thread."""
        self._saver.shutdown(wait=True)

    def _save(self, name: str, snapshot: Snapshot) -> None:
        expect_held(self.folder)
        self.folder.mkdir(exist_ok=True)
        token = secrets.token_hex(4)
        aside = self.folder / f"{name}.{token}{durable.SUFFIX}"
        try:
            aside.mkdir()
            manifest.write(aside, snapshot)
            durable.remove_folder(self.folder / name)  # a damaged one of this name
            os.rename(aside, self.folder / name)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            expect_held(self.folder)  # that it is gone says more
            raise
        expect_held(self.folder)  # Orbax makes a folder again that is removed just now
        durable.flush_folder(self.folder)
        self._damaged.discard(name)
        self._prune(name)

    def _prune(self, newest: str) -> None:
        """Keep of a group the newest and the best; of earlier groups the last only."""
        group = newest.partition("-")[0]
        older = [n for n in self.names() if n < newest and not n.endswith("-ended")]
        own = [n for n in older if n.startswith(group) and n not in self._damaged]
        keep = own[len(own) - self.keep + 1 :] if not newest.endswith("-ended") else []
        scores = {n: s for n in [*own, newest] if (s := self._score(n)) is not None}
        best = max(scores, key=lambda n: (scores[n], n), default=newest)
        for name in older:
            if name not in (*keep, best):
                durable.remove_folder(self.folder / name)

    def _score(self, name: str) -> float | None:
        """Return how good a checkpoint is; of an earlier start's, read it."""
        if name not in self._scores:
            try:
                facts = manifest.read_manifest(self.folder / name)["facts"]
            except DamagedError:
                facts = {}
            self._scores[name] = facts.get("score")
        return self._scores[name]
