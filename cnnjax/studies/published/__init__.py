"""The figures that five reports state about the networks they trained, as data."""

from __future__ import annotations

from cnnjax.base.errors import unknown_name
from cnnjax.studies.published import (
    c_library_cnn,
    homework_mlps,
    ipu_cnn,
    numpy_cnn,
    ocr_trainer,
)
from cnnjax.studies.published.run import Figure, PublishedRun, System

SYSTEMS: dict[str, System] = {
    system.letter: system
    for system in (
        ocr_trainer.SYSTEM,
        homework_mlps.SYSTEM,
        ipu_cnn.SYSTEM,
        c_library_cnn.SYSTEM,
        numpy_cnn.SYSTEM,
    )
}


def get_system(letter: str) -> System:
    """Return the system with this letter.

    Raises:
        InputError: there is no such system; the message lists the existing ones.
    """
    if letter not in SYSTEMS:
        raise unknown_name("system", letter, SYSTEMS)
    return SYSTEMS[letter]


__all__ = ["SYSTEMS", "Figure", "PublishedRun", "System", "get_system"]
