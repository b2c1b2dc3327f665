"""Datasets as NumPy arrays, by name."""

from __future__ import annotations

from cnnjax.data.dataset import Dataset
from cnnjax.data.sources import dataset_names, load_dataset

__all__ = ["Dataset", "dataset_names", "load_dataset"]
