"""What is said of a run that diverged, or that has learned nothing."""

from __future__ import annotations

import numpy as np

from cnnjax.experiments.runs import Run
from cnnjax.telling.layout import wrap
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
    losses = [record.train["loss"] for record in run.records]
    if not losses or run.diverged:
        return []
    said = []
    accuracy, guess = run.test.get("accuracy"), _share_of_a_guess(labels)
    if accuracy is not None and accuracy <= guess + NEAR_CHANCE:
        said.append(
            f"nothing was learned: a guess, always the same class, is right for "
            f"{metric_text('accuracy', guess)} of the test examples"
        )
    if losses[-1] > TIMES_ITS_START * losses[0] > 0:
        said.append(
            f"the training loss rose from {losses[0]:.4g} to {losses[-1]:.4g}: a lower "
            "learning rate may help"
        )
    return list(map(wrap, said))


def _share_of_a_guess(labels: np.ndarray) -> float:
    """Return the share of the most frequent class; 1 if labels are no classes."""
    if not np.issubdtype(labels.dtype, np.integer):
        return 1.0
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))
