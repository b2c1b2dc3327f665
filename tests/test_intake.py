"""What stands where a file of results should be: a pipe, a device, gigabytes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import results
from test_compare_runs import HIGH, write_predictions, write_run

from cnnjax.base.errors import InputError
from cnnjax.base.intake import read_bytes, read_text
from cnnjax.results import fields
from cnnjax.results.outcomes import predictions_of, read_outcome
from cnnjax.studies.reporting.page import page_of


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def huge(path: Path) -> None:
    with path.open("wb") as file:
        os.truncate(file.fileno(), 2**40)  # takes no room


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def gone(path: Path) -> None:
    path.symlink_to("nowhere")


def endless(path: Path) -> None:
    path.symlink_to("/proc/self/mem")


STANDING = {
    pipe: "expected a file, got a pipe: ",
    device: "expected a file, got a device: ",
    folder: "expected a file, got a folder: ",
    huge: "expected at most 64 MiB; it is larger",
    bound: "cannot read ",
    circle: "cannot read .*Too many levels",
    gone: "cannot read .*No such file",
    endless: "cannot read ",
}


@pytest.mark.parametrize("stand", STANDING, ids=lambda stand: stand.__name__)
def test_what_is_no_file_is_told(stand, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    stand(Path("x"))
    with pytest.raises(InputError, match=STANDING[stand]) as caught:
        read_bytes(Path("x"))
    assert "\n" not in str(caught.value)


READ = {
    "result.json": (fields.read_result, read_outcome),
    "config.json": (fields.read_config, read_outcome),
    "seeds.jsonl": (read_outcome,),
    "metrics.jsonl": (fields.read_epochs,),
    "predictions.csv": (lambda run: predictions_of(read_outcome(run)),),
}


@pytest.mark.parametrize("file", READ)
@pytest.mark.parametrize(
    "stand", [pipe, device, folder, huge], ids=lambda s: s.__name__
)
def test_no_reader_of_a_run_waits_or_fills_the_memory(file, stand, tmp_path):
    seeds = HIGH if file == "seeds.jsonl" else {0: 0.5}
    run = write_run(tmp_path / "run", seeds)
    write_predictions(run, [0, 1], [0, 0])
    path = tmp_path / "run" / file
    path.unlink(missing_ok=True)
    stand(path)
    for read in READ[file]:
        with pytest.raises(InputError, match=STANDING[stand]):
            read(tmp_path / "run" if read in vars(fields).values() else run)


@pytest.mark.parametrize(
    "stand", [pipe, device, folder, huge], ids=lambda s: s.__name__
)
def test_nor_one_of_rows_or_pictures(stand, tmp_path):
    stand(tmp_path / "x.png")
    with pytest.raises(InputError, match=STANDING[stand]):
        results.read(tmp_path / "x.png", benchmarks=("law",))
    with pytest.raises(InputError, match=STANDING[stand]):
        page_of("![x](x.png)", folder=tmp_path, title="x")


def test_rows_are_not_written_into_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "x")
    with pytest.raises(InputError, match="cannot write"):
        results.Results(str(tmp_path / "x"))


def test_the_null_device_is_an_empty_file():
    assert read_bytes(Path(os.devnull)) == b""


def test_a_name_that_is_none_is_told():
    for name in ("a\0b", "a" * 5000, "\udcff"):
        with pytest.raises(InputError, match="cannot read"):
            read_text(Path(name))


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is open to root")
def test_a_file_that_is_closed_is_told(tmp_path):
    (tmp_path / "x").write_text("{}")
    (tmp_path / "x").chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        read_text(tmp_path / "x")


def test_one_object_is_bounded(tmp_path):
    path = tmp_path / "result.json"
    path.write_text('{"a": [' + "[]," * 2_000_000 + "[]]}")
    with pytest.raises(InputError, match="at most 4,194,304 characters"):
        fields.read_result(tmp_path)
    names = ", ".join(f'"{n}": 1' for n in range(200_000))
    path.write_text(f"{{{names}}}")
    assert len(fields.read_result(tmp_path)) == 200_000  # in a moment
