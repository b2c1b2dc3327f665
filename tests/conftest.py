"""Eight CPU devices before any array; no silent rank promotion; shapes on request."""

import atexit
import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
# Many tests compile the same small programs: one cache for all workers of a run, or of
# several runs, where it is given.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    cache = tempfile.mkdtemp("cnnjax-xla")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
# Workers inherit the environment that is changed below: they find the flags here.
os.environ.setdefault("XLA_FLAGS_OF_TESTS", os.environ.get("XLA_FLAGS", ""))
os.environ["XLA_FLAGS"] = os.environ["XLA_FLAGS_OF_TESTS"]

import jax
import jaxtyping
import pytest
import slow
from forked import Forks
from jaxtyping import install_import_hook

collect_ignore = ["flag_fuzzer.py"]  # it defines flags that others define, too
jax.config.update("jax_num_cpu_devices", 8)
jax.devices()  # now XLA has read its flags; what the tests start runs as it is in use
OURS = ("--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false")
flags = os.environ["XLA_FLAGS"].split()
os.environ["XLA_FLAGS"] = " ".join(flag for flag in flags if flag not in OURS)
jax.config.update("jax_numpy_rank_promotion", "raise")
if os.environ.get("CHECK_TYPES"):  # of every call: a third of the time of most tests
    install_import_hook("cnnjax", "beartype.beartype")


def pytest_collection_modifyitems(items):
    for item in items:
        if (why := slow.reason(item.nodeid)) is not None:
            item.add_marker(pytest.mark.slow(reason=why))


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """Forget the programs of a module: a worker keeps 1.6 GB instead of 4.4."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def forks():
    """Run scripts in processes that need not import the libraries again."""
    started = Forks()
    yield started
    started.close()


@pytest.fixture
def unchecked():
    """Let values of any type through to the library, as a user's program does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
