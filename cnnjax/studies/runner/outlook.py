"""The progress of many jobs, and the time left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from cnnjax.studies.reproduction.plan import START_WORK, Job


class Outlook:
    """Progress over all jobs, weighted by the work of each."""

    def __init__(self, work: Mapping[str, float], jobs: Sequence[Job]) -> None:
        """Begin with nothing done. `work` is keyed by job name."""
        self._jobs, self._work = jobs, work
        self._ended: set[str] = set()
        self._start = time.monotonic()

    def end(self, job: Job) -> None:
        """Count a job as done, even if it failed: no work is left."""
        self._ended.add(job.name)

    def epochs_done(self) -> int:
        """Return how many epochs of all jobs are done so far."""
        return sum(map(self._epochs_of, self._jobs))

    def line(self) -> str:
        """Return a line with the jobs done, the time so far and the time left."""
        elapsed = time.monotonic() - self._start
        words = f"{len(self._ended)}/{len(self._jobs)} jobs, {duration(elapsed)}"
        total, done = sum(self._work.values()), self._work_done()
        if done and len(self._ended) < len(self._jobs):
            words += f", {duration(elapsed * (total - done) / done)} left"
        return words

    def _epochs_of(self, job: Job) -> int:
        """Return the epochs that a job has done since this start."""
        if job.name in self._ended:
            return job.recipe.epochs
        try:
            began = (job.folder / "config.json").stat().st_mtime
        except OSError:
            return 0
        age = time.time() - began
        return job.epochs_done() if age <= time.monotonic() - self._start else 0

    def _work_done(self) -> float:
        """Return the work done so far, in the same unit as the total."""
        done = 0.0
        for job in self._jobs:
            work, epochs = self._work[job.name], self._epochs_of(job)
            started = START_WORK if epochs else 0.0
            rest = (work - START_WORK) * epochs / max(job.recipe.epochs, 1)
            done += work if job.name in self._ended else started + rest
        return done


def duration(seconds: float) -> str:
    """Format a time for people.

    >>> duration(42.4), duration(432.0), duration(7260.0)
    ('42 s', '7 min 12 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
