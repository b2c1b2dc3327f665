"""One reproduce.py at a time works in a folder."""

from __future__ import annotations

import errno

import pytest

from cnnjax.base.errors import InputError
from cnnjax.results.lock import alone_in


def test_nobody_else_works_in_the_same_folder(tmp_path):
    with (
        alone_in(tmp_path),
        pytest.raises(InputError, match=r"process \d+ on .* is using"),
        alone_in(tmp_path),
    ):
        pass
    with alone_in(tmp_path):
        pass


def test_a_folder_that_cannot_be_locked_is_told_as_that(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    complaint = "cannot lock .*: No locks available; choose another --workdir"
    with pytest.raises(InputError, match=complaint), alone_in(tmp_path):
        pass
