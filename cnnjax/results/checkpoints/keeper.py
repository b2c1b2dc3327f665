"""Saves the states of a run, finds the one to resume from, and stops at a signal."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load, save

from cnnjax.base import durable
from cnnjax.base.errors import InputError
from cnnjax.base.signals import NEVER, Stop, StoppedError
from cnnjax.devices import agreement
from cnnjax.results.checkpoints.policy import Every, Timer
from cnnjax.results.checkpoints.snapshot import Snapshot, restore, take
from cnnjax.results.checkpoints.store import Store, name_of, name_of_ended
from cnnjax.results.folders import shown_path
from cnnjax.training.loop import LoopKeys, LoopState
from cnnjax.types import TrainState

AGAIN = "the same command goes on from there"


class Keeper:
    """The checkpoints of one run, as its loop sees them.

    Of several processes, each has a keeper and only process 0 a store: they copy, agree
    and stop together. Without a store in any of them, nothing is kept.
    """

    def __init__(
        self,
        store: Store | None = None,
        every: Every | None = None,
        *,
        facts: Callable[[], Mapping[str, Any]] = dict,
        stop: Stop = NEVER,
        resumes: bool = False,
    ) -> None:
        """Keep nothing yet. `facts()` is kept beside each state.

        Unless it `resumes`, what was kept before is not looked at.
        """
        self.store, self.every = store, every or Every()
        self.facts, self.stop = facts, stop
        self._resumes = resumes
        self._timer = Timer(self.every)

    @property
    def keeps(self) -> bool:
        """Whether states are saved."""
        return not self.every.never

    def on_state(
        self, at: LoopState, keys: LoopKeys, group: int = 0, last: int | None = None
    ) -> None:
        """Save a state if it is due, or if a signal has come; then stop.

        The state after epoch `last` is saved in any case: a run that was trained whole.

        Raises:
            StoppedError: a signal has come to this process or another.
            InputError: a checkpoint could not be saved.
        """
        if not self.keeps:  # then a signal does not wait for this
            return
        due = self._timer.due(at) and jax.process_index() == 0
        number, due = agreement.largest(self.stop.number or 0, int(due))
        ends = at.epoch == last and at.update == 0
        if number or due or ends:
            self.save(name_of(group, at.epoch, at.update), at, keys)
        if number:
            self.close()
            agreement.largest(0)  # nobody leaves while process 0 still writes
            raise StoppedError(number, f"{position_text(at)}; {AGAIN}")

    def save(self, name: str, at: LoopState, keys: LoopKeys) -> None:
        """Save a state, in the background; every process must call it.

        Raises:
            InputError: the checkpoint before it could not be saved.
        """
        snapshot = take(at, keys)
        self._timer.saved()
        if self.store is not None:
            facts = {**snapshot.facts, "about": self.facts()}
            self.store.save(name, Snapshot(snapshot.arrays, facts), score=score_of(at))

    def end(self, group: int, ended: Snapshot) -> None:
        """Save what a group of seeds has ended with; stop if a signal has come.

        Raises:
            StoppedError: a signal has come.
            InputError: a checkpoint could not be saved.
        """
        if self.keeps and self.store is not None:
            facts = {**ended.facts, "about": self.facts()}
            self.store.save(name_of_ended(group), Snapshot(ended.arrays, facts))
            self.store.wait()
        self.stop.check(f" after group {group + 1} of seeds; {AGAIN}")

    def ended(self, group: int) -> Snapshot | None:
        """Return what a group of seeds has ended with; None: it has not."""
        return self.newest(lambda name: name == name_of_ended(group))

    def resume(
        self, *, like: TrainState, keys: LoopKeys, group: int = 0
    ) -> LoopState | None:
        """Return the newest good state of a group; None: it has none.

        Raises:
            InputError: it is the state of another training run.
        """
        own, last = f"{group:07d}-", name_of_ended(group)
        found = self.newest(lambda name: name.startswith(own) and name != last)
        if found is None:
            self._timer.begin(0, 0)
            return None
        at = restore(found, like=like, keys=keys)
        self._timer.begin(at.epoch, at.update)
        return at

    def newest(self, wanted: Callable[[str], bool] = lambda _: True) -> Snapshot | None:
        """Return the newest good checkpoint, in every process that of process 0."""
        if not self._resumes:
            return None
        found = None
        if self.store is not None:
            found = self.store.newest(on_damaged=lambda _: None, wanted=wanted)
        content = None if found is None else to_bytes(found.snapshot)
        if jax.process_count() > 1:
            content = agreement.broadcast(content)
            return None if content is None else from_bytes(content)
        return None if found is None else found.snapshot

    @contextlib.contextmanager
    def kept_whatever_fails(self) -> Iterator[None]:
        """Say where the trained network is, if what is inside cannot be written.

        Raises:
            InputError: from inside.
        """
        try:
            yield
        except InputError as error:
            with contextlib.suppress(InputError):
                self.close()
            if (name := self.newest_name()) is None:
                raise
            raise InputError(f"{error}; {name} is kept: {AGAIN}") from error

    def newest_name(self) -> str | None:
        """Return where the newest checkpoint is; None: there is none."""
        if self.store is None or not (names := self.store.names()):
            return None
        return str(shown_path(self.store.folder / names[-1]))

    def check(self) -> None:
        """Stop if a signal has come: what was trained is kept.

        Raises:
            StoppedError: a signal has come.
            InputError: the last checkpoint could not be saved.
        """
        if not self.keeps:
            return
        (number,) = agreement.largest(self.stop.number or 0)
        if number:
            self.close()
            agreement.largest(0)
            raise StoppedError(number, f" after the last epoch; {AGAIN}")

    def forget(self) -> None:
        """Remove all checkpoints: what they hold is in the results."""
        if self.store is not None:
            durable.remove_folder(self.store.folder)

    def close(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            InputError: the last checkpoint could not be saved.
        """
        if self.store is not None:
            self.store.wait()


def position_text(at: LoopState) -> str:
    """Say how far training is, as the end of a sentence."""
    if at.update:
        return f" in epoch {at.epoch + 1}, after update {at.update}"
    return f" after epoch {at.epoch}"


def score_of(at: LoopState) -> float | None:
    """Return how good the last test of a single run was; None: there is none."""
    tests = [r.test for r in at.records[0] if r.test] if len(at.records) == 1 else []
    if not tests or at.update:
        return None
    score = tests[-1].get("accuracy", -tests[-1]["loss"])
    return score if np.isfinite(score) else None


def to_bytes(snapshot: Snapshot) -> bytes:
    """Return a snapshot as bytes."""
    return save(dict(snapshot.arrays), {"facts": json.dumps(snapshot.facts)})


def from_bytes(content: bytes) -> Snapshot:
    """Return the snapshot that bytes are of."""
    size = int.from_bytes(content[:8], "little")
    facts = json.loads(content[8 : 8 + size])["__metadata__"]["facts"]
    return Snapshot(load(content), json.loads(facts))
