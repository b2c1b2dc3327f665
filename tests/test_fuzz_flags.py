"""The flags of train.py take anything: what is trained, or one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnjax.base.errors import InputError
from cnnjax.experiments.ensembles import MOST_SEEDS, seeds_from
from cnnjax.experiments.experiment import LAST_SEED
from cnnjax.training.loop import LAST_STEP, LoopConfig

FUZZER = Path(__file__).parent / "flag_fuzzer.py"
EXAMPLES = 20_000 if os.environ.get("CNNJAX_SOAK") else 500


def test_any_flags(forks, tmp_path):
    done = forks.run(FUZZER, str(EXAMPLES), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert " cases, the slowest " in done.stdout


def test_seeds_are_counted_and_bounded():
    assert seeds_from(LAST_SEED, 1) == range(LAST_SEED, LAST_SEED + 1)
    assert len(seeds_from(0, MOST_SEEDS)) == MOST_SEEDS
    for first, count, told in (
        (0, MOST_SEEDS + 1, "num_seeds from 1 to 1,000"),
        (0, 10**30, "num_seeds from 1 to 1,000"),
        (0, 0, "num_seeds from 1 to 1,000"),
        (-1, 2, "seed from 0 to"),
        (LAST_SEED, 2, "seeds up to"),
        (10**30, 1, "seed from 0 to"),
    ):
        with pytest.raises(InputError, match=told):
            seeds_from(first, count)


def test_updates_are_counted_in_32_bits():
    LoopConfig(batch_size=2, epochs=LAST_STEP // 5).check(10)
    for epochs in (LAST_STEP // 5 + 1, 10**12, 10**400):
        with pytest.raises(InputError, match="at most 2,147,483,647 updates"):
            LoopConfig(batch_size=2, epochs=epochs).check(10)
