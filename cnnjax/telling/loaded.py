"""What a run was, in a line or two."""

from __future__ import annotations

from cnnjax.loaded import LoadedRun
from cnnjax.results.folders import shown_path
from cnnjax.telling.layout import flow


def loaded_text(run: LoadedRun) -> str:
    """Say what was trained, for how long, and whether it has ended."""
    recipe = run.recipe
    done = len(run.epochs)
    ended = f"{done} epochs" if run.result else f"not finished: {done} epochs done"
    parts = [
        f"run {shown_path(run.path)}",
        f"recipe {recipe.name}",
        f"dataset {recipe.dataset}",
        f"seed {run.seed}",
        ended,
    ]
    if run.settings.faults:
        parts.append(f"with its faults: {', '.join(run.settings.faults)}")
    if run.result is None:
        parts.append(f"parameters of {run.source}")
    return flow(parts)
