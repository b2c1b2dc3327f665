"""Streams closed or full, and folders that are gone: a line, or no difference."""

from __future__ import annotations

import getpass
import json
import os
import re
from pathlib import Path

import pytest
from test_hostile_pages import REPORT, ROOT

SCRIPTS = ROOT / "scripts"
BENCHMARKS = ROOT / "benchmarks"
ROWS = ROOT / "benchmarks" / "results"
pytestmark = pytest.mark.xdist_group("environment")
# Every script that can end at once, and whether it prints to stdout.
SHORT = ("--epochs=0", "--num_train=64", "--recipe=momentum_mlp_per_sample")
CALLS = {
    "recipes": (SCRIPTS / "recipes.py", ["--systems=A"], True),
    "recipes json": (SCRIPTS / "recipes.py", ["--systems=A", "--json"], True),
    "compare_runs": (SCRIPTS / "compare_runs.py", ["x", "y"], False),
    "reproduce": (SCRIPTS / "reproduce.py", ["--report_only", "--workdir=/x"], False),
    "prepare_tfds": (SCRIPTS / "prepare_tfds.py", ["--data_dir=x"], False),
    "launch_local": (SCRIPTS / "launch_local.py", ["--", "x.py"], False),
    "compare_strategies": (SCRIPTS / "compare_strategies.py", ["--seed=-1"], False),
    "train": (SCRIPTS / "train.py", SHORT, True),
    "law_page": (BENCHMARKS / "law_page.py", ["p.md", ROWS / "law/rows.jsonl"], True),
}
STREAMS = {
    "closed stdin": "os.close(0); sys.stdin = None",
    "closed stdout": "os.close(1); sys.stdout = None",
    "closed stderr": "os.close(2); sys.stderr = None",
    "full stdout": "os.dup2(os.open('/dev/full', os.O_WRONLY), 1)",
    "full stderr": "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)",
    "no current folder": "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')",
}


@pytest.fixture
def run(forks, tmp_path):
    """Run a script after some Python."""

    def run(script: Path, flags, *, before: str = "", **environment: str | None):
        wrapper = tmp_path / "wrapper.py"
        here, own = str(script.parent), str(script)
        wrapper.write_text(
            f"import os, runpy, sys\nsys.path[0], sys.argv[0] = {here!r}, {own!r}\n"
            f"{before}\nrunpy.run_path({own!r}, run_name='__main__')\n"
        )
        return forks.run(wrapper, *map(str, flags), cwd=tmp_path, **environment)

    return run


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("call", CALLS)
def test_streams_and_folders(call, stream, run):
    if call == "train" and stream not in ("full stdout", "no current folder"):
        pytest.skip("the same in test_environment.py, or of all scripts alike")
    script, flags, prints = CALLS[call]
    done = run(script, flags, before=STREAMS[stream])
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.count("\n") <= 1
    refused = not prints or stream == "full stdout"
    if call == "law_page" and stream == "no current folder":
        refused = True  # it cannot write there
    assert done.returncode == (2 if refused else 0), done.stderr
    if refused and "stderr" not in stream:
        assert ": error: " in done.stderr


SECRETS = {
    "HOME": "/tmp/home-of-a-person",
    "USER": "a-person-of-name",
    "LOGNAME": "a-person-of-name",
    "AWS_SECRET_ACCESS_KEY": "secret-of-aws",
    "WANDB_API_KEY": "secret-of-wandb",
    "HF_TOKEN": "secret-of-hf",
    "http_proxy": "http://person:secret-of-proxy@localhost:1",
    "XLA_FLAGS": "--xla_dump_to=/tmp/home-of-a-person/dump",
}
TOLD = re.compile("home-of-a-person|a-person-of-name|secret-of-|person:")


def written(folder: Path) -> dict[str, str]:
    """Return all that was written below a folder, and the names of files."""
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    found = {name: p for name, p in found.items() if "dump" not in name}
    return {name: name + p.read_bytes().decode("latin-1") for name, p in found.items()}


def test_what_is_written_names_nobody(run, tmp_path):
    """No name, home or secret of the environment."""
    advice = f"""
sys.path.append({str(ROOT / "tests")!r})
from cnnjax.studies.measuring import advice
from cnnjax.studies.measuring.timing import Spread
def advise(*_, **__):
    found = advice.Tried(advice.Candidate("jit"), Spread(1.0, 1.0, 1.0, 1), 1.0, 0.0)
    return advice.Advice((found,), 8)
advice.advise = advise
"""
    flags = ["--epochs=1", *SHORT[1:], "--strategy=auto", "--workdir=w"]
    places = {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "JAX_COMPILATION_CACHE_DIR": None,
    }
    done = run(SCRIPTS / "train.py", flags, before=advice, **SECRETS, **places)
    assert done.returncode == 0, done.stderr
    done = run(REPORT, ["--out=page", ROWS / "cpu.jsonl"], **SECRETS)
    assert done.returncode == 0, done.stderr
    files = written(tmp_path)
    assert {"w/config.json", "w/result.json", "page/report.html"} <= files.keys()
    assert any(name.endswith("advice.json") for name in files)
    for name, content in files.items():
        if name != "wrapper.py" and not name.endswith("-cache"):
            assert not TOLD.search(content), name
    environment = json.loads((tmp_path / "w" / "result.json").read_text())[
        "environment"
    ]
    assert environment["xla_flags"] == "--xla_dump_to=~/dump"
    assert getpass.getuser() not in environment.values()
    assert os.uname().nodename not in json.dumps(environment)
