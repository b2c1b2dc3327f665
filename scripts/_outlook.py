"""How far many jobs are, and when they will be done: a bar, or lines."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

from cnnjax.studies.reproduction.plan import START_WORK, Job

REDRAW_SECONDS = 1.0


class Outlook:
    """Progress over all jobs, weighed by the work that each takes.

    On a terminal a bar over epochs; else whoever asks gets it as a line.
    """

    def __init__(self, work: Mapping[str, float], jobs: list[Job]) -> None:
        """Begin with nothing done. `work` is by the name of the job."""
        self._jobs, self._work = jobs, work
        self._ended: set[str] = set()
        self._epochs = sum(job.recipe.epochs for job in jobs)
        self._start = self._drawn = time.monotonic()
        self._bar: tqdm | None = None
        if sys.stdout.isatty() and jobs:
            self._bar = tqdm(
                total=self._epochs,
                unit="epoch",
                file=sys.stdout,
                leave=False,
                ncols=shutil.get_terminal_size(fallback=(80, 24)).columns or 80,
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} epochs{postfix}",
            )

    def poll(self) -> None:
        """Move the bar, about once a second."""
        now = time.monotonic()
        if self._bar is None or now < self._drawn + REDRAW_SECONDS:
            return
        self._drawn = now
        self._bar.n = sum(self._epochs_done(job) for job in self._jobs)
        self._bar.set_postfix_str(self.line())

    def end(self, job: Job) -> None:
        """Count a job as done, also one that failed: nothing remains of it."""
        self._ended.add(job.name)

    def line(self) -> str:
        """Say how many jobs are done, the time so far, and the time left."""
        elapsed = time.monotonic() - self._start
        words = f"{len(self._ended)}/{len(self._jobs)} jobs, {duration(elapsed)}"
        total, done = sum(self._work.values()), self._done()
        if done and len(self._ended) < len(self._jobs):
            words += f", {duration(elapsed * (total - done) / done)} left"
        return words

    def write(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.write(line)

    def __enter__(self) -> Outlook:
        """Return the outlook."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wipe the bar away."""
        if self._bar is not None:
            self._bar.close()

    def _epochs_done(self, job: Job) -> int:
        return job.recipe.epochs if job.name in self._ended else self._lines(job)

    def _lines(self, job: Job) -> int:
        """Return the epochs that a job tells of, unless an earlier start left them."""
        try:
            began = (job.folder / "config.json").stat().st_mtime
        except OSError:
            return 0
        age = time.time() - began
        return job.epochs_done() if age <= time.monotonic() - self._start else 0

    def _done(self) -> float:
        """Return the work done so far, in the units of the whole."""
        done = 0.0
        for job in self._jobs:
            work, epochs = self._work[job.name], self._epochs_done(job)
            started = START_WORK if epochs else 0.0
            rest = (work - START_WORK) * epochs / max(job.recipe.epochs, 1)
            done += work if job.name in self._ended else started + rest
        return done


def duration(seconds: float) -> str:
    """Write a time as people read it.

    >>> duration(42.4), duration(432), duration(7260)
    ('42 s', '7 min 12 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
