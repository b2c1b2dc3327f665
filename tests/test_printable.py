"""What a name says is shown: a terminal obeys nothing that is written here."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hostile import obeyed
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.base.errors import InputError, expect, shown, unknown_name
from cnnjax.base.printable import one_line, printable, printable_values, without_home
from cnnjax.telling.layout import command, flow, row, wrap

SCRIPTS = Path(__file__).parent.parent / "scripts"
# Clear the screen, set the title, ring, hide what came before, go from right to left.
EVIL = "\x1b[2J\x1b]0;x\x07a\rb\x9b31m\u202ec\u2066\u2028d\x00\x7f\udcff\u200b"
texts = st.text(st.characters(codec=None), max_size=30)


@given(texts)
def test_no_text_has_anything_that_is_obeyed(text):
    assert not obeyed(printable(text))
    assert "\n" not in printable(text) + one_line(text) + shown(text)
    assert printable(printable(text)) == printable(text)  # it may be told twice
    if not obeyed(text) and "\n" not in text:
        assert printable(text) == text


@given(texts)
def test_every_message_and_layout_is_printable(text):
    told = [
        str(InputError(text)),
        str(unknown_name("recipe", text, ["a"])),
        wrap(f"a {text}"),
        flow([text, text]),
        row([text, text], [3, 3]),
        command(["a", text]),
    ]
    with pytest.raises(InputError) as caught:
        expect(f"this {text}", text, False)
    for one in [*told, str(caught.value)]:
        assert not obeyed(one)
        one.encode()  # no lone surrogate


def test_an_error_can_be_sent_to_another_process():
    error = pickle.loads(pickle.dumps(InputError("a\x1bb")))
    assert isinstance(error, InputError)
    assert str(error) == r"a\x1bb"


def test_names_and_texts_of_json_are_shown():
    told = printable_values({EVIL: [EVIL, 1, {"a": EVIL}], "b": None})
    assert not obeyed(repr(told))
    assert next(iter(told.values()))[1] == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("--xla_dump_to=/home/eve/x --b", "--xla_dump_to=~/x --b"),
        ("cannot read '/home/eve'", "cannot read '~'"),
        ("/home/evelyn/x", "/home/evelyn/x"),
        ("/mnt/home/eve/x", "/mnt/home/eve/x"),
        ("", ""),
    ],
)
def test_a_home_folder_is_left_out(text, told, monkeypatch):
    monkeypatch.setenv("HOME", "/home/eve")
    assert without_home(text) == told
    monkeypatch.setenv("HOME", "/")
    assert without_home(text) == text


# Each script with a name of the user's in its message: of a file, a flag, a value.
CALLS = [
    ("train", ["--recipe=\x1b[2J\u202e"]),
    ("train", ["--dataset=\x1b[2J\u202e"]),
    ("train", ["--\x1b[2J\u202e=1"]),
    ("train", ["--epochs=\x1b[2J\u202e"]),
    ("train", ["--data_dir=\x1b[2J\u202e", "--dataset=mnist"]),
    ("train", ["--workdir=~nosuchuser\x1b[2J\u202e"]),
    ("train", ["\x1b[2J\u202e"]),
    ("compare_runs", ["\x1b[2J\u202e", "."]),
    ("compare_strategies", ["--strategy=\x1b[2J\u202e"]),
    ("reproduce", ["--systems=\x1b[2J\u202e", "--data_dir=."]),
    ("reproduce", ["--workdir=\x1b[2J\u202e", "--report_only"]),
    ("recipes", ["--systems=\x1b[2J\u202e"]),
    ("launch_local", ["--", "\x1b[2J\u202e"]),
    ("prepare_tfds", ["--dataset=\x1b[2J\u202e", "--data_dir=.", "--output_dir=x"]),
]


@pytest.mark.parametrize(("script", "flags"), CALLS)
def test_a_terminal_obeys_no_script(script, flags, forks, tmp_path):
    done = forks.run(SCRIPTS / f"{script}.py", *flags, cwd=tmp_path)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert not obeyed(done.stdout + done.stderr)
