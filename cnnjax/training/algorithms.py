"""Algorithms: what an optimizer does with a gradient. To add one, see `ALGORITHMS`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import optax
from jax.tree_util import keystr
from jaxtyping import PyTree
from optax import contrib

from cnnjax.base.arguments import instance_of, settle, single
from cnnjax.base.errors import expect
from cnnjax.training.schedules import NOT_NEGATIVE
from cnnjax.types import Params

FRACTION = single("in [0, 1)", lambda value: 0.0 <= value < 1.0)
POSITIVE = single("above 0", lambda value: 0.0 < value < math.inf)


@runtime_checkable
class Algorithm(Protocol):
    """A frozen dataclass of hyper-parameters, with the update rule they define."""

    def rule(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Build the Optax transformation with this learning-rate schedule."""
        ...


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam, with bias-corrected moments and `eps` outside the square root.

        m = b1 m + (1 - b1) g,    v = b2 v + (1 - b2) g^2
        params -= learning_rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    for update t = 1, 2, ... Source: Kingma and Ba, "Adam: A Method for Stochastic
    Optimization", 2015, arXiv:1412.6980.
    """

    b1: float = 0.9  # decay rate of the first moment, m
    b2: float = 0.999  # decay rate of the second moment, v
    eps: float = 1e-8

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, b1=FRACTION, b2=FRACTION, eps=POSITIVE)

    def rule(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Build the Optax transformation with this learning-rate schedule."""
        return optax.adam(schedule, b1=self.b1, b2=self.b2, eps=self.eps)


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """Adam, and a weight decay that does not pass through the moments.

        params -= learning_rate (Adam's direction + weight_decay w)

    w is the kernel, or 0 for a bias. (The coupled `l2` of `OptimizerConfig` goes into
    the gradient instead.) Source: Loshchilov and Hutter, "Decoupled Weight Decay
    Regularization", 2019, arXiv:1711.05101.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, b1=FRACTION, b2=FRACTION, eps=POSITIVE, weight_decay=NOT_NEGATIVE)

    def rule(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Build the Optax transformation with this learning-rate schedule."""
        return optax.adamw(
            schedule,
            b1=self.b1,
            b2=self.b2,
            eps=self.eps,
            weight_decay=self.weight_decay,
            mask=is_weight,
        )


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """SGD with momentum: v = momentum v + g; params -= learning_rate v.

    v is 0 before the first update. With momentum 0 it is plain SGD. With `nesterov`,
    params -= learning_rate (momentum v + g), with the new v: Nesterov's momentum, as
    Sutskever et al., "On the importance of initialization and momentum in deep
    learning", 2013, write it.
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, momentum=FRACTION, nesterov=instance_of(bool))
        holds = self.momentum > 0.0 or not self.nesterov
        expect("momentum above 0 with nesterov", self.momentum, holds)

    def rule(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Build the Optax transformation with this learning-rate schedule."""
        return optax.sgd(
            schedule, momentum=self.momentum or None, nesterov=self.nesterov
        )


@dataclass(frozen=True, kw_only=True)
class Muon:
    """Muon: momentum, of which each kernel takes the nearest orthogonal matrix.

        v = momentum v + (1 - momentum) g,    d = momentum v + (1 - momentum) g
        kernel -= learning_rate sqrt(max(1, outputs / inputs)) orthogonal(d)

    A kernel is a matrix from all of its inputs (of a convolution: height x width x
    channels) to its outputs; five steps of Newton and Schulz make it nearly orthogonal.
    Biases take the update of Adam with Nesterov's momentum (Dozat, 2016), with the same
    learning rate. Source: K. Jordan et al.,
    "Muon: An optimizer for hidden layers in neural networks", 2024,
    https://kellerjordan.github.io/posts/muon/.
    """

    momentum: float = 0.95
    weight_decay: float = 0.0  # decoupled, as of AdamW

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, momentum=FRACTION, weight_decay=NOT_NEGATIVE)

    def rule(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Build the Optax transformation with this learning-rate schedule."""
        return contrib.muon(
            schedule,
            beta=self.momentum,
            weight_decay=self.weight_decay,
            muon_weight_dimension_numbers=as_matrices,
        )


def is_weight(params: Params) -> PyTree[bool]:
    """Return a tree that is True for kernels, to which L2 applies, and False elsewhere.

    A kernel is a leaf whose name is "kernel", in any kind of tree.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: keystr(path[-1:], simple=True) == "kernel", params
    )


def as_matrices(params: Params) -> PyTree[Any]:
    """Say which axes of each kernel are inputs, all but the last; None: no kernel."""

    def axes(weight: bool, leaf: Any) -> contrib.MuonDimensionNumbers | None:
        inputs = tuple(range(leaf.ndim - 1))
        return contrib.MuonDimensionNumbers(inputs, leaf.ndim - 1) if weight else None

    return jax.tree.map(axes, is_weight(params), params)


# By name. To add an algorithm, add a class with a `rule`, and an entry here; schedules
# are in `schedules`.
ALGORITHMS: dict[str, type] = {"adam": Adam, "adamw": AdamW, "sgd": Sgd, "muon": Muon}


def as_algorithm(name: str, algorithm: Any) -> Algorithm:
    """Return an algorithm. Raise InputError for anything else."""
    known = " or ".join(kind.__name__ for kind in ALGORITHMS.values())
    has_rule = isinstance(algorithm, Algorithm) and not isinstance(algorithm, type)
    expect(f"{name} of kind {known}, or one with a rule", algorithm, has_rule)
    return algorithm
