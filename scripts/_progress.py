"""A live bar with rate and time left where the output is a terminal, else lines."""

from __future__ import annotations

import shutil
import sys

from tqdm import tqdm

from cnnjax.experiments.experiment import Experiment


class Progress:
    """Examples trained on so far, out of all epochs. The bar starts with training."""

    def __init__(self, experiment: Experiment, *, runs: int = 1) -> None:
        """Draw nothing yet: what is compiled first must not count in the rate.

        There are so many runs, one after another, of which the experiment is one.
        """
        self._total = runs * experiment.examples_per_epoch * experiment.loop.epochs
        self._of_epoch = 0
        self._bar: tqdm | None = None

    def update(self, done: int, total: int) -> None:
        """Move the bar to `done` of the `total` examples of the present epoch."""
        if not sys.stdout.isatty():
            return
        if self._bar is None:
            columns = shutil.get_terminal_size(fallback=(80, 24)).columns
            self._bar = tqdm(
                total=self._total,
                unit=" examples",
                unit_scale=True,
                file=sys.stdout,
                leave=False,
                ncols=columns or 80,
            )
        self._bar.update(max(0, done - self._of_epoch))
        self._of_epoch = done % total

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.write(line)

    def __enter__(self) -> Progress:
        """Return the bar."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wipe the bar away."""
        if self._bar is not None:
            self._bar.close()
