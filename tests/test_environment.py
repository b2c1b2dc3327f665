"""The environment of a script is input: one line and status 2, or no difference."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from cnnjax.base.errors import InputError
from cnnjax.loaded import load_run
from cnnjax.results.environment import cpu_model, describe_environment
from cnnjax.results.folders import folder_named
from cnnjax.results.workdir import open_workdir

SCRIPTS = Path(__file__).parent.parent / "scripts"
ALL = (
    *("train", "compare_strategies", "compare_runs", "reproduce", "recipes"),
    *("launch_local", "prepare_tfds"),
)
SHORT = ("--epochs=0", "--num_train=64", "--recipe=momentum_mlp_per_sample")
pytestmark = pytest.mark.xdist_group("environment")


@pytest.fixture
def run(forks, tmp_path):
    """Run a script by name, after some Python where `before` has any."""

    def run(name: str, *flags: str, before: str = "", **environment: str | None):
        wrapper = tmp_path / f"{name}.py"
        script = str(SCRIPTS / f"{name}.py")
        wrapper.write_text(
            f"import os, runpy, sys\nsys.path[0], sys.argv[0] = {str(SCRIPTS)!r}, "
            f"{script!r}\n{before}\nrunpy.run_path({script!r}, run_name='__main__')\n"
        )
        return forks.run(wrapper, *flags, cwd=tmp_path, **environment)

    return run


def refusal(done) -> str:
    """Return the one line that a script refused with."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert ".py: error: " in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("takes", "named"),
    [
        ("jax.numpy.zeros(2**45)", "Out of memory allocating 140737488355328 bytes"),
        ("bytearray(2**60)", "MemoryError"),
    ],
)
def test_memory_that_runs_out_is_told_in_a_line(takes, named, run):
    """XLA's own error has a traceback, and on a GPU forty lines."""
    instead = f"cnnjax.experiments.prepare = lambda *_, **__: {takes}"
    before = f"import jax, cnnjax\n{instead}"
    told = refusal(run("train", *SHORT, before=before))
    assert f"error: not enough memory ({named}); smaller batches" in told


FULL = "os.dup2(os.open('/dev/full', os.O_WRONLY), 1)"
CLOSED = "os.close({0}); sys.std{1} = None"


@pytest.mark.parametrize("script", ["recipes", "compare_runs"])
@pytest.mark.parametrize("flags", [(), ("--help",)])
def test_a_full_stdout_is_told(script, flags, run):
    done = run(script, *flags, before=FULL)
    if script == "recipes" or flags:
        assert "cannot write to stdout: [Errno 28]" in refusal(done)
    else:
        assert "expected two workdirs" in refusal(done)  # it has printed nothing


@pytest.mark.parametrize("stream", [(1, "out"), (2, "err")])
def test_a_closed_stream_makes_no_difference(stream, run, tmp_path):
    done = run("train", *SHORT, "--workdir=w", before=CLOSED.format(*stream))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "w" / "result.json").read_text())["epochs"] == 0
    assert ("test accuracy" in done.stdout) == (stream[1] != "out")


def test_a_file_never_gets_the_number_of_a_closed_stdout(run):
    late = "import atexit\natexit.register(lambda: print(os.fstat(1), file=sys.stderr))"
    done = run("recipes", before=f"{CLOSED.format(1, 'out')}\n{late}")
    assert done.returncode == 0
    assert f"st_rdev={os.stat(os.devnull).st_rdev}" not in done.stdout
    assert "os.stat_result" in done.stderr  # it is open: the null device


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_an_encoding_that_cannot_say_a_path(encoding, run):
    before = f"sys.stdout.reconfigure(encoding={encoding!r}, errors='strict')"
    done = run("train", *SHORT, "--workdir=ŵ\udcff", before=before)
    assert done.returncode == 0, done.stderr
    said = done.stdout.split("results in ")[1].splitlines()[0]
    assert said == ("ŵ" if encoding == "utf-8" else r"\u0175") + r"\udcff"


TRAINED = ("--epochs=1", "--num_train=64", "--recipe=momentum_mlp_per_sample")


