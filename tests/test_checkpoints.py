"""Checkpoints: the known ways to fail, each with a test that would catch it.

A `Snapshot` made by hand stands for a state wherever what is in it does not matter.
"""

from __future__ import annotations

import errno
import functools
import gc
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from batches import TINY, random_dataset

from cnnjax.base import digests
from cnnjax.base.clock import Clock
from cnnjax.base.errors import InputError
from cnnjax.base.signals import Stop, StoppedError
from cnnjax.experiments.ended import keys_of_group, state_like
from cnnjax.experiments.ensembles import SeedCallbacks, run_seeds
from cnnjax.experiments.experiment import Experiment, prepare
from cnnjax.experiments.groups import compile_group
from cnnjax.experiments.overrides import override
from cnnjax.experiments.runs import Run, run, run_group
from cnnjax.results.checkpoints import Snapshot, Store, keeper, manifest, restore, take
from cnnjax.results.checkpoints.keeper import Keeper
from cnnjax.results.checkpoints.manifest import DamagedError
from cnnjax.results.checkpoints.policy import Every
from cnnjax.results.checkpoints.store import name_of, name_of_ended
from cnnjax.training.loop import LoopKeys, LoopState
from cnnjax.training.updates import Updates

# 25 updates of an epoch, the last of a single example; two by two in a call.
DATASET = random_dataset(TINY, train=49, test=23)
STEPS = 25


class Trained(NamedTuple):
    """Training that was never stopped, and what was saved meanwhile."""

    group: list[Experiment]
    updates: Updates
    keys: LoopKeys
    ended: list[Run]
    taken: dict[str, Snapshot]  # after every call, by name
    digests: dict[str, str]  # of these, when they were taken
    positions: list[tuple[int, int, list[int]]]  # epoch, update, state.step of each run
    store: Store  # some of these, saved while training went on


def recipe_of(algorithm: str):
    return override(
        TINY,
        algorithm=algorithm,
        learning_rate=0.01,
        strategy="jit",
        batch_size=2,
        epochs=2,
        schedule="cosine",
    )


@functools.cache
def trained(folder: Path, algorithm: str, seeds: tuple[int, ...]) -> Trained:
    group = [prepare(recipe_of(algorithm), DATASET, seed=seed) for seed in seeds]
    updates, keys = compile_group(group), keys_of_group(group)
    store = Store(folder / f"{algorithm}-{len(seeds)}", keep=1000)
    found = Trained(group, updates, keys, [], {}, {}, [], store)
    before: list[LoopState] = []

    def on_state(at: LoopState) -> None:
        for old in before[-1:] if at.update else ():
            # The next call has deleted the state before: a late copy would fail.
            assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old.state))
        before.append(at)
        name = name_of(0, at.epoch, at.update)
        found.taken[name] = take(at, keys)
        found.digests[name] = digest(found.taken[name])
        done = np.atleast_1d(np.asarray(at.state.step)).tolist()
        found.positions.append((at.epoch, at.update, done))
        if at.update in (0, 8, STEPS):
            store.save(name, found.taken[name])  # and go on, without waiting

    ended = run_group(group, updates, clock=Clock(), on_state=on_state)
    store.wait()
    return found._replace(ended=ended)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    yield tmp_path_factory.mktemp("trained")
    trained.cache_clear()


def digest(snapshot: Snapshot) -> str:
    parts = hashlib.sha256(json.dumps(snapshot.facts, sort_keys=True).encode())
    for name, array in sorted(snapshot.arrays.items()):
        parts.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return parts.hexdigest()


def timeless(records) -> list:
    return [(r.epoch, r.step, r.learning_rate, dict(r.train), r.test) for r in records]


def assert_same_bits(mine: Run, own: Run) -> None:
    jax.tree.map(np.testing.assert_array_equal, mine.params, own.params)
    assert timeless(mine.records) == timeless(own.records)
    assert mine.test == own.test
    for one, other in zip(mine.records, own.records, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one.steps, other.steps)


KINDS = [("sgd", (0,)), ("adam", (0, 1))]
each_kind = pytest.mark.parametrize(("algorithm", "seeds"), KINDS)
PLACES = [name_of(0, 0, 8), name_of(0, 0, STEPS), name_of(0, 1, 0), name_of(0, 1, 8)]


# -- what is in a checkpoint ---------------------------------------------------------


