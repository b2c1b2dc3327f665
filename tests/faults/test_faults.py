"""A run that is killed or damaged ends in the bits of a run that never was."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from disturbances import (
    damage,
    fill_the_disk,
    kill_at_change,
    lose_a_process,
    move_the_folder,
    refuse_large_files,
    stop_by_signal,
)
from harness import COURSES, Course, Ended, from_shell, start, wait_for
from soak import TOGETHER, launched

KILLS = 3  # of one course, spread over its changes; `make soak` takes every one
pytestmark = pytest.mark.xdist_group("faults")  # they share undisturbed runs


@pytest.fixture(scope="module")
def course_of(forks, tmp_path_factory):
    """Make a course whose runs need not import the libraries again."""
    courses = {}

    def run(argv, cwd):
        done = forks.run(Path(argv[0]), *argv[1:], cwd=cwd, COLUMNS="80")
        return Ended(done.returncode, done.stdout, done.stderr, 0.0)

    def course_of(name: str) -> Course:
        if name not in courses:
            folder = tmp_path_factory.mktemp(name)
            courses[name] = Course(name, COURSES[name], folder, run)
        return courses[name]

    return course_of


@pytest.mark.parametrize(
    "name",
    [
        "factored",
        "seeds_in_groups",
        pytest.param("shard_map", marks=pytest.mark.slow),
        pytest.param("jit", marks=pytest.mark.slow),
        pytest.param("vmap", marks=pytest.mark.slow),
        pytest.param("seeds", marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_change_it_goes_on_to_the_same_bits(name, course_of):
    course = course_of(name)
    changes = course.changes()
    assert changes > 100
    places = [changes * (index + 1) // (KILLS + 1) for index in range(KILLS)]
    assert [kill_at_change(course, place) for place in places] == [True] * KILLS


def test_a_disk_that_fills_up_at_any_change_is_told_in_a_line(course_of):
    course = course_of("factored")
    changes = course.changes()
    places = [1 + index * (changes - 3) // 2 for index in range(3)]
    assert [fill_the_disk(course, place) for place in places][:-1] == [True] * 2


def test_what_the_system_refuses_at_any_change_is_told_in_a_line(course_of):
    """Also what C++ writes: a change of the folder is only what Python does there."""
    course = course_of("factored")
    assert refuse_large_files(course, course.changes() // 2)


def test_a_folder_that_is_moved_at_any_change_goes_on_where_it_is(course_of):
    course = course_of("factored")
    assert move_the_folder(course, course.changes() * 2 // 3)


@pytest.mark.parametrize("kind", ["flip", "truncation"])
def test_damaged_files_are_named_or_harmless(kind, course_of):
    course, rng = course_of("factored"), random.Random(0)
    changes = course.changes()
    assert course.killed_at(changes // 2, f"unfinished_{kind}").status == -9, changes
    for _ in range(3):
        damage(course, f"unfinished_{kind}", rng, kind)


@pytest.mark.slow
def test_a_signal_stops_it_in_one_line(tmp_path):
    course = Course("jit", COURSES["jit"], tmp_path, from_shell)
    assert sum(stop_by_signal(course, random.Random(i), i) for i in range(4)) > 0


@pytest.mark.slow
def test_a_lost_process_ends_the_other_and_both_go_on(tmp_path):
    course = Course("processes", TOGETHER, tmp_path, launched)
    took = [lose_a_process(course, random.Random(i), i) for i in range(3)]
    assert any(seconds is not None for seconds in took)


def test_two_programs_do_not_share_a_folder(tmp_path):
    """Both start at once; the second says who is first, and changes nothing."""
    course = Course("jit", COURSES["jit"], tmp_path, from_shell)
    started = [start(course.argv("shared"), tmp_path) for _ in range(2)]
    ended = sorted(map(wait_for, started), key=lambda one: one.status)
    assert [one.status for one in ended] == [0, 2], ended
    assert "train.py (process " in ended[1].err
    assert " is using shared; wait for it, end it, or choose another" in ended[1].err
    assert len(ended[1].err.splitlines()) == 1
    course.check("shared")
