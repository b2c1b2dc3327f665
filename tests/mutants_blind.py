"""More small faults, of other kinds, chosen from the library's source alone.

They were written down before any test of them was looked at, and stay as they were:
what the tests do not see of them says something of the tests.
"""

from __future__ import annotations

import mutant
from mutant import Mutant

LAYERS = ("tests/test_layers.py",)
MODELS = ("tests/test_models.py",)
LOSSES = ("tests/test_losses.py", "tests/test_evaluation.py")
LAWS = ("tests/test_strategy_laws.py",)
PER_EXAMPLE = ("tests/test_per_example.py",)
OPTIMIZERS = ("tests/test_optimizers.py",)
EPOCHS = ("tests/test_epochs.py", "tests/test_data_order.py")
STATISTICS = ("tests/test_statistics.py",)

BLIND_MUTANTS = (
    # Layers.
    Mutant(
        "padding_of_rows_for_columns",
        "Left and right of an image are as many zeros as above and below it.",
        "cnnjax/models/layers.py",
        "jnp.pad(image, (*padding, (0, 0)))",
        "jnp.pad(image, (padding[0], padding[0], (0, 0)))",
        (*LAYERS, "tests/test_arguments.py"),
    ),
    Mutant(
        "pool_looks_at_two_columns",
        "Of each row of a block, the pool looks at the first two entries.",
        "cnnjax/models/pools.py",
        "for i in sides for j in sides]",
        "for i in sides for j in sides[:2]]",
        LAYERS,
    ),
    # Networks and how they are drawn.
    Mutant(
        "rate_of_the_kept",
        "Dropout keeps each entry with the probability that it should drop it with.",
        "cnnjax/models/network.py",
        "nn.Dropout(layer.rate, name",
        "nn.Dropout(1 - layer.rate if layer.rate else layer.rate, name",
        ("tests/test_dropout.py", "tests/test_models.py"),
    ),
    Mutant(
        "factors_without_dropout",
        "The strategies that go by factors train without dropout.",
        "cnnjax/models/network_loss.py",
        'variables, scaled, mutable=["inputs"], **mode(key)',
        'variables, scaled, mutable=["inputs"], **mode(None)',
        ("tests/test_dropout.py", "tests/test_strategy_laws.py"),
    ),
    Mutant(
        "glorot_of_the_textbook",
        "Glorot's bound is the textbook's sqrt(6 / (in + out)), not the published one.",
        "cnnjax/models/initializers.py",
        'GLOROT_UNIFORM_BOUND = Initializer(gain=2.0, fan="sum")',
        'GLOROT_UNIFORM_BOUND = Initializer(gain=6.0, fan="sum")',
        MODELS,
    ),
    Mutant(
        "deviation_for_variance",
        "The deviation of normal_0.001 is given where its square belongs.",
        "cnnjax/models/initializers.py",
        'gain=1e-6, fan="one"',
        'gain=1e-3, fan="one"',
        MODELS,
    ),
    # Losses.
    Mutant(
        "ruled_out_class_forbids_a_prediction",
        "Where one class is ruled out by a logit of -infinity, none is predicted.",
        "cnnjax/models/losses.py",
        "jnp.isfinite(jnp.max(logits))",
        "jnp.all(jnp.isfinite(logits))",
        LOSSES,
    ),
    # Gradients, rules and reductions.
    Mutant(
        "weights_as_a_mask",
        "The gradient of a whole batch asks of a weight only whether it is 0.",
        "cnnjax/gradients/shares.py",
        "name: jnp.sum(weighted(value, batch.weights))",
        "name: jnp.sum(weighted(value, batch.weights > 0))",
        LAWS,
    ),
    Mutant(
        "always_clipped_to_one",
        "By rows, gradients are clipped to 1, whatever norm is asked for.",
        "cnnjax/gradients/reductions.py",
        "        factor = factor_of(norm)\n",
        "        factor = clip_factor(norm, max_norm=1.0)\n",
        PER_EXAMPLE,
    ),
    Mutant(
        "clipping_adds_an_eps",
        "A norm is made larger by 1e-6 before it is divided by.",
        "cnnjax/gradients/reductions.py",
        "jnp.ones_like(norms), max_norm / norms)",
        "jnp.ones_like(norms), max_norm / (norms + 1e-6))",
        PER_EXAMPLE,
    ),
    # Factors.
    Mutant(
        "means_of_what_is_clipped",
        "By factors, an example that is clipped counts for less in loss and metrics.",
        "cnnjax/gradients/factored.py",
        '_weighted({**values, "grad_norm": norms}, fractions)',
        '_weighted({**values, "grad_norm": norms}, coefficients)',
        PER_EXAMPLE,
    ),
    Mutant(
        "large_inputs_lose_their_unit",
        "Inputs too long to be squared are measured in units, and left in them.",
        "cnnjax/gradients/factors.py",
        "return unit * jnp.sqrt(",
        "return jnp.sqrt(",
        PER_EXAMPLE,
    ),
    # Microbatches, padding and devices.
    Mutant(
        "microbatches_added_as_they_come",
        "The shares of microbatches are added up in the type of the parameters.",
        "cnnjax/gradients/microbatches.py",
        "lambda s, a: s + widen(a), sums",
        "lambda s, a: (s.astype(a.dtype) + a).astype(s.dtype), sums",
        ("tests/test_precision.py", "tests/test_strategy_laws.py"),
    ),
    Mutant(
        "stand_in_is_the_first",
        "Padding takes the values of the first example, though that is padding, too.",
        "cnnjax/gradients/padding.py",
        "first = jnp.argmax(real)",
        "first = 0",
        ("tests/test_padding.py",),
    ),
    Mutant(
        "batch_of_padding_on_devices",
        "On devices, the mean of a batch that is all padding is not a number.",
        "cnnjax/devices/maps.py",
        "share(params, part, padding.nonzero(total))",
        "share(params, part, total)",
        ("tests/test_padding.py", "tests/test_strategy_laws.py"),
    ),
    Mutant(
        "sharded_takes_the_callers_arrays",
        "What the caller gave to sharded training is gone after the first update.",
        "cnnjax/devices/mesh.py",
        "copied = jax.tree.map(jnp.copy, tree)",
        "copied = jax.tree.map(jnp.asarray, tree)",
        ("tests/test_partitioning.py", "tests/test_promises.py"),
    ),
    # Optimizers and schedules.
    Mutant(
        "dampened_momentum",
        "The velocity is a mean of gradients: momentum v + (1 - momentum) g.",
        "cnnjax/training/algorithms.py",
        mutant.SGD_RULE,
        "velocity = optax.ema(self.momentum, debias=False)\n"
        "        rate = optax.scale_by_learning_rate(schedule)\n"
        "        return optax.chain(velocity, rate)",
        OPTIMIZERS,
    ),
    Mutant(
        "cosine_ends_one_update_early",
        "By step, a cosine is at its lowest one update too early.",
        "cnnjax/training/schedules.py",
        "* (1 if by_epoch else steps_per_epoch),",
        "* (1 if by_epoch else steps_per_epoch)\n"
        "                - (0 if by_epoch else 1),",
        OPTIMIZERS,
    ),
    # The order of examples.
    Mutant(
        "only_the_first_are_seen",
        "Where an epoch sees some of the examples, it is always the same first ones.",
        "cnnjax/training/updates.py",
        "key, epoch, num_examples=num_examples, shuffle=config.shuffle",
        "key, epoch, num_examples=visited, shuffle=config.shuffle",
        (*EPOCHS, "tests/test_faults.py"),
    ),
    Mutant(
        "last_updates_left_out",
        "The last updates of an epoch are left out where they do not fill a call.",
        "cnnjax/training/calls.py",
        "for first in range(at.update, num_steps, per_call)",
        "for first in range(at.update, num_steps - per_call + 1, per_call)",
        (*EPOCHS, "tests/test_train_script.py"),
    ),
    # Data and its preprocessing.
    Mutant(
        "smallest_pixel_stays",
        "An image is divided by its largest pixel, and the smallest not taken off.",
        "cnnjax/data/preprocessing.py",
        "low, high = x.min(), x.max()",
        "low, high = jnp.zeros_like(x.min()), x.max()",
        ("tests/test_data_order.py", "tests/test_models.py"),
    ),
    Mutant(
        "copied_deviations",
        "CIFAR-10's pixels are divided by the much copied, too small deviations.",
        "cnnjax/experiments/recipes.py",
        "std=(0.2470, 0.2435, 0.2616)",
        "std=(0.2023, 0.1994, 0.2010)",
        ("tests/test_published.py",),
    ),
    # Evaluation.
    Mutant(
        "last_epoch_is_not_tested",
        "The last epoch's record has a test only where every so many falls on it.",
        "cnnjax/experiments/judging.py",
        "return epoch == epochs or (evaluate_every > 0 and",
        "return (evaluate_every > 0 and",
        ("tests/test_evaluation.py", "tests/test_training.py"),
    ),
    Mutant(
        "diverged_only_at_the_end",
        "A run has diverged only where its last epoch has.",
        "cnnjax/experiments/runs.py",
        "any(record.diverged for record in self.records)",
        "any(record.diverged for record in self.records[-1:])",
        ("tests/test_divergence.py",),
    ),
    # Many seeds.
    Mutant(
        "records_in_one_list",
        "The seeds of a group share one list of records.",
        "cnnjax/training/epochs.py",
        "records[index] = (*records[index], record)",
        "records[index] = (*records[0], record)",
        ("tests/test_ensembles.py",),
    ),
    Mutant(
        "neighbouring_seeds_share_keys",
        "A seed draws its order from what the next one draws its split from.",
        "cnnjax/experiments/experiment.py",
        "Keys(*jax.random.split(new_key(seed), len(Keys._fields)))",
        "Keys(*(new_key((seed + i) % (LAST_SEED + 1)) for i in range(4)))",
        ("tests/test_ensembles.py", "tests/test_data_order.py"),
    ),
    # Statistics.
    Mutant(
        "prediction_with_n_degrees",
        "The interval for one more value has n degrees of freedom, not n - 1.",
        "cnnjax/statistics/intervals.py",
        "error, len(array) - 1, ",
        "error, len(array), ",
        (*STATISTICS, "tests/test_promises.py"),
    ),
    Mutant(
        "mcnemar_above_one",
        "McNemar's p is twice a tail, which is above 1 where neither was better.",
        "cnnjax/statistics/mcnemar.py",
        "float(scipy.stats.binomtest(only_a, apart).pvalue)",
        "float(2 * scipy.stats.binom.cdf(min(only_a, only_b), apart, 0.5))",
        STATISTICS,
    ),
    Mutant(
        "divisions_by_population_variance",
        "The permutation test divides the squares of each side by n, not n - 1.",
        "cnnjax/statistics/permutations.py",
        "np.var(side, axis, ddof=1)",
        "np.var(side, axis, ddof=0)",
        STATISTICS,
    ),
    Mutant(
        "power_with_students_freedom",
        "The power of Welch's test is that of a test with 2n - 2 degrees of freedom.",
        "cnnjax/statistics/effects.py",
        "_critical_t((n - 1) * (a + b) ** 2 / (a**2 + b**2))",
        "_critical_t(2.0 * n - 2 + 0 * shares)",
        (*STATISTICS, "tests/test_promises.py"),
    ),
)
