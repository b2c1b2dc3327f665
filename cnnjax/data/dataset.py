"""The value that every source returns."""

from __future__ import annotations

from dataclasses import dataclass

from cnnjax.types import Examples


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset held in memory, as it was read.

    Images are uint8 [examples, height, width, channels] with int32 [examples] labels
    that index `class_names`; a regression has float32 inputs and targets, and no class
    names.
    """

    name: str
    train: Examples
    test: Examples | None  # None: the source has no test set, the recipe splits
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Return the number of classes; 0 for a regression."""
        return len(self.class_names)
