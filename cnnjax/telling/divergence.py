"""What is said of a run that diverged, or that has learned nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnjax.experiments.runs import Run
from cnnjax.experiments.seed_run import SeedRun
from cnnjax.telling.layout import wrap
from cnnjax.telling.seeds import named
from cnnjax.telling.text import metric_text
from cnnjax.training.divergence import Divergence

NEAR_CHANCE = 0.01  # of the examples, above the share of a guess
TIMES_ITS_START = 10.0


def lines(divergence: Divergence | None, *, kept: str | None) -> list[str]:
    r"""Say in which update training was stopped, and what is left of it.

    >>> found = Divergence(1, 20, "the loss", np.inf, 1e9, 0.5)
    >>> print(*lines(found, kept=None), sep="\n")
    stopped: in update 20 (epoch 1) the loss was not finite; loss inf, norm of the
      gradient 1e+09, learning rate 0.5; a lower learning rate may help
    """
    if divergence is None:
        return []
    epoch, step, tensor, loss, norm, rate = divergence
    said = (
        f"stopped: in update {step} (epoch {epoch}) {tensor} was not finite; loss "
        f"{loss:.4g}, norm of the gradient {norm:.4g}, learning rate {rate:.4g}; a "
        "lower learning rate may help"
    )
    last = [] if kept is None else [f"the last good checkpoint is {kept}"]
    return [wrap(said), *last]


def remarks(run: Run, labels: np.ndarray) -> list[str]:
    """Say in a line if a run learned nothing, or if its loss rose far above its start.

    `labels` are those of the test examples.
    """
    said = []
    if _learned_nothing(run, labels):
        guess = metric_text("accuracy", _share_of_a_guess(labels))
        said.append(
            "nothing was learned: a guess, always the same class, is right for "
            f"{guess} of the test examples"
        )
    if _rose(run):
        first, last = (run.records[at].train["loss"] for at in (0, -1))
        said.append(
            f"the training loss rose from {first:.4g} to {last:.4g}: a lower learning "
            "rate may help"
        )
    return list(map(wrap, said))


def remarks_of_seeds(ended: Sequence[SeedRun]) -> list[str]:
    """Say the same of several seeds, each in one line that names them."""
    idle = [one.seed for one in ended if _learned_nothing(one.run, one.test_labels)]
    rose = [one.seed for one in ended if _rose(one.run)]
    said = []
    if idle:
        said.append(
            f"nothing was learned by {named(idle)}: no better than a guess, always the "
            "same class"
        )
    if rose:
        said.append(
            f"the training loss rose to more than {TIMES_ITS_START:.0f} times its "
            f"start: {named(rose)}; a lower learning rate may help"
        )
    return list(map(wrap, said))


def _learned_nothing(run: Run, labels: np.ndarray) -> bool:
    """Whether a trained network is as good as a guess."""
    accuracy = run.test.get("accuracy")
    if not run.records or run.diverged or accuracy is None:
        return False
    return accuracy <= _share_of_a_guess(labels) + NEAR_CHANCE


def _rose(run: Run) -> bool:
    """Whether the loss ended far above its start."""
    losses = [record.train["loss"] for record in run.records]
    if not losses or run.diverged:
        return False
    return losses[-1] > TIMES_ITS_START * losses[0] > 0


def _share_of_a_guess(labels: np.ndarray) -> float:
    """Return the share of the most frequent class; 1 if labels are no classes."""
    if not np.issubdtype(labels.dtype, np.integer):
        return 1.0
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))
