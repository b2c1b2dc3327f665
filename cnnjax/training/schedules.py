"""Learning-rate schedules. To add one, add a class with `rates`, and an entry below."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import jax.numpy as jnp
import numpy as np
import optax

from cnnjax.base.arguments import at_least, named, settle, single
from cnnjax.base.errors import InputError, expect

CosineUnit = Literal["epoch", "step"]

NOT_NEGATIVE = single("finite and at least 0", lambda value: 0.0 <= value < math.inf)
INSIDE = single("between 0 and 1", lambda value: 0.0 < value < 1.0)
FROM_ONE = single("finite and at least 1", lambda value: 1.0 <= value < math.inf)


@runtime_checkable
class Schedule(Protocol):
    """A frozen dataclass that says how the learning rate changes with the updates."""

    def rates(
        self, learning_rate: float, *, steps_per_epoch: int, epochs: int | None
    ) -> optax.Schedule:
        """Build `rate(step)`, where step counts updates from 0.

        `learning_rate` is the largest rate; training takes `epochs` passes (None: not
        known).
        """
        ...


@dataclass(frozen=True)
class Constant:
    """Keep the learning rate constant: lr(t) = learning_rate."""

    def rates(
        self, learning_rate: float, *, steps_per_epoch: int, epochs: int | None
    ) -> optax.Schedule:
        """Build the schedule, the same for every update."""
        del steps_per_epoch, epochs
        return optax.constant_schedule(learning_rate)


CONSTANT = Constant()


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Lower the learning rate along a cosine, from max at t = 0 to min at t = T.

        lr(t) = min + (max - min) (1 + cos(pi t / T)) / 2

    T is `cosine_epochs`; after T the rate stays at min. With the unit "epoch", t is the
    number of completed epochs, so the rate is constant within an epoch; with "step", it
    changes at every update. Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient
    Descent with Warm Restarts", 2017, arXiv:1608.03983.
    """

    cosine_epochs: int
    min_learning_rate: float = 0.0
    cosine_unit: CosineUnit = "epoch"

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(
            self,
            cosine_epochs=at_least(1),
            min_learning_rate=NOT_NEGATIVE,
            cosine_unit=named(get_args(CosineUnit)),
        )

    def rates(
        self, learning_rate: float, *, steps_per_epoch: int, epochs: int | None
    ) -> optax.Schedule:
        """Build the schedule; it depends on `cosine_epochs`, not on `epochs`.

        Raises:
            InputError: a learning rate of 0, or below `min_learning_rate`.
        """
        del epochs
        rate, low = learning_rate, self.min_learning_rate
        expect("learning_rate above 0 for a cosine", rate, rate > 0.0)
        expect(f"min_learning_rate at most {rate}", low, low <= rate)
        by_epoch = self.cosine_unit == "epoch"
        cosine = optax.cosine_decay_schedule(
            learning_rate,
            decay_steps=self.cosine_epochs * (1 if by_epoch else steps_per_epoch),
            alpha=low / learning_rate,
        )

        def by_whole_epochs(step: Any) -> Any:
            return cosine(jnp.floor_divide(step, steps_per_epoch))

        return by_whole_epochs if by_epoch else cosine


@dataclass(frozen=True, kw_only=True)
class OneCycle:
    """Raise the learning rate linearly to max, then lower it, once in the training.

        lr(t) = max / div_factor                         at t = 0
        lr(t) = max                                      at t = pct_start T - 1
        lr(t) = max / (div_factor final_div_factor)      from t = T - 1

    and linear in between; T is the number of updates of the whole training. The names
    and numbers are those of PyTorch's OneCycleLR with anneal_strategy="linear". Source:
    Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using
    Large Learning Rates", 2018, arXiv:1708.07120.
    """

    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, pct_start=INSIDE, div_factor=FROM_ONE, final_div_factor=FROM_ONE)

    def rates(
        self, learning_rate: float, *, steps_per_epoch: int, epochs: int | None
    ) -> optax.Schedule:
        """Build the schedule for `epochs` of this many updates.

        Where the rise would take less than one update, it begins at max.

        Raises:
            InputError: the number of epochs is not known.
        """
        if epochs is None:
            raise InputError("expected epochs, over which a OneCycle extends, got none")
        total = steps_per_epoch * epochs
        first, last = learning_rate / self.div_factor, max(total - 1, 1)
        knots = [(0.0, first), (self.pct_start * total - 1, learning_rate)]
        if knots[1][0] <= 0.0:
            knots = [(0.0, learning_rate)]
        knots.append((last, first / self.final_div_factor))
        steps, rates = map(np.array, zip(*knots, strict=True))
        return lambda step: jnp.interp(step, steps, rates)


@dataclass(frozen=True, kw_only=True)
class WarmupCosine:
    """Raise the learning rate linearly to max, then lower it along a cosine to min.

        lr(t) = max (t + 1) / W                                      for t < W
        lr(t) = min + (max - min) (1 + cos(pi (t - W) / (T - W))) / 2   from t = W

    W is the number of updates of `warmup_epochs`, at least 1 and at most T, those of
    the whole training. The first update already learns. Sources: the warm-up of Goyal
    et al., "Accurate, Large Minibatch SGD", 2017, arXiv:1706.02677; the cosine as in
    `Cosine`, with the unit "step".
    """

    warmup_epochs: float = 1.0
    min_learning_rate: float = 0.0

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, warmup_epochs=NOT_NEGATIVE, min_learning_rate=NOT_NEGATIVE)

    def rates(
        self, learning_rate: float, *, steps_per_epoch: int, epochs: int | None
    ) -> optax.Schedule:
        """Build the schedule for `epochs` of this many updates.

        Raises:
            InputError: the number of epochs is not known, or a learning rate below
                `min_learning_rate`.
        """
        if epochs is None:
            raise InputError(
                "expected epochs, over which WarmupCosine extends, got none"
            )
        low = self.min_learning_rate
        expect(f"min_learning_rate at most {learning_rate}", low, low <= learning_rate)
        total = steps_per_epoch * epochs
        warm = max(1, min(total, round(self.warmup_epochs * steps_per_epoch)))

        def rate(step: Any) -> Any:
            done = jnp.asarray(step, float)  # the widest type that JAX has here
            rising = learning_rate * (done + 1) / warm
            share = jnp.clip((done - warm) / max(1, total - warm), 0.0, 1.0)
            falling = low + (learning_rate - low) * (1 + jnp.cos(jnp.pi * share)) / 2
            return jnp.where(done < warm, rising, falling)

        return rate


SCHEDULES: dict[str, type] = {
    "constant": Constant,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "warmup_cosine": WarmupCosine,
}


def as_schedule(name: str, schedule: Any) -> Schedule:
    """Return a schedule. Raise InputError for anything else."""
    known = " or ".join(kind.__name__ for kind in SCHEDULES.values())
    has_rates = isinstance(schedule, Schedule) and not isinstance(schedule, type)
    expect(f"{name} of kind {known}, or one with rates", schedule, has_rates)
    return schedule