def test_a_folder_whose_name_is_no_text_is_written_and_read_again(run):
    """Mistake: Orbax's C++, the profiler's, or a reader of JSON wants UTF-8."""
    told = run("train", *TRAINED, "--workdir=ŵ\udcff", "--profile=2", "--tensorboard")
    assert (told.returncode, told.stderr) == (0, "")
    assert "perfetto_trace.json.gz" in told.stdout
    for call in (
        ("evaluate", "ŵ\udcff"),
        ("export", "ŵ\udcff", "--formats=train_step,numpy"),
        ("train", *TRAINED, "--workdir=ŵ\udcff", "--resume=must"),
    ):
        done = run(*call)
        assert (done.returncode, done.stderr) == (0, ""), call


def test_a_folder_with_accents_in_a_locale_without(tmp_path):
    flags = (*TRAINED, f"--workdir={tmp_path}/w é")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, SCRIPTS / "train.py", *flags],
        env={**os.environ, **locale},
        capture_output=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert load_run(tmp_path / "w é").source == "params.safetensors"


@pytest.mark.parametrize("script", ["train", "compare_strategies"])
@pytest.mark.parametrize("platform", ["cuda", "cpuu", "tpu,cpu", "CPU GPU"])
def test_a_platform_that_is_not_there(script, platform, run):
    # JAX has read the variable already, where these processes are forked.
    before = f"import jax; jax.config.update('jax_platforms', {platform!r})"
    line = refusal(run(script, *SHORT[:2], before=before))
    assert f"JAX_PLATFORMS={platform}: expected platforms that JAX finds here" in line


REFUSED_BY_JAX = {  # by the script that they are tried with
    "train": ("JAX_ENABLE_X64", "maybe"),
    "compare_strategies": ("JAX_NUMPY_DTYPE_PROMOTION", "foo"),
    "compare_runs": ("JAX_NUM_CPU_DEVICES", "abc"),
    "reproduce": ("JAX_DEFAULT_MATMUL_PRECISION", "foo"),
    "recipes": ("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "soon"),
    "launch_local": ("JAX_LOGGING_LEVEL", "LOUD"),
    "prepare_tfds": ("JAX_TRACER_ERROR_NUM_TRACEBACK_FRAMES", "few"),
}


def from_shell(*argv: object, cwd: Path, **environment: str):
    """Run Python anew: these processes have imported JAX and Matplotlib already."""
    return subprocess.run(
        [sys.executable, *map(str, argv)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("script", ALL)
def test_a_variable_that_jax_refuses_is_named(script, tmp_path):
    name, value = REFUSED_BY_JAX[script]
    done = from_shell(SCRIPTS / f"{script}.py", cwd=tmp_path, **{name: value})
    assert f"{script}.py: error: {name}={value}: " in refusal(done)


def test_helpers_are_found_and_no_backend_is_needed(tmp_path):
    """Where Python leaves a script's folder out, as python -I does, or -P alone."""
    flags = ("--epochs=1", *SHORT[1:], "--batch_size=32", "--workdir=w")
    script = (SCRIPTS / "train.py", *flags)
    done = from_shell("-P", *script, cwd=tmp_path, MPLBACKEND="foo")
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        "train.py: warning: MPLBACKEND=foo: Matplotlib has no such backend; left out\n"
    )
    assert (tmp_path / "w" / "curves.png").exists()


COUNT = "--xla_force_host_platform_device_count"


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("XLA_FLAGS", f"{COUNT}=abc", f"by {COUNT} in XLA_FLAGS, got 'abc'"),
        ("XLA_FLAGS", f"{COUNT}=0", f"1 to 256 virtual devices by {COUNT} in"),
        ("XLA_FLAGS", f"{COUNT}=-3", "in XLA_FLAGS, got '-3'"),
        ("XLA_FLAGS", f"--xla_dump_to=x {COUNT}=", "in XLA_FLAGS, got ''"),
        ("XLA_FLAGS", f"{COUNT}=99999999999", "in XLA_FLAGS, got '99999999999'"),
        (
            "XLA_FLAGS",
            "nowhere",
            "XLA_FLAGS=--NAME=VALUE, or a file of such flags",
        ),
        ("jax_num_cpu_devices", 0, "by JAX_NUM_CPU_DEVICES, got 0"),
        ("jax_num_cpu_devices", -2, "by JAX_NUM_CPU_DEVICES, got -2"),
        ("jax_num_cpu_devices", 20000, "1 to 256 virtual devices by JAX_NUM_CPU_DEV"),
    ],
)
def test_a_number_of_devices_that_cannot_be(variable, value, told, run):
    # JAX has read its own variable already, where these processes are forked.
    own = variable.startswith("jax")
    before = f"import jax; jax.config.update({variable!r}, {value!r})" if own else ""
    environment = {} if own else {variable: value}
    line = refusal(run("train", *SHORT[:2], before=before, **environment))
    assert told in line
    assert "JAX_PLATFORMS" not in line


