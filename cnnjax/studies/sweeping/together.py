"""The runs of a sweep whose shapes agree, trained as one program by `vmap`.

While they train, the state of all of them is kept in a folder beside theirs, from which
a sweep that was killed goes on to the same bits. As they end, each has its results, and
the last checkpoint, as if it were trained alone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cnnjax.base import durable
from cnnjax.base.clock import Clock
from cnnjax.base.errors import expect
from cnnjax.base.signals import Stop
from cnnjax.data.dataset import Dataset
from cnnjax.experiments.ended import keys_of_group, state_like
from cnnjax.experiments.groups import as_one_program, compile_group, runs_of
from cnnjax.experiments.journal import Journal
from cnnjax.experiments.recipe import Recipe
from cnnjax.experiments.runs import run_group
from cnnjax.results.checkpoints.keeper import Keeper
from cnnjax.results.checkpoints.store import Store
from cnnjax.results.folders import shown_path
from cnnjax.results.plain import plain
from cnnjax.studies.sweeping.grid import Choice
from cnnjax.studies.sweeping.how import How
from cnnjax.telling.folder import Keeping, opened
from cnnjax.telling.results import write_results
from cnnjax.training.loop import LoopState
from cnnjax.training.records import EpochRecord

FOLDER = "together"


class Member(NamedTuple):
    """One run of those that are trained together."""

    journal: Journal
    keeper: Keeper
    ends: bool  # whether its results are still to be written


def begun(
    folder: Path, recipes: Mapping[Choice, Recipe], keeping: Keeping
) -> list[Choice]:
    """Return the choices that an earlier start of a sweep trains together; or none.

    With `overwrite`, and where they are no part of this sweep, their state is removed.
    """
    found = Store(folder / FOLDER).newest(on_damaged=lambda _: None)
    if found is None:
        return []
    names = list(found.snapshot.facts["about"]["members"])
    choices = {choice.name: choice for choice in recipes}
    if keeping.overwrite or not choices.keys() >= set(names):
        durable.remove_folder(folder / FOLDER)
        return []
    return [choices[name] for name in names]


def train_together(
    recipes: Mapping[Choice, Recipe],
    dataset: Dataset,
    folder: Path,
    how: How,
    *,
    stop: Stop,
) -> None:
    """Train the runs of these choices, or the rest of them, as one program.

    A run that diverges is trained to its end, as the others are.

    Raises:
        InputError: a run does not fit the data set, a folder holds another run, or
            writing fails.
        StoppedError: a signal has come; the last state is kept.
    """
    with contextlib.ExitStack() as stack:
        members = []
        for choice, recipe in recipes.items():
            journal = how.journal(recipe, dataset, folder / choice.name)
            inside = opened(journal, how.keeping, how.command, stop=stop)
            keeper, beginning = stack.enter_context(inside)
            members.append(Member(journal, keeper, beginning.status is None))
        if not any(member.ends for member in members):
            return
        store = Store(folder / FOLDER, keep=how.keeping.keep)
        stack.callback(store.close)
        ours = not store.is_used() or bool(store.names())
        expect(f"no {FOLDER} in {shown_path(folder)} but ours", store.folder, ours)
        configs = [member.journal.config() for member in members]
        names = [choice.name for choice in recipes]
        about = {"members": _as_json(dict(zip(names, configs, strict=True)))}
        every = how.keeping.every
        keeper = Keeper(store, every, facts=lambda: about, stop=stop, resumes=True)
        last = keeper.newest()
        if last is not None and last.facts["about"] != about:
            keeper.forget()
        with keeper.kept_whatever_fails():
            _train(members, keeper, how)
        keeper.forget()


def _train(members: list[Member], keeper: Keeper, how: How) -> None:
    clock, (seed,) = Clock(), how.seeds
    group = as_one_program([member.journal.experiment for member in members])
    with clock.part("compile"):
        updates = compile_group(group)
    keys, epochs = keys_of_group(group), group[0].loop.epochs
    resume = keeper.resume(like=state_like(group), keys=keys)
    ended: list[LoopState] = []  # the state after the last epoch
    if resume is not None:
        for member, records in zip(members, resume.records, strict=True):
            if member.ends:
                member.journal.replay([(seed, record) for record in records])

    def on_epoch(index: int, record: EpochRecord) -> None:
        if members[index].ends:
            members[index].journal.epoch(record, seed=seed)

    def on_state(at: LoopState) -> None:
        keeper.on_state(at, keys, last=epochs)
        ended[:] = [at]

    runs = run_group(
        group,
        updates,
        evaluate_every=how.evaluate_every,
        on_epoch=on_epoch,
        on_state=on_state,
        clock=clock,
        resume=resume,
    )
    last = ended[-1] if ended else resume
    states = [None] * len(group) if last is None else last.of_each(runs_of(group))
    for member, run, state in zip(members, runs, states, strict=True):
        if not member.ends:
            continue
        own, journal = member.keeper, member.journal
        if state is not None:
            own.on_state(state, journal.experiment.keys, last=epochs)
        shares = {name: spent / len(group) for name, spent in clock.seconds.items()}
        journal.clock.carry(shares, 0.0)
        write_results(journal, own, run, how.cache)


def _as_json(value: Any) -> Any:
    """Return a value as it is read back: pairs are lists."""
    return json.loads(json.dumps(plain(value)))
