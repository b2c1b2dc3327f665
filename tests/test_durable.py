"""Files are whole or not there, and nobody's link is written through."""

from __future__ import annotations

import errno
import os

import pytest

from cnnjax.base import durable


@pytest.fixture
def same_name(monkeypatch):
    monkeypatch.setattr(durable.secrets, "token_hex", lambda _: "known")
    return "result.json.known.partial"


def test_a_planted_name_is_never_written_through(tmp_path, same_name):
    target = tmp_path / "precious"
    target.write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / same_name).symlink_to(target)
    with pytest.raises(FileExistsError):
        durable.write_bytes(folder / "result.json", b"ours")
    (folder / "metrics.jsonl").symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        durable.append_bytes(folder / "metrics.jsonl", b"ours")
    assert target.read_text() == "mine"
    durable.write_bytes(
        folder / "metrics.jsonl", b"ours"
    )  # the link itself is replaced
    assert (target.read_text(), (folder / "metrics.jsonl").read_text()) == (
        "mine",
        "ours",
    )


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_what_the_system_refuses_leaves_what_was_there(tmp_path, monkeypatch, step):
    path = tmp_path / "result.json"
    durable.write_bytes(path, b"before")

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(durable.os, step, refuse)
    with pytest.raises(OSError, match="No space"):
        durable.write_bytes(path, b"after")
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["result.json"]
    if step == "fsync":
        with pytest.raises(OSError, match="No space"):
            durable.append_bytes(path, b"half a line")
        assert path.read_bytes() == b"before"


def test_unfinished_files_are_swept_and_nobody_elses(tmp_path):
    """Mistake: every "*.partial" goes, a film that is being copied for example."""
    aside = durable.aside_of(tmp_path / "result.json").name
    others = ["config.json", "film.partial", "notes.0a1b2c3d.partial.txt"]
    for name in (aside, *others):
        (tmp_path / name).write_text("")
    durable.sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == others
    durable.sweep(tmp_path / "absent")


def test_new_files_have_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_text("")
    durable.write_bytes(tmp_path / "ours", b"")
    durable.append_bytes(tmp_path / "log", b"")
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1