@pytest.mark.parametrize("script", ["train", "compare_strategies"])
def test_more_devices_than_a_batch_has_examples(script, run):
    for flags, told in (
        (["--num_devices=20000"], "at most 64 (a batch of 64 keeps no more busy), got"),
        (["--num_devices=65"], "at most 64 (a batch of 64 keeps no more busy), got 65"),
        (["--num_devices=9", "--batch_size=8"], "of at most 8 (a batch of 8 keeps no"),
        (["--num_devices=2", "--batch_size=1"], "of at most 1 (a batch of 1 keeps no"),
        (["--num_devices=257", "--batch_size=9999"], "256 (more would wait for"),
        (
            ["--num_devices=257", "--recipe=tanh_mlp_housing_wide"],
            "at most 256 (more would",
        ),
    ):
        assert told in refusal(run(script, "--strategy=shard_map", *flags))


LATE = "import jax; jax.devices()"


def test_num_devices_after_jax_has_started(run):
    flags = (*SHORT, "--strategy=shard_map", "--batch_size=8")
    line = refusal(run("train", *flags, "--num_devices=3", before=LATE))
    assert "--num_devices=3 comes too late: JAX has started in this process" in line
    assert run("train", *flags, "--num_devices=1", before=LATE).returncode == 0


def test_scripts_run_again_in_the_same_process(run):
    """As in a notebook; and the second run has no flag of the first."""
    again = f"""
def first(name, *flags):
    sys.argv = [os.path.join({str(SCRIPTS)!r}, name), *flags]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        print("ended with", ended.code)

own = sys.argv
first("launch_local.py")
first("reproduce.py", "--help")
first("recipes.py", "--json", "--systems=A")
first("train.py", "--epochs=0", "--num_train=64", "--seed=5")
sys.argv = own
"""
    done = run("train", *SHORT[:2], before=again)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "ended" in line] == [
        f"ended with {code}" for code in (2, 0, None, None)
    ]
    assert "seed 5" in done.stdout
    assert "seed 0" in done.stdout


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("train", ["--workdir=~nosuchuser/x"]),
        ("reproduce", ["--workdir=~nosuchuser/x", "--data_dir=."]),
        ("compare_runs", ["~nosuchuser/x", "."]),
    ],
)
def test_a_home_that_is_not_there(script, flags, run):
    assert "~nosuchuser/x: its home folder is not known" in refusal(run(script, *flags))


@pytest.mark.parametrize(
    "name", ["", "~nosuchuser/x", "a\0b", __file__], ids=["", "~", "NUL", "file"]
)
def test_what_is_no_folders_name_is_refused(name):
    with pytest.raises(InputError, match="expected|home folder is not known"):
        folder_named(name)


@pytest.mark.parametrize("path", ["lost", "lost/below", "circle", "to_lost", "d/in"])
def test_a_link_that_leads_nowhere_is_told(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    links = {"lost": "/nowhere/x", "circle": "round", "round": "circle"}
    for link, target in {**links, "to_lost": "lost", "d/in": "gone"}.items():
        (tmp_path / link).symlink_to(target)
    own = path.removesuffix("/below")
    with pytest.raises(
        InputError, match=f"got {path}: {own} is a broken symbolic link"
    ):
        folder_named(path)
    (tmp_path / "found").symlink_to("d")
    assert open_workdir("found/new").path == tmp_path / "found/new"


def test_a_workdir_stays_where_it_was_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workdir = open_workdir("w")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    workdir.start({}, room=1)
    assert (tmp_path / "w" / "config.json").exists()


def test_the_current_folder_may_be_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match="the current folder is gone"):
        folder_named("w")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": None, "XDG_CACHE_HOME": None, "PATH": "/dev/null", "TERM": None},
        pytest.param(
            {"HOME": "/dev/null", "XDG_CACHE_HOME": None, "MPLCONFIGDIR": "/dev/null"},
            marks=pytest.mark.slow,  # a whole run each
        ),
        {"JAX_COMPILATION_CACHE_DIR": "/dev/null/cache", "COLUMNS": "abc"},
    ],
    ids=lambda environment: "+".join(environment),
)
def test_what_is_a_convenience_makes_no_difference(environment, run):
    done = run("train", *SHORT, **{"JAX_COMPILATION_CACHE_DIR": None, **environment})
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout


