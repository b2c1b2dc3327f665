"""One program at a time works in a folder, and only as long as it is the same one."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest

from cnnjax.base.errors import InputError
from cnnjax.results.checkpoints import Snapshot, Store
from cnnjax.results.lock import FILE, alone_in
from cnnjax.results.workdir import CHECKPOINTS, open_workdir


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


def removed(folder: Path) -> None:
    shutil.rmtree(folder)


def moved(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def replaced(folder: Path) -> None:
    moved(folder)
    shutil.copytree(folder.with_name("moved"), folder)


def unlocked(folder: Path) -> None:
    (folder / FILE).unlink()


def locked_anew(folder: Path) -> None:
    unlocked(folder)
    (folder / FILE).touch()


@pytest.mark.parametrize("inside", ["", "one_of_many"])
@pytest.mark.parametrize("change", [removed, moved, replaced, unlocked, locked_anew])
def test_nothing_is_written_into_a_folder_that_is_no_longer_ours(
    change, inside, tmp_path
):
    """Mistake: a save makes a removed folder again, and the run ends without config."""
    folder = tmp_path / "w" / inside
    run = open_workdir(str(folder))
    store = Store(folder / CHECKPOINTS)
    snapshot = Snapshot({"a": np.ones(3)}, {})
    complaint = "w was removed, moved or replaced while .* was using it; start again"
    with alone_in(tmp_path / "w"):
        run.start({}, room=0)
        run.append_lines("steps.csv", ["1"])
        store.save("0000000-000000001-000000000", snapshot)
        store.wait()
        change(tmp_path / "w")
        before = contents(tmp_path)
        for write in (
            lambda: run.start({}, room=0),
            lambda: run.restart({}),
            lambda: run.append_lines("steps.csv", ["2"]),
            lambda: run.append_json_lines("metrics.jsonl", [{}]),
            lambda: run.write_params({"dense": {"bias": np.ones(3)}}),
            lambda: run.write_json("config.json", {}),
        ):
            with pytest.raises(InputError, match=complaint):
                write()
        store.save("0000000-000000002-000000000", snapshot)
        with pytest.raises(InputError, match=complaint):
            store.wait()
        assert contents(tmp_path) == before
    with alone_in(tmp_path / "w"):
        open_workdir(str(folder)).start({}, room=0)


def test_who_is_refused_takes_nothing_from_who_holds_it(tmp_path):
    """Mistake: a second lock that is refused makes the first forget its folder."""
    run = open_workdir(str(tmp_path / "w"))
    with alone_in(tmp_path / "w"):
        run.start({}, room=0)
        with pytest.raises(InputError, match="is using"), alone_in(tmp_path / "w"):
            pass
        removed(tmp_path / "w")
        with pytest.raises(InputError, match="was removed, moved or replaced"):
            run.start({}, room=0)


def test_a_folder_that_vanishes_within_a_save_is_told(tmp_path, monkeypatch):
    """Orbax makes it again; then it lacks all else."""
    from cnnjax.results.checkpoints import manifest

    write = manifest.write

    def vanish(path, snapshot):
        shutil.rmtree(tmp_path / "w")
        path.mkdir(parents=True)
        write(path, snapshot)

    monkeypatch.setattr(manifest, "write", vanish)
    with alone_in(tmp_path / "w"):
        store = Store(tmp_path / "w" / CHECKPOINTS)
        store.save("0000000-000000001-000000000", Snapshot({"a": np.ones(3)}, {}))
        with pytest.raises(InputError, match="w was removed, moved or replaced"):
            store.wait()


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl"])
def test_a_run_without_its_own_files_is_not_finished(name, tmp_path):
    """Mistake: what somebody removed is missing in a run that counts as finished."""
    run = open_workdir(str(tmp_path))
    run.start({}, room=0)
    run.append_json_lines("metrics.jsonl", [{"epoch": 1}])
    (tmp_path / name).unlink()
    if name == "metrics.jsonl":
        with pytest.raises(InputError, match="cannot write .*metrics.jsonl"):
            run.append_json_lines("metrics.jsonl", [{"epoch": 2}])
    with pytest.raises(InputError, match=rf"{name} was removed while the run was"):
        run.write_result({})
    assert not (tmp_path / "result.json").exists()
    run.restart({})
    run.write_result({})


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
