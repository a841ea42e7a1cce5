"""Which tests are left to `-m long`, besides those that are marked: cases of large families.

The default run takes every so-manieth case of each, and covers every feature in a few minutes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pytest

# By file and test: how many cases stay in the default run.
KEPT = {
    "tests/callbacks/test_backup.py": {
        "test_a_backup_of_another_model_changes_nothing": 0,
        "test_a_backup_of_which_bytes_have_changed_is_left_out": 0,
        "test_a_model_that_is_built_by_its_first_batch": 0,
        "test_an_order_that_depends_on_the_epoch": 0,
        "test_arrays_are_shuffled_and_units_dropped_as_they_would_have_been": 0,
        "test_callbacks_are_told_apart_by_class_and_order": 0,
        "test_it_goes_with_our_own": 0,
        "test_it_says_where_it_resumes": 0,
        "test_plateaus_and_the_best_epoch_are_remembered": 0,
        "test_settings_are_those_of_the_code": 0,
        "test_what_callbacks_know_comes_back": 0,
    },
    "tests/callbacks/test_bad_input.py": {
        "test_verbosity": 5,
        "test_what_is_refused_before_training": 8,
        "test_what_is_set_on_the_loss_scaling_is_lost": 1,
    },
    "tests/callbacks/test_by_hand.py": {
        "test_each_works_without_settings": 3,
    },
    "tests/callbacks/test_divergence_guard_climbs.py": {
        "test_a_learning_rate_that_is_too_high": 0,
        "test_good_learning_rates_are_left_alone": 1,
        "test_targets_that_are_not_standardized": 0,
        "test_without_the_guard_it_is_lost": 0,
    },
    "tests/callbacks/test_one_cycle_own_rate.py": {
        "test_the_peak_is_the_rate_of_the_direction": 1,
    },
    "tests/callbacks/test_suggestion.py": {
        "test_digits_train_with_what_is_suggested": 0,
        "test_data_that_have_no_answer_give_the_default_of_the_optimizer": 0,
    },
    "tests/callbacks/test_divergence_guard.py": {
        "test_a_bad_batch_is_as_if_it_and_the_one_before_had_not_been": 1,
        "test_a_fit_from_epoch_0_has_all_rollbacks_again": 0,
        "test_a_long_report_is_cut": 0,
        "test_a_rollback_leaves_the_scale_of_losses": 0,
        "test_a_schedule_that_is_zero_where_the_batch_is_bad": 0,
        "test_a_spoiled_batch_of_another_scale": 0,
        "test_accumulated_gradients_are_given_up": 0,
        "test_accumulated_gradients_that_will_be_skipped": 0,
        "test_averages_of_a_first_batch_that_is_bad": 0,
        "test_bad_losses_in_a_row_are_not_the_data": 0,
        "test_executions_of_several_steps": 0,
        "test_loss_scaling_skips_by_itself": 0,
        "test_many_weights_that_are_not_finite": 0,
        "test_metrics_begin_anew_after_bad_batches_at_the_begin": 0,
        "test_patience_ends_with_the_second_bad_batch_in_a_row": 0,
        "test_patience_undoes_a_batch": 1,
        "test_patience_with_weights_that_are_not_finite": 0,
        "test_recovery_gives_no_more_than_was_lost": 0,
        "test_recovery_of_several_and_its_count": 0,
        "test_skipped_updates_need_no_rollback": 0,
        "test_statistics_of_a_skipped_batch_are_those_before": 0,
        "test_statistics_that_are_not_finite": 0,
        "test_the_loss_of_a_batch_is_its_own": 0,
        "test_the_seeds_go_on": 0,
        "test_twice_the_same_state": 0,
        "test_what_a_plateau_took_stays_taken": 0,
        "test_what_is_not_finite": 1,
        "test_without_a_bad_batch_nothing_changes": 1,
    },
    "tests/callbacks/test_divergence_guard_bad_input.py": {
        "test_a_monitor_that_is_not_there": 5,
        "test_a_monitor_that_is_there": 1,
        "test_the_losses_of_several_outputs": 0,
    },
    "tests/callbacks/test_divergence_guard_together.py": {
        "test_a_learning_rate_that_is_too_high_is_lowered": 0,
        "test_a_run_that_is_resumed": 0,
        "test_a_state_of_the_beginning_of_another_epoch": 0,
        "test_adaptive_restart_sees_the_means_of_good_batches": 0,
        "test_after_a_fit_that_failed": 0,
        "test_evaluation_at_the_iterate": 1,
        "test_fits_in_a_row": 0,
        "test_several_replicas": 0,
    },
    "tests/callbacks/test_evaluate_at_iterate.py": {
        "test_a_backup_goes_on_to_the_bit": 0,
        "test_a_checkpoint_that_a_callback_loads_trains_on": 1,
        "test_a_model_that_was_not_trained": 0,
        "test_a_restart_after_it_goes_on_from_the_iterate_that_was_saved": 0,
        "test_after_an_exception_training_goes_on_from_the_same_bits": 1,
        "test_an_evaluation_that_fails_is_left_by_the_next_fit": 0,
        "test_an_evaluation_within_a_hook": 1,
        "test_an_evaluation_within_a_hook_that_fails_loses_nothing": 0,
        "test_early_stopping_after_it_gives_the_best_iterate": 1,
        "test_early_stopping_before_it_gives_what_it_saw": 0,
        "test_frozen_layers_stay_where_they_are": 0,
        "test_outside_fit": 1,
        "test_the_averages_are_what_the_model_holds_when_fit_ends": 0,
        "test_training_is_as_without_it_and_validation_is_that_of_the_iterate": 1,
        "test_weights_that_a_callback_sets_and_sets_back_train_on": 0,
        "test_what_is_saved_and_predicted_at_the_end_of_an_epoch_is_the_iterate": 1,
        "test_what_is_saved_within_an_epoch_is_the_look_ahead_point": 0,
    },
    "tests/callbacks/test_find_learning_rate.py": {
        "test_a_model_that_is_trained_already_is_told": 0,
        "test_bad_input": 7,
        "test_the_suggestions_train": 0,
        "test_weights_of_samples_and_classes": 0,
    },
    "tests/callbacks/test_find_learning_rate_data.py": {
        "test_a_dataset_around_a_generator_that_cannot_be_begun_again": 0,
        "test_a_fit_of_the_models_own_gets_what_it_understands": 0,
        "test_a_generator_has_each_batch_once": 1,
        "test_a_generator_without_a_second_batch": 0,
        "test_arrays_of_any_kind": 1,
        "test_datasets_are_begun_again": 0,
        "test_several_inputs_and_targets": 1,
        "test_texts": 0,
    },
    "tests/callbacks/test_find_learning_rate_from_rest.py": {
        "test_a_trained_optimizer_sweeps_like_a_new_one": 0,
        "test_the_point_that_the_variables_hold_is_given_back": 0,
        "test_within_loss_scaling": 0,
    },
    "tests/callbacks/test_rate_and_momentum.py": {
        "test_a_scaled_schedule_trains_like_one_that_was_made_so": 0,
        "test_a_warm_up_from_zero_survives_being_set_to_what_it_is": 0,
        "test_momentum_scheduler_takes_a_schedule_of_epochs": 0,
        "test_monitor_every_n_batches_between_executions": 0,
        "test_one_cycle_is_the_schedule_at_every_batch": 1,
        "test_one_cycle_of_given_length_counts_accumulated_batches": 0,
        "test_one_cycle_of_given_length_goes_on_over_fits_and_ends": 0,
        "test_one_cycle_of_the_learning_rate_alone_drives_any_optimizer": 1,
        "test_plateau_multiplies_whatever_the_schedule_says": 1,
        "test_the_momentum_can_follow_one_callback_only": 1,
    },
    "tests/callbacks/test_restart_and_stop.py": {
        "test_a_backup_before_the_work_of_the_epoch_is_noticed": 0,
        "test_an_unknown_monitor_warns_once": 1,
        "test_no_state_is_missed_where_none_was_lost": 0,
        "test_norms_in_other_dtypes": 0,
        "test_restart_follows_the_mode": 1,
        "test_restart_leaves_small_rises_alone": 0,
        "test_restart_on_batches_compares_their_own_means": 0,
        "test_restart_speeds_up_a_strongly_convex_problem": 0,
        "test_rounding_of_means_is_no_rise": 0,
        "test_stop_at_a_small_gradient": 0,
        "test_stop_begins_to_count_anew_in_epoch_0": 0,
        "test_two_of_a_kind_would_share_their_numbers": 0,
    },
    "tests/callbacks/test_together.py": {
        "test_a_fit_is_refused_before_training": 1,
    },
    "tests/convert/test_adopt.py": {
        "test_a_model_with_a_compile_of_its_own": 0,
        "test_the_loss_scale_is_kept": 0,
        "test_train_on_batch_goes_on": 0,
        "test_training_goes_on": 1,
        "test_without_loss_scaling_there_is_none_afterwards": 0,
    },
    "tests/convert/test_nagd.py": {
        "test_a_new_head_keeps_the_state_of_the_body": 2,
    },
    "tests/directions/test_every_layout.py": {
        "test_every_step_under_a_random_schedule": 3,
    },
    "tests/directions/test_family.py": {
        "test_a_config_makes_the_same_optimizer": 6,
        "test_a_direction_of_ones_own": 2,
        "test_every_step_is_the_references_with_a_reload_half_way": 6,
    },
    "tests/directions/test_orthogonal.py": {
        "test_a_step_is_about_as_long_as_the_learning_rate": 1,
    },
    "tests/directions/test_restart.py": {
        "test_a_restart_makes_up_for_a_momentum_that_is_too_high": 1,
    },
    "tests/docs/test_examples.py": {
        "test_all_contestants_get_the_same_weights_and_batches": 0,
        "test_momentum_needs_a_third_of_gradient_descents_epochs": 0,
        "test_one_cycle_from_the_command_line": 0,
        "test_one_cycle_takes_the_rate_that_was_found": 0,
        "test_robust_from_the_command_line": 0,
    },
    "tests/docs/test_race.py": {
        "test_a_contestant_descends": 4,
        "test_a_contestant_trains_and_is_judged": 0,
        "test_a_run_makes_its_updates_and_no_more": 0,
        "test_a_workload_has_what_its_name_says": 1,
        "test_only_what_is_missing_is_run": 0,
        "test_the_first_update_starts_at_the_initial_weights": 1,
        "test_trials_are_drawn_anew_when_the_pilot_says_another_rate": 0,
        "test_updates_are_timed_in_turn": 0,
    },
    "tests/docs/test_sutskever2013.py": {
        "test_goes_on_where_it_was_interrupted": 0,
        "test_the_error_is_that_of_the_iterate": 0,
    },
    "tests/engine/test_averages.py": {
        "test_the_end_of_a_fit": 1,
    },
    "tests/engine/test_bad_input.py": {
        "test_use_leaves_everything_as_it_was": 20,
    },
    "tests/engine/test_base_features.py": {
        "test_an_embeddings_gradient_is_as_exact_as_a_dense_one": 7,
    },
    "tests/engine/test_complex.py": {
        "test_a_complex_variable_is_two_real_ones": 4,
    },
    "tests/engine/test_directions_tensorflow.py": {
        "test_every_step_is_the_formulas": 10,
    },
    "tests/engine/test_distributed.py": {
        "test_two_replicas_train_as_one_device": 0,
    },
    "tests/engine/test_fit.py": {
        "test_every_way_gives_the_same_weights": 1,
        "test_mixed_precision_is_keras_sgd_in_mixed_precision": 0,
    },
    "tests/engine/test_kernels_tensorflow.py": {
        "test_a_large_variable_in_fit": 1,
        "test_every_way_makes_every_step": 6,
        "test_other_dtypes_are_rounded_once": 4,
    },
    "tests/engine/test_live_hyperparameters.py": {
        "test_set_between_steps": 3,
        "test_set_by_a_callback_in_fit": 1,
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
    "tests/engine/test_nan_debuggers.py": {
        "test_nothing_to_see": 1,
    },
    "tests/engine/test_native_variables.py": {
        "test_the_same_bits": 4,
    },
    "tests/engine/test_skip_nonfinite.py": {
        "test_a_skipped_step_changes_nothing_but_counters": 6,
        "test_fit_with_bad_batches": 0,
        "test_the_counter_is_saved": 0,
        "test_the_whole_window_is_dropped": 2,
        "test_training_goes_on_as_if_the_step_had_not_been": 2,
    },
    "tests/engine/test_sparse_updates.py": {
        "test_every_step_is_the_references": 7,
        "test_lazy_in_fit": 1,
        "test_lazy_in_mixed_precision": 0,
        "test_lazy_where_functions_run_eagerly": 0,
    },
    "tests/engine/test_unknown_length.py": {
        "test_a_generator_that_ends": 0,
        "test_callbacks": 1,
        "test_every_setting": 1,
        "test_every_way_of_a_step": 0,
        "test_every_way_of_an_update": 1,
        "test_loss_scaling": 0,
        "test_other_sources": 0,
        "test_rows": 0,
    },
    "tests/rules/test_limit_cases.py": {
        "test_constant_momentum_is_keras_sgd": 1,
        "test_each_setting_does_something": 4,
    },
    "tests/rules/test_points.py": {
        "test_saved_at_the_iterate_and_loaded": 2,
    },
    "tests/rules/test_reference.py": {
        "test_every_step_is_the_textbooks": 4,
    },
    "tests/rules/test_restart_schemes.py": {
        "test_a_run_goes_on_after_loading_as_if_nothing_had_happened": 1,
        "test_a_scheme_is_given_to_an_optimizer_that_has_trained": 0,
        "test_a_state_is_loaded_with_the_scheme_changed": 0,
        "test_accumulated_gradients_decide_on_their_mean": 1,
        "test_every_step_is_the_textbooks": 1,
        "test_every_way_of_tensorflow_decides": 3,
        "test_rows": 1,
        "test_sixteen_bits": 1,
        "test_the_gradient_that_counts_is_the_one_of_the_update": 3,
        "test_training_with_fit": 0,
    },
    "tests/rules/test_restart_theory.py": {
        "test_convex_bound_from_every_restart_on": 2,
        "test_gradient_descent_breaks_the_convex_bound": 1,
        "test_logistic_regression_beside_the_constant_momentum": 0,
        "test_nagd_restarts_as_the_oracle_does": 1,
        "test_restarts_find_the_optimum_of_l_bfgs": 1,
        "test_ripples_have_a_period_of_pi_times_the_root": 1,
        "test_strongly_convex_bound_and_gradient_descents_violation_of_it": 3,
        "test_su_boyd_candes_quadratic": 0,
        "test_updates_grow_like_the_root_of_the_condition_number": 0,
        "test_updates_of_gradient_descent_grow_like_the_condition_number": 0,
        "test_without_restarts_they_grow_faster": 0,
    },
    "tests/schedules/test_ranges.py": {
        "test_plot": 3,
    },
    "tests/schedules/test_use.py": {
        "test_any_kind_of_step": 30,
        "test_as_momentum_and_learning_rate_it_makes_the_textbooks_steps": 1,
        "test_in_a_saved_model": 2,
        "test_in_fit": 1,
        "test_large_steps_of_64_bits_are_exact": 11,
        "test_one_trace_serves_all_steps": 4,
        "test_same_step_same_value_in_any_order": 5,
    },
    "tests/schedules/test_values.py": {
        "test_every_step_is_the_oracles": 30,
        "test_nesterov_is_the_recursion": 1,
        "test_nesterov_rises_and_stays_below_1": 2,
        "test_one_cycle_is_pytorchs": 4,
    },
    "tests/state/test_begin_anew.py": {
        "test_slots_and_counters_are_those_of_a_new_optimizer": 3,
    },
    "tests/state/test_export.py": {
        "test_the_iterate_is_another_point": 0,
        "test_the_model_and_its_optimizer_are_left_as_they_were": 1,
        "test_the_same_predictions_without_keras": 0,
    },
    "tests/state/test_formats.py": {
        "test_goes_on_to_the_bit": 3,
    },
    "tests/state/test_saved_models.py": {
        "test_a_lost_part_is_seen": 2,
        "test_trains_on_as_when_it_was_saved": 4,
    },
    "tests/state/test_saved_state_bad_input.py": {
        "test_a_new_head": 2,
        "test_settings_that_are_others_now": 2,
        "test_state_of_others": 2,
    },
    "tests/state/test_saved_structures.py": {
        "test_a_backup_resumes_from_the_newest_that_is_whole": 1,
        "test_a_checkpoint_restored_before_a_compiled_fit": 1,
        "test_a_copied_optimizer_for_fewer_variables_warns": 0,
        "test_a_second_optimizer_is_put_back_too": 0,
        "test_goes_on_to_the_bit": 1,
        "test_multipliers_of_a_block_stay_with_its_variables": 0,
    },
    "tests/state/test_saving.py": {
        "test_a_copied_optimizer_has_its_state_for_the_same_variables": 1,
        "test_a_loaded_model_goes_on_to_the_bit": 1,
    },
}


# What takes minutes, and of which the default run has a short form.
EXHAUSTIVE = (
    "tests/callbacks/test_divergence_guard_together.py::test_spoiled_batches_hardly_matter",
    "tests/docs/",
    "tests/engine/test_distributed.py",
    "tests/engine/test_multi_worker_tensorflow.py::test_other_numbers_of_workers",
    "tests/engine/test_multi_worker_tensorflow.py::test_the_restarts_are_counted",
    "tests/state/test_resume_steps.py",
)
# Of a family of long cases, CI runs one of so many.
OF = 6


def mark(items: Iterable[Any]) -> None:
    """Marks the cases that do not stay, and those of them that CI leaves out."""
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
    numbers: Counter[str] = Counter()
    for item in items:
        if item.get_closest_marker("long"):
            family = item.nodeid.partition("[")[0]
            if numbers[family] % OF or item.nodeid.startswith(EXHAUSTIVE):
                item.add_marker(pytest.mark.exhaustive)
            numbers[family] += 1
