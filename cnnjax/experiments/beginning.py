"""What a folder holds, and so how a run in it begins: anew, or where it was stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from cnnjax.base.errors import InputError, expect
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.sameness import FORM, check_same, listed
from cnnjax.results.checkpoints.store import Store
from cnnjax.results.fields import read_config, read_result
from cnnjax.results.folders import shown_path
from cnnjax.results.outcomes import by_path
from cnnjax.results.workdir import Workdir

Resume = Literal["auto", "never", "must"]

# Parts of the environment that decide the bits of a result.
BITS = (
    *("jax", "jaxlib", "flax", "optax", "numpy", "commit", "platform", "device_kind"),
    *("num_devices", "num_processes", "num_cores", "machine", "cpu_model", "x64"),
    *("matmul_precision", "xla_flags"),
)
# With these a GPU gives the same bits at each start; without the second one it does not
# (an H200, JAX 0.11.2).
REPEATING = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")


class Beginning(NamedTuple):
    """How a run begins, what to say about it, and what is known of earlier starts."""

    kind: Literal["fresh", "resumed", "finished"]
    told: tuple[str, ...] = ()
    about: Mapping[str, Any] = {}


def look(
    workdir: Workdir,
    store: Store | None,
    *,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    experiment: Experiment,
    resume: Resume,
    overwrite: bool,
) -> Beginning:
    """Say how a run begins in a folder; nothing is changed there.

    Raises:
        InputError: the folder holds a run that is not to be resumed, cannot be, or is
            another one.
    """
    found = workdir.found()
    names = store.names() if store else []
    if overwrite or not (found or names):
        expect("--resume=must with a run to resume", "none", resume != "must")
        if store and not overwrite and store.is_used():
            raise InputError(
                f"{shown_path(store.folder)} holds no checkpoint of ours; move what is "
                "there, choose another --workdir, or --overwrite to remove it"
            )
        return Beginning("fresh")
    where = f"workdir {workdir.path and shown_path(workdir.path)}"
    if resume == "never" or store is None:
        run = "a run" if "result.json" in found else "an unfinished run"
        raise InputError(
            f"{where} already holds {run} ({', '.join(found) or 'checkpoints'}); "
            "choose another --workdir, or --overwrite to replace it"
        )
    damaged: list[str] = []
    good = store.newest(on_damaged=damaged.append)
    told = [f"passed over checkpoint {one}" for one in damaged]
    about: Mapping[str, Any] = {} if good is None else good.snapshot.facts["about"]
    if not about and "config.json" not in found:
        raise InputError(
            f"{where} already holds {', '.join(found)} of another run; choose another "
            "--workdir, or --overwrite to replace it"
        )
    earlier = about["config"] if about else _config(workdir)
    epochs = check_same(where, earlier, config, experiment)
    longer = epochs is not None and experiment.recipe.epochs > epochs
    if "result.json" in found and not longer:
        if (wrong := _what_is_wrong(workdir)) is None:
            return Beginning("finished", tuple(told), about)
        if good is None:
            raise InputError(f"{wrong}; --overwrite to replace it")
        told.append(f"{wrong}: the end of the run is made again")
    if good is None:
        if names:
            raise InputError(
                f"{where}: no good checkpoint ({'; '.join(damaged)}); --overwrite "
                "starts anew"
            )
        expect("--resume=must with a checkpoint to resume", "none", resume != "must")
        if "result.json" in found:
            raise InputError(f"{where} holds a run without checkpoints; --overwrite it")
        return Beginning("fresh", ("no checkpoint was saved: it starts anew", *told))
    told += _rounding(about, config, environment)
    return Beginning("resumed", tuple(told), about)


def _config(workdir: Workdir) -> Mapping[str, Any]:
    assert workdir.path is not None
    try:
        return read_config(shown_path(workdir.path))
    except InputError as error:
        raise InputError(f"{error}; --overwrite to replace that run") from error


def _what_is_wrong(workdir: Workdir) -> str | None:
    """Return what is wrong with the results of a finished run; None: nothing."""
    assert workdir.path is not None
    try:
        read_result(shown_path(workdir.path))
    except InputError as error:
        return str(error)
    return None


def _rounding(
    about: Mapping[str, Any], config: Mapping[str, Any], environment: Mapping[str, Any]
) -> list[str]:
    """Say what has changed, if the results can no longer be the same bits."""
    then = {**by_path(about["config"]), **about["environment"]}
    now = {**by_path(config), **environment}
    names = [n for n in (*FORM, *BITS) if then.get(n) != now.get(n)]
    if names:
        why = f"another machine or form than before ({listed(names, then, now)})"
        return [f"{why}: the results are equal within rounding, not bit for bit"]
    set_flags = str(now.get("xla_flags")).split()
    if now.get("platform") != "gpu" or set(REPEATING) <= set(set_flags):
        return []
    return [
        "on a GPU, XLA times its kernels at each start and takes the fastest: the "
        "results are equal within rounding, bit for bit only where every start has "
        f"XLA_FLAGS='{' '.join(REPEATING)}'"
    ]
