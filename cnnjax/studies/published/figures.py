"""Figures that several reports have in common: curves by epoch, sizes, times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnjax.studies.published.run import Figure, Number, Source

Band = tuple[Number, Number]

WHAT = {
    "train_loss": "training loss",
    "train_accuracy": "training accuracy",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
    "seconds": "seconds of the epoch",
}


def curve(
    metric: str,
    values: Mapping[int, Number],
    *,
    bands: Mapping[int, Band] | None = None,
    source: Source = "reported",
    what: str = "",
    remark: str = "",
    why_out: Mapping[int, str] | None = None,
) -> tuple[Figure, ...]:
    """State a metric at each epoch in the keys of `values`, counted from 1."""
    return tuple(
        Figure(
            what=what or WHAT[metric],
            metric=metric,
            epoch=epoch,
            value=value,
            band=(bands or {}).get(epoch),
            source=source,
            remark=remark,
            why_out=(why_out or {}).get(epoch, ""),
        )
        for epoch, value in values.items()
    )


def by_epoch(values: Sequence[Number]) -> dict[int, Number]:
    """Key values by epoch: 1, 2, 3, ..."""
    return dict(enumerate(values, start=1))


def percent(values: Sequence[Number]) -> dict[int, Number]:
    """Convert percentages to fractions, keyed by epoch.

    >>> percent([96.05, 96.62])
    {1: 0.9605, 2: 0.9662}
    """
    return by_epoch([round(value / 100, 6) for value in values])


def falls_in(
    metric: str,
    epoch: int,
    band: Band,
    *,
    source: Source,
    remark: str = "",
    why_out: str = "",
) -> Figure:
    """State the range of a metric for which no single value was published."""
    return Figure(
        what=WHAT[metric],
        metric=metric,
        epoch=epoch,
        value=None,
        band=band,
        source=source,
        remark=remark,
        why_out=why_out,
    )


def parameters(
    count: Number,
    *,
    true: int | None = None,
    source: Source = "reported",
    remark: str = "",
) -> Figure:
    """State the number of parameters; `true` is the exact one if it was rounded."""
    exact = count if true is None else true
    return Figure(
        what="parameters",
        metric="parameters",
        value=count,
        band=(exact, exact),
        source=source,
        remark=remark,
    )


def macs(
    count: Number,
    *,
    true: int | None = None,
    source: Source = "derived",
    remark: str = "",
) -> Figure:
    """State the multiply-accumulates per example; `true` as for parameters."""
    exact = count if true is None else true
    return Figure(
        what="MACs per example",
        metric="macs_per_example",
        value=count,
        band=(exact, exact),
        source=source,
        remark=remark,
    )


def train_seconds(
    value: Number, *, of_epochs: int | None = None, remark: str = ""
) -> Figure:
    """State how long this many epochs of training took; None: all of them."""
    return Figure(
        what="seconds of training",
        metric="train_seconds",
        value=value,
        of_epochs=of_epochs,
        remark=remark,
    )


def throughput(value: Number, *, source: Source, remark: str = "") -> Figure:
    """State the training speed in examples per second."""
    return Figure(
        what="examples per second",
        metric="examples_per_second",
        value=value,
        source=source,
        remark=remark,
    )