@each_kind
def test_every_state_says_how_many_updates_were_made(folder, algorithm, seeds):
    """Mistake: a save before its counter moves, so that a batch is trained twice."""
    found = trained(folder, algorithm, seeds)
    assert len(found.positions) == 2 * (13 + 1)
    for epoch, update, steps in found.positions:
        assert steps == [epoch * STEPS + update] * len(seeds)
    for name, taken in found.taken.items():
        assert name == name_of(0, taken.facts["epoch"], taken.facts["update"])
        counts = [a for n, a in taken.arrays.items() if n.endswith("/count")]
        assert counts, "the optimizer counts, too"
        for count in (*counts, taken.arrays["state/step"]):
            at = taken.facts["epoch"] * STEPS + taken.facts["update"]
            assert np.array_equal(np.atleast_1d(count), [at] * len(seeds))


@each_kind
def test_a_state_comes_back_from_the_disk_bit_for_bit(folder, algorithm, seeds):
    """Mistakes: the epoch counter is lost, or an array; a type, a shape or a NaN."""
    found = trained(folder, algorithm, seeds)
    again = Store(found.store.folder)
    assert again.names() == [n for n in found.taken if n[18:] in SAVED]
    for name in again.names():
        got, taken = again.read(name), found.taken[name]
        assert got.arrays.keys() == taken.arrays.keys()
        for path, array in got.arrays.items():
            np.testing.assert_array_equal(array, taken.arrays[path])
            assert array.dtype == taken.arrays[path].dtype
        assert got.facts == {**taken.facts, "score": None}
        state = restore(got, like=state_like(found.group), keys=found.keys)
        assert (state.epoch, state.update) == (got.facts["epoch"], got.facts["update"])
        assert [len(own) for own in state.records] == [state.epoch] * len(seeds)
        for own, whole in zip(state.records, found.ended, strict=True):
            assert timeless(own) == timeless(whole.records[: state.epoch])
        steps = np.atleast_1d(np.asarray(state.state.step))
        assert set(steps.tolist()) == {state.epoch * STEPS + state.update}


SAVED = {f"{update:09d}" for update in (0, 8, STEPS)}


@each_kind
@pytest.mark.parametrize("place", PLACES)
def test_resumed_training_ends_in_the_same_bits(folder, algorithm, seeds, place):
    """Mistakes: momentum, dropout, order, schedule or counter are not continued."""
    found = trained(folder, algorithm, seeds)
    got = Store(found.store.folder).read(place)
    before = digest(got)
    state = restore(got, like=state_like(found.group), keys=found.keys)
    if len(seeds) == 1:
        (one,) = found.group
        ended = [run(one, updates=found.updates, resume=state)]
    else:
        ended = run_group(found.group, found.updates, clock=Clock(), resume=state)
    for mine, own in zip(ended, found.ended, strict=True):
        assert_same_bits(mine, own)
    assert digest(got) == before, "training has written into the restored arrays"


def test_the_arrays_of_a_snapshot_are_copies(folder):
    """Mistake: views of device memory, which the next update overwrites or deletes."""
    found = trained(folder, "sgd", (0,))
    for name, taken in found.taken.items():
        assert digest(taken) == found.digests[name], f"{name} has changed since"
        assert all(array.base is None for array in taken.arrays.values())
    kept: list[tuple[LoopState, Snapshot]] = []
    (one,) = found.group
    run(
        one,
        updates=found.updates,
        on_state=lambda at: kept.append((at, take(at, one.keys))),
    )
    at, taken = kept[-1]  # the last state is not deleted
    for leaf in jax.tree.leaves((at.state, at.steps)):
        theirs = np.asarray(leaf)
        assert not any(np.shares_memory(theirs, a) for a in taken.arrays.values())


def test_a_state_in_host_memory_is_copied_too(folder):
    """Mistake: `np.asarray`, which returns an array of the host as it is."""
    found = trained(folder, "sgd", (0,))
    name = PLACES[0]
    state = restore(found.taken[name], like=state_like(found.group), keys=found.keys)
    state = state._replace(state=jax.tree.map(np.array, state.state))
    taken = take(state, found.keys)
    for leaf in jax.tree.leaves(state.state):
        leaf[...] = 7
    assert digest(taken) == found.digests[name]


def test_resuming_from_memory_leaves_the_snapshot_as_it_was(folder):
    """Mistake: `device_put` without a copy, and then the donation of that memory."""
    found = trained(folder, "sgd", (0,))
    (one,) = found.group
    for name in PLACES:
        taken = found.taken[name]
        state = restore(taken, like=state_like(found.group), keys=found.keys)
        assert_same_bits(run(one, updates=found.updates, resume=state), found.ended[0])
        assert digest(taken) == found.digests[name]


def test_restored_arrays_are_read_only_and_their_own(folder):
    """Mistake: two reads share memory, or somebody can write into what was read."""
    found = trained(folder, "sgd", (0,))
    one, other = (found.store.read(PLACES[0]).arrays for _ in range(2))
    for name, array in one.items():
        assert not array.flags.writeable
        assert not any(np.shares_memory(array, own) for own in other.values())
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        own = [a for n, a in one.items() if n != name]
        assert not any(np.shares_memory(array, a) for a in own)


