"""Which rows may stand side by side: those of one run, on one machine.

A ratio is of rows of one group. Rows of other machines, versions or runs are shown
beside it, each by itself, with the name of its machine.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from contenders import Task
from machine import busy_note

from cnnjax.results.environment import machine_text
from cnnjax.studies.reporting.words import counted

Row = dict[str, Any]  # a line of a results file
NOT_OF_A_MACHINE = ("cnnjax", "commit", "date", "peers")  # of an environment


class Group(NamedTuple):
    """Rows of one run, recipe, batch size and task, on one machine."""

    machine: str  # by which it is named on the page
    recipe: str
    batch_size: int
    task: Task
    rows: tuple[Row, ...]

    @property
    def timed(self) -> list[Row]:
        """Return the rows that have a speed, the fastest first."""
        timed = [row for row in self.rows if "examples_per_second" in row]
        return sorted(timed, key=rate, reverse=True)

    @property
    def ours(self) -> Row | None:
        """Return our fastest row with the allocator as it is installed."""
        return next((r for r in self.timed if r["ours"] and not r["tuned"]), None)

    def peer(self, *, tuned: bool) -> Row | None:
        """Return the fastest peer: of all, or of those that are as installed."""
        peers = (row for row in self.timed if not row["ours"])
        return next((row for row in peers if tuned or not row["tuned"]), None)

    @property
    def when(self) -> str:
        """Return the day and minute at which the run began."""
        return when(self.rows[0])


def when(row: Row) -> str:
    """Return the day and minute at which the run of a row began."""
    return row["run"][:16].replace("T", " ")


def told_of(rows: Sequence[Row], machine: str) -> str:
    """Say on which machine and when rows were measured, and whether it was busy."""
    return "; ".join(filter(None, (machine, f"{when(rows[0])} UTC", busy_note(rows))))


Chosen = tuple[Group, list[Group]]  # a run that is shown, and others of the same


def rate(row: Row) -> float:
    """Return the median of a row's examples per second."""
    return row["examples_per_second"]["median"]


def names_of(rows: Iterable[Row]) -> Callable[[Row], str]:
    """Return what names the machine of a row: a letter, hardware and versions."""
    letters: dict[str, str] = {}
    for row in rows:
        letters.setdefault(_key(row), _letter(len(letters)))

    def name(row: Row) -> str:
        return f"Machine {letters[_key(row)]}: {described(row['environment'])}"

    return name


def described(environment: Mapping[str, Any]) -> str:
    """Say the hardware and the versions that a speed depends on most.

    >>> here = dict(platform="gpu", device_kind="NVIDIA H200", machine="x86_64")
    >>> here |= dict(cpu_model=None, num_cores=16, python="3.12.3", jax="0.11.2")
    >>> described(here)
    'NVIDIA H200; CPU model not recorded (x86_64), 16 cores; Python 3.12.3, JAX 0.11.2'
    """
    told = [machine_text(environment)]
    if environment["num_cores"] is not None:
        told[0] += f", {counted(environment['num_cores'], 'core')}"
    if environment["platform"] != "cpu":
        told.insert(0, environment["device_kind"])
    versions = [f"Python {environment['python']}", f"JAX {environment['jax']}"]
    torch = environment.get("peers", {}).get("torch")
    versions += [f"PyTorch {torch}"] if torch else []
    return "; ".join([*told, ", ".join(versions)])


def grouped(rows: Sequence[Row], name: Callable[[Row], str]) -> list[Group]:
    """Group rows of throughput by run, machine, recipe, batch size and task."""
    parts: dict[tuple, list[Row]] = {}
    for row in rows:
        told = (row["recipe"], row["batch_size"], row["task"])
        parts.setdefault((_run(row), _key(row), *told), []).append(row)
    return [
        Group(name(own[0]), *key[2:], rows=tuple(own)) for key, own in parts.items()
    ]


def chosen(groups: Iterable[Group]) -> list[Chosen]:
    """Return, of what was measured again, the run with the most rows, and the others.

    Of two with as many, it is the later one. Recipes stay together, in their order.
    """
    alike: dict[str, dict[tuple, list[Group]]] = {}
    for group in groups:
        of_recipe = alike.setdefault(group.recipe, {})
        key = (group.machine, group.batch_size, group.task)
        of_recipe.setdefault(key, []).append(group)
    found = []
    for own in itertools.chain.from_iterable(p.values() for p in alike.values()):
        best = max(own, key=lambda group: (len(group.timed), group.when))
        found.append((best, [group for group in own if group is not best]))
    return found


def by_machine(found: Iterable[Chosen]) -> list[tuple[str, list[Chosen]]]:
    """Part what is shown by its machine, that of which there is most first."""
    parts: dict[str, list[Chosen]] = {}
    for one in found:
        parts.setdefault(one[0].machine, []).append(one)
    return sorted(parts.items(), key=lambda part: -len(part[1]))


def runs(rows: Iterable[Row], benchmark: str) -> Iterator[list[Row]]:
    """Yield the rows of each run of a benchmark, and of each of its questions."""
    parts: dict[tuple, list[Row]] = {}
    for row in rows:
        if row["benchmark"] == benchmark:
            key = (_run(row), _key(row), row.get("question"))
            parts.setdefault(key, []).append(row)
    yield from parts.values()


def _key(row: Row) -> str:
    """Return what two rows of one machine with the same versions have in common."""
    environment = row["environment"]
    told = {n: v for n, v in environment.items() if n not in NOT_OF_A_MACHINE}
    told["cpu_model"] = environment.get("cpu_model")  # an old record has no such field
    return json.dumps([told, environment.get("peers", {}).get("torch")], sort_keys=True)


def _run(row: Row) -> str:
    return json.dumps([row["run"], row["command"]])


def _letter(index: int) -> str:
    """Return A to Z, then AA, AB and so on."""
    first, last = divmod(index, 26)
    return (_letter(first - 1) if first else "") + chr(ord("A") + last)
