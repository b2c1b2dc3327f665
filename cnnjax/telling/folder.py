"""The folder of a run, opened for one program: anew, or where it was stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cnnjax.base.signals import Stop
from cnnjax.devices import agreement, processes
from cnnjax.experiments.beginning import Beginning, Resume, look
from cnnjax.experiments.journal import Journal
from cnnjax.results.checkpoints.keeper import Keeper
from cnnjax.results.checkpoints.policy import Every
from cnnjax.results.checkpoints.store import Store
from cnnjax.results.fields import read_result
from cnnjax.results.lock import alone_in
from cnnjax.results.workdir import CHECKPOINTS
from cnnjax.telling.layout import wrap
from cnnjax.telling.text import metric_text
from cnnjax.telling.training import STATUS_OF_DIVERGENCE

KINDS = ("fresh", "resumed", "finished")


class Keeping(NamedTuple):
    """What is kept in a run's folder, and what becomes of a run that is there."""

    every: Every
    keep: int
    resume: Resume
    overwrite: bool


class Opened(NamedTuple):
    """What to say of a folder, and the exit status if there is nothing to train."""

    told: list[str]
    status: int | None = None


@contextlib.contextmanager
def opened(
    journal: Journal, keeping: Keeping, command: Sequence[str], *, stop: Stop
) -> Iterator[tuple[Keeper, Opened]]:
    """Lock the folder of a run, and begin in it; inside, a signal waits for a save.

    Of several processes, process 0 alone has a folder; the others follow it.

    Raises:
        InputError: another program is using the folder, or `experiments.beginning.look`
            refuses it.
    """
    path = journal.workdir.path
    with contextlib.ExitStack() as stack:

        def begin() -> tuple[Beginning, Store | None]:
            if path is None:
                return Beginning("fresh"), None
            stack.enter_context(alone_in(path))
            store = Store(path / CHECKPOINTS, keep=keeping.keep)
            beginning = look(
                journal.workdir,
                store,
                config=journal.config(),
                environment=journal.environment,
                experiment=journal.experiment,
                resume=keeping.resume,
                overwrite=keeping.overwrite,
            )
            if beginning.kind == "fresh":
                journal.start(command)
            elif beginning.kind == "resumed":
                journal.restart(command, beginning.about)
            return beginning, store

        beginning, store = processes.together(begin)
        (kind,) = agreement.largest(KINDS.index(beginning.kind))
        told = list(map(wrap, beginning.told))
        (kept,) = agreement.largest(int(path is not None))
        every = keeping.every if kept else Every()
        keeper = Keeper(
            store,
            every,
            facts=journal.about,
            stop=stop,
            resumes=KINDS[kind] == "resumed",
        )
        if store is not None:
            stack.callback(store.close)
        if KINDS[kind] == "finished":
            ended = finished(journal, told)
            (status,) = agreement.largest(ended.status or 0)
            yield keeper, ended._replace(status=status)
            return
        if keeper.keeps:
            stack.enter_context(stop.deferred())
        with keeper.kept_whatever_fails():
            yield keeper, Opened(told)


def finished(journal: Journal, told: list[str]) -> Opened:
    """Say how a run has ended that is finished."""
    if journal.workdir.path is None:  # not process 0
        return Opened(told, 0)
    result = read_result(journal.workdir.path)
    path = journal.workdir.path.name
    diverged = bool(result.get("diverged") or result.get("seeds_diverged"))
    scores = [
        f"test {name} {metric_text(name, value)}"
        for name in ("accuracy", "loss")
        if (value := result.get(f"test_{name}")) is not None
    ]
    ended = "diverged" if diverged else ", ".join(scores[:1]) or "ended"
    line = (
        f"the run in {path} is finished: {ended} after {result['epochs']} epochs; "
        "--overwrite trains it anew"
    )
    return Opened([*told, wrap(line)], STATUS_OF_DIVERGENCE if diverged else 0)