@each_kind
@pytest.mark.parametrize("which", ["order", "dropout"])
def test_the_generator_one_draw_off_is_refused(folder, algorithm, seeds, which):
    """Mistake: a state goes on with the random numbers of another seed."""
    found = trained(folder, algorithm, seeds)
    drawn = jax.random.split if len(seeds) == 1 else jax.vmap(jax.random.split)
    key = getattr(found.keys, which)
    other = drawn(key)[..., 0]
    keys = found.keys._replace(**{which: other})
    with pytest.raises(InputError, match=f"same seed and random keys.*keys/{which}"):
        restore(found.taken[PLACES[0]], like=state_like(found.group), keys=keys)


def test_the_state_of_another_network_or_optimizer_is_refused(folder):
    """Mistake: leaves are matched by their order, not by name, shape and type."""
    sgd, adam = trained(folder, "sgd", (0,)), prepare(recipe_of("adam"), DATASET)
    with pytest.raises(InputError, match="network and optimizer.*differs in state/opt"):
        restore(sgd.taken[PLACES[0]], like=state_like([adam]), keys=sgd.keys)
    taken = sgd.taken[PLACES[0]]
    name = "state/params/conv_0/bias"
    for wrong in (np.zeros(3, np.float32), np.zeros(4, np.float64)):
        arrays = {**taken.arrays, name: wrong}
        with pytest.raises(InputError, match=f"{name} of shape"):
            restore(
                Snapshot(arrays, taken.facts),
                like=state_like(sgd.group),
                keys=sgd.keys,
            )
    arrays = {n: a for n, a in taken.arrays.items() if n != name}
    with pytest.raises(InputError, match=f"differs in {name}"):
        restore(
            Snapshot(arrays, taken.facts), like=state_like(sgd.group), keys=sgd.keys
        )


def test_a_snapshot_travels_between_processes_as_bytes(folder):
    """Mistake: a type, a scalar or a fact is lost on the way from process 0."""
    taken = trained(folder, "adam", (0, 1)).taken[PLACES[3]]
    assert digest(keeper.from_bytes(keeper.to_bytes(taken))) == digest(taken)


def test_numbers_that_are_not_finite_come_back(tmp_path):
    """Mistake: a diverged run has no checkpoint, because NaN is no JSON."""
    facts = {"loss": float("nan"), "rate": float("inf"), "small": 5e-324}
    arrays = {"a": np.array([np.nan, -0.0, np.inf], np.float32)}
    store = Store(tmp_path / "c")
    store.save(name_of(0, 1, 0), Snapshot(arrays, facts))
    store.wait()
    got = store.read(name_of(0, 1, 0))
    assert got.arrays["a"].tobytes() == arrays["a"].tobytes()
    assert repr(got.facts) == repr({**facts, "score": None})


# -- damage --------------------------------------------------------------------------

OLDER, NEWER = name_of(0, 1, 0), name_of(0, 1, 20)


