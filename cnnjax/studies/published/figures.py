"""Figures that several reports state alike: a curve by epochs, a size, a time."""

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
    """State a metric at each of the epochs that are the keys of `values`, from 1."""
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
    """Number values by their epochs: 1, 2, 3, ..."""
    return dict(enumerate(values, start=1))


def percent(values: Sequence[Number]) -> dict[int, Number]:
    """Number percentages by their epochs, as fractions.

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
    """State where a metric falls, of which no single value was published."""
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
    """State the number of parameters; `true` is the exact one of a rounded one."""
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
    """State the multiply-accumulates of one example; `true` as with parameters."""
    exact = count if true is None else true
    return Figure(
        what="MACs an example",
        metric="macs_per_example",
        value=count,
        band=(exact, exact),
        source=source,
        remark=remark,
    )


def train_seconds(
    value: Number, *, of_epochs: int | None = None, remark: str = ""
) -> Figure:
    """State how long the training took, of so many epochs; None: of all."""
    return Figure(
        what="seconds of training",
        metric="train_seconds",
        value=value,
        of_epochs=of_epochs,
        remark=remark,
    )


def throughput(value: Number, *, source: Source, remark: str = "") -> Figure:
    """State how many examples a second were trained on."""
    return Figure(
        what="examples a second",
        metric="examples_per_second",
        value=value,
        source=source,
        remark=remark,
    )
