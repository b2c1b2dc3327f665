"""What a network takes pictures for, as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from cnnjax.base.printable import printable
from cnnjax.telling.examples import image_as_text

MOST = 3  # guesses


def guesses_of(
    shares: Float[np.ndarray, " classes"], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the most likely classes with their probabilities; none: not numbers.

    >>> guesses_of(np.array([0.25, 0.75]), ["cat", "dog"])
    [{'class': 'dog', 'probability': 0.75}, {'class': 'cat', 'probability': 0.25}]
    """
    if not np.isfinite(shares).all():
        return []
    order = np.argsort(-shares, kind="stable")[:MOST]
    return [{"class": str(names[i]), "probability": float(shares[i])} for i in order]


def guess_lines(
    path: Path,
    image: UInt8[np.ndarray, "rows columns colours"],
    shares: Float[np.ndarray, " classes"],
    names: Sequence[str],
    *,
    show: bool,
) -> list[str]:
    """Say what a picture is taken for, below what the network saw of it."""
    told = [
        f"{one['class']} ({100 * one['probability']:.1f} %)"
        for one in guesses_of(shares, names)
    ]
    said = ", ".join(told) or "nothing: the outputs are not numbers"
    drawn = [image_as_text(image), ""] if show else []
    return [*drawn, printable(f"{path}: {said}")]
