"""A bar at the bottom of a terminal, with lines above it; elsewhere the lines alone."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import _script  # noqa: F401  # before what imports JAX
from tqdm import tqdm

from cnnjax.experiments.experiment import Experiment
from cnnjax.studies.measuring import advice
from cnnjax.studies.measuring.advice_text import advice_lines
from cnnjax.studies.measuring.candidates import candidates_for

POLL_SECONDS = 1.0
STEPS = "{desc} |{bar}| {n_fmt}/{total_fmt}, {elapsed}"
RUNS = "{bar}| {n_fmt}/{total_fmt} runs, {elapsed}{postfix}"
EPOCHS = "{l_bar}{bar}| {n_fmt}/{total_fmt} epochs{postfix}"
WAITING = "{desc}, {elapsed}"


class Bar:
    """How much of something is done. It is drawn at the first move, on a terminal."""

    def __init__(self, total: int, **how: Any) -> None:
        """Draw nothing yet: what comes first must not count in the rate."""
        self._total, self._how = total, how
        self._bar: tqdm | None = None
        self._polled = time.monotonic()

    def move(self, done: int, note: str = "") -> None:
        """Draw so much of the whole, and a note beside it."""
        if (bar := self._drawn()) is not None:
            bar.set_postfix_str(note, refresh=False)
            bar.update(done - bar.n)
            bar.refresh()

    def step(self, what: str) -> None:
        """Count what went on as done, and say what is going on now."""
        begun = self._bar is not None
        if (bar := self._drawn()) is not None:
            bar.set_description_str(what, refresh=False)
            bar.update(int(begun))
            bar.refresh()

    def poll(self, state: Callable[[], tuple[int, str]]) -> None:
        """Move to a state that is asked for, about once a second."""
        now = time.monotonic()
        if sys.stdout.isatty() and now >= self._polled + POLL_SECONDS:
            self._polled = now
            self.move(*state())

    def write(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.write(line)

    def _drawn(self) -> tqdm | None:
        if self._bar is None and self._total and sys.stdout.isatty():
            self._bar = _draw(total=self._total, **self._how)
        return self._bar

    def __enter__(self) -> Self:
        """Return the bar."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wipe the bar away."""
        if self._bar is not None:
            self._bar.close()


class Training(Bar):
    """Examples trained on so far, out of all epochs; before that, the compiling."""

    def __init__(self, experiment: Experiment, *, runs: int = 1) -> None:
        """Begin; there are so many runs, one after another, like the experiment's."""
        total = runs * experiment.examples_per_epoch * experiment.loop.epochs
        super().__init__(total, unit=" examples", unit_scale=True)
        self._done = self._of_epoch = 0
        self._waiting = Waiting("compiling")

    def update(self, done: int, total: int) -> None:
        """Move the bar to `done` of the `total` examples of the present epoch."""
        self._waiting.end()
        self._done += max(0, done - self._of_epoch)
        self._of_epoch = done % total
        if (bar := self._drawn()) is not None:
            bar.update(self._done - bar.n)

    def note(self, text: str) -> None:
        """Show a text beside the bar, where the terminal has its characters."""
        if self._bar is not None and _can_show(text):
            self._bar.set_postfix_str(text)

    def write(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        self._waiting.end()
        super().write(line)

    def __exit__(self, *_: object) -> None:
        """Wipe the bar away."""
        self._waiting.end()
        super().__exit__()


class Waiting:
    """What is waited for, and for how long by now; elsewhere than on a terminal once.

    A thread counts the seconds: what is waited for says nothing itself.
    """

    def __init__(self, what: str) -> None:
        """Begin to wait."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._count, args=(what,), daemon=True)
        if sys.stdout.isatty():
            self._thread.start()
        else:
            print(what, flush=True)

    def end(self) -> None:
        """Wipe the line away; a second call does nothing."""
        if self._thread.is_alive():
            self._ended.set()
            self._thread.join()

    def _count(self, what: str) -> None:
        bar = _draw(desc=what, total=1, bar_format=WAITING)
        while not self._ended.wait(POLL_SECONDS):
            bar.refresh()
        bar.close()


def advise(experiment: Experiment) -> advice.Advice:
    """Try every strategy that is worth it, and print the table of what was found."""
    print("trying every strategy that fits, a minute or two", flush=True)
    total = len(candidates_for(experiment)) + advice.ROUNDS
    with Bar(total, bar_format=STEPS) as bar:
        found = advice.advise(experiment, on_step=bar.step)
    print(*advice_lines(found)[:-1], sep="\n", end="\n\n")
    return found


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _draw(**how: Any) -> tqdm:
    # Asked for here: where a terminal does not know its size, tqdm would hide the bar.
    columns, rows = shutil.get_terminal_size(fallback=(80, 24))
    size = {"ncols": columns or 80, "nrows": rows or 24}
    return tqdm(file=sys.stdout, leave=False, **size, **how)
