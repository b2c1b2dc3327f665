"""System E without its network: once its features are dead, only ten biases remain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def bias_only_curve(
    labels: Sequence[int] | np.ndarray, *, epochs: int, learning_rate: float = 0.001
) -> np.ndarray:
    """Return the error of each epoch, [epochs] float64, as system E reports it.

    The ten logits are ten biases, which start at 0. Each label in order updates them:

        b <- b - learning_rate * (onehot(label) - b)

    The gradient is (target - logit), which has the wrong sign: the further a bias is
    from 0, the faster it moves away. The error of an epoch is the sum, over its labels,
    of the entropy of softmax(b) before each update, in nats, divided by 10. Images are
    not used.
    """
    biases = np.zeros(10)
    targets = np.eye(10)[np.asarray(labels)]
    errors = np.zeros(epochs)
    for epoch in range(epochs):
        for target in targets:
            errors[epoch] += _entropy(biases) / 10
            biases = biases - learning_rate * (target - biases)
    return errors


def _entropy(logits: np.ndarray) -> float:
    """Return -sum p log p of p = softmax(logits), in nats."""
    shifted = logits - logits.max()
    log_p = shifted - np.log(np.exp(shifted).sum())
    return float(-(np.exp(log_p) * log_p).sum())
