"""The command `cnnjax`: every script by a short name, with the same messages."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cnnjax import __main__ as console
from cnnjax.base import program

ROOT = Path(__file__).parent.parent
COMMAND = ROOT / "cnnjax" / "__main__.py"
SCRIPTS = {p.stem for p in (ROOT / "scripts").glob("*.py") if p.name[0] != "_"}


def test_every_script_has_one_command():
    assert sorted(console.COMMANDS.values()) == sorted(SCRIPTS)


def test_help_has_a_line_for_each_command_that_fits_a_terminal():
    lines = console.help_text().splitlines()
    for name in console.COMMANDS:
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert line.endswith((".", "?"))
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("asked", [(), ("help",), ("--help",), ("-h",)])
def test_help_needs_no_jax(asked):
    """Mistake: two seconds of imports before the list of commands."""
    told = (
        "import sys, runpy; sys.argv[1:] = sys.argv[2:];"
        "runpy.run_module('cnnjax', run_name='__main__');"
        "assert 'jax' not in sys.modules and 'numpy' not in sys.modules"
    )
    command = [sys.executable, "-c", told, "-", *asked]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == console.help_text()


AT_THE_START = """
import runpy, sys
used_later = "scipy.stats scipy.ndimage sklearn matplotlib orbax tensorboardX grain"
sys.path[0], sys.argv = "scripts", ["train.py", "--help"]
try:
    runpy.run_path("scripts/train.py", run_name="__main__")
except SystemExit:
    print(sorted(set(used_later.split()) & set(sys.modules)), file=sys.stderr)
"""


def test_a_training_begins_without_the_libraries_that_it_may_not_need():
    """Mistake: one line `from scipy import stats`, and every start waits for it."""
    command = [sys.executable, "-c", AT_THE_START]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == "[]\n"
    assert "--recipe" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], "cnnjax: error: unknown command 'trian'; did you mean train?"),
        (["../train"], "cnnjax: error: unknown command '../train'"),
        (["a\nb"], "cnnjax: error: unknown command 'a\\nb'"),
        (["train", "--lr=1"], "cnnjax train: error: unknown flag --lr; did you mean"),
        (["train", "3"], "cnnjax train: error: expected flags only, got '3'"),
        (["evaluate"], "cnnjax evaluate: error: expected the workdir of one run"),
        (["runs", "nowhere"], "cnnjax runs: error: expected a folder of runs"),
        (["launch", "--", "tarin"], "cnnjax launch: error: expected a script"),
    ],
)
def test_what_is_refused_is_one_line(forks, tmp_path, words, told):
    done = forks.run(COMMAND, *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_of_a_command_shows_it_as_it_is_called(forks, tmp_path):
    """Mistake: `python scripts/evaluate.py`, where there is no such folder."""
    shown = [forks.run(COMMAND, *words, cwd=tmp_path).stdout for words in HELP]
    assert shown[0] == shown[1]
    assert "\n    cnnjax compare runs/l2 runs/no_l2\n" in shown[0]
    assert "scripts/" not in shown[0]


HELP = (["compare", "--help"], ["help", "compare"])


def test_a_run_knows_how_it_is_made_again(forks, tmp_path):
    """The same run as by the script; its page says the command that one can type."""
    flags = ["--epochs=1", "--recipe=momentum_mlp_per_sample", "--dataset=digits"]
    flags += ["--num_train=64", "--strategy=jit"]
    for script, words in ((COMMAND, ["train"]), (ROOT / "scripts" / "train.py", [])):
        to = f"--workdir={'a' if words else 'b'}"
        done = forks.run(script, *words, *flags, to, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    params = [(tmp_path / name / "params.safetensors").read_bytes() for name in "ab"]
    assert params[0] == params[1]
    assert forks.run(COMMAND, "page", "a", cwd=tmp_path).returncode == 0
    page = (tmp_path / "a" / "report.html").read_text()
    assert "cnnjax train --epochs=1" in page
    done = forks.run(COMMAND, "runs", ".", "--json", cwd=tmp_path)
    assert done.stdout.count("\n") == 2


def test_words_are_those_of_a_shell(monkeypatch):
    words = ["scripts/train.py", "--epochs=1"]
    monkeypatch.setattr(sys, "argv", words)
    assert program.shell(program.words()) == ["python", *words]
    assert program.as_called("python scripts/train.py") == "python scripts/train.py"
    assert program.name() == "train.py"


@pytest.mark.slow(reason="builds the package, with the build tool from the index")
def test_the_wheel_holds_the_scripts_and_no_tests(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path]
    subprocess.run([*command, ROOT], check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "there")
    assert {f"cnnjax/scripts/{name}.py" for name in SCRIPTS} <= names
    assert "cnnjax/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"cnnjax"}
    done = subprocess.run(
        [sys.executable, "-m", "cnnjax", "runs", "nowhere"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "there")},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("cnnjax runs: error: expected a folder of runs")
