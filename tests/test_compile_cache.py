"""The compile cache and the memory of advice: only conveniences, whatever is there."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from hostile import obeyed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnjax import experiments
from cnnjax.base.compile_cache import CompileCache
from cnnjax.data.sources import load_dataset
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import get_recipe
from cnnjax.studies.measuring import advice, advice_cache
from cnnjax.studies.measuring.timing import Spread

# Compiles some programs, and says how they came; in a process of its own.
PROGRAM = """
import sys
from cnnjax.base.compile_cache import CompileCache
cache = CompileCache()
import jax, jax.numpy as jnp
for n in range(1, 6):
    jax.block_until_ready(jax.jit(lambda x: n * jnp.sin(x))(jnp.ones(n)))
print(cache.state)
"""


@pytest.fixture
def compiled(forks, tmp_path):
    """Run the program with a cache of its own; return its state and its complaints."""
    (tmp_path / "program.py").write_text(PROGRAM)

    def run(**environment: str | None) -> tuple[str, list[str]]:
        given = {
            "JAX_COMPILATION_CACHE_DIR": None,
            "XDG_CACHE_HOME": str(tmp_path / "c"),
        }
        done = forks.run(
            tmp_path / "program.py", cwd=tmp_path, **{**given, **environment}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip(), done.stderr.splitlines()

    return run


def entries_of(folder: Path) -> list[Path]:
    return list((folder / "c" / "cnnjax" / "xla").glob("*-cache"))


def cut(path: Path) -> None:
    os.truncate(path, 90)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [cut, empty, flip, folder])
def test_damaged_entries_are_told_once_and_written_again(damage, compiled, tmp_path):
    assert compiled() == ("cold", [])
    assert compiled() == ("warm", [])
    for path in entries_of(tmp_path):
        damage(path)
    state, told = compiled()
    assert state == "cold"
    (line,) = told
    assert line.endswith("a damaged entry is removed, and compiled again")
    assert line.startswith("program.py: warning: compile cache ")
    assert compiled() == ("warm", [])


def test_a_cache_that_cannot_be_written_is_told_once(compiled, tmp_path):
    (tmp_path / "file").touch()
    at = tmp_path / "file" / "x\x1b[2J"
    state, (line,) = compiled(JAX_COMPILATION_CACHE_DIR=str(at))
    assert state == "off"
    assert line.endswith("Not a directory; nothing is cached")
    assert not obeyed(line)
    (tmp_path / "c" / "cnnjax").mkdir(parents=True)
    (tmp_path / "c" / "cnnjax" / "xla").touch()
    state, (line,) = compiled()
    assert (state, line.endswith("File exists; nothing is cached")) == ("off", True)


@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": None, "XDG_CACHE_HOME": None, "PATH": "/dev/null"},
        {"HOME": "/dev/null", "XDG_CACHE_HOME": None},
        {"XDG_CACHE_HOME": "/dev/null"},
        {"JAX_COMPILATION_CACHE_DIR": ""},
    ],
    ids=lambda environment: "+".join(environment),
)
def test_no_cache_makes_no_difference(environment, compiled):
    _, told = compiled(**environment)
    assert told == []


def test_a_disk_that_is_full_is_told_once(forks, tmp_path):
    """Many programs, each refused: the file size limit stands for the disk."""
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
    (tmp_path / "program.py").write_text(limit + PROGRAM)
    environment = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    done = forks.run(tmp_path / "program.py", cwd=tmp_path, **environment)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert "File too large; not all is cached" in line


@pytest.fixture(scope="module")
def experiment():
    recipe = get_recipe("momentum_mlp_per_sample")
    recipe = override(recipe, dataset="digits", num_train=64, batch_size=32)
    return experiments.prepare(recipe, load_dataset("digits"))


@pytest.fixture
def memory(tmp_path, monkeypatch):
    monkeypatch.setattr(advice_cache, "cache_folder", lambda: tmp_path)
    return tmp_path / "advice.json"


class Advisor:
    """Counts how often it is asked, and always says the same."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, _) -> advice.Advice:
        self.asked += 1
        spread = Spread(1.0, 1.0, 1.0, 1)
        tried = advice.Tried(advice.Candidate("jit"), spread, 1.0, 0.0)
        return advice.Advice((tried,), 8)


