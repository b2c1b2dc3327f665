"""The script for a machine with a GPU, rehearsed without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "on_gpu.sh"
REHEARSAL = ("--platform=cpu", "--quick")
PARTS = (
    "strategies",
    "resumed",
    "fast",
    "throughput",
    "seeds",
    "per_example",
    "accuracy",
)
pytestmark = pytest.mark.xdist_group("on_gpu")


def run(*flags: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    own = {"PYTHON": sys.executable, "XDG_CACHE_HOME": str(cwd), "JAX_PLATFORMS": "cpu"}
    environment = {**os.environ, **own}
    return subprocess.run(
        ["bash", SCRIPT, *flags],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "expected a folder for the results, got none"),
        (("out", "there"), "expected one folder, got out and there"),
        (
            ("out", "--parts=fast,slow"),
            "unknown part 'slow'; known: strategies,resumed",
        ),
        (("out", "--dry_run"), "unknown flag --dry_run"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_written(flags, message, tmp_path):
    refused = run(*flags, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stdout == ""
    first, *usage = refused.stderr.splitlines()
    assert first.startswith(f"on_gpu.sh: error: {message}")
    assert usage[0].startswith("usage: bash benchmarks/on_gpu.sh OUT ")
    assert not list(tmp_path.iterdir())


def test_another_platform_than_the_one_asked_for_is_told(tmp_path):
    """Nothing is timed on a CPU where a GPU was meant."""
    refused = run("out", "--parts=fast", cwd=tmp_path)
    assert refused.returncode == 2
    assert "expected a gpu; JAX finds cpu" in refused.stderr
    assert not (tmp_path / "out" / "fast.txt").exists()


@pytest.mark.slow(reason="in `make test` the same part is started, and cut off")
def test_a_part_writes_what_it_finds(tmp_path):
    done = run("out", *REHEARSAL, "--parts=fast", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    assert (out / "environment.txt").read_text().startswith("jax ")
    assert "test accuracy, 2 seeds: mean" in (out / "fast.txt").read_text()
    lines = (out / "fast_mnist" / "seeds.jsonl").read_text().splitlines()
    assert [json.loads(line)["seed"] for line in lines] == [0, 1]


def test_a_part_that_takes_too_long_is_cut_off_and_told(tmp_path):
    done = run("out", *REHEARSAL, "--parts=fast", "--seconds=1", cwd=tmp_path)
    assert done.returncode == 1
    assert "fast.txt, status 124: " in done.stdout
    told = (tmp_path / "out" / "fast.txt").read_text()
    assert told.endswith("cut off after 1 s (--seconds)\n")


@pytest.mark.slow(reason="minutes; in `make test` one part is rehearsed")
def test_all_parts_can_be_rehearsed(tmp_path):
    done = run("out", *REHEARSAL, "--seconds=400", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    assert {*PARTS, "others"} <= {path.stem for path in out.glob("*.txt")}
    rows = [json.loads(line) for line in (out / "gpu.jsonl").read_text().splitlines()]
    assert {row["benchmark"] for row in rows} == {"throughput", "accuracy"}
