"""The tour through the library is short, runs from any folder, and tells its story."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOUR = Path(__file__).parent.parent / "docs" / "tour.py"
RIGHT = (
    *("per-example gradients (vmap)", "the batch at once", "factored (X'D)"),
    *("four devices (shard_map)", "cnnjax serial", "cnnjax jit", "cnnjax vmap"),
    *("cnnjax sharded", "cnnjax shard_map", "cnnjax shard_map_vmap"),
)
WRONG = ("fault: padding is counted", "fault: summed twice")


@pytest.fixture(scope="module")
def told(forks, tmp_path_factory) -> str:
    """What the tour prints, run from an empty folder."""
    done = forks.run(TOUR, cwd=tmp_path_factory.mktemp("anywhere"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_it_is_one_page():
    assert len(TOUR.read_text().splitlines()) <= 150


def test_every_form_equals_the_reference_and_every_fault_is_caught(told):
    verdicts = dict(
        re.findall(r"^(.+?) +largest relative error .*: (\w+)$", told, re.M)
    )
    expected = dict.fromkeys(RIGHT, "equal") | dict.fromkeys(WRONG, "WRONG")
    assert verdicts == expected


def test_the_fault_has_the_size_that_it_should(told):
    assert "gradient is 4.00 times as long, a step of Adam 1.00 times" in told


def test_a_form_that_is_wrong_would_be_seen(tmp_path, forks):
    """The mutant: a device that forgets to divide by the weight of all."""
    right = "lax.psum({name: grads[name] / n for name in params}"
    assert right in TOUR.read_text()
    mutant = tmp_path / "tour.py"
    mutant.write_text(TOUR.read_text().replace(right, "lax.psum(grads"))
    told = forks.run(mutant, cwd=tmp_path).stdout
    assert re.search(r"^four devices \(shard_map\) .*: WRONG$", told, re.M)
