"""Tables of measurements in Markdown."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from contenders import Task
from machine import busy_note

from cnnjax.results.environment import environment_line, machine_text
from cnnjax.studies.reporting.words import code, table, text

Row = dict[str, Any]  # a line of a results file
TASKS: dict[Task, str] = {
    "mean": "an update from the mean gradient",
    "bfloat16": "an update from the mean gradient, computed in bfloat16",
    "norms": "an update, and the norm of each example's gradient",
    "clipped": "an update from the mean of clipped per-example gradients",
    "full": "the gradient of each example, without an update",
}


def counted(count: int, word: str) -> str:
    """Return a number of things in words: "1 seed", "3 seeds"."""
    return f"{count:,} {word}{'s' * (count != 1)}"


def point_name(question: str, x: float) -> str:
    """Return a point of a question of `scaling.py`: its strategy, or a number."""
    return ("jit", "shard_map")[int(x)] if question == "overhead" else f"{x:g}"


def provenance(rows: Sequence[Row]) -> str:
    """Return the environment, date and command of rows, as a list."""
    row = rows[0]
    environment = row["environment"]
    lines = [
        f"- {text(f'{environment_line(environment)}; {machine_text(environment)}')}",
        f"- {text(environment['date'])}, {code(_command(row))}",
    ]
    peers = {n: v for n, v in environment["peers"].items() if v is not None}
    if peers:
        told = ", ".join(f"{name} {version}" for name, version in peers.items())
        lines.append(f"- peers: {text(told)}")
    if note := busy_note(rows):
        lines.append(f"- **{note}**")
    return "\n".join(lines)


def _command(row: Row) -> str:
    return shlex.join(["python", *row["command"]])


def rates_table(rows: Sequence[Row]) -> str:
    """Return the table of one recipe, batch size and task, without empty columns."""
    head = (
        *("contender", "examples/s", "quartiles", "to best peer as installed"),
        *("to best peer of all", "of matmul peak", "times the batch gradient"),
        "compile cold / warm, s",
        *("temporary", "peak memory", "gradient error"),
    )
    cells = [_rate_cells(row) for row in rows]
    told = [at for at in range(len(head)) if any(own[at] for own in cells)]
    return table([head[at] for at in told], [[own[at] for at in told] for own in cells])


def _rate_cells(row: Row) -> list[str]:
    name = text(row["contender"])
    if "failure" in row:
        return [name, text(row["failure"]), *([""] * 9)]
    rate = row["examples_per_second"]
    stages = row["facts"].get("stages", {})
    built = " / ".join(f"{sum(own.values()):.2f}" for own in stages.values())
    return [
        f"**{name}**" if row["ours"] else name,
        f"{rate['median']:,.0f}",
        f"{rate['low']:,.0f} to {rate['high']:,.0f}",
        *(
            f"{row[key]:.2f}" if key in row else ""
            for key in ("ratio_to_best", "ratio_to_best_tuned")
        ),
        f"{row['utilisation']:.0%}" if "utilisation" in row else "",
        f"{row['times_the_batch_gradient']:.2f}"
        if "times_the_batch_gradient" in row
        else "",
        built,
        _mebibytes(row["facts"].get("temporary_bytes")),
        _mebibytes(row.get("peak_bytes")),
        f"{row['gradient_error']:.0e}",
    ]


def scaling_table(rows: Sequence[Row]) -> str:
    """Return the table of one question."""
    head = ("", "batch", "ms per update", "quartiles", "examples/s", "temporary")
    cells = []
    for row in rows:
        name = point_name(row["question"], row["x"])
        if "failure" in row:
            cells.append([name, text(row["failure"]), "", "", "", ""])
            continue
        step = row["step_seconds"]
        cells.append(
            [
                name,
                str(row["batch_size"]),
                f"{1e3 * step['median']:.4g}",
                f"{1e3 * step['low']:.4g} to {1e3 * step['high']:.4g}",
                f"{row['batch_size'] / step['median']:,.0f}",
                _mebibytes(row.get("temporary_bytes")),
            ]
        )
    return table(head, cells)


def accuracy_table(rows: Sequence[Row]) -> str:
    """Return the table of times to each accuracy: training only, and everything."""
    targets = list(rows[0]["targets"])
    head = ["contender", "final test accuracy"]
    head += [f"to {float(target):.1%}" for target in targets]
    head.append("all epochs")
    cells = []
    for row in rows:
        own = [text(row["contender"]), f"{row['accuracy']['median']:.2%}"]
        for target in targets:
            reached = row["targets"].get(target, {"seeds": 0})
            if not reached["seeds"]:
                own.append("never")
                continue
            train = reached["train_seconds"]["median"]
            wall = reached["wall_seconds"]["median"]
            lost = reached["seeds"] < row["accuracy"]["n"]
            few = f" ({reached['seeds']} of {row['accuracy']['n']} seeds)" * lost
            own.append(f"{train:.1f} / {wall:.1f} s{few}")
        train, wall = (row[k]["median"] for k in ("train_seconds", "wall_seconds"))
        own.append(f"{train:.1f} / {wall:.1f} s")
        cells.append(own)
    return table(head, cells)


def peers_table(groups: Iterable[Sequence[Row]]) -> str:
    """Return the short table for a README: ours and the best peer of each kind."""
    head = ("recipe", "batch", "cnnjax", "best peer as installed", "best peer of all")
    cells = []
    for rows in groups:
        timed = [row for row in rows if "examples_per_second" in row]
        if not any(row["ours"] for row in timed):
            continue
        installed = [row for row in timed if not row["tuned"]]
        kinds = (
            [row for row in installed if row["ours"]],
            [row for row in installed if not row["ours"]],
            [row for row in timed if not row["ours"]],
        )
        best = [max(kind, key=_median, default=None) for kind in kinds]
        rate = _median(best[0]) if best[0] else 0.0
        own = [code(rows[0]["recipe"]), str(rows[0]["batch_size"])]
        for row in best:
            if row is None:
                own.append("")
                continue
            median = _median(row)
            ratio = "" if row["ours"] else f", {rate / median:.2f} times"
            name = row["contender"].removeprefix("cnnjax ")
            own.append(f"{median:,.0f}/s ({text(name)}{ratio})")
        cells.append(own)
    return table(head, cells)


def _median(row: Row) -> float:
    return row["examples_per_second"]["median"]


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:,.1f} MiB"
