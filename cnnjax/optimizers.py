"""Optimizer and learning rate: the one place where a learning rate is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from cnnjax.errors import InputError
from cnnjax.types import Params


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam or SGD, with coupled L2, on a constant or a cosine learning rate.

    The cosine is lr(t) = min + (max - min) (1 + cos(pi t / T)) / 2 with T
    `cosine_epochs`, and stays at min after T. With `cosine_unit="epoch"` t is the
    number of whole epochs done, so the rate is constant within an epoch; with "step"
    it moves at every update.
    """

    algorithm: Literal["adam", "sgd"]
    learning_rate: float
    schedule: Literal["constant", "cosine"] = "constant"
    min_learning_rate: float = 0.0
    cosine_epochs: int = 1
    cosine_unit: Literal["epoch", "step"] = "epoch"
    momentum: float = 0.0  # SGD: v = momentum v + g; params -= lr v
    b1: float = 0.9  # Adam: decay of the first moment
    b2: float = 0.999  # Adam: decay of the second moment
    eps: float = 1e-8  # Adam: added outside the root
    l2: float = 0.0  # gradient of a weight += l2 * weight; biases have none

    def __post_init__(self) -> None:
        """Refuse values that no run could mean."""
        for name in ("learning_rate", "min_learning_rate", "momentum", "eps", "l2"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise InputError(f"expected {name} finite and at least 0, got {value}")
        for name in ("momentum", "b1", "b2"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise InputError(
                    f"expected {name} in [0, 1), got {getattr(self, name)}"
                )
        if self.cosine_epochs < 1:
            raise InputError(
                f"expected cosine_epochs of at least 1, got {self.cosine_epochs}"
            )
        if self.schedule == "cosine" and not (
            self.min_learning_rate <= self.learning_rate and self.learning_rate > 0.0
        ):
            raise InputError(
                "expected 0 < learning_rate and min_learning_rate <= learning_rate, "
                f"got {self.learning_rate} and {self.min_learning_rate}"
            )


def make_schedule(config: OptimizerConfig, *, steps_per_epoch: int) -> optax.Schedule:
    """Build `learning_rate(step)`, step counting optimizer updates from 0.

    Source of the cosine: Loshchilov and Hutter, SGDR, 2017, arXiv 1608.03983.
    """
    if config.schedule == "constant":
        return optax.constant_schedule(config.learning_rate)
    by_epoch = config.cosine_unit == "epoch"
    cosine = optax.cosine_decay_schedule(
        config.learning_rate,
        decay_steps=config.cosine_epochs * (1 if by_epoch else steps_per_epoch),
        alpha=config.min_learning_rate / config.learning_rate,
    )
    if not by_epoch:
        return cosine
    return lambda step: cosine(jnp.floor_divide(step, steps_per_epoch))


def is_weight(params: Params) -> PyTree[bool]:
    """Mark the kernels, which L2 shrinks, with True and the biases with False."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key == "kernel", params
    )


def make_optimizer(
    config: OptimizerConfig, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Build the Optax optimizer: L2 into the gradient of the weights, then the rule.

    The L2 is coupled: Adam sees g + l2 * w (unlike AdamW). It is not in the reported
    loss. Source of Adam: Kingma and Ba, 2015, arXiv 1412.6980.
    """
    if config.algorithm == "adam":
        rule = optax.adam(schedule, b1=config.b1, b2=config.b2, eps=config.eps)
    else:
        rule = optax.sgd(schedule, momentum=config.momentum or None)
    if config.l2 == 0.0:
        return rule
    return optax.chain(optax.add_decayed_weights(config.l2, mask=is_weight), rule)
