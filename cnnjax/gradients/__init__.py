"""ONE device: the gradient rules, and the reductions of per-example gradients."""

from cnnjax.gradients.shares import (
    Each,
    ExamineFn,
    Means,
    Share,
    ShareFn,
    batch_share,
    batch_value_and_grad,
    canonical,
    each_over,
    ready,
    serial_share,
    serial_value_and_grad,
    value_and_grad_of,
    weighted,
    with_per_example,
)

__all__ = [
    "Each",
    "ExamineFn",
    "Means",
    "Share",
    "ShareFn",
    "batch_share",
    "batch_value_and_grad",
    "canonical",
    "each_over",
    "ready",
    "serial_share",
    "serial_value_and_grad",
    "value_and_grad_of",
    "weighted",
    "with_per_example",
]