def made(epoch: int = 1, update: int = 0, **arrays: Any) -> Snapshot:
    """Return a small snapshot made by hand."""
    own = arrays or {"a/b": np.arange(300, dtype=np.float32), "c": np.array(7)}
    return Snapshot(own, {"epoch": epoch, "update": update})


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Return a folder with two good checkpoints; copy it before it is damaged."""
    store = Store(tmp_path_factory.mktemp("two") / "checkpoints")
    store.save(OLDER, made())
    store.save(NEWER, made(update=20))
    store.close()
    return store.folder


@pytest.fixture
def copy(two, tmp_path):
    return Path(shutil.copytree(two, tmp_path / "checkpoints"))


def newest(folder: Path) -> tuple[str | None, list[str]]:
    told: list[str] = []
    found = Store(folder).newest(on_damaged=told.append)
    if found is not None:
        assert digest(Snapshot(found.snapshot.arrays, {})) == digest(
            Snapshot(made().arrays, {})
        )
        assert name_of(0, *(found.snapshot.facts[n] for n in ("epoch", "update"))) in (
            found.name
        )
    return (None if found is None else found.name), told


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_two_good_checkpoints(two):
    assert newest(two) == (NEWER, [])


def test_a_flipped_bit_in_any_file_is_found(copy):
    """Mistake: trust Orbax, which restores a flipped bit without a word."""
    draw = random.Random(0)
    files = files_of(copy / NEWER)
    assert len(files) > 5
    for index in range(45):
        path = files[index % len(files)]
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        found, told = newest(copy)
        assert (found, len(told)) == (OLDER, 1), (path, bytes(flipped)[:80])
        assert told[0].startswith(f"{NEWER}: ")
        if path.name != manifest.FILE:  # which may be no JSON any more
            name = path.relative_to(copy / NEWER).as_posix()
            said = f"{NEWER}: {name} is not what was written (its digest differs)"
            assert told == [said]
        assert path.name in told[0]
        with pytest.raises(DamagedError):
            Store(copy).read(NEWER)
        path.write_bytes(content)
    assert newest(copy) == (NEWER, [])


def to_a_link(path: Path) -> None:
    (folder,) = (place for place in path.parents if place.name == "checkpoints")
    away = path.rename(folder.parent / path.name)
    path.symlink_to(away)


def to_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES = {
    "removed": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "a link to what it was": to_a_link,
    "a pipe": to_a_pipe,
    "a folder": to_a_folder,
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_file_that_is_changed_is_found(two, tmp_path, change):
    """Mistakes: only sizes are compared; a link is followed; a pipe waits for ever."""
    inside = [path.relative_to(two / NEWER) for path in files_of(two / NEWER)]
    for number, name in enumerate(inside):
        copied = tmp_path / str(number) / "checkpoints"
        shutil.copytree(two, copied)
        CHANGES[change](copied / NEWER / name)
        found, (told,) = newest(copied)
        assert found == OLDER
        assert told.startswith(f"{NEWER}: ")
        assert name.name in told


@pytest.mark.parametrize("where", ["", "arrays", "arrays/ocdbt.process_0"])
@pytest.mark.parametrize("kind", ["file", "link", "pipe"])
def test_a_file_that_is_not_listed_is_found(copy, where, kind):
    """Mistake: only what is listed is looked at; Orbax reads other files, too."""
    extra = copy / NEWER / where / "extra"
    if kind == "file":
        extra.write_bytes(b"")
    elif kind == "link":
        extra.symlink_to(copy / OLDER, target_is_directory=True)
    else:
        os.mkfifo(extra)
    found, (told,) = newest(copy)
    assert found == OLDER
    assert "extra" in told


def signed(content: dict[str, Any]) -> bytes:
    rest = {name: value for name, value in content.items() if name != "digest"}
    return json.dumps({**rest, "digest": digests.of_json(rest)}).encode()


def test_a_manifest_of_another_format_is_refused(copy):
    """Mistake: a later version's checkpoint is read as if it were this one's."""
    path = copy / NEWER / manifest.FILE
    content = json.loads(path.read_bytes())
    path.write_bytes(signed(content))
    assert newest(copy) == (NEWER, [])
    for other in (2, 0, "1", None):
        path.write_bytes(signed({**content, "format": other}))
        found, (told,) = newest(copy)
        assert found == OLDER
        assert f"format {other}, not 1" in told


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"format": 1}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"digest": "0"}',
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_manifest_that_is_none_is_refused(copy, content):
    """Mistake: whatever the parser raises ends the program, good checkpoints or not."""
    (copy / NEWER / manifest.FILE).write_bytes(content)
    found, (told,) = newest(copy)
    assert found == OLDER
    assert manifest.FILE in told


def test_a_manifest_nested_as_deep_as_can_be_parsed_is_refused(copy):
    """Mistake: what can just be parsed is too deep to be written, for the digest."""
    for depth in range(900, 1000, 3):
        content = b'{"a": ' + b"[" * depth + b"]" * depth + b"}"
        (copy / NEWER / manifest.FILE).write_bytes(content)
        assert newest(copy)[0] == OLDER


@pytest.mark.parametrize("lacks", ["files", "arrays", "facts"])
def test_a_signed_manifest_that_lacks_a_field_is_refused(copy, lacks):
    """Mistake: a KeyError ends the program."""
    path = copy / NEWER / manifest.FILE
    content = json.loads(path.read_bytes())
    del content[lacks]
    path.write_bytes(signed(content))
    found, told = newest(copy)
    assert (found, len(told)) == (OLDER, 1)


def test_a_checkpoint_that_cannot_be_looked_at_is_passed_over(copy, monkeypatch):
    """Mistake: a bad disk's error ends the program, though an older one is good."""
    is_symlink = Path.is_symlink

    def failing(path: Path) -> bool:
        if path == copy / NEWER / "arrays" / "_METADATA":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return is_symlink(path)

    monkeypatch.setattr(Path, "is_symlink", failing)
    found, told = newest(copy)
    assert (found, len(told)) == (OLDER, 1)


