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


def test_what_a_killed_program_has_left_is_removed_by_the_next(tmp_path):
    """Mistake: a run killed while it tidied up is finished, and keeps its checkpoints.

    `make soak` found it, at change 353 of 354.
    """
    left = tmp_path / "checkpoints.0a1b2c3d.partial"
    (left / "0000000-ended").mkdir(parents=True)
    with alone_in(tmp_path):
        assert not left.exists()
        left.mkdir()  # now the holder's own
        with pytest.raises(InputError, match="is using"), alone_in(tmp_path):
            pass
        assert left.exists()
