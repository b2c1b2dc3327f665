"""A live bar with rate and time left where the output is a terminal, else lines."""

from __future__ import annotations

import sys

from tqdm import tqdm

from cnnjax.experiments import Experiment


class Progress:
    """Examples trained on so far, out of all epochs."""

    def __init__(self, experiment: Experiment) -> None:
        """Draw the empty bar; nothing is drawn where the output is no terminal."""
        per_epoch = len(experiment.train.labels)
        self._bar = tqdm(
            total=per_epoch * experiment.loop.epochs,
            unit=" examples",
            unit_scale=True,
            file=sys.stdout,
            disable=not sys.stdout.isatty(),
            leave=False,
            dynamic_ncols=True,
        )
        self._of_epoch = 0

    def update(self, done: int, total: int) -> None:
        """Move the bar to `done` of the `total` examples of the present epoch."""
        self._bar.update(done - self._of_epoch)
        self._of_epoch = done % total

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        if self._bar.disable:
            print(line, flush=True)
        else:
            self._bar.write(line)

    def __enter__(self) -> Progress:
        """Return the bar."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wipe the bar away."""
        self._bar.close()