def test_what_is_not_a_whole_checkpoint_is_never_trusted_and_is_named(copy):
    """Mistakes: the largest number wins; an empty or half-written folder is loaded."""
    whole, later = copy / NEWER, name_of(0, 9, 0)
    foreign = {
        "7": lambda path: shutil.copytree(whole, path),  # Orbax's own manager's name
        "0000000-000000009": lambda path: shutil.copytree(whole, path),
        f"{later}.orbax-checkpoint-tmp": lambda path: shutil.copytree(whole, path),
        f"{later}x": lambda path: shutil.copytree(whole, path),
        "notes.txt": lambda path: path.write_text("mine"),
    }
    alike = {
        name_of(0, 9, 0): lambda path: path.mkdir(),
        name_of(0, 9, 1): lambda path: shutil.copytree(whole / "arrays", path),
        name_of(0, 9, 2): lambda path: shutil.copytree(
            whole, path, ignore=shutil.ignore_patterns(manifest.FILE)
        ),
        name_of(0, 9, 3): lambda path: path.write_text("a file"),
        name_of(0, 9, 4): lambda path: path.symlink_to(whole),
        name_of(0, 9, 5): lambda path: path.symlink_to(copy / "nowhere"),
        name_of(0, 9, 6): lambda path: os.mkfifo(path),
        name_of_ended(3): lambda path: path.mkdir(),
    }
    for name, make in {**foreign, **alike}.items():
        make(copy / name)
    found, told = newest(copy)
    assert found == NEWER
    named = {line.partition(": ")[0]: line.partition(": ")[2] for line in told}
    assert named.keys() == foreign.keys() | alike.keys()
    assert all("not the name of a checkpoint" in named[name] for name in foreign)
    assert len(told) == len(named)


def test_a_checkpoint_under_anothers_name_does_not_count_as_newer(copy):
    """Mistake: a renamed folder is trusted for its name; here the facts decide."""
    os.rename(copy / OLDER, copy / name_of(0, 5, 0))
    found = Store(copy).newest(on_damaged=lambda _: None)
    assert found is not None
    assert (found.snapshot.facts["epoch"], found.snapshot.facts["update"]) == (1, 0)


def test_no_checkpoint_at_all(tmp_path):
    for folder in (tmp_path / "absent", tmp_path):
        assert newest(folder) == (None, [])
        assert Store(folder).names() == []


def test_a_damaged_checkpoint_is_saved_anew(copy):
    """Mistake: the new one cannot be renamed to the damaged one's name."""
    shutil.rmtree(copy / NEWER / "arrays")
    store = Store(copy)
    store.save(NEWER, made(update=20))
    store.close()
    assert newest(copy) == (NEWER, [])
    assert not list(copy.glob("*.partial"))


@pytest.mark.parametrize(
    "kind",
    [
        "file",
        "link",
        pytest.param("pipe"),
    ],
)
def test_whatever_has_the_name_of_a_new_checkpoint_is_replaced(copy, kind, request):
    """Mistake: what is no folder is neither removed nor swept, or is written into."""
    place = copy / name_of(0, 2, 0)
    if kind == "file":
        place.write_text("a file")
    elif kind == "link":
        place.symlink_to(copy / OLDER)
    else:
        os.mkfifo(place)
        held = os.open(place, os.O_RDWR)  # or whoever opens it to read waits for ever
        request.addfinalizer(lambda: os.close(held))
    store = Store(copy)
    store.save(place.name, made(2))
    store.close()
    assert newest(copy) == (place.name, [])
    assert newest(copy)[1] == []
    assert not list(copy.glob("*.partial"))


# -- saving --------------------------------------------------------------------------


def refusing(error: BaseException):
    def write(folder: Path, snapshot: Snapshot) -> None:
        (folder / "half").write_bytes(b"of it")
        raise error

    return write


@pytest.mark.parametrize("by", ["save", "wait"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (ValueError("several\n  lines\nof it"), "several lines of it"),
    ],
)
def test_a_failed_save_is_told_by_the_next_call(
    tmp_path, monkeypatch, by, error, reason
):
    """Mistake: an error in the background is lost, and training goes on for hours."""
    store = Store(tmp_path / "checkpoints")
    store.save(name_of(0, 1, 0), made())
    store.wait()
    with monkeypatch.context() as patched:
        patched.setattr(manifest, "write", refusing(error))
        store.save(name_of(0, 2, 0), made(2))
        with pytest.raises(InputError) as raised:
            store.wait() if by == "wait" else store.save(name_of(0, 3, 0), made(3))
    message = str(raised.value)
    assert "\n" not in message
    for part in (reason, "cannot save a checkpoint", "make room"):
        assert part in message
    assert os.listdir(store.folder) == [name_of(0, 1, 0)]
    store.wait()  # told once
    store.save(name_of(0, 3, 0), made(3))
    store.close()
    assert store.names() == [name_of(0, 1, 0), name_of(0, 3, 0)]


