"""Damaged files, drawn by hypothesis, and what a reader may answer to them."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from cnnjax.base.errors import InputError
from cnnjax.data import Dataset, load_dataset
from cnnjax.data.checks import check_dataset

SOAK = bool(os.environ.get("CNNJAX_SOAK"))
FUZZED = settings(
    max_examples=20_000 if SOAK else 500,
    derandomize=not SOAK,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
FAULTS = ("flip", "flip", "cut", "insert", "delete", "extreme")
EXTREMES = (
    *(bytes(size) for size in (1, 2, 4, 8)),
    *(b"\xff" * size for size in (1, 2, 4, 8)),
    *(b"\x7f" + b"\xff" * rest for rest in (0, 1, 3, 7)),
    *(b"\x80" + bytes(rest) for rest in (0, 1, 3, 7)),
    *(b"\x1f\x8b", b"\n", b'"', b",", b"{", b"-", b"9" * 20, b"\xf0\x9f\x98\x80"),
)


@st.composite
def damaged(draw, content: bytes, *, places: tuple[int, ...] = ()) -> bytes:
    """Return content with one to three faults, or any bytes in its place.

    Args:
        draw: hypothesis's.
        content: what is damaged.
        places: offsets that are hit as often as all others together.
    """
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=100))
    result = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        anywhere = st.integers(0, max(len(result) - 1, 0))
        at = draw(st.one_of(anywhere, st.sampled_from(places)) if places else anywhere)
        match draw(st.sampled_from(FAULTS)):
            case "flip" if at < len(result):
                result[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del result[at:]
            case "insert":
                result[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "delete":
                del result[at : at + draw(st.integers(1, 40))]
            case "extreme":
                value = draw(st.sampled_from(EXTREMES))
                result[at : at + len(value)] = value
    return bytes(result)


def read_or_refused(name: str, folder: Path) -> Dataset | None:
    """Return a valid data set, or None if it is refused in one line."""
    try:
        dataset = load_dataset(name, data_dir=str(folder))
    except InputError as error:
        (line,) = str(error).splitlines()
        assert line.isprintable()
        assert len(line) < 1500
        return None
    check_dataset(dataset)
    return dataset
