"""Give train.py's flags any values, up to what is trained; in a process of its own.

    python tests/flag_fuzzer.py EXAMPLES

Nothing but an experiment or an error in one line may come of them.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import _asked
import _flags
import train  # noqa: F401  # defines the flags
from absl import flags
from hostile import obeyed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnjax import experiments
from cnnjax.base.compile_cache import CompileCache
from cnnjax.base.errors import InputError
from cnnjax.data.sources import load_dataset
from cnnjax.experiments import recipes
from cnnjax.experiments.recipe import Recipe
from cnnjax.faults import FAULTS
from cnnjax.strategies import STRATEGIES

FLAGS = flags.FLAGS
SLOWEST_SECONDS = 30.0  # of one case: nothing that is refused may take long before
LEFT_OUT = ("coordinator_address", "num_processes", "process_index", "distributed")
WORDS = {  # what a flag of text may say that is right
    "recipe": list(recipes.RECIPES),
    "dataset": ["digits"],
    "strategy": [*STRATEGIES, "fastest"],
    "fault": list(FAULTS),
}
whole = st.one_of(
    st.integers(-2, 70),
    st.sampled_from(
        [10**9, 2**31, 2**32, 2**63, 10**12, 10**15, 10**18, 10**30, -(10**18)]
    ),
    st.integers(),
).map(str)
real = st.one_of(
    st.floats(0, 1),
    st.floats(),
    st.sampled_from(
        ["nan", "inf", "-inf", "1e400", "1e-400", "1e38", "-0.0", "1_0", ""]
    ),
).map(str)
text = st.text(st.characters(codec="utf-8"), max_size=12)


def values_of(name: str) -> st.SearchStrategy[str]:
    """Return what a flag may be given: mostly of its kind, else anything."""
    flag = FLAGS[name]
    choices = getattr(flag.parser, "enum_values", None) or WORDS.get(name)
    own = {"int": whole, "float": real}.get(flag.flag_type(), text)
    if choices:
        own = st.sampled_from(choices) | text
    return st.one_of(own, own, own, own, own, text)


def names() -> list[str]:
    """Return the flags of train.py that say what is trained."""
    defined = [flag.name for flag in FLAGS.get_flags_for_module(_flags)]
    return [name for name in defined if name not in LEFT_OUT]


given_flags = st.lists(
    st.sampled_from(names()).flatmap(
        lambda name: st.tuples(st.just(name), values_of(name))
    ),
    max_size=4,
)
DATASET = load_dataset("digits")
CACHE = CompileCache()
took: list[float] = []


def settle(argv: list[str]) -> Recipe:
    """Do what train.py does before it trains."""
    FLAGS.unparse_flags()
    for name in names():
        FLAGS[name].using_default_value = True
        FLAGS[name].value = FLAGS[name].default
    FLAGS(argv)
    if FLAGS.strategy == _flags.AUTO:
        FLAGS.strategy = None  # it would try them all
    _asked.refuse_idle()
    recipe, seeds = _asked.recipe_from_flags(or_auto=True), _asked.seeds()
    _asked.start_jax()
    recipe, options = _asked.settle(recipe, DATASET, CACHE)
    if len(argv) == 3:  # some of them: it takes longer
        experiments.prepare(recipe, DATASET, seed=seeds[0], options=options)
    return recipe


def check(argv: list[str]) -> None:
    """Hold what comes of some flags to what may come of them."""
    start = time.monotonic()
    try:
        recipe = settle(argv)
    except InputError as error:
        said = str(error)
        if obeyed(said) or "\n" in said or not said:
            raise AssertionError(argv) from error
    except flags.Error:
        pass  # _script prints it as one line
    else:
        assert isinstance(recipe, Recipe), argv
        assert math.isfinite(recipe.optimizer.learning_rate), argv
    took.append(time.monotonic() - start)
    assert took[-1] < SLOWEST_SECONDS, argv


KNOWN = [  # that once ended in a traceback, or did not end
    *("--microbatch_size=1000000000", "--num_seeds=1000000", f"--num_seeds={10**20}"),
    *("--num_devices=300", "--num_devices=1000000000000", f"--group_size={10**18}"),
    *(f"--epochs={10**12}", f"--epochs={10**30}", f"--batch_size={10**12}"),
    *(f"--num_train={10**15}", "--seed=-1", f"--seed={2**32}", f"--seed={10**30}"),
    *(f"--evaluate_every={10**18}", "--learning_rate=nan", "--learning_rate=inf"),
    *("--learning_rate=1e400", f"--model_devices={10**18}", "--l2=1e400", "--b1=nan"),
    *(f"--cosine_epochs={10**30}", "--fault=\x1b[2J", "--recipe=\x1b[2J"),
]


def main(examples: int) -> None:
    """Try what is known, then so many that are drawn."""
    for flag in KNOWN:
        check(["train.py", flag])
        check(["train.py", flag, "--recipe=momentum_mlp_per_sample"])

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples <= 500,
        database=None,
        suppress_health_check=(
            HealthCheck.too_slow,
            HealthCheck.function_scoped_fixture,
        ),
    )
    @given(given_flags)
    def fuzz(chosen: list[tuple[str, str]]) -> None:
        check(["train.py", *(f"--{name}={value}" for name, value in chosen)])

    fuzz()
    print(f"{len(took)} cases, the slowest {max(took):.1f} s, all {sum(took):.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]))