def test_the_first_save_fails(tmp_path, monkeypatch):
    store = Store(tmp_path / "checkpoints")
    error = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    monkeypatch.setattr(manifest, "write", refusing(error))
    store.save(name_of(0, 1, 0), made())
    with pytest.raises(InputError, match="cannot save a checkpoint.*quota"):
        store.wait()
    assert store.names() == []


def test_a_checkpoint_has_its_name_only_when_it_is_whole(tmp_path, monkeypatch):
    """Mistake: written in place, so that a crash leaves half of it under its name."""
    store, seen, write = Store(tmp_path / "checkpoints"), [], manifest.write

    def watched(folder: Path, snapshot: Snapshot) -> None:
        seen.append(store.names())
        write(folder, snapshot)
        seen.append(store.names())
        assert folder.name.endswith(".partial")

    monkeypatch.setattr(manifest, "write", watched)
    store.save(name_of(0, 1, 0), made())
    store.wait()
    assert seen == [[], []]
    assert store.names() == [name_of(0, 1, 0)]


def test_saves_do_not_wait_and_end_in_their_order(tmp_path, monkeypatch):
    """Mistake: training waits for the disk, or two saves are written at once."""
    import threading

    store, go, written = Store(tmp_path / "checkpoints"), threading.Event(), []
    write = manifest.write

    def slow(folder: Path, snapshot: Snapshot) -> None:
        assert go.wait(10)
        write(folder, snapshot)
        written.append(snapshot.facts["epoch"])

    monkeypatch.setattr(manifest, "write", slow)
    snapshot = made(1, a=np.zeros(3))
    store.save(name_of(0, 1, 0), snapshot)  # returns
    assert written == []
    assert store.names() == []
    go.set()
    store.save(name_of(0, 2, 0), made(2))
    assert written[:1] == [1]
    store.close()
    assert written == [1, 2]


def test_what_was_never_finished_is_swept(copy):
    """Mistake: each kill leaves a copy of the state behind, until the disk is full."""
    for name in (f"{NEWER}.0a1b2c3d.partial", "x.partial"):
        shutil.copytree(copy / NEWER, copy / name)
    (copy / "y.partial").write_text("half")
    (copy / "z.partial").symlink_to(copy / OLDER)
    Store(copy)
    assert sorted(os.listdir(copy)) == [OLDER, NEWER]
    assert newest(copy) == (NEWER, [])


def test_a_pipe_that_looks_unfinished_is_swept(copy):
    """Mistake: `rmtree` opens it to read, and no start in this folder ever begins."""
    os.mkfifo(copy / "x.partial")
    held = os.open(copy / "x.partial", os.O_RDWR)  # or this test would wait
    Store(copy)
    os.close(held)
    assert sorted(os.listdir(copy)) == [OLDER, NEWER]


def test_a_folder_of_checkpoints_that_is_none_is_refused(tmp_path):
    """Mistake: checkpoints are written through a link into somebody's folder."""
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link", "broken"):
        with pytest.raises(InputError, match="expected a folder of checkpoints"):
            Store(tmp_path / name)


# -- pruning -------------------------------------------------------------------------


@pytest.fixture
def light(monkeypatch):
    """Write manifests alone: pruning does not look at arrays."""
    monkeypatch.setattr(manifest.stored, "write", lambda folder, arrays: folder.mkdir())


def saved(store: Store, names: list[str], scores=None) -> list[str]:
    for name, score in zip(names, scores or [None] * len(names), strict=True):
        store.save(name, made(), score=score)
    store.wait()
    return store.names()


def of(*epochs: int, group: int = 0) -> list[str]:
    return [name_of(group, epoch, 0) for epoch in epochs]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_and_the_best_are_kept(tmp_path, light, keep):
    """Mistakes: the best is pruned, or the newest one that it would resume from."""
    names, scores = of(1, 2, 3, 4, 5, 6), (0.1, 0.9, 0.2, 0.3, 0.9, 0.4)
    store = Store(tmp_path, keep=keep)
    best = [5]  # of two alike, the newer
    newest = list(range(7 - keep, 7))
    assert saved(store, names, scores) == of(*sorted({*best, *newest}))


def test_scores_outlive_the_program(tmp_path, light):
    """Mistake: a later start knows no score, and prunes the best."""
    saved(Store(tmp_path), of(1, 2, 3), (0.1, 0.9, 0.2))
    names = saved(Store(tmp_path), of(4, 5, 6), (0.3, None, 0.1))
    assert names == of(2, 5, 6)


def test_what_groups_have_ended_with_is_kept(tmp_path, light):
    """Mistake: seeds that were trained to their end are pruned, and trained again."""
    store = Store(tmp_path)
    assert saved(store, of(1, 2, 3)) == of(2, 3)
    assert saved(store, [name_of_ended(0)]) == [name_of_ended(0)]
    later = of(1, 2, 3, group=1)
    assert saved(store, later) == [name_of_ended(0), *later[1:]]
    both = [name_of_ended(0), name_of_ended(1)]
    assert saved(store, both[1:]) == both
    last = of(1, group=2)
    assert saved(store, last) == [*both, *last]


