"""The results of a run of one seed, as it ends."""

from __future__ import annotations

import numpy as np

from cnnjax import devices
from cnnjax.base.compile_cache import CompileCache
from cnnjax.experiments import predictions
from cnnjax.experiments.journal import Journal
from cnnjax.experiments.runs import Run
from cnnjax.results.checkpoints.keeper import Keeper
from cnnjax.telling.curves import draw_run
from cnnjax.types import HostParams


def write_results(
    journal: Journal, keeper: Keeper, run: Run, cache: CompileCache
) -> tuple[HostParams, np.ndarray | None]:
    """Write all of a run; return its parameters and what it predicts on the test.

    Raises:
        InputError: writing fails.
        StoppedError: a signal has come; the last state is kept.
    """
    with journal.clock.part("predict"):
        params = devices.to_host(run.params)
        predicted = predictions.predict_test(journal.experiment, params)
    keeper.check()
    journal.end(None if run.divergence else params, predicted)
    journal.draw(draw_run)
    keeper.close()
    keeper.check()
    journal.result(run, cache=cache.state)
    return params, predicted
