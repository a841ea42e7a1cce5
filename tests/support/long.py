"""Which tests are left to `-m long`, besides those that are marked: cases of large families.

The default run takes every so-manieth case of each, and covers every feature in a few minutes.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest

# By file and test: how many cases stay in the default run.
KEPT = {
    "tests/engine/test_bad_input.py": {
        "test_use_leaves_everything_as_it_was": 20,
    },
    "tests/state/test_export.py": {
        "test_the_same_predictions_without_keras": 2,
    },
    "tests/directions/test_family.py": {
        "test_every_step_is_the_references_with_a_reload_half_way": 16,
    },
    "tests/callbacks/test_divergence_guard.py": {
        "test_a_bad_batch_is_as_if_it_and_the_one_before_had_not_been": 4,
        "test_accumulated_gradients_that_will_be_skipped": 1,
        "test_averages_of_a_first_batch_that_is_bad": 1,
        "test_patience_undoes_a_batch": 1,
        "test_skipped_updates_need_no_rollback": 1,
        "test_what_is_not_finite": 1,
        "test_without_a_bad_batch_nothing_changes": 2,
    },
    "tests/callbacks/test_divergence_guard_bad_input.py": {
        "test_a_monitor_that_is_not_there": 5,
    },
    "tests/callbacks/test_divergence_guard_together.py": {
        "test_a_learning_rate_that_is_too_high_is_lowered": 0,
        "test_a_run_that_is_resumed": 1,
        "test_evaluation_at_the_iterate": 1,
        "test_several_replicas": 0,
    },
    "tests/callbacks/test_find_learning_rate.py": {
        "test_a_model_that_is_trained_already_is_told": 0,
    },
    "tests/callbacks/test_rate_and_momentum.py": {
        "test_one_cycle_is_the_schedule_at_every_batch": 1,
        "test_plateau_multiplies_whatever_the_schedule_says": 1,
        "test_the_momentum_can_follow_one_callback_only": 1,
    },
    "tests/callbacks/test_restart_and_stop.py": {
        "test_a_backup_before_the_work_of_the_epoch_is_noticed": 1,
        "test_no_state_is_missed_where_none_was_lost": 1,
        "test_norms_in_other_dtypes": 1,
        "test_restart_on_batches_compares_their_own_means": 1,
        "test_restart_speeds_up_a_strongly_convex_problem": 0,
        "test_two_of_a_kind_would_share_their_numbers": 1,
    },
    "tests/convert/test_adopt.py": {
        "test_training_goes_on": 2,
    },
    "tests/convert/test_nagd.py": {
        "test_a_new_head_keeps_the_state_of_the_body": 5,
    },
    "tests/docs/test_examples.py": {
        "test_all_contestants_get_the_same_weights_and_batches": 0,
        "test_momentum_needs_a_third_of_gradient_descents_epochs": 0,
        "test_one_cycle_from_the_command_line": 0,
        "test_one_cycle_takes_the_rate_that_was_found": 0,
        "test_robust_from_the_command_line": 0,
    },
    "tests/docs/test_race.py": {
        "test_a_contestant_trains_and_is_judged": 1,
        "test_a_run_makes_its_updates_and_no_more": 0,
        "test_a_workload_has_what_its_name_says": 1,
        "test_the_first_update_starts_at_the_initial_weights": 1,
        "test_updates_are_timed_in_turn": 0,
    },
    "tests/docs/test_sutskever2013.py": {
        "test_goes_on_where_it_was_interrupted": 0,
        "test_the_error_is_that_of_the_iterate": 0,
    },
    "tests/engine/test_base_features.py": {
        "test_an_embeddings_gradient_is_as_exact_as_a_dense_one": 7,
    },
    "tests/engine/test_fit.py": {
        "test_every_way_gives_the_same_weights": 5,
        "test_mixed_precision_is_keras_sgd_in_mixed_precision": 1,
    },
    "tests/engine/test_kernels_tensorflow.py": {
        "test_a_large_variable_in_fit": 1,
        "test_every_way_makes_every_step": 6,
        "test_other_dtypes_are_rounded_once": 4,
    },
    "tests/engine/test_live_hyperparameters.py": {
        "test_set_between_steps": 3,
        "test_set_by_a_callback_in_fit": 3,
        "test_what_a_number_may_be": 7,
    },
    "tests/engine/test_multi_worker_tensorflow.py": {
        "test_a_killed_worker_costs_nothing_but_time": 0,
        "test_a_worker_that_never_comes_is_an_error_in_time": 0,
        "test_one_replica_goes_on_from_the_checkpoint_of_two": 0,
        "test_settings_are_as_in_one_process": 0,
        "test_two_workers_are_as_one_process": 0,
    },
    "tests/engine/test_multipliers.py": {
        "test_each_variable_trains_with_its_own_rate": 3,
    },
    "tests/engine/test_skip_nonfinite.py": {
        "test_a_skipped_step_changes_nothing_but_counters": 13,
        "test_fit_with_bad_batches": 2,
        "test_the_whole_window_is_dropped": 5,
        "test_training_goes_on_as_if_the_step_had_not_been": 5,
    },
    "tests/engine/test_sparse_updates.py": {
        "test_every_step_is_the_references": 7,
        "test_lazy_in_fit": 2,
    },
    "tests/rules/test_limit_cases.py": {
        "test_each_setting_does_something": 4,
        "test_constant_momentum_is_keras_sgd": 4,
    },
    "tests/rules/test_points.py": {
        "test_saved_at_the_iterate_and_loaded": 2,
    },
    "tests/rules/test_reference.py": {
        "test_every_step_is_the_textbooks": 6,
    },
    "tests/rules/test_restart_schemes.py": {
        "test_a_run_goes_on_after_loading_as_if_nothing_had_happened": 1,
        "test_a_state_is_loaded_with_the_scheme_changed": 0,
        "test_every_step_is_the_textbooks": 3,
        "test_every_way_of_tensorflow_decides": 5,
        "test_rows": 3,
        "test_sixteen_bits": 2,
        "test_the_gradient_that_counts_is_the_one_of_the_update": 6,
        "test_training_with_fit": 1,
    },
    "tests/rules/test_restart_theory.py": {
        "test_convex_bound_from_every_restart_on": 3,
        "test_gradient_descent_breaks_the_convex_bound": 1,
        "test_nagd_restarts_as_the_oracle_does": 4,
        "test_restarts_find_the_optimum_of_l_bfgs": 1,
        "test_ripples_have_a_period_of_pi_times_the_root": 1,
        "test_strongly_convex_bound_and_gradient_descents_violation_of_it": 3,
        "test_su_boyd_candes_quadratic": 1,
        "test_updates_grow_like_the_root_of_the_condition_number": 0,
        "test_updates_of_gradient_descent_grow_like_the_condition_number": 0,
        "test_without_restarts_they_grow_faster": 0,
    },
    "tests/schedules/test_ranges.py": {
        "test_a_momentum_within_its_range_is_taken": 8,
        "test_plot": 3,
    },
    "tests/schedules/test_use.py": {
        "test_any_kind_of_step": 30,
        "test_as_momentum_and_learning_rate_it_makes_the_textbooks_steps": 1,
        "test_in_a_saved_model": 5,
        "test_large_steps_of_64_bits_are_exact": 11,
        "test_one_trace_serves_all_steps": 9,
    },
    "tests/schedules/test_values.py": {
        "test_every_step_is_the_oracles": 30,
        "test_nesterov_is_the_recursion": 4,
        "test_one_cycle_is_pytorchs": 4,
    },
    "tests/state/test_formats.py": {
        "test_goes_on_to_the_bit": 16,
    },
    "tests/state/test_saved_models.py": {
        "test_a_lost_part_is_seen": 4,
        "test_trains_on_as_when_it_was_saved": 12,
    },
    "tests/state/test_saved_state_bad_input.py": {
        "test_settings_that_are_others_now": 7,
        "test_state_of_others": 6,
    },
    "tests/state/test_saved_structures.py": {
        "test_a_backup_resumes_from_the_newest_that_is_whole": 1,
        "test_a_checkpoint_restored_before_a_compiled_fit": 1,
        "test_goes_on_to_the_bit": 2,
    },
    "tests/state/test_saving.py": {
        "test_a_loaded_model_goes_on_to_the_bit": 1,
    },
}


def mark(items: Iterable[Any]) -> None:
    """Marks the cases that do not stay."""
    families: dict[Any, list[Any]] = defaultdict(list)
    for item in items:
        name = getattr(item, "originalname", item.name)
        kept = KEPT.get(item.nodeid.partition("::")[0], {})
        if name in kept:
            families[item.nodeid.partition("[")[0], kept[name]].append(item)
    for (_, kept), cases in families.items():
        stay = {i * len(cases) // kept for i in range(kept)}
        for i, item in enumerate(cases):
            if i not in stay:
                item.add_marker(pytest.mark.long)
