"""Numbers as a line of small blocks, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], *, width: int = 8) -> str:
    """Return at most `width` blocks, each the mean of neighbouring values.

    The lowest block is the least of them. What is not finite is a question mark.

    >>> sparkline([4.0, 3.0, 2.0, 1.0])
    '█▆▃▁'
    >>> sparkline([1.0, 1.0, math.nan])
    '▁▁?'
    """
    if not values:
        return ""
    parts = np.array_split(np.asarray(values, float), min(width, len(values)))
    means = [float(part.mean()) for part in parts]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    step = (high - low) / (len(BLOCKS) - 1) or 1.0
    return "".join(
        BLOCKS[round((mean - low) / step)] if math.isfinite(mean) else "?"
        for mean in means
    )


def loss_text(losses: Sequence[float]) -> str:
    """Return a sparkline of the logarithms of losses, with a word before it."""
    return f"loss {sparkline(np.log(np.maximum(losses, 1e-6)).tolist())}"
