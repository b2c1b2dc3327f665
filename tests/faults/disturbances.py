"""What is done to runs, and the promise that is checked after each.

Each function disturbs one course once and returns; it raises AssertionError if the
promise does not hold.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from harness import (
    LAUNCH,
    MOST_STARTS,
    QUICKLY,
    ROOT,
    Course,
    Ended,
    end_of,
    files_of,
    flip,
    goes_on_from,
    start,
    truncate,
    wait_for,
)

KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # and as the launcher passes it on
ENDS_WITHIN = 30  # seconds, of the other processes when one is lost
ASKING = {signal.SIGTERM: 143, signal.SIGINT: 130}


def kill_at_change(course: Course, change: int) -> bool:
    """Kill the program before a change; the command again must end as ever.

    Return whether it was killed: the last changes are not made in every run.
    """
    workdir = f"killed_at_{change}"
    status = course.killed_at(change, workdir).status
    assert status in (*KILLED, 0), status
    course.check(workdir)
    return status != 0


def fill_the_disk(course: Course, change: int) -> bool:
    """Fill the disk before a change; the program must say so in one line.

    With room again, the command must end as ever. Return whether it was refused.
    """
    return _refuse(course, "full", "No space left on device", change)


def refuse_large_files(course: Course, change: int) -> bool:
    """Let the system refuse larger files after a change, those of C++ as well."""
    return _refuse(course, "limit", "File too large", change)


def _refuse(course: Course, mode: str, reason: str, change: int) -> bool:
    workdir = f"{mode}_from_{change}"
    ended = course.full_from(change, workdir, mode)
    if ended.status != 0:
        assert ended.status == 2, (change, ended.err)
        assert len(ended.err.splitlines()) == 1, (change, ended.err)
        assert reason in ended.err, (change, ended.err)
    course.check(workdir)
    return ended.status != 0


def move_the_folder(course: Course, change: int) -> bool:
    """Move the folder before a change; the program must say so in one line.

    Nothing may be written in its place but a whole checkpoint, and the command must go
    on in the folder that was moved, and end as ever. Return whether it was told.
    """
    workdir = f"moved_at_{change}"
    ended = course.moved_at(change, workdir)
    moved = course.folder / f"{workdir}.moved"
    if moved.exists() and ended.status == 0:  # nothing was to be written any more
        assert (moved / "result.json").exists(), (change, ended.out)
    if ended.status != 0:
        assert ended.status == 2, (change, ended.err)
        assert len(ended.err.splitlines()) == 1, (change, ended.err)
        told = ("was removed, moved or replaced", "No such file or directory")
        assert any(text in ended.err for text in told), (change, ended.err)
        left = {path.name for path in (course.folder / workdir).glob("*")}
        assert left <= {"checkpoints"}, (change, left)
    course.check(f"{workdir}.moved" if moved.exists() else workdir)
    return ended.status != 0


def kill_again_and_again(course: Course, rng: random.Random, number: int) -> int:
    """Kill the program at random moments of several starts; return how many it took."""
    workdir, kills = f"killed_{number}", 0
    longest = wait_for(start(course.argv(f"{workdir}_timed"), course.folder)).seconds
    while kills < MOST_STARTS:
        running = start(course.argv(workdir), course.folder)
        try:
            running.wait(rng.uniform(0.3, 1.1) * longest)
        except subprocess.TimeoutExpired:
            running.kill()
        ended = wait_for(running)
        if ended.status == 0:
            break
        assert ended.status == -signal.SIGKILL, ended.err
        assert ended.err == "", ended.err
        kills += 1
        if kills % 5 == 0:
            break
    course.check(workdir)
    return kills


def stop_by_signal(course: Course, rng: random.Random, number: int) -> int:
    """Ask the program to stop at a random moment; return 1, or 0 if it had ended."""
    workdir = f"stopped_{number}"
    asking = rng.choice(list(ASKING))
    running = start(course.argv(workdir), course.folder)
    try:
        running.wait(rng.uniform(0.2, 9.0))
    except subprocess.TimeoutExpired:
        running.send_signal(asking)
    ended = wait_for(running)
    if ended.status != 0:
        check_stopped(ended, asking)
    course.check(workdir)
    return int(ended.status != 0)


def check_stopped(ended: Ended, asking: signal.Signals) -> None:
    """Check the exit status, and that at most one line says so."""
    # Before its first line runs, Python itself ends: by the signal, or by a traceback.
    early = ended.status == -asking or "KeyboardInterrupt" in ended.err
    if early and "scripts/_script.py" not in ended.err:
        return
    assert ended.status == ASKING[asking], (ended.status, ended.err)
    lines = ended.err.splitlines()
    assert len(lines) <= 1, ended.err
    assert all(f"stopped by {asking.name}" in line for line in lines), ended.err


def damage(course: Course, unfinished: str, rng: random.Random, kind: str) -> str:
    """Damage one file of an unfinished run; return how that was dealt with.

    The run must end as ever, or say in one line which file is to blame.
    """
    workdir = f"damaged_{kind}_{rng.getrandbits(64):x}"
    folder = course.copy(unfinished, workdir)
    files = [path for path in files_of(folder) if path.stat().st_size]
    path = rng.choice(files)
    what = (flip if kind == "flip" else truncate)(path, rng)
    ended = course.train(workdir)
    dealt = _dealt_with(course, folder, path, what, ended)
    shutil.rmtree(folder)
    return dealt


def _dealt_with(
    course: Course, folder: Path, path: Path, what: str, ended: Ended
) -> str:
    name = path.relative_to(folder).as_posix()
    if ended.status == 2:
        assert len(ended.err.splitlines()) == 1, (what, ended.err)
        assert path.name in ended.err or path.parts[-2] in ended.err, (what, ended.err)
        return "refused, and named"
    assert (ended.status, ended.err) == (0, ""), (what, ended.err)
    named = "passed over" in " ".join(ended.out.split())
    finished = "is finished" in ended.out  # then its results count, not its checkpoint
    got = end_of(folder, with_state=not (named and finished))
    assert got == {part: course.expected[part] for part in got}, what
    if name.startswith("checkpoints/") and named:
        return "passed over, and named"
    return "made again, and named" if path.name in ended.out else "harmless"


def lose_a_process(course: Course, rng: random.Random, number: int) -> float | None:
    """Kill one of two processes; return within how many seconds the other ended.

    None: the run had ended before. The same command again must end as ever.
    """
    workdir = f"lost_{number}"
    argv = [str(LAUNCH), "--heartbeat_seconds=10", "--", *course.argv(workdir)]
    running = start(argv, course.folder, QUICKLY)
    time.sleep(rng.uniform(0.5, 14.0))
    victim = rng.choice(children_of(running.pid) or [None])
    begun = time.monotonic()
    if victim is not None:
        os.kill(victim, signal.SIGKILL)
    ended = wait_for(running)
    took = time.monotonic() - begun
    if victim is not None and ended.status != 0:
        assert took < ENDS_WITHIN, took
        assert ended.err, "nothing was said"
    from_where = goes_on_from(course.folder / workdir)
    again = wait_for(start(argv, course.folder, QUICKLY))
    assert again.status == 0, again.err
    assert from_where in " ".join(again.out.split()), (from_where, again.out)
    assert end_of(course.folder / workdir) == course.expected, workdir
    return took if victim is not None and ended.status != 0 else None


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    found = path.read_text().split() if path.exists() else []
    return [int(one) for one in found if str(ROOT) in _command(int(one))]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
