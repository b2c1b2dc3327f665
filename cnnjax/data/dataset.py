"""A dataset: the value that every loader returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cnnjax.types import Examples


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A dataset held in memory, as it was read.

    Images are uint8 [examples, height, width, channels] with int32 [examples] labels
    that index `class_names`; a regression has float32 inputs and targets [examples,
    targets], and no class names. Lists and other numeric arrays with the same meaning
    are accepted: `checks.check_dataset`, which all training calls, converts them or
    says what is wrong.

    A dataset is equal only to itself, so that it can be a dictionary key: comparing all
    examples at every look-up would be slow, and they could change afterwards. Compare
    the arrays of two datasets with `np.array_equal`, or their fingerprints
    (`cnnjax/data/fingerprints.py`).
    """

    name: str
    train: Examples
    test: Examples | None  # None: there is no test set; the recipe holds examples out
    class_names: tuple[str, ...]
    # The sha256 of the content (decompressed) of each file that was read, by its name.
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """Return the number of classes; 0 for a regression."""
        return len(self.class_names)
