"""The commands that the pages for users show are run, one after another, in short.

A call is shortened by flags after its own, of which the last counts: few examples, one
epoch. Of the data sets only those are here that need no large file.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import own_digits
import pytest
from PIL import Image
from published_runs import write_houses
from test_docs import ROOT, calls_in, shell_lines

pytestmark = pytest.mark.xdist_group("docs_run")

SHORT = ("--epochs=1", "--num_train=64", "--batch_size=16")
SHORTER = {
    "train": SHORT,
    "sweep": ("--epochs=1", "--num_train=160"),
}
# Not here: who tries it.
ELSEWHERE = {
    "compare_strategies": "test_equivalence",  # it compiles all of them
    "launch_local": "test_processes",
    "prepare_tfds": "test_data_tfds",
    "reproduce": "test_reproduce",
    "--strategy=auto": "test_train_script",
}
# The commands of the slow ones are those of these two, with other flags.
PAGES = ["README.md", "docs/using.md"]
MORE = ("watching", "comparing", "faults", "reliability", "findings")
PAGES += [pytest.param(f"docs/{n}.md", marks=pytest.mark.slow) for n in MORE]


@pytest.fixture
def place(tmp_path, forks):
    """A folder with what the pages speak of: a run, pictures, a table, a function."""
    for name in ("seven.png", "a_folder_of_pictures/3.png", "pictures/a/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "seven.png").write_bytes(own_digits.draw(7, 0, pen=0.1))
    (tmp_path / "a_folder_of_pictures/3.png").write_bytes(
        own_digits.draw(3, 0, pen=0.1)
    )
    rng = np.random.default_rng(0)
    for index in range(100):
        folder = tmp_path / "pictures" / "ab"[index % 2]
        folder.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (tmp_path / "DIR").mkdir()
    write_houses(tmp_path / "DIR")
    (tmp_path / "tracking.py").write_text("def report(event, values):\n    pass\n")
    trained = ("--workdir=runs/digits", *SHORT)
    done = forks.run(ROOT / "scripts" / "train.py", *trained, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def shortened(script: Path, flags: list[str]) -> list[str]:
    """Return the flags for a short run, on data that is here."""
    own = [re.sub(r"runs/mnist", "runs/digits", flag) for flag in flags]
    houses = any("housing" in flag for flag in own)  # few: the table has 20 lines
    if not houses:
        own = [flag for flag in own if flag != "--data_dir=DIR"]
    own = [re.sub(r"=(mnist|fashion_mnist|cifar10)$", "=digits", flag) for flag in own]
    few = ["--num_seeds=3"] if any("num_seeds" in flag for flag in own) else []
    few += ["--num_train=16"] if houses else []
    return [*own, *SHORTER.get(script.stem, ()), *few]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(page, place, forks):
    ran = []
    for path, *flags in calls_in(shell_lines((ROOT / page).read_text())):
        script = Path(path)
        words = (script.stem, *(flag.partition("=")[0] for flag in flags), *flags)
        if script.parent.name != "scripts" or ELSEWHERE.keys() & set(words):
            continue
        done = forks.run(script, *shortened(script, flags), cwd=place, COLUMNS="80")
        told = f"{script.name} {flags}: {done.stderr or done.stdout}"
        assert done.returncode == 0, told
        ran.append(script.stem)
    assert len(ran) >= 2, ran


def test_what_is_left_out_is_tried_elsewhere():
    for what, tests in ELSEWHERE.items():
        for name in tests.split(", "):
            assert what in (ROOT / "tests" / f"{name}.py").read_text()
