"""Processes that find each other, or say in one line why not; and who is lost then.

Without the launcher: each is a process of its own, as on a cluster.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cnnjax.base.errors import InputError
from cnnjax.devices import arrival
from cnnjax.devices.cluster import Cluster
from cnnjax.devices.ending import LOST_STATUS
from cnnjax.devices.rollcall import Place, call_roll
from cnnjax.devices.wire import Wire, connect, listen

ROOT = Path(__file__).parent.parent
TRAIN = ROOT / "scripts" / "train.py"
WAIT = """
import sys, time
from cnnjax.devices.processes import Cluster, join
address, count, index, heartbeat, then = sys.argv[1:]
join(Cluster(address, int(count), int(index), False, int(heartbeat), 20))
print("joined", file=sys.stderr, flush=True)
if then == "raise" and index == "1":
    time.sleep(1)  # until "joined" has been read, by itself
    raise KeyError("a mistake")
if then == "wait" or index == "0":
    time.sleep(1000)
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Group:
    """Processes of a test; none outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen] = []

    def start(self, *command: object, env: dict[str, str] | None = None):
        started = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(
                    filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
                ),
                **(env or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(started)
        return started

    def train(self, index: int, address: str, *flags: str, count: int = 2, **env: str):
        return self.start(
            *(TRAIN, "--recipe=momentum_mlp_per_sample", "--strategy=shard_map"),
            *("--num_devices=1", "--epochs=100000", f"--process_index={index}"),
            *(f"--num_processes={count}", f"--coordinator_address={address}", *flags),
            env=env,
        )

    def wait(self, *, count=2, heartbeat=20, then="wait") -> list[subprocess.Popen]:
        """Start processes that join, and wait until they have."""
        (self.folder / "wait.py").write_text(WAIT)
        where = (f"127.0.0.1:{free_port()}", count)
        started = [
            self.start("wait.py", *where, index, heartbeat, then)
            for index in range(count)
        ]
        for one in started:
            assert one.stderr.readline() == "joined\n", one.stderr.read()
        return started


@pytest.fixture
def group(tmp_path):
    started = Group(tmp_path)
    yield started
    for process in started.started:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen, *, within: float) -> tuple[int, str]:
    """Return the status and what it said on stderr."""
    _, err = process.communicate(timeout=within)
    return process.returncode, err


def refused(process: subprocess.Popen, *, within: float = 40) -> str:
    """Return the one line of a process that refuses its input."""
    status, err = ended(process, within=within)
    assert status == 2, err
    assert len(err.splitlines()) == 1, err
    return err.removeprefix("train.py: error: ")


@pytest.mark.slow
def test_a_port_in_use(group):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        processes = [group.train(index, address) for index in (0, 1)]
        assert refused(processes[0]) == (
            f"process 0 cannot listen at {address}: Address already in use; give "
            "--coordinator_address a free port of this machine\n"
        )
        assert "who listens there is not process 0" in refused(processes[1])


def test_flags_that_differ_are_named(group):
    address = f"127.0.0.1:{free_port()}"
    first = group.train(0, address, "--batch_size=64", "--data_dir=a")
    second = group.train(1, address, "--batch_size=32", "--seed=1", "--data_dir=b")
    for process in (first, second):
        assert refused(process) == (
            "process 1 has --batch_size=32 and --seed=1, process 0 has "
            "--batch_size=64 and --seed=0; start all with the same flags\n"
        )


@pytest.mark.slow
def test_a_typo_in_one_process(group):
    address = f"127.0.0.1:{free_port()}"
    first = group.train(0, address, "--join_seconds=4")
    second = group.train(1, address, "--sed=1")
    assert "Unknown command line flag 'sed'" in refused(second)
    assert refused(first) == (
        f"process 1 has not come to {address} within 4 s (see --join_seconds); see "
        "what each says, and whether it has this address\n"
    )


def call(
    place: Place, told: dict, key: object, *, patience: int = 5, **alike: str
) -> threading.Thread:
    """Call the roll in a thread, and keep what comes of it under `key`."""

    def run() -> None:
        try:
            wires = call_roll(
                place, bind=place.address, alike=alike, patience=patience, heartbeat=5
            )
            told[key] = sorted(wires)
            for wire in wires.values():
                wire.close()
        except InputError as error:
            told[key] = str(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def roll(*calls: tuple[int, int], patience: int = 5) -> list:
    """Return what each says of calls, in order, by (index, count)."""
    address, told = f"127.0.0.1:{free_port()}", {}
    threads = []
    for number, (index, count) in enumerate(calls):
        place = Place(address, count, index)
        threads.append(call(place, told, number, patience=patience))
        time.sleep(0.2)
    for thread in threads:
        thread.join(timeout=30)
    return [str(told[number]).replace(address, "HERE") for number in range(len(calls))]


def test_the_roll_is_called_in_any_order(monkeypatch):
    monkeypatch.setattr(arrival, "OPENING_SECONDS", 0)  # nobody opens JAX here
    assert roll((2, 3), (0, 3), (1, 3)) == ["[0]", "[1, 2]", "[0]"]


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (
            [(0, 3), (1, 3), (1, 3)],
            "two processes have --process_index=1; give each its own, from 0 to 2",
        ),
        (
            [(0, 2), (0, 2)],
            "two processes have --process_index=0; give each its own, from 0 to 1",
        ),
        (
            [(0, 2), (1, 3)],
            "process 1 has --num_processes=3, process 0 has 2; start all with the "
            "same flags",
        ),
    ],
)
def test_processes_that_do_not_fit_together(calls, said):
    assert roll(*calls) == [said] * len(calls)


def test_who_has_not_come_is_told_to_all():
    said = roll((0, 4), (2, 4), patience=1)
    assert said[0] == (
        "processes 1 and 3 have not come to HERE within 1 s (see --join_seconds); see "
        "what each says, and whether it has this address"
    )
    assert said[1] == said[0]


def test_strangers_do_not_disturb_the_roll():
    address, told = f"127.0.0.1:{free_port()}", {}
    first = call(Place(address, 2, 0), told, 0)
    silent, rude = None, None
    limit = time.monotonic() + 5
    while silent is None and time.monotonic() < limit:
        try:
            silent, rude = connect(address, seconds=1), connect(address, seconds=1)
        except OSError:
            time.sleep(0.05)
    rude.sendall(b"GET / HTTP/1.1\r\n\r\n{}\n[1]\n")
    gone = connect(address, seconds=1)
    gone.close()
    second = threading.Thread(
        target=lambda: told.update(word=_say_hello(address)), daemon=True
    )
    second.start()
    first.join(timeout=10)
    second.join(timeout=10)
    assert told == {0: [1], "word": "go"}
    silent.close()
    rude.close()


def test_who_comes_once_all_have_met_is_told():
    """Mistake: it waits for a process 0 that has left the roll call long ago."""
    said = "have the processes met already, with another of this --process_index"
    with listen(f"127.0.0.1:{free_port()}") as of_jax:
        address = "{}:{}".format(*of_jax.getsockname())
        with pytest.raises(InputError, match=said):
            arrival.arrive(address, "[1, 2, {}]", patience=1, heartbeat=5)


LOST = """
import sys
from cnnjax.devices.rollcall import Place, call_roll
address = sys.argv[1]
call_roll(Place(address, 3, 0), bind=address, alike={}, patience=20, heartbeat=5)
"""


def test_one_that_is_lost_while_it_joins_is_named(group):
    (group.folder / "lost.py").write_text(LOST)
    address = f"127.0.0.1:{free_port()}"
    first = group.start("lost.py", address)
    for _ in range(200):
        try:
            wire = Wire(connect(address, seconds=1))
            break
        except OSError:
            time.sleep(0.1)
    wire.tell("[1, 3, {}]")
    time.sleep(0.3)
    wire.close()
    status, err = ended(first, within=20)
    assert (status, err) == (
        LOST_STATUS,
        f"lost.py: process 1 was lost while joining; {AGAIN}",
    )


def test_a_port_that_is_taken_is_told_at_once():
    with listen(f"127.0.0.1:{free_port()}") as taken:
        address = "{}:{}".format(*taken.getsockname())
        with pytest.raises(InputError, match="cannot listen at .*Address already in"):
            call_roll(
                Place(address, 2, 0), bind=address, alike={}, patience=1, heartbeat=5
            )


def _say_hello(address: str) -> str:
    """Return the last word that process 0 says to process 1."""
    wire = Wire(connect(address, seconds=5))
    wire.tell("[1, 2, {}]")
    last, alive = "", True
    while alive:
        lines, alive = wire.hear()
        last = [last, *lines][-1]
        time.sleep(0.01)
    wire.close()
    return last


def test_a_host_that_nobody_knows():
    start = time.monotonic()
    with pytest.raises(InputError, match="the host is not known"):
        call_roll(
            Place("no.such.host.invalid:1", 2, 1),
            bind="",
            alike={},
            patience=1,
            heartbeat=5,
        )
    assert time.monotonic() < start + 30


def test_where_no_process_can_listen():
    with pytest.raises(InputError, match=r"cannot listen at 192\.0\.2\.1:1"):
        listen("192.0.2.1:1234")  # an address of no machine


AGAIN = "start all processes again\n"


@pytest.mark.parametrize(
    ("address", "flags", "seconds"),
    [
        ("10.0.0.1:1234", {}, 60),
        ("10.0.0.1:1234", {"heartbeat_seconds": 2}, 20),
        ("127.0.0.1:1234", {}, 20),
        ("[::1]:1234", {"heartbeat_seconds": 1}, 10),
        ("localhost:1234", {"join_seconds": 300}, 300),
    ],
)
def test_processes_of_one_machine_are_waited_for_less_long(address, flags, seconds):
    """One that is killed before it joins must not hold the others for half a minute."""
    assert Cluster(address, 2, 0, **flags).patience == seconds


@pytest.mark.parametrize("lost", [0, 2])
@pytest.mark.parametrize("then", ["wait", pytest.param("end", marks=pytest.mark.slow)])
def test_a_killed_process_ends_the_others(lost, then, group):
    """Also those that have ended, and wait for who still writes."""
    processes = group.wait(count=3, then=then)
    time.sleep(0.5)
    processes.pop(lost).kill()
    for process in processes:
        status, err = ended(process, within=10)
        assert status == LOST_STATUS, err
        assert f"wait.py: process {lost} was lost; {AGAIN}" in err


@pytest.mark.parametrize("lost", [0, 1])
def test_a_stopped_process_counts_as_lost(lost, group):
    processes = group.wait(heartbeat=2)
    processes[lost].send_signal(signal.SIGSTOP)
    start = time.monotonic()
    status, err = ended(processes[1 - lost], within=10)
    assert 1.5 < time.monotonic() - start < 8
    assert status == LOST_STATUS
    assert err == f"wait.py: process {lost} was lost: no sign of it for 2 s; {AGAIN}"
    processes[lost].send_signal(signal.SIGCONT)
    assert ended(processes[lost], within=10)[0] == LOST_STATUS


def test_an_exception_ends_the_others(group):
    first, second = group.wait(then="raise")
    status, err = ended(second, within=10)
    assert status == 1
    assert err.endswith("KeyError: 'a mistake'\n")
    assert ended(first, within=10) == (
        LOST_STATUS,
        f"wait.py: process 1 was lost; {AGAIN}",
    )


def test_sigterm_is_not_swallowed(group):
    first, second = group.wait()
    second.terminate()
    assert ended(second, within=10)[0] == -signal.SIGTERM
    assert ended(first, within=10)[0] == LOST_STATUS


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("moment", ["layer ", "    2 "])
def test_a_process_killed_while_compiling_or_training(moment, lost, group):
    address = f"127.0.0.1:{free_port()}"
    processes = [group.train(index, address) for index in (0, 1)]
    while not (line := processes[0].stdout.readline()).startswith(moment):
        assert line, processes[0].stderr.read()
    processes[lost].kill()
    status, err = ended(processes[1 - lost], within=30)
    assert status == LOST_STATUS, err
    assert f"train.py: process {lost} was lost; {AGAIN}" in err


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.1, 1, 2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_killed_at_any_moment(after, lost, group):
    address = f"127.0.0.1:{free_port()}"
    processes = [group.train(index, address) for index in (0, 1)]
    time.sleep(after)
    processes[lost].kill()
    status, err = ended(processes[1 - lost], within=30)
    assert status in (2, LOST_STATUS), err
    told = (f"process {lost} was lost", f"process {lost} has not come", "nobody")
    assert any(word in err for word in told), err


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", socket.gethostname()])
def test_no_proxy_is_asked(host, group):
    """Not for this machine, nor for any that can be reached."""
    proxy = "http://127.0.0.1:9"  # nobody listens there
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "grpc_proxy")
    address = f"{host}:{free_port()}"
    flags = ("--epochs=1",)
    env = dict.fromkeys(names, proxy)
    processes = [group.train(index, address, *flags, **env) for index in (0, 1)]
    assert [ended(one, within=60) for one in processes] == [(0, ""), (0, "")]