def test_damaged_checkpoints_do_not_count_as_kept(tmp_path, light, monkeypatch):
    """Mistake: what cannot be used is kept in the place of what can."""
    store = Store(tmp_path)
    saved(store, of(1, 2), (0.1, 0.9))
    (tmp_path / of(2)[0] / "extra").write_text("damage")
    monkeypatch.setattr(manifest.stored, "read", lambda folder: made().arrays)
    again = Store(tmp_path)
    found = again.newest(on_damaged=lambda _: None)
    assert found is not None
    assert found.name == of(1)[0]
    assert saved(again, of(3), (0.2,)) == of(1, 3)


def test_names_sort_in_the_order_of_training():
    """Mistake: '10' sorts before '9', and the newest is not the last."""
    draw = random.Random(0)
    places = [
        tuple(draw.choice([0, 1, 9, 10, 99, 100, 12345, 10**k - 1]) for k in (7, 9, 9))
        for _ in range(300)
    ]
    assert [name_of(*p) for p in sorted(places)] == sorted(name_of(*p) for p in places)
    for group in (0, 9, 10, 10**7 - 1):
        last = name_of(group, 10**9 - 1, 10**9 - 1)
        assert last < name_of_ended(group)
        assert name_of_ended(group) < name_of(group + 1, 0, 0) or group == 10**7 - 1


# -- the keeper ----------------------------------------------------------------------


def test_a_signal_saves_the_state_and_then_stops(folder, tmp_path):
    """Mistakes: it stops before it has saved, or saves only what was due anyway."""
    found = trained(folder, "sgd", (0,))
    (one,), stop = found.group, Stop()
    store = Store(tmp_path / "checkpoints")
    kept = Keeper(store, Every(seconds=3600.0), facts=lambda: {"a": 1}, stop=stop)
    calls = []

    def on_state(at: LoopState) -> None:
        calls.append(at.update)
        if len(calls) == 4:
            stop.number = signal.SIGTERM
        kept.on_state(at, one.keys)

    with pytest.raises(StoppedError, match="SIGTERM .*update 8") as raised:
        run(one, updates=found.updates, on_state=on_state)
    assert raised.value.status == 143
    assert calls == [2, 4, 6, 8]
    assert store.names() == [name_of(0, 0, 8)]
    again = Keeper(Store(store.folder), Every(epochs=1), resumes=True)
    state = again.resume(like=state_like(found.group), keys=one.keys)
    assert state is not None
    assert_same_bits(run(one, updates=found.updates, resume=state), found.ended[0])
    anew = Keeper(Store(store.folder), Every(epochs=1))
    assert anew.resume(like=state_like(found.group), keys=one.keys) is None


def test_a_keeper_that_never_saves_makes_no_folder(folder, tmp_path):
    found = trained(folder, "sgd", (0,))
    (one,) = found.group
    store = Store(tmp_path / "checkpoints")
    kept = Keeper(store, Every())
    run(
        one,
        updates=found.updates,
        on_state=functools.partial(kept.on_state, keys=one.keys, last=2),
    )
    kept.close()
    assert not store.folder.exists()


def test_the_last_state_is_saved_in_any_case_and_the_best_is_known(folder, tmp_path):
    """Mistake: a run that was trained whole is trained again, because none was due."""
    found = trained(folder, "sgd", (0,))
    (one,) = found.group
    kept = Keeper(Store(tmp_path / "checkpoints"), Every(seconds=3600.0))
    run(
        one,
        updates=found.updates,
        on_state=functools.partial(kept.on_state, keys=one.keys, last=2),
    )
    kept.close()
    assert kept.store is not None
    assert kept.store.names() == [name_of(0, 2, 0)]
    snapshot = kept.store.read(name_of(0, 2, 0))
    assert snapshot.facts["score"] == found.ended[0].test["accuracy"]
    state = restore(snapshot, like=state_like(found.group), keys=one.keys)
    assert_same_bits(run(one, updates=found.updates, resume=state), found.ended[0])


