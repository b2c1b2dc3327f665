"""Tests that `make test` leaves to `make test-all`, and which of their kind stay.

Each takes seconds, and another member of its kind stands for it in `make test`: a test
of the table is slow unless the part in its brackets has one of the words that are kept.
(Tests with a reason of their own are marked `slow` where they are written.)
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Kind(NamedTuple):
    """A test, the cases of it that stay in `make test`, and why these."""

    test: str
    kept: tuple[str, ...]
    why: str


ONE_OF_EACH = "one strategy of each device map; the body is the same"
BY_THE_FIRST_LAW = "all have the gradient of this one, by the first law"
KINDS = (
    # Laws. Every strategy still obeys the first law, and every law catches its mutant.
    Kind(
        "test_strategy_laws.py::test_every_strategy_obeys",
        ("gradients_equal", "jit-", "factored-None", "sharded-", "shard_map-"),
        "the first law for all; the others for one of each rule and device map",
    ),
    Kind(
        "test_strategy_laws.py::test_microbatches_change_nothing",
        ("[factored]", "[sharded]", "[shard_map]"),
        ONE_OF_EACH,
    ),
    Kind(
        "test_strategy_laws.py::test_a_batch_of_any_size_needs_no_placing",
        ("[sharded-13]", "[shard_map-2]", "[pmap-13]"),
        ONE_OF_EACH,
    ),
    Kind(
        "test_strategy_laws.py::test_a_wrong_device_map_is_caught_under_every_rule",
        ("n_times_too_large", "mean_of_local_means"),
        "under the rule `batch`, test_every_fault_is_caught has all",
    ),
    Kind(
        "test_strategy_laws.py::test_training_lowers_the_loss_and_leaves_the_parameters",
        ("[jit-", "[shard_map-"),
        ONE_OF_EACH,
    ),
    Kind(
        "test_equivalence.py::test_a_right_strategy_agrees",
        ("[jit]", "[factored]", "[shard_map]"),
        "built on the laws, which all strategies obey",
    ),
    Kind(
        "test_equivalence.py::test_no_fault_agrees",
        ("mean_of_local_means", "callback_in_the_step", "state_is_not_copied"),
        "built on the laws, which catch every fault",
    ),
    Kind(
        "test_equivalence.py::test_a_right_rule_agrees",
        ("norms-rows", "clipped-factors"),
        "each reduction is compared in test_per_example",
    ),
    Kind(
        "test_laws_check.py::test_an_own_network_obeys_in_every_form",
        ("[shard_map-keys]",),
        "the strategies are those of the law tests",
    ),
    Kind(
        "test_law.py::test_right_rules_obey_for_all_parameters",
        ("float32",),
        "the bound differs in u alone; docs/law.md has all types",
    ),
    Kind(
        "test_strategy_laws.py::test_every_recipe_has_one_gradient",
        ("housing",),
        "test_composed_loss holds the other recipes to NumPy",
    ),
    Kind(
        "test_table.py::test_the_reduction_is_done",
        ("[jit]", "[pmap]", "[sharded]", "[vmap_norms]", "[serial]"),
        ONE_OF_EACH,
    ),
    Kind(
        "test_table.py::test_it_runs_as_run_says",
        ("[eager]", "[vmap]", "[sharded]", "[shard_map]", "[pmap]"),
        ONE_OF_EACH,
    ),
    Kind(
        "test_table.py::test_microbatches_are_of_whom_by_hand_says",
        ("[serial]", "[jit]", "[shard_map]"),
        ONE_OF_EACH,
    ),
    Kind(
        "test_contract.py::test_a_loss_that_breaks_the_contract_is_refused_alike",
        (
            *("nothing", "whole number", "without a name", "named weight", "(1,)"),
            *("the number of devices]", "over devices in an inner", "mean over the b"),
        ),
        "one of each kind of breach, and what hides it best",
    ),
    Kind(
        "test_dealing.py::test_every_example_counts_once_with_its_own_weight_and_key",
        ("[sharded-4-3", "[shard_map-4", "[pmap-2", "[jit-", "[serial-"),
        ONE_OF_EACH,
    ),
    Kind(
        "test_settings.py::test_a_mesh_of_the_caller",
        ("[sharded-AxisType.Auto", "[shard_map-", "[factored-AxisType.Explicit"),
        ONE_OF_EACH,
    ),
    Kind(
        "test_settings.py::test_training_evaluation_and_prediction_do_not_change",
        ("prng_impl", "default_device"),
        "test_strict_promotion_in_float64 is of the third",
    ),
    Kind(
        "test_laws_check.py::test_an_own_wrong_strategy_is_named",
        ("mean of local means", "keys by position"),
        "the laws catch all of the catalogue's faults in test_strategy_laws",
    ),
    Kind(
        "test_laws_check.py::test_what_a_strategy_costs_is_named",
        ("work_is_divided", "no_host"),
        "one law that compiles, one that runs",
    ),
    Kind(
        "test_law.py::test_a_wrong_scale_breaks_it",
        ("float32",),
        "the bound differs in u alone; docs/law.md has all types",
    ),
    Kind(
        "test_partitioning.py::test_gradients_equal_the_reference_and_lie_where",
        ("shape1", "shape3"),
        "a mesh that divides batches and kernels, and one that divides kernels alone",
    ),
    Kind(
        "test_highest.py::test_every_product_asks_for_full_float32",
        ("cifar10_cnn-jit", "adam_cosine_cnn-s", "by_factors", "housing_wide", "eval"),
        "every kind of product; strategies share the layers",
    ),
    # Gradients.
    Kind(
        "test_composed_loss.py::test_its_gradient_is_what_finite_differences_make",
        ("cifar10_cnn", "adam_cosine", "housing"),
        "with and without dropout, and a regression",
    ),
    Kind(
        "test_losses.py::test_every_rule_differentiates_the_weighted_loss",
        ("[factored]",),
        "the first law holds the other rules to the same gradient",
    ),
    Kind(
        "test_averages.py::test_every_form_clips_and_averages_alike",
        ("[factored]", "[sharded]"),
        "on one device, and where devices hold parts of it",
    ),
    Kind(
        "test_per_example.py::test_without_rows_memory_is_that_of_the_batch_gradient",
        ("[clipped]",),
        "clipping computes the norms first",
    ),
    Kind(
        "test_per_example.py::test_each_route_equals_the_serial_reference",
        ("rows-norms-float32-None", "rows-full-float32-5", "factors-clipped-float32-5"),
        "each route, each reduction, with microbatches and without",
    ),
    Kind(
        "test_per_example.py::test_every_kind_of_network_can_do_without_rows",
        ("few_positions", "housing_wide"),
        "the reference of test_each_route_equals has the same layers",
    ),
    Kind(
        "test_precision.py::test_sums_over_examples_are_as_good_for_many_as_for_few",
        ("[jit-sizes2", "[factored-", "[shard_map-sizes8", "[sharded-"),
        ONE_OF_EACH,
    ),
    Kind(
        "test_precision.py::test_strategies_agree_in_bfloat16_as_well",
        ("[jit]", "[shard_map]", "[factored_norms]"),
        ONE_OF_EACH,
    ),
    Kind(
        "test_precision.py::test_a_bias_that_is_added_in_bfloat16_is_caught",
        ("[jit]", "[shard_map]"),
        ONE_OF_EACH,
    ),
    Kind(
        "test_precision.py::test_parameters_of_bfloat16_round_the_sum_and_not_its_parts",
        ("[jit-8]", "[shard_map-8]"),
        ONE_OF_EACH,
    ),
    Kind(
        "test_batches.py::test_weights_of_any_type_and_unit_weigh_right",
        ("smallest", "far apart"),
        "the others are of units and types between these",
    ),
    Kind(
        "test_composed_loss.py::test_a_loss_that_is_wrong_in_one_place_is_seen",
        ("pixels", "dropout of less", "minus a mean"),
        "the check is the same for every place",
    ),
    Kind(
        "test_settings.py::test_strategies_agree_under",
        ("x64-6", "nans"),
        "the other settings change no arithmetic",
    ),
    # Training.
    Kind(
        "test_streaming.py::test_a_stream_gives_the_bits_of_resident_examples",
        ("[shard_map]",),
        BY_THE_FIRST_LAW,
    ),
    Kind(
        "test_resume.py::test_another_form_goes_on_within_rounding",
        ("[shard_map]",),
        BY_THE_FIRST_LAW,
    ),
    Kind(
        "test_loaded.py::test_every_recipe_gives_the_same_test_again",
        ("housing",),
        "evaluate.py and the page compare it for a classifier",
    ),
    Kind(
        "test_epochs.py::test_every_batch_is_placed_by_the_strategy",
        ("[jit]", "[sharded]", "[shard_map]"),
        ONE_OF_EACH,
    ),
    Kind(
        "test_resume.py::test_resumed_training_ends_in_the_same_bits",
        ("within an epoch-shard_map", "test-jit"),
        "the other places are those of the same loop",
    ),
    Kind(
        "test_ensembles.py::test_seeds_at_once_are_single_runs",
        ("held out",),
        "the one with examples of its own for each seed",
    ),
    Kind(
        "test_export.py::test_a_strategy_is_exported_for_every_platform",
        ("[jit]", "[shard_map]"),
        ONE_OF_EACH,
    ),
    Kind(
        "test_composed_loss.py::test_the_loss_of_every_recipe_is_what_numpy_makes_of_it",
        ("_mnist_", "momentum", "housing"),
        "cifar10_cnn has finite differences of the same loss",
    ),
    Kind(
        "test_padding.py::test_padding_counts_for_nothing_whatever_it_holds[value0-0-",
        (),
        "the last of them is a NaN, too",
    ),
    Kind(
        "test_settings.py::test_strategies_agree_under[jax_default_prng_impl",
        (),
        "training and prediction under it have a test of their own",
    ),
    # Scripts, docs and processes: whole programs.
    Kind(
        "test_faults.py::test_killed_at_any_change_it_goes_on_to_the_same_bits",
        ("[factored]",),
        "several seeds are stopped in test_ensembles; make soak has all",
    ),
    Kind(
        "test_faults.py::test_damaged_files_are_named_or_harmless",
        ("[flip]",),
        "a cut is found by the same digests; make soak has hundreds of both",
    ),
    Kind(
        "test_data_tfds.py::test_script_tells_bad_input_in_one_line",
        ("flags0", "flags3"),
        "the reader's refusals are tested without the script, too",
    ),
    Kind(
        "test_compare_runs.py::test_the_script_from_a_shell",
        (),
        "test_ensembles runs the script, too",
    ),
    Kind(
        "test_train_script.py::test_what_is_refused_overwrites_no_earlier_run[flags2",
        (),
        "faults given twice are refused in test_faults",
    ),
    Kind(
        "test_processes.py::test_a_lost_process_ends_the_others",
        (),
        "test_joining and the launcher's other tests end processes, too",
    ),
    Kind(
        "test_docs.py::test_commands_parse",
        ("[train.py]", "[compare_strategies.py]"),
        "the scripts that people call most; the flags of all are checked",
    ),
    Kind(
        "test_contract.py::test_what_may_be_returned_gives_the_same_everywhere",
        ("every type",),
        "a loss alone is what README's example returns",
    ),
    Kind(
        "test_contract.py::test_a_loss_in_half_precision_is_added_up_in_float32",
        (),
        "test_precision adds up in half precision under every strategy",
    ),
    Kind(
        "test_train_script.py::test_a_workdir_that_cannot_be_written",
        ("[-expected",),
        "test_workdir refuses the others without a script",
    ),
    Kind(
        "test_train_script.py::test_norms_are_reported[vmap_norms]",
        (),
        "the norms of both rules are compared in test_per_example",
    ),
    Kind(
        "test_train_script.py::test_no_epochs_leave_a_complete_result",
        (),
        "test_no_epochs_leave_the_parameters_alone trains none, without the script",
    ),
    Kind(
        "test_environment.py::test_a_closed_stream_makes_no_difference",
        ("[stream1]",),
        "one of the two streams",
    ),
    Kind(
        "test_environment.py::test_what_is_a_convenience_makes_no_difference",
        ("[HOME+XDG",),
        "the one that leaves most out",
    ),
    Kind(
        "test_train_script.py::test_strategies_train_alike",
        (),
        "test_epochs compares strategies in training, without the script",
    ),
    Kind(
        "test_processes.py::test_two_processes_hold_their_parts_and_compute_the_whole",
        (),
        "test_processes_agree_with_one_process compares what comes of it",
    ),
    *(
        Kind(f"test_benchmarks.py::{name}", (), "they share a run of throughput.py")
        for name in (
            "test_throughput_times_who_has_the_right_gradient",
            "test_an_absent_peer_is_listed",
            "test_the_report_is_one_page_and_a_table_for_the_readme",
            "test_two_runs_of_a_command_are_two_tables",
        )
    ),
    Kind(
        "test_benchmarks.py::test_bad_input_is_told_in_one_line[accuracy.py-flags1",
        ("flags13", "flags15"),
        "the others import a peer first; every peer has a test",
    ),
    Kind(
        "test_benchmarks.py::test_a_peer_has_the_reference_gradient_and_trains",
        (
            "adam_cosine_cnn-peers.plain_numpy",
            "dropout_cnn-peers.flax_form-options1",
            "dropout_cnn-peers.nnx_form-options4",
        ),
        "one peer of each kind",
    ),
    Kind(
        "test_benchmarks.py::test_equinox_has_the_reference_gradient_and_trains",
        ("[sgd_dropout_cnn-python]",),
        "one loop, with dropout",
    ),
    Kind(
        "test_benchmarks.py::test_a_library_clips_as_the_reference",
        ("sgd_dropout_cnn-optax-norms", "sgd_dropout_cnn-jax_privacy-clipped"),
        "one of each, with dropout",
    ),
    Kind(
        "test_equivalence.py::test_the_reference_may_be_of_another_device",
        ("[shard_map]",),
        BY_THE_FIRST_LAW,
    ),
    Kind(
        "test_padding.py::test_padding_counts_for_nothing_whatever_it_holds[value1-1-2",
        (),
        "the one without microbatches stands for it",
    ),
    Kind(
        "test_benchmarks.py::test_rows_in_bfloat16_are_held_to_its_own_tolerance",
        (),
        "the tolerance of each task is data; what is off is refused by the others, too",
    ),
    Kind(
        "test_benchmarks.py::test_in_bfloat16_the_parameters_and_the_reference_stay",
        ("[adam_cosine_cnn-ours-options1]",),
        "one form on one recipe",
    ),
    Kind(
        "test_hostile_pages.py::test_rows_of_hostile_texts_are_shown_as_those_of_plain",
        (),
        "the texts are those of the other tests of pages",
    ),
    Kind(
        "test_watching.py::test_a_profile_of_more_updates_than_there_are_ends_with_them",
        (),
        "test_a_profile_is_of_as_many_updates ends one, too",
    ),
    Kind(
        "test_watching.py::test_tensorboard_of_a_run_that_goes_on_has_one_curve",
        (),
        "purging is tensorboardX's; the step is told to every watcher",
    ),
    Kind(
        "test_stopping.py::test_seeds_stop_each_at_its_own_time",
        (),
        "a seed is a run of its own",
    ),
    Kind(
        "test_streaming.py::test_windows_of_any_size_and_order",
        ("'never'}-2", "16}-100"),
        "the last window, and one that is all",
    ),
    Kind(
        "test_kinds.py::test_every_strategy_computes_its_gradient",
        ("[factored]",),
        BY_THE_FIRST_LAW,
    ),
    Kind(
        "test_kinds.py::test_gradients_of_single_examples",
        ("[clipped]",),
        "the reductions share the gradients of layers",
    ),
    Kind(
        "test_docs.py::test_the_python_of_the_strategies_runs",
        (),
        "its strategies are those of the law tests; README's Python is run",
    ),
    Kind(
        "test_terminal.py::test_who_waits_at_a_terminal_sees_a_bar",
        ("[train-",),
        "the bar is one class",
    ),
)


def reason(test: str) -> str | None:
    """Return why a test of this id is slow; None: it is not in the table."""
    name = re.sub(r"@[^\]]*$", "", test)
    for kind in KINDS:
        if kind.test in name and not any(word in name for word in kind.kept):
            return kind.why
    return None
