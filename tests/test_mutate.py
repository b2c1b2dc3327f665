"""The script that tries mutants: its verdicts on a toy tree, and its list on ours."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from mutants import MUTANTS, Mutant
from mutate import Laboratory, try_all

ROOT = Path(__file__).parent.parent
LIKELY, OTHER = "tests/test_sum.py", "tests/test_other.py"
TESTS = {
    LIKELY: "from toy import add\n\ndef test_sum():\n    assert add(1, 2) == 3\n",
    OTHER: "from toy import add\n\ndef test_zero():\n    assert add(0, 0) == 0\n",
    "tests/test_mutate.py": "def test_that_is_left_out():\n    raise SystemExit\n",
}


def mutant(name: str, old: str, new: str, *, what: str = "a fault") -> Mutant:
    return Mutant(name, what, "toy.py", old, new, (LIKELY,))


TOY = (
    mutant("minus", "a + b", "a - b"),
    mutant("one_more", "a + b", "a + b + (a == 0)"),
    mutant("no_matter", "a + b", "b + a", what="The sum is turned round."),
    mutant("gone", "a * b", "a + b"),
    mutant("broken", "def add", "def ad"),
    mutant("endless", "return", "while True: pass\n    return"),
)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Return a laboratory for a library of one function and three tests."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take a second
    tree, scratch = tmp_path / "toy", tmp_path / "scratch"
    (tree / "tests").mkdir(parents=True)
    scratch.mkdir()
    (tree / "toy.py").write_text("def add(a, b):\n    return a + b\n")
    (tree / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers=['slow']")
    for name, text in TESTS.items():
        (tree / name).write_text(text)
    return Laboratory(
        tree=tree,
        scratch=scratch,
        timeout=200,
        only_likely=False,
        stop=threading.Event(),
    )


def test_each_mutant_has_its_verdict_and_nothing_is_left_behind(lab, capsys):
    assert try_all(TOY[:5], lab, workers=3) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert sorted(line.rstrip() for line in lines) == [
        "ERROR   broken: pytest ended with 2: ERROR tests/test_sum.py",
        "ERROR   gone: toy.py has its text 0 times, expected once",
        "LIVES   no_matter: The sum is turned round.",
        "caught  minus: tests/test_sum.py::test_sum",
        "caught  one_more: tests/test_other.py::test_zero",
    ]
    assert last == "2 of 5 mutants are caught"
    assert (lab.tree / "toy.py").read_text() == "def add(a, b):\n    return a + b\n"
    assert list(lab.scratch.iterdir()) == []


def test_the_status_is_0_where_all_are_caught(lab, capsys):
    assert try_all(TOY[:1], lab, workers=1) == 0
    assert capsys.readouterr().out.endswith("1 of 1 mutants are caught\n")


def test_a_test_that_fails_on_the_right_tree_catches_nothing(lab):
    """One of the rest, which do not all go through the right tree first."""
    broken = "tests/test_broken.py"
    (lab.tree / broken).write_text(
        "import pytest\n\n@pytest.mark.parametrize('at', ['a b', 'c'])\n"
        "def test_broken(at):\n    assert at is None\n"
    )
    assert [lab.judge(one).status for one in TOY[:3]] == ["caught", "caught", "LIVES"]
    assert lab.passes == {
        f"{broken}::test_broken[a b]": False,
        f"{broken}::test_broken[c]": False,
        f"{OTHER}::test_zero": True,
    }


def test_a_test_that_does_not_end_and_a_tree_that_fails_are_told(lab, capsys):
    def with_limit(seconds: float) -> Laboratory:
        return Laboratory(**{**vars(lab), "timeout": seconds, "only_likely": True})

    assert str(with_limit(3).judge(TOY[-1])) == (
        "ERROR   endless: the tests did not end in time"
    )
    (lab.tree / "toy.py").write_text("def add(a, b):\n    return a + b + 1\n")
    assert try_all(TOY[:1], with_limit(200), workers=1) == 1
    assert capsys.readouterr().out == (
        f"ERROR   the tests fail on the right tree: {LIKELY}::test_sum\n"
    )


def test_every_mutant_of_the_list_is_still_there():
    """It must not go stale unseen: a text that is gone would never be tried."""
    for mutant in MUTANTS:
        text = (ROOT / mutant.file).read_text()
        assert text.count(mutant.old) == 1, mutant.name
        compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")
        assert all((ROOT / path).exists() for path in mutant.likely), mutant.name
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