def test_seeds_go_on_where_they_were_stopped(folder, tmp_path):
    """Mistakes: a seed is skipped, trained twice, or comes back as another one's."""
    recipe, seeds, told = recipe_of("sgd"), (3, 1, 2), []

    def train(kept: Keeper, stop: Stop | None = None):
        def on_epoch(seed: int, record) -> None:
            told.append((seed, record.epoch))
            if stop is not None and (seed, record.epoch) == (1, 1):
                stop.number = signal.SIGINT

        return run_seeds(
            lambda seed: prepare(recipe, DATASET, seed=seed),
            seeds,
            callbacks=SeedCallbacks(
                on_epoch, on_replay=lambda n: told.extend((s, -r.epoch) for s, r in n)
            ),
            keeper=kept,
        )

    updates = trained(folder, "sgd", (0,)).updates
    stop, ended = Stop(), []
    kept = Keeper(Store(tmp_path / "checkpoints"), Every(seconds=3600.0), stop=stop)
    with pytest.raises(StoppedError, match="SIGINT"):
        ended.extend(train(kept, stop))
    assert told == [(3, 1), (3, 2), (1, 1)]
    told.clear()
    again = Keeper(Store(tmp_path / "checkpoints"), Every(epochs=1), resumes=True)
    ended = list(train(again))
    # What earlier starts have noted is told by on_replay, here with a minus.
    assert told == [(3, -1), (3, -2), (1, -1), (1, 2), (2, 1), (2, 2)]
    for mine, seed in zip(ended, seeds, strict=True):
        assert mine.seed == seed
        assert_same_bits(
            mine.run, run(prepare(recipe, DATASET, seed=seed), updates=updates)
        )
        assert mine.run.no_prediction == 0
        right = mine.predictions == mine.test_labels
        assert right.mean() == pytest.approx(mine.run.test["accuracy"])
    assert again.store is not None
    kept_names = [name for name in again.store.names() if name.endswith("-ended")]
    assert kept_names == [name_of_ended(group) for group in range(3)]
    again.forget()
    assert os.listdir(tmp_path) == []


# -- what it costs -------------------------------------------------------------------

IMPORTS = """
import sys, numpy
import cnnjax, cnnjax.results.checkpoints.keeper, cnnjax.telling.folder
def imported():
    return sorted(name for name in sys.modules if name.split(".")[0] == "orbax")
assert not imported(), imported()[:5]
from pathlib import Path
store = cnnjax.results.checkpoints.Store(Path(sys.argv[1]) / "checkpoints")
assert store.names() == [] and store.newest(on_damaged=print) is None
assert not imported(), imported()[:5]
store.save("0000000-000000001-000000000", cnnjax.results.checkpoints.Snapshot(
    {"a": numpy.zeros(3)}, {}))
store.wait()
assert imported()
"""


def test_orbax_is_imported_only_when_it_is_used(tmp_path):
    """Mistake: every start waits seconds for a library that it may not need."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(tmp_path)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_in_a_checkpoint_names_the_folder_it_lies_in(two):
    """It may be somebody's home."""
    assert not [p.name for p in files_of(two) if str(two).encode() in p.read_bytes()]


@pytest.mark.parametrize("limit", [0, 100, 10_000, 1_000_000])
def test_what_the_system_refuses_to_orbax_is_one_short_line(limit, tmp_path, capfd):
    """Mistake: Orbax's own text without the reason, and a traceback for each array."""
    resource = pytest.importorskip("resource")
    rng = np.random.default_rng(0)
    arrays = {f"a{number}": rng.random((64, 400)) for number in range(30)}
    store = Store(tmp_path / "checkpoints")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        store.save(name_of(0, 1, 0), Snapshot(arrays, {}))
        with pytest.raises(InputError) as told:
            store.wait()
        gc.collect()  # tasks say what they think of it when they are collected
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(told.value).endswith("checkpoints: File too large; make room there")
    assert capfd.readouterr() == ("", "")
    assert store.names() == []
    store.save(name_of(0, 1, 0), Snapshot(arrays, {}))
    store.wait()
    assert store.names() == [name_of(0, 1, 0)]


def test_hooks_of_others_still_hear_of_errors(tmp_path, monkeypatch):
    """Also one that is put over ours, and calls it."""

    class Bad:
        def __del__(self):
            raise RuntimeError("Event loop is closed")

    def save() -> None:
        store.save(name_of(0, 1, 0), Snapshot({"a": np.ones(3)}, {}))
        store.wait()

    def over(told) -> None:
        heard.append(f"over: {told.exc_value}")
        below(told)

    heard = []
    store = Store(tmp_path / "checkpoints")
    monkeypatch.setattr(sys, "__unraisablehook__", lambda told: heard.append("Python"))
    monkeypatch.setattr(
        sys, "unraisablehook", lambda told: heard.append(f"first: {told.exc_value}")
    )
    save()
    Bad()
    gc.collect()
    assert heard == ["first: Event loop is closed"]
    heard.clear()
    below = sys.unraisablehook
    monkeypatch.setattr(sys, "unraisablehook", over)
    save()
    Bad()
    gc.collect()
    assert heard == ["over: Event loop is closed", "Python"]
