"""Measurements as lines for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tables import counted, point_name

from cnnjax.telling.layout import row, wrap

Row = dict[str, Any]  # one contender, or one point

RATES = (("contender", "examples/s", "quartiles"), (40, 11, 25))
RATIOS = ("", "x best", "x tuned", "of peak", "x batch", "compile s", "MiB", "error")
RATIO_WIDTHS = (1, 7, 8, 8, 8, 12, 9, 8)
NOTE = (
    "x best, x tuned: speed / that of the best peer as installed, of all peers. of "
    "peak: of the fastest matrix product. x batch: time / that of the batch gradient. "
    "compile s: cold/warm. MiB: temporary memory. error: of the gradient."
)
POINTS = ("batch", "ms/update", "quartiles", "examples/s", "MiB")
POINT_WIDTHS = (11, 6, 10, 20, 11, 10)


def rates_lines(rows: Mapping[str, Row]) -> list[str]:
    """Return the table of a task: two lines per contender, or why it has no speed."""
    told = [row(*RATES), row(RATIOS, RATIO_WIDTHS)]
    for name, one in rows.items():
        if "failure" in one:
            told.append(wrap(f"{name}: {one['failure']}"))
            continue
        if one["task"] == "peak":
            flops = one["steps_per_second"]["median"] * one["facts"]["flops"]
            told.append(f"{name:<40}{flops / 1e9:,.0f} GFLOP/s")
            continue
        rate = one["examples_per_second"]
        quartiles = f"{rate['low']:,.0f}-{rate['high']:,.0f}"
        told.append(row((name, f"{rate['median']:,.0f}", quartiles), RATES[1]))
        told.append(row(("", *_ratios(one)), RATIO_WIDTHS))
    return told


def _ratios(one: Row) -> tuple[str, ...]:
    stages = one["facts"].get("stages", {}).values()
    return (
        _told(one.get("ratio_to_best"), ".2f"),
        _told(one.get("ratio_to_best_tuned"), ".2f"),
        _told(one.get("utilisation"), ".0%"),
        _told(one.get("times_the_batch_gradient"), ".2f"),
        "/".join(f"{sum(own.values()):.2f}" for own in stages) or "-",
        _mebibytes(one["facts"].get("temporary_bytes")),
        f"{one['gradient_error']:.0e}",
    )


def points_lines(question: str, axis: str, rows: Sequence[Row]) -> list[str]:
    """Return the table of a question of `scaling.py`: one line per point."""
    told = [row((axis, *POINTS), POINT_WIDTHS)]
    for one in rows:
        name = point_name(question, one["x"])
        if "failure" in one:
            told.append(wrap(f"{name}: {one['failure']}"))
            continue
        step = {
            key: 1e3 * one["step_seconds"][key] for key in ("median", "low", "high")
        }
        cells = (
            str(one["batch_size"]),
            f"{step['median']:.3g}",
            f"{step['low']:.3g}-{step['high']:.3g}",
            f"{one['batch_size'] / one['step_seconds']['median']:,.0f}",
            _mebibytes(one.get("temporary_bytes")),
        )
        told.append(row((name, *cells), POINT_WIDTHS))
    return told


def seed_line(seed: int, name: str, last: Row) -> str:
    """Return a seed's accuracy, and its seconds of training and of everything."""
    spent = f"{last['train_seconds']:.1f} / {last['wall_seconds']:.1f} s"
    return f"seed {seed:<3} {name:<36} {last['accuracy']:7.2%}  {spent}"


def targets_lines(rows: Sequence[Row]) -> list[str]:
    """Return the time to each accuracy, for each contender: one line per accuracy."""
    told = ["median seconds of training / of everything, of the seeds that reached it"]
    for one in rows:
        told.append(f"{one['contender']}, test {one['accuracy']['median']:.2%}")
        for target, reached in one["targets"].items():
            lead = f"  to {float(target):.1%}"
            if not reached["seeds"]:
                told.append(f"{lead:<14}no seed reached it")
                continue
            told.append(
                f"{lead:<14}{_both(reached)}  ({counted(reached['seeds'], 'seed')})"
            )
        told.append(f"{'  all epochs':<14}{_both(one)}")
    return told


def _both(spent: Row) -> str:
    train, wall = (spent[f"{kind}_seconds"]["median"] for kind in ("train", "wall"))
    return f"{train:>10,.1f} / {wall:>10,.1f} s"


def _told(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _mebibytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 2**20:,.1f}"