ADVICE = """
from cnnjax.studies.measuring import advice
from cnnjax.studies.measuring.timing import Spread
def advise(*_, **__):
    found = advice.Tried(advice.Candidate("jit"), Spread(1.0, 1.0, 1.0, 1), 1.0, 0.0)
    return advice.Advice((found,), 8)
advice.advise = advise
"""


@pytest.mark.parametrize("cache", ["/dev/null/cache", "cache"])
def test_advice_that_cannot_be_remembered(cache, run):
    done = run("train", *SHORT, "--strategy=auto", before=ADVICE, XDG_CACHE_HOME=cache)
    assert done.returncode == 0, done.stderr
    told = "not remembered: there is no cache folder"
    assert (told in done.stdout) == (cache != "cache")
    assert ("advice.json" in done.stdout) == (cache == "cache")


def test_a_coordinator_that_does_not_answer(run):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        joining = (f"--coordinator_address={address}", "--num_processes=2")
        late = run("train", *joining, "--process_index=1", "--join_seconds=1")
        assert refusal(late) == (
            f"train.py: error: nobody listens at {address} (Connection refused, for "
            "1 s; see --join_seconds); start process 0, and give all its address\n"
        )
    alone = run("train", *joining, "--process_index=0", "--join_seconds=1")
    assert f"process 1 has not come to {address} within 1 s" in refusal(alone)


def test_processes_of_this_machine_ask_no_proxy(run, tmp_path):
    (tmp_path / "child.py").write_text(
        "import os\nprint(os.environ['no_grpc_proxy'], os.environ['http_proxy'])"
    )
    done = run(
        *("launch_local", "--num_processes=1", "--", "child.py"),
        http_proxy="http://127.0.0.1:9",
        no_proxy="example.org",
    )
    assert done.stdout == "example.org,127.0.0.1,localhost,::1 http://127.0.0.1:9\n"


FLAGS = {
    "lr": {"train": "learning_rate", "compare_strategies": "learning_rate"},
    "Learning-Rate": {"train": "learning_rate"},
    "batch": {"train": "batch_size"},
    "bs": {"train": "batch_size"},
    "epoch": {"train": "epochs"},
    "wd": {"train": "l2", "compare_strategies": "l2"},
    "data": dict.fromkeys(("train", "reproduce", "prepare_tfds"), "data_dir"),
    "out": {
        "train": "workdir",
        "reproduce": "workdir",
        "prepare_tfds": "output_dir",
    },
    "JSON": dict.fromkeys(("compare_strategies", "compare_runs", "recipes"), "json"),
    "nproc": {"launch_local": "num_processes"},
}


@pytest.mark.parametrize("script", ALL)
def test_a_flag_by_another_name(script, run):
    known = {name: there[script] for name, there in FLAGS.items() if script in there}
    for name, meant in known.items():
        line = refusal(run(script, f"--{name}=1"))
        assert f"unknown flag --{name}; did you mean --{meant}?" in line
    assert "Unknown command line flag 'zzz'" in refusal(run(script, "--zzz"))


def no_version(name: str) -> str:
    raise metadata.PackageNotFoundError(name)


def test_a_checkout_without_git_and_metadata(monkeypatch):
    monkeypatch.setenv("PATH", "/dev/null")
    monkeypatch.setattr(metadata, "version", no_version)
    described = describe_environment()
    assert described["commit"] == described["jax"] == "unknown"


@pytest.mark.parametrize(
    ("told", "model"),
    [
        ("processor\t: 0\nmodel name\t: AMD  EPYC 9554\n", "AMD EPYC 9554"),
        ("processor\t: 0\nmodel name\t:\n", "a core"),
        ("Processor: ARMv8\n", "a core"),
        (None, "a core"),
    ],
)
def test_the_model_of_the_cpu(told, model, tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "processor", lambda: "a core")
    if told is not None:
        (tmp_path / "cpuinfo").write_text(told)
    assert cpu_model(tmp_path / "cpuinfo") == model
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert cpu_model(tmp_path / "cpuinfo") == (None if model == "a core" else model)
