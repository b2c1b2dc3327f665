"""The result of one of several seeds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from cnnjax.experiments.runs import Run
from cnnjax.results.outcomes import dead_classes


class SeedRun(NamedTuple):
    """The result of one seed's run."""

    seed: int
    run: Run
    test_labels: np.ndarray
    # The class predicted for each test example; None for a regression.
    predictions: Int[np.ndarray, " examples"] | None

    @property
    def dead_classes(self) -> list[int]:
        """Return the classes in the test set that are never predicted."""
        if self.predictions is None:
            return []
        return dead_classes(self.test_labels, self.predictions)
