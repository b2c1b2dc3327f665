"""The environment of a measurement: versions, device, cores, commit."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from cnnjax.base.errors import InputError, expect
from cnnjax.base.printable import printable, without_home
from cnnjax.results.fields import field
from cnnjax.results.schema import ENVIRONMENT, RESULT, record

# XLA runs the devices of a CPU on so many threads: with more devices, they would wait
# for one another for ever, until it aborts (measured: 256 train, 288 do not).
MOST_DEVICES = 256
COUNT_FLAG = "--xla_force_host_platform_device_count"
# What is told of an environment that somebody else has recorded.
TOLD = (
    *("python", "jax", "flax", "optax", "platform", "device_kind", "num_devices"),
    *("num_processes", "num_cores", "machine", "cpu_model", "commit", "date"),
)
PACKAGES = ("cnnjax", "jax", "jaxlib", "flax", "optax", "numpy")


def describe_environment() -> dict[str, Any]:
    """Return the record that is saved with every result, ready for JSON.

    Raises:
        InputError: the platform that JAX is set to use is not available.
    """
    device = find_devices()[0]
    found = {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "platform": device.platform,
        "device_kind": device.device_kind,
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
        "num_cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "machine": platform.machine(),
        "cpu_model": cpu_model(),
        "x64": jax.config.values["jax_enable_x64"],
        "matmul_precision": jax.config.values["jax_default_matmul_precision"],
        "xla_flags": without_home(os.environ.get("XLA_FLAGS", "")),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    return record(ENVIRONMENT, found)


def find_devices() -> Sequence[Any]:
    """Return all devices; the first call starts JAX.

    Raises:
        InputError: the platform that JAX is set to use is not available, or the number
            of virtual devices is out of range.
    """
    check_variables()
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:
        told = jax.config.values["jax_platforms"]
        said = str(error).partition("\n")[0].partition(" (set JAX_PLATFORMS")[0]
        if told is None:
            raise InputError(f"JAX finds no device here: {said}") from error
        raise InputError(
            f"JAX_PLATFORMS={told}: expected platforms that JAX finds here"
            f"{f' ({said})' if said else ''}; unset it, or set JAX_PLATFORMS=cpu"
        ) from error


def check_variables() -> None:
    """Check the variables that can make JAX abort, hang, or blame something else.

    Unknown flags in XLA_FLAGS are not checked: XLA itself names them and exits.

    Raises:
        InputError: a variable has such a value.
    """
    held = f"from 1 to {MOST_DEVICES} virtual devices"
    count = jax.config.values["jax_num_cpu_devices"]
    possible = count == -1 or 1 <= count <= MOST_DEVICES  # -1: not given
    expect(f"{held} by JAX_NUM_CPU_DEVICES", count, possible)
    flags = os.environ.get("XLA_FLAGS", "")
    is_flags = flags.strip().startswith("-") or not flags or os.path.isfile(flags)
    expect("XLA_FLAGS=--NAME=VALUE, or a file of such flags", flags, is_flags)
    for flag in flags.split():
        name, _, value = flag.partition("=")
        if name == COUNT_FLAG:
            digits = value.isdecimal() and len(value) < 9
            possible = digits and 1 <= int(value) <= MOST_DEVICES
            expect(f"{held} by {COUNT_FLAG} in XLA_FLAGS", value, possible)


def read_environment(path: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment in a row of a file: what can be told is there, and shown.

    A record may be older than some of its fields; where the schema allows it, None
    stands for one that is missing.

    Raises:
        InputError: a field that is told is missing, or one has another type.
    """
    found = dict(field(path, row, "environment", schema=RESULT))
    for name, own in ENVIRONMENT.fields.items():
        if name in TOLD and own.null:
            found.setdefault(name, None)
        if isinstance(found.get(name), str):
            found[name] = printable(found[name])
        there = name in TOLD or name in found
        if there and not (own.null and found[name] is None):
            of = " of the environment"
            field(path, found, name, schema=ENVIRONMENT, of=of)
    return found


def environment_line(environment: Mapping[str, Any]) -> str:
    """Describe the environment in one line."""
    return "; ".join(environment_parts(environment))


def environment_parts(environment: Mapping[str, Any]) -> tuple[str, str, str]:
    """Describe the versions, the hardware and the commit of an environment.

    >>> here = dict(python="3.11", jax="1", flax="2", optax="3", commit="abc")
    >>> here |= dict(num_devices=4, device_kind="cpu", platform="cpu", num_cores=1)
    >>> environment_parts({**here, "num_processes": 2})[1:]
    ('4 CPU devices of 2 processes, 1 core', 'commit abc')
    """
    e = environment
    versions = ", ".join(f"{name} {e[name]}" for name in ("jax", "flax", "optax"))
    kind, platform = e["device_kind"], e["platform"].upper()
    kind = platform if kind.upper() == platform else f"{kind} ({platform})"
    hardware = f"{e['num_devices']} {kind} device{'s' * (e['num_devices'] != 1)}"
    if e["num_processes"] > 1:
        hardware += f" of {e['num_processes']} processes"
    hardware += f", {e['num_cores']} core{'s' * (e['num_cores'] != 1)}"
    return f"Python {e['python']}, {versions}", hardware, f"commit {e['commit']}"


def machine_text(environment: Mapping[str, Any]) -> str:
    """Name the CPU of an environment: an old record, or a silent system, has no model.

    >>> machine_text({"machine": "x86_64", "cpu_model": "AMD EPYC 9554"})
    'AMD EPYC 9554 (x86_64)'
    >>> machine_text({"machine": "arm64"})
    'CPU model not recorded (arm64)'
    """
    model = environment.get("cpu_model") or "CPU model not recorded"
    return f"{model} ({environment['machine']})"


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """Return the CPU's name, or None where the system tells none."""
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return " ".join(value.split())
    name = platform.processor()
    return name if name not in ("", platform.machine()) else None


def _version(package: str) -> str:
    """Return the version of a package; "unknown" if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _commit() -> str:
    """Return the commit, with "+" if the checkout was changed, or "unknown"."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    describe = ["describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"]
    try:
        # An installed copy may lie inside another project's checkout.
        for command in (["ls-files", "--error-unmatch", here.name], describe):
            done = subprocess.run(
                git + command,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=10,
                check=True,
            )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