class NoCache(CompileCache):
    """A cache that is not switched on: other tests use JAX's."""

    def __init__(self) -> None:
        self.hits = self.misses = 0


def choose(experiment, advisor: Advisor) -> advice_cache.Choice:
    return advice_cache.choose(experiment, advise=advisor, cache=NoCache())


def test_advice_is_remembered(experiment, memory):
    advisor = Advisor()
    first, second = (choose(experiment, advisor) for _ in range(2))
    assert (advisor.asked, first) == (1, second)
    assert first.remembered.endswith(f"remembered in {memory}")


GOOD = {"strategy": "jit", "microbatch_size": None, "why": "x", "date": "2026-01-01"}
WRONG_ENTRIES = [
    *(None, 5, "jit", [], {}, {**GOOD, "strategy": "nosuch"}, {**GOOD, "why": None}),
    *({**GOOD, "date": 5}, {**GOOD, "microbatch_size": "8"}, {**GOOD, "strategy": []}),
    *({**GOOD, "microbatch_size": 0}, {**GOOD, "microbatch_size": 10**400}),
    *({**GOOD, "microbatch_size": True}, {k: GOOD[k] for k in ("strategy", "why")}),
]


@pytest.mark.parametrize("entry", WRONG_ENTRIES, ids=lambda entry: str(entry)[:60])
def test_a_damaged_entry_is_told_and_written_again(entry, experiment, memory):
    key = advice_cache.key_of(experiment)
    memory.write_text(json.dumps({"other": GOOD, key: entry}))
    advisor = Advisor()
    told = choose(experiment, advisor).remembered
    assert "what was there before was damaged and is left out" in told
    assert json.loads(memory.read_text()).keys() == {"other", key}
    assert "was damaged" not in choose(experiment, advisor).remembered
    assert advisor.asked == 1


def test_advice_that_nobody_would_try_here_is_asked_for_again(experiment, memory):
    key = advice_cache.key_of(experiment)
    memory.write_text(json.dumps({key: {**GOOD, "strategy": "pmap"}}))
    advisor = Advisor()
    assert choose(experiment, advisor).strategy == "jit"
    assert advisor.asked == 1


TEXTS = [
    b"",
    b"{",
    b"[1]",
    b"\xff\xfe",
    b"null",
    b"[" * 100_000,
    b'{"a": ' + b"9" * 9999,
]


@pytest.mark.parametrize("content", TEXTS, ids=lambda content: str(content[:9]))
def test_a_damaged_memory_is_told_and_written_again(content, experiment, memory):
    memory.write_bytes(content)
    advisor = Advisor()
    assert "was damaged" in choose(experiment, advisor).remembered
    assert "was damaged" not in choose(experiment, advisor).remembered
    assert advisor.asked == 1


def test_what_is_no_file_is_passed_over(experiment, memory):
    os.mkfifo(memory)
    assert "was damaged" in choose(experiment, Advisor()).remembered
    assert memory.is_file()
    memory.unlink()
    memory.mkdir()
    assert "cannot be written" in choose(experiment, Advisor()).remembered


@settings(
    max_examples=20_000 if os.environ.get("CNNJAX_SOAK") else 500,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.function_scoped_fixture),
)
@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*GOOD, "key", ""]), inner, max_size=4)
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_memory_is_read_or_left_out(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    (folder / "advice.json").write_bytes(content)
    known, _ = advice_cache._read(folder)
    for entry in known.values():
        assert entry.keys() >= GOOD.keys()


def test_two_at_once_lose_nothing(tmp_path):
    names = [f"key {n}" for n in range(12)]
    threads = [
        threading.Thread(target=advice_cache._remember, args=(tmp_path, name, GOOD))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.loads((tmp_path / "advice.json").read_text()).keys() == set(names)
