"""Checkpoints: copies of training between two updates, kept whole and verified.

snapshot.py   the loop's state as named arrays and facts, and back
arrays.py     named arrays in a folder: the only module that imports Orbax
manifest.py   a digest of every file and of every array
store.py      checkpoints by name: saved in the background, found again, pruned
keeper.py     when to save, when to stop, and where to resume
"""

from cnnjax.results.checkpoints.snapshot import Snapshot, restore, take
from cnnjax.results.checkpoints.store import Store

__all__ = ["Snapshot", "Store", "restore", "take"]
