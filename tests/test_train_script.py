"""`scripts/train.py` as a user runs it: what it prints, writes and refuses."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import test_data_cifar10
import test_data_idx
from safetensors.numpy import load_file
from strategy_table import DIVIDED

from cnnjax.experiments.fastest import fastest_form
from cnnjax.experiments.recipes import get_recipe
from cnnjax.strategies import NO_OPTIONS

ROOT = Path(__file__).parent.parent
TRAIN = ROOT / "scripts" / "train.py"
pytestmark = pytest.mark.xdist_group("train_script")
FORM = fastest_form(get_recipe("adam_cosine_cnn").model, 64, NO_OPTIONS)
HOUSING = "price,area,bedrooms,bathrooms,stories,parking\n"


def user_environment(cwd: Path) -> dict[str, str | None]:
    """Variables of a user, who has no compile cache of the tests."""
    cache = str(cwd / "cache")
    return {"XDG_CACHE_HOME": cache, "COLUMNS": "80", "JAX_COMPILATION_CACHE_DIR": None}


def run_from_shell(*flags: str, cwd: Path):
    environment = {**os.environ, **user_environment(cwd)}
    return subprocess.run(
        [sys.executable, TRAIN, *flags],
        cwd=cwd,
        env={name: value for name, value in environment.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def run_script(forks, tmp_path_factory):
    """The same, without the seconds of imports and of programs compiled before."""
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled"))}

    def run(*flags: str, cwd: Path):
        return forks.run(TRAIN, *flags, cwd=cwd, **user_environment(cwd) | compiled)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def metrics_of(run: Path) -> list[dict]:
    return [json.loads(s) for s in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def first(folder):
    done = run_from_shell("--workdir=first", "--epochs=2", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def train(forks, folder):
    """Train two epochs in a workdir of that name, with the compile cache of `first`."""
    cached = user_environment(folder)

    def run(name: str, *flags: str):
        flags = (f"--workdir={name}", "--epochs=2", *flags)
        done = forks.run(TRAIN, *flags, cwd=folder, **cached)
        assert done.returncode == 0, done.stderr
        return done

    return run


def test_it_says_what_it_does(first):
    lines = first.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(f"Python {sys.version.split()[0]}, jax ")
    assert "; 1 CPU device, " in lines[0]
    assert lines[2:4] == [
        "recipe adam_cosine_cnn, dataset digits (1,437 to train, 360 to test),",
        "  batch size 64, seed 0, float32",
    ]
    size = FORM.options.microbatch_size
    assert " ".join("".join(lines[4:6]).split()) == (
        f"strategy factored, microbatch size {size}: {FORM.why}"
    )
    assert "total                          805,066  1,431,296" in lines
    shown = next(i for i, line in enumerate(lines) if line.startswith("test example"))
    assert any("@" in line for line in lines[shown - 28 : shown])
    head = lines.index(
        "epoch    train     test   train    test  seconds  examples/s        lr"
    )
    assert lines[head - 1] == "       ----- loss -----  - accuracy % -"
    number, percent = r" +\d\.\d{4}", r" +\d\d\.\d\d"
    assert re.fullmatch(
        rf"    1{number}{number}{percent}{percent} +\d+\.\d+ +[\d,]+ +0\.001",
        lines[head + 1],
    )
    assert re.fullmatch(r"    2 .*  0\.000994", lines[head + 2])
    assert lines[head + 3] == ""  # both are shown: nothing is said of others
    named = lines[shown].replace(", label", ": label")
    assert lines[-5].startswith(f"{named}, predicted ")
    assert lines[-4].startswith("seconds: load ")
    assert "compile cache cold" in lines[-3]
    assert lines[-2] == "results in first"
    assert lines[-1].startswith("test accuracy: ")
    assert lines[-1].endswith(" %")
    assert first.stderr == ""


def test_it_writes_what_it_did(first, folder):
    run = folder / "first"
    names = {path.name for path in run.iterdir()}
    assert names == {
        "config.json",
        "metrics.jsonl",
        "result.json",
        "params.safetensors",
        "predictions.csv",
        "curves.png",
        "checkpoints",
        ".lock",
    }
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"]["optimizer"]["learning_rate"] == 1e-3
    assert config["recipe"]["dataset"] == "digits"
    # What was chosen, not that it was.
    assert config["recipe"]["strategy"] == "factored"
    assert config["microbatch_size"] == FORM.options.microbatch_size
    metrics = metrics_of(run)
    assert [line["epoch"] for line in metrics] == [1, 2]
    assert [line["step"] for line in metrics] == [23, 46]
    assert {
        "learning_rate",
        "train_loss",
        "train_accuracy",
        "test_loss",
        "test_accuracy",
        "seconds",
        "examples_per_second",
    } < metrics[0].keys()
    result = json.loads((run / "result.json").read_text())
    assert result["parameters"] == 805_066
    assert result["macs_per_example"] == 1_431_296
    assert result["test_examples"] == 360
    assert result["test_accuracy"] == metrics[-1]["test_accuracy"]
    assert result["environment"]["jax"]
    last = first.stdout.splitlines()[-1]
    assert last == f"test accuracy: {100 * result['test_accuracy']:.2f} %"
    spent = [v for k, v in result.items() if k.endswith("_seconds")]
    total = result["total_seconds"]
    assert (
        0.5 * total < sum(spent) - total < 1.001 * total
    )  # the parts, of a busy machine
    trained = sum(line["seconds"] for line in metrics)
    assert result["train_seconds"] == pytest.approx(trained, rel=1e-6)
    rate = 2 * 1437 / result["train_seconds"]
    assert result["examples_per_second"] == pytest.approx(rate)
    tensors = load_file(run / "params.safetensors")
    assert tensors["dense_4/kernel"].shape == (6272, 128)
    assert sum(tensor.size for tensor in tensors.values()) == 805_066


def timeless(run: Path) -> list[dict]:
    lines = metrics_of(run)
    times = ("seconds", "examples_per_second")
    return [{k: v for k, v in line.items() if k not in times} for line in lines]


def test_the_same_command_gives_the_same_bits(first, folder, train):
    """The second finds a warm compile cache, and evaluates at the end only."""
    again = train("again")
    assert "compile cache warm" in again.stdout
    assert timeless(folder / "first") == timeless(folder / "again")
    train("unevaluated", "--evaluate_every=0")
    contents = {
        (folder / run / "params.safetensors").read_bytes()
        for run in ("first", "again", "unevaluated")
    }
    assert len(contents) == 1
    assert b"kernel" in contents.pop()


def test_another_seed_gives_other_bits(first, folder, train):
    train("seed1", "--seed=1", "--evaluate_every=0")
    files = [folder / run / "params.safetensors" for run in ("first", "seed1")]
    assert files[0].read_bytes() != files[1].read_bytes()


def contents(run: Path) -> dict[str, bytes]:
    files = [path for path in run.rglob("*") if path.is_file()]
    return {str(p): p.read_bytes() for p in files if p.name != ".lock"}


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        (("--epochs=2",), 0, "the run in first is finished: test accuracy "),
        (
            ("--epochs=2", "--resume=never"),
            2,
            "train.py: error: workdir first already holds a run (result.json, ",
        ),
        (
            ("--epochs=2", "--batch_size=32"),
            2,
            "train.py: error: workdir first holds another run: recipe.batch_size was "
            "64, is 32; choose another --workdir, or --overwrite to replace it",
        ),
        (
            ("--epochs=1",),
            2,
            "train.py: error: expected --epochs of at least 2 in workdir first, got 1",
        ),
    ],
)
def test_a_run_is_kept_unless_told_otherwise(
    flags, status, said, first, folder, run_script
):
    before = contents(folder / "first")
    again = run_script("--workdir=first", *flags, cwd=folder)
    assert again.returncode == status
    told, other = (again.stdout, again.stderr)[:: 1 if status == 0 else -1]
    assert told.startswith(said)
    assert other == ""
    assert contents(folder / "first") == before


@pytest.mark.parametrize(
    "strategy",
    [
        "shard_map",
        pytest.param("vmap", marks=pytest.mark.slow),
        pytest.param("sharded", marks=pytest.mark.slow),
        pytest.param("pmap", marks=pytest.mark.slow),
    ],
)
def test_strategies_train_alike(strategy, first, folder, train):
    """On two virtual devices, with microbatches: the same losses to four digits."""
    divided = strategy in DIVIDED
    flags = (f"--strategy={strategy}", f"--num_devices={2 if divided else 1}")
    train(strategy, *flags, "--microbatch_size=16")
    expected, got = (metrics_of(folder / run)[0] for run in ("first", strategy))
    assert got["train_loss"] == pytest.approx(expected["train_loss"], abs=1e-4)
    assert got["test_accuracy"] == pytest.approx(expected["test_accuracy"], abs=0.01)


def test_every_update_can_be_logged(folder, train):
    train("logged", "--log_steps", "--num_train=100", "--batch_size=32")
    names, *lines = (folder / "logged" / "steps.csv").read_text().splitlines()
    assert names == "step,weight,loss,accuracy"
    rows = np.array([[float(cell) for cell in line.split(",")] for line in lines])
    assert rows[:, 0].tolist() == list(range(1, len(rows) + 1))
    assert rows[:4, 1].tolist() == [32, 32, 32, 4]
    epoch = metrics_of(folder / "logged")[0]
    mean = np.average(rows[:4, 2], weights=rows[:4, 1])
    assert epoch["train_loss"] == pytest.approx(mean)


@pytest.mark.parametrize(
    "strategy",
    [pytest.param("vmap_norms", marks=pytest.mark.slow), "factored_norms"],
)
def test_norms_are_reported(strategy, first, folder, train):
    done = train(strategy, f"--strategy={strategy}", "--microbatch_size=16")
    lines = done.stdout.splitlines()
    (head,) = (i for i, line in enumerate(lines) if line.startswith("epoch "))
    assert "   norm  " in lines[head]
    assert " grad " in lines[head - 1]
    assert max(map(len, lines)) <= 80
    line = metrics_of(folder / strategy)[0]
    assert line["train_grad_norm"] > 0
    expected = metrics_of(folder / "first")[0]["train_loss"]
    assert line["train_loss"] == pytest.approx(expected, abs=1e-4)


def test_a_fault_is_switched_in_and_told(tmp_path, run_script):
    flags = ("--epochs=1", "--fault=reversed_gradient", "--fault=batch_on_the_host")
    done = run_script("--workdir=run", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    told = [
        "FAULT reversed_gradient: The gradient has the wrong sign: the loss rises.",
        "FAULT batch_on_the_host: Each step copies its batch from the host, and waits "
        "for",
        "  it.",
    ]
    epoch = next(i for i, line in enumerate(lines) if line.startswith("epoch "))
    first = lines.index(told[0])
    assert lines[first : first + 3] == told
    assert first < epoch
    assert lines[-6:-3] == told
    assert lines[-3].startswith("nothing was learned: a guess, ")
    assert lines[-1].startswith("test accuracy: ")
    for name in ("config.json", "result.json"):
        kept = json.loads((tmp_path / "run" / name).read_text())
        assert kept["faults"] == ["reversed_gradient", "batch_on_the_host"]
    loss = metrics_of(tmp_path / "run")[0]["train_loss"]
    assert loss is None or loss > 2.4  # above that of a guess


def test_a_regression_runs_and_is_told_by_its_loss(tmp_path, run_script):
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 100, (60, 6))
    table = "\n".join(",".join(map(str, row)) for row in rows)
    (tmp_path / "Housing.csv").write_text(HOUSING + table + "\n")
    flags = ("--recipe=tanh_mlp_housing_narrow", "--data_dir=.", "--epochs=3")
    done = run_script(*flags, "--workdir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "dataset housing (48 to train, 12 to test)" in done.stdout
    assert lines[-1].startswith("test loss: 0.")
    assert "accuracy" not in done.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["test_examples"] == 12
    assert "test_accuracy" not in result


IDX = dict(zip(("images", "labels"), test_data_idx.FILES[:2], strict=True))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Make a folder of data sets, each wrong in one way."""
    folder = tmp_path_factory.mktemp("damaged")
    good = test_data_idx.make_files()
    zipped = {f"{name}.gz": gzip.compress(content) for name, content in good.items()}
    images, labels = (f"{IDX[part]}.gz" for part in ("images", "labels"))
    corrupt = bytearray(zipped[images])
    corrupt[len(corrupt) // 2] ^= 0xFF
    wrong_labels = good[IDX["labels"]][:-1] + b"\x0b"
    sets = {
        "missing": {images: zipped[images]},
        "truncated": {**good, IDX["images"]: good[IDX["images"]][:-9]},
        "corrupt": {**zipped, images: bytes(corrupt)},
        "cut_gzip": {**zipped, images: zipped[images][:-40]},
        "no_gzip": {**zipped, images: b"<html>moved</html>"},
        "labels": {**zipped, labels: gzip.compress(wrong_labels)},
        "size": test_data_idx.make_files(size=(20, 20)),
        "tiny": test_data_idx.make_files(size=(4, 4)),
        "csv": {"Housing.csv": (HOUSING + "1,2,3,4,many,6\n").encode()},
        "csv_columns": {"Housing.csv": b"price,area\n1,2\n"},
        "empty": {},
    }
    for name, contents in sets.items():
        test_data_idx.write(folder / name, contents)
    records = test_data_cifar10.make_files()
    archive = test_data_cifar10.archive_of(records)
    test_data_cifar10.write_files(
        folder / "archive", {test_data_cifar10.ARCHIVE: archive[: len(archive) // 2]}
    )
    return folder


IDX_SET = ("--dataset=idx",)
BAD = {
    "recipe": (
        ["--recipe=adam_cosin_cnn"],
        "'adam_cosin_cnn'; did you mean adam_cosine_",
    ),
    "dataset": (["--dataset=mnits"], "unknown dataset 'mnits'; did you mean mnist"),
    "strategy": (["--strategy=jjit"], "unknown strategy 'jjit'; did you mean jit"),
    "flag": (["--epoch_count=3"], "Unknown command line flag 'epoch_count'"),
    "argument": (["digits"], "expected flags only, got 'digits'"),
    "number": (["--batch_size=many"], "batch_size"),
    "missing": ([*IDX_SET, "--data_dir=missing"], "missing"),
    "no files": ([*IDX_SET, "--data_dir=empty"], "empty"),
    "truncated": ([*IDX_SET, "--data_dir=truncated"], "train-images-idx3-ubyte"),
    "corrupt": ([*IDX_SET, "--data_dir=corrupt"], "train-images-idx3-ubyte.gz"),
    "cut gzip": ([*IDX_SET, "--data_dir=cut_gzip"], "train-images-idx3-ubyte.gz"),
    "no gzip": ([*IDX_SET, "--data_dir=no_gzip"], "train-images-idx3-ubyte.gz"),
    "labels": (["--dataset=kmnist", "--data_dir=labels"], "labels 0 to 9, got 11"),
    "checksum": (["--dataset=mnist", "--data_dir=size"], "mnist"),
    "image size": (
        [*IDX_SET, "--data_dir=tiny", "--recipe=sgd_dropout_cnn"],
        "conv",
    ),
    "csv": (
        ["--recipe=tanh_mlp_housing_narrow", "--data_dir=csv"],
        "many",
    ),
    "csv columns": (
        ["--recipe=tanh_mlp_housing_narrow", "--data_dir=csv_columns"],
        "bedrooms",
    ),
    "archive": (
        ["--recipe=tanh_mlp_cifar10_deep", "--data_dir=archive"],
        "cifar-10-binary.tar.gz",
    ),
    "batch size 0": (["--batch_size=0"], "batch_size from 1 to the 1437"),
    "batch size": (["--batch_size=1438"], "batch_size from 1 to the 1437"),
    "epochs": (["--epochs=-1"], "epochs of at least 0, got -1"),
    "learning rate": (["--learning_rate=nan"], "learning_rate finite and at least 0"),
    "seed": (["--seed=-3"], "seed from 0 to 2**32 - 1, got -3"),
    "digits": (["--dataset=digits", "--data_dir=empty"], "digits needs no files"),
    "no value": (["--dataset="], "expected a value for --dataset"),
    "devices": (
        ["--num_devices=2", "--strategy=jit"],
        "strategy 'jit' runs on one device",
    ),
    "fault": (["--fault=missing_sum"], "'missing_sum'; did you mean missing_psum"),
    "fault of devices": (
        ["--fault=missing_psum"],
        "fault 'missing_psum' needs a strategy that divides over at least 2 devices",
    ),
    "fault of dropout": (
        ["--fault=one_dropout_mask_for_all"],
        "needs a recipe with dropout: --recipe=sgd_dropout_cnn, got one without",
    ),
    "microbatch": (["--microbatch_size=0"], "microbatch_size"),
    "no effect": (["--momentum=0.9"], "with Adam and Cosine, has no momentum to set"),
    "evaluate every": (["--evaluate_every=-1"], "evaluate_every"),
    "steps of seeds": (
        ["--log_steps", "--num_seeds=2"],
        "expected --num_seeds=1 with --log_steps, got 2",
    ),
    "group of one": (
        ["--group_size=2"],
        "expected several --num_seeds with --group_size, got 1",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_one_line(case, damaged, run_script):
    flags, message = BAD[case]
    before = sorted(damaged.rglob("*"))
    refused = run_script("--workdir=run", *flags, cwd=damaged)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert refused.stdout == ""
    lines = refused.stderr.splitlines()
    assert len(lines) == 1, refused.stderr
    assert lines[0].startswith("train.py: error: ")
    assert message in lines[0]
    made = {damaged / "run", damaged / "cache"}
    after = [p for p in damaged.rglob("*") if not made & {p, *p.parents}]
    assert sorted(after) == [p for p in before if not made & {p, *p.parents}]
    assert not (damaged / "run").exists()


@pytest.mark.parametrize("flag", ["--overwrite", "--log_steps"])
def test_what_needs_a_workdir_is_refused_without(flag, tmp_path, run_script):
    refused = run_script(flag, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr == (
        f"train.py: error: expected --workdir with {flag}, got None\n"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--num_seeds=2", "--group_size=2", "--strategy=eager"),
            "strategy 'eager' trains one seed at a time",
        ),
        (
            ("--num_seeds=2", "--seed=4294967295"),
            "expected seeds up to 2**32 - 1, got '4294967295 to 4294967296'",
        ),
        (
            ("--fault=reversed_gradient", "--fault=reversed_gradient"),
            "expected each fault once, got 'reversed_gradient' twice",
        ),
    ],
)
def test_what_is_refused_overwrites_no_earlier_run(
    flags, message, tmp_path, run_script
):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").write_text("{}")
    refused = run_script("--workdir=run", "--overwrite", *flags, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith(f"train.py: error: {message}")
    assert (tmp_path / "run" / "result.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("workdir", "message"),
    [
        ("file/run", "cannot write file/run: Not a directory"),
        ("/proc/run", "cannot write /proc/run: "),
        ("", "expected workdir to be a folder's name, got ''"),
    ],
)
def test_a_workdir_that_cannot_be_written(workdir, message, tmp_path, run_script):
    (tmp_path / "file").write_text("")
    refused = run_script(f"--workdir={workdir}", "--epochs=1", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith(f"train.py: error: {message}")
    assert len(refused.stderr.splitlines()) == 1


def test_too_little_room_for_the_parameters_loses_no_earlier_run(first, folder):
    """The room is tried out before anything is removed, or trained."""
    before = contents(folder / "first")

    script = f"{sys.executable} {TRAIN}"
    limited = f"ulimit -f 1024; {script} --workdir=first --overwrite --epochs=1"
    refused = subprocess.run(
        ["bash", "-c", limited], cwd=folder, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert refused.stderr == (
        "train.py: error: cannot write first: File too large; choose another --workdir "
        "or make room there\n"
    )
    assert contents(folder / "first") == before


def test_a_diverged_run_says_so(tmp_path, run_script):
    flags = ("--algorithm=sgd", "--schedule=constant", "--learning_rate=1e8")
    flags = (*flags, "--on_nan=continue")
    done = run_script(*flags, "--epochs=1", "--workdir=run", cwd=tmp_path)
    assert done.returncode == 0
    assert "warning: the loss of epoch 1 is nan: the run has diverged" in done.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["diverged"], result["test_no_prediction"]) == (True, 360)
    *_, told, last = done.stdout.splitlines()
    nothing = "no prediction for 360 of 360 test examples"
    assert told == f"warning: the run has diverged: {nothing}"
    assert last == "test accuracy: 0.00 %"
    assert ", predicted nothing\n" in done.stdout


def test_no_epochs_leave_a_complete_result(tmp_path, run_script):
    done = run_script("--epochs=0", "--workdir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["train_seconds"] == 0.0
    assert result["test_examples"] == 360
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == ""


def test_the_default_recipe_learns_the_digits(tmp_path):
    """What `make train` does: at least 96 % after 20 epochs."""
    done = run_from_shell("--epochs=20", "--evaluate_every=0", cwd=tmp_path)
    accuracy = re.search(r"test accuracy: (\d+\.\d\d) %$", done.stdout.strip())
    assert accuracy is not None, done.stdout + done.stderr
    assert float(accuracy[1]) >= 96.0


def test_help_shows_the_flags_and_a_gone_reader_ends_quietly(tmp_path):
    shown = run_from_shell("--helpshort", cwd=tmp_path)
    assert shown.returncode == 0
    for flag in ("--recipe=", "--dataset=", "--learning_rate=", "--workdir="):
        assert flag in shown.stdout
    command = f"{sys.executable} {TRAIN} --epochs=3 | head -1"
    gone = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert gone.stdout.startswith("Python ")
    assert gone.stderr == ""


# An MLP compiles in less time than the default recipe.
AUTO = ("--strategy=auto", "--recipe=momentum_mlp_per_sample")


@pytest.fixture(scope="module")
def chosen(tmp_path_factory, run_script):
    """A run that tried strategies, and one that remembered."""
    folder = tmp_path_factory.mktemp("auto")
    flags = (*AUTO, "--epochs=1", "--batch_size=8", "--overwrite")
    return folder, [run_script(*flags, "--workdir=run", cwd=folder) for _ in range(2)]


@pytest.mark.slow  # it times every strategy, twice
def test_auto_says_what_it_chose_and_why_and_remembers(chosen):
    folder, (first, second) = chosen
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "trying every strategy that fits" in first.stdout
    assert "trying" not in second.stdout
    told = [
        line
        for run in (first, second)
        for line in run.stdout.splitlines()
        if line.startswith("strategy auto: use ")
    ]
    assert len(told) == 2
    assert told[0] == told[1]
    assert "examples/s" in told[0]
    config = json.loads((folder / "run" / "config.json").read_text())
    name = config["recipe"]["strategy"]
    size = config["microbatch_size"]
    words = name if size is None else f"{name} in microbatches of {size}"
    assert told[0].startswith(f"strategy auto: use {words}: ")
    assert f"strategy {name}" in second.stdout


@pytest.mark.slow
def test_auto_remembers_by_batch_size_and_survives_a_damaged_memory(chosen, run_script):
    folder, _ = chosen
    (memory,) = (folder / "cache").rglob("advice.json")
    memory.write_text("{")
    again = run_script(*AUTO, "--epochs=0", "--batch_size=8", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert "trying every strategy that fits" in again.stdout
    assert len(json.loads(memory.read_text())) == 1


@pytest.mark.parametrize("flag", ["--microbatch_size=4", "--model_devices=2"])
def test_auto_refuses_what_it_would_have_to_choose(flag, tmp_path, run_script):
    refused = run_script("--strategy=auto", flag, "--workdir=run", cwd=tmp_path)
    assert refused.returncode == 2
    assert "leave --microbatch_size and --model_devices out" in refused.stderr
    assert not (tmp_path / "run").exists()
