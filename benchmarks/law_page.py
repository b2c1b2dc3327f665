"""Make a page from the results of `law.py`.

    python benchmarks/law_page.py docs/law.md benchmarks/results/law/rows.jsonl

The first argument is the page to write, the others are files of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import _paths  # noqa: F401
import _script
import results
import tables

from cnnjax.base import durable
from cnnjax.base.errors import InputError, expect
from cnnjax.strategies import STRATEGIES
from cnnjax.studies.reporting.words import code, table, text

Row = dict[str, Any]  # one network, dtype and kind of parameters
Ratio = tuple[float, str]  # and the strategy or fault that has it

WORDS = """\
# The law, measured

The law of equal gradients ([strategies.md](strategies.md#the-law)) bounds the error of
every strategy's gradient by the size of the terms that are summed. This page shows how
close correct strategies come to the bound, and how far faults exceed it. The figures
are ratios of error to bound, for the worst leaf or metric, on a full batch and on a
short one, with unequal weights and with dropout. Correct means below 1.

Parameters are *initial*: as initialised; *random*: normal with standard deviation 0.3;
*trained*: after a few hundred updates on one batch; *converged*: after ten times as
many; *saturated*: the converged ones times 3. Once a network has learned its batch, its
gradient is nearly zero, and no test could distinguish a fault from rounding. So a fault
has to be caught for some parameters, not for all. Random stacks have up to two
convolutions and two hidden layers, with pools, dropout and three activations.

`benchmarks/results/law/rows.jsonl` has the ratio of every strategy and every fault;
`benchmarks/law_page.py` makes this page from it.
"""


def main(args: list[str]) -> None:
    """Read rows; write the page."""
    expect("a page to write and files of rows", args, len(args) >= 2)
    page, *paths = map(Path, args)
    rows = [row for path in paths for row in results.read(path, benchmarks=("law",))]
    try:
        durable.write_bytes(page, _page(rows).encode())
    except OSError as error:
        raise InputError(f"cannot write {page}: {error.strerror}") from error
    print(f"{len(rows)} rows; page in {page}")


def _page(rows: list[Row]) -> str:
    runs = _groups(rows, lambda row: row["run"])
    measured = [tables.provenance(group) for _, group in runs]
    networks = {row["network"]: None for row in rows}
    newer = [f"`{n}`" for n in STRATEGIES if all(n not in row["right"] for row in rows)]
    missing = f" Newer than these rows, so not measured: {', '.join(newer)}."
    parts = [
        WORDS + "\n" + "\n".join(measured),
        "## By dtype and parameters",
        f"For {len(networks)} networks: {', '.join(map(code, networks))}.",
        _by_parameters(rows),
        "## By strategy",
        "The largest ratio over all networks and parameters."
        + (missing if newer else ""),
        _by_strategy(rows),
        "## By fault",
        "The number of networks in which the fault was caught, of those that had it; "
        "then, for the network where it is hardest to see, the largest ratio at "
        "initial, random or trained parameters.",
        _by_fault(rows),
    ]
    return "\n\n".join(parts) + "\n"


def _by_parameters(rows: list[Row]) -> str:
    head = ("dtype", "parameters", "largest correct", "strategy", "faults caught")
    head += ("smallest caught", "largest missed")
    cells = []
    for (dtype, kind), group in _groups(rows, _dtype_and_parameters):
        right = [(v, _where(k, row)) for row in group for k, v in _of(row)]
        worst = max(right)
        faults = [
            (value, _where(name, row))
            for row in group
            for name, value in row["faults"].items()
        ]
        caught = [one for one in faults if one[0] > 1]
        missed = [one for one in faults if one[0] <= 1]
        own = [text(dtype), text(kind), f"{worst[0]:.2g}", worst[1]]
        own.append(f"{len(caught)} of {len(faults)}")
        own.append(_told(min(caught, default=None)))
        own.append(_told(max(missed, default=None)))
        cells.append(own)
    return table(head, cells)


def _by_strategy(rows: list[Row]) -> str:
    types = list({row["dtype"]: None for row in rows})
    strategies = list({name: None for row in rows for name in row["right"]})
    cells = []
    for name in strategies:
        own = [code(name)]
        for dtype in types:
            ratios = [row["right"].get(name) for row in rows if row["dtype"] == dtype]
            told = [ratio for ratio in ratios if ratio is not None]
            own.append(f"{max(told):.2g}" if told else "")
        cells.append(own)
    return table(("strategy", *map(text, types)), cells)


def _by_fault(rows: list[Row]) -> str:
    types = list({row["dtype"]: None for row in rows})
    faults = sorted({name for row in rows for name in row["faults"]})
    cells = []
    for fault in faults:
        own = [code(fault)]
        for dtype in types:
            of_network: dict[str, float] = {}
            for row in rows:
                alive = row["parameters"] in ("initial", "random", "trained")
                if row["dtype"] == dtype and alive and fault in row["faults"]:
                    ratio = row["faults"][fault]
                    best = of_network.get(row["network"], 0.0)
                    of_network[row["network"]] = max(best, ratio)
            caught = sum(ratio > 1 for ratio in of_network.values())
            least = _number(min(of_network.values(), default=0.0))
            told = f"{caught} of {len(of_network)}; {least}"
            own.append(told if of_network else "")
        cells.append(own)
    return table(("fault", *map(text, types)), cells)


def _where(name: str, row: Row) -> str:
    return f"{code(name)}, {text(row['network'])}"


def _of(row: Row) -> Iterable[tuple[str, float]]:
    return row["right"].items()


def _told(ratio: Ratio | None) -> str:
    return "" if ratio is None else f"{_number(ratio[0])} ({ratio[1]})"


def _number(ratio: float) -> str:
    if ratio >= 1e300:
        return "not finite"
    return f"{ratio:,.0f}" if 100 <= ratio < 1e6 else f"{ratio:.2g}"


def _dtype_and_parameters(row: Row) -> tuple[str, str]:
    return row["dtype"], row["parameters"]


def _groups(rows: list[Row], key: Callable[[Row], Any]) -> list[tuple[Any, list[Row]]]:
    """Group rows by key, in the order of first appearance."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())


if __name__ == "__main__":
    _script.run(main)
