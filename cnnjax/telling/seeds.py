"""Text about the runs of several seeds: each one, and all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnjax.experiments.ensembles import SeedRun
from cnnjax.statistics import MeanInterval
from cnnjax.telling.layout import flow, wrap
from cnnjax.telling.text import metric_text, unpredicted


def seed_line(seed_run: SeedRun) -> str:
    """Describe how the run of one seed ended."""
    test = seed_run.run.test
    parts = [f"seed {seed_run.seed:>3}"]
    parts += [f"test {name} {metric_text(name, test[name])}" for name in _shown(test)]
    parts.append(f"{sum(record.seconds for record in seed_run.run.records):.1f} s")
    if seed_run.run.diverged:
        parts.append(f"diverged{unpredicted(seed_run.run)}")
    if seed_run.dead_classes:
        dead = ", ".join(map(str, seed_run.dead_classes))
        parts.append(f"never predicts {dead}")
    return flow(parts, sep="  ", indent=" " * 10)


def interval_lines(
    metric: str,
    over_seeds: MeanInterval | None,
    *,
    not_finite: Sequence[int] = (),
    diverged: Sequence[int] = (),
) -> list[str]:
    """Summarise the seeds: mean, standard deviation and two intervals.

    Seeds that diverged do not count, nor do those whose metric is not finite;
    `over_seeds` is None if no other is left.

    >>> interval_lines("loss", None, diverged=[3, 4])
    ['left out because they diverged: seed 3, seed 4',
     'test loss: no seeds left to average']
    """
    others = [seed for seed in not_finite if seed not in diverged]
    why = {"they diverged": diverged, f"their test {metric} is not finite": others}
    lines = [
        wrap(f"left out because {reason}: {named(seeds)}")
        for reason, seeds in why.items()
        if seeds
    ]
    if over_seeds is None:
        return [*lines, f"test {metric}: no seeds left to average"]
    n, mean, std, student, bootstrap = over_seeds
    seeds = f"{n} seed{'s' if n > 1 else ''}"
    lines.append(f"test {metric}, {seeds}: mean {metric_text(metric, mean)}")
    if std is None:
        return lines
    lines[-1] += f", standard deviation {metric_text(metric, std)}"
    if student is None or bootstrap is None:
        return [*lines, "no interval of the mean: all seeds have the same value"]
    for name, (low, high) in (("Student", student), ("bootstrap", bootstrap)):
        bounds = f"{metric_text(metric, low)} to {metric_text(metric, high)}"
        lines.append(f"95 % interval of the mean: {bounds} ({name})")
    return lines


def listed(group: Sequence[int]) -> str:
    """Name the seeds of a group, which follow each other.

    >>> listed([4]), listed([4, 5, 6])
    ('seed 4', 'seeds 4 to 6')
    """
    return f"seeds {group[0]} to {group[-1]}" if group[1:] else f"seed {group[0]}"


def named(seeds: Sequence[int]) -> str:
    """Name seeds, whatever they are.

    >>> named([4, 8])
    'seed 4, seed 8'
    """
    return ", ".join(f"seed {seed}" for seed in seeds)


def _shown(test: Mapping[str, float]) -> list[str]:
    """Return the test metrics to show, the main one first."""
    return [name for name in ("accuracy", "loss") if name in test]
