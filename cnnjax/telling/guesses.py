"""What a network takes pictures for, as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from cnnjax.base.printable import printable
from cnnjax.loaded.likeness import SHARE
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


HINTS = {
    "pixels": "it is farther from the training images",
    "outputs": "the network's outputs are weaker",
}


def hint_lines(by: str) -> list[str]:
    """Say by what sign a picture is unlike the training data; see `loaded.likeness`."""
    of = f"than {100 * (1 - SHARE):g} % of the test's"
    return ["  hint: unlike the training data:", f"  {HINTS[by]} {of}"]


def guess_lines(
    path: Path,
    image: UInt8[np.ndarray, "rows columns colours"],
    shares: Float[np.ndarray, " classes"],
    names: Sequence[str],
    *,
    show: bool,
    unlike: str | None = None,
) -> list[str]:
    """Say what a picture is taken for, below what the network saw of it.

    `unlike` is a sign of `hint_lines`, where the picture has one.
    """
    told = [
        f"{one['class']} ({100 * one['probability']:.1f} %)"
        for one in guesses_of(shares, names)
    ]
    said = ", ".join(told) or "nothing: the outputs are not numbers"
    drawn = [image_as_text(image), ""] if show else []
    hints = [] if unlike is None else hint_lines(unlike)
    return [*drawn, printable(f"{path}: {said}"), *hints]
