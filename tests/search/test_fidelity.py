"""Which test holds the code to which rule of the method (sections 1 and 2).

Invariant: every rule has a test and every sentence of the method a rule, so
that nothing can be left out unseen.
What is decided on records is tested on records (test_fidelity_*.py);
values and gradients are tested where they are computed.
"""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

_TESTS = pathlib.Path(__file__).resolve().parents[1]
# A rule, named by words of its sentence, and below it its tests: the file
# (`cloning` stands for test_fidelity_cloning.py, `train/optimizer` for
# train/test_optimizer.py) and the name without `test_`.
_TABLE = """
immutable once locked
  search/properties: no_locked_component_ever_changes
its hyperparameters, its parent and its metrics
  search/properties: a_history_replayed_from_its_saved_states_is_the_same
all its components are locked
  cloning: every_component_of_the_root_is_locked
may be private
  sampling: a_private_path_seeds_no_other_task
a component with any lock is frozen and is only referenced or cloned
  cloning: a_locked_component_is_shared_frozen_unless_drawn_or_forced
between task iterations exactly one (the best) per task
  iteration: only_the_best_path_is_kept_and_the_old_one_if_none_is_better
a child is sampled from a parent by cloning with mutations
  sampling: munet_begins_by_cloning_every_seed_once_unmutated
trained together on the same batches
  train/trainer: a_child_equals_the_same_child_trained_alone
all the generations spent on one task before moving to the next
  iteration: generations_cover_exactly_the_samples
quality (validation accuracy) times a size penalty
  iteration: the_score_is_quality_times_the_size_penalty
each component's count divided by the number of tasks that use it
  iteration: a_component_counts_by_the_number_of_tasks_that_use_it
  search/properties: accounted_parameters_sum_to_the_unique_parameters_in_use
followed by `encoderblock_i`, then `encoder_norm`, then `head`
  models/vit/architecture: places_come_in_the_order_of_the_method
its last kernel initialised to zero
  models/vit/architecture: a_new_adapter_and_a_new_head_start_at_zero
LayerNorm(x)
  models/vit/functions: an_adapter_equals_the_plain_formula
No dropout.
  models/vit/layers: the_exact_block_equals_keras_s_own_layers
task iteration: start task -> generations -> end task
  search/properties: a_history_replayed_from_its_saved_states_is_the_same
take this task's lock off its own components
  cloning: what_another_task_uses_is_locked_and_its_own_lock_is_off
all paths of every other task that is not private, plus the roots
  sampling: seeds_are_the_root_and_the_paths_of_all_other_tasks
v1 orders them by id, newest first
  sampling: munet_orders_seeds_newest_first
v2 shuffles them
  sampling: mu2net_shuffles_seeds_evenly_and_by_the_event_alone
ceil(num_samples_per_task / children per generation) of them
  iteration: generations_cover_exactly_the_samples
sample the data hyperparameters once (shared by all its children)
  tuning: data_hyperparameters_are_shared_by_a_generation
add the improved ones to the task's active paths
  iteration: improved_children_become_active_before_the_next_generation
keep the best path of the task only
  iteration: only_the_best_path_is_kept_and_the_old_one_if_none_is_better
among equal scores the most recent
  iteration: among_equal_scores_mu2net_keeps_the_most_recent
drop what nothing references
  search/properties: what_nothing_references_is_dropped_and_nothing_else
re-link each living path's parent to its nearest living ancestor
  iteration: the_best_path_is_relinked_to_its_nearest_living_ancestor
  iteration: a_replaced_path_relinks_the_paths_that_came_from_it
Nothing that another task relies on may change by one bit
  search/properties: no_locked_component_ever_changes
overwrite with those of the task's current best path
  tuning: data_hyperparameters_start_from_the_defaults_then_the_best_path
then mutate each one that has a range
  tuning: data_hyperparameters_mutate_per_generation
v1 does not mutate until every seed path was tried
  tuning: munet_does_not_mutate_data_until_every_seed_was_tried
Walk the task's active paths from best to worst score
  sampling: active_paths_are_walked_from_best_to_worst
take a path with probability 0.5 ** (number of its children so far
  sampling: a_path_is_taken_with_half_to_the_power_of_its_children
  sampling: a_worse_path_is_taken_only_where_all_better_ones_were_not
  sampling: children_of_the_same_generation_and_iteration_count
v2 counts children per task
  sampling: munet_counts_children_of_all_tasks_and_mu2net_of_this_one
  iteration: counts_of_dead_paths_are_dropped
v1 picks uniformly among seed paths and active paths
  sampling: munet_picks_uniformly_among_seeds_and_active_when_none_is_taken
v2 walks the seed paths the same way
  sampling: mu2net_walks_the_seeds_by_their_decay_before_it_picks_uniformly
rotating the list past the one taken
  sampling: mu2net_rotates_the_seeds_past_the_one_it_takes
  sampling: mu2net_tries_every_seed_before_any_twice
v1 begins a task by cloning every seed path once, unmutated
  sampling: munet_begins_by_cloning_every_seed_once_unmutated
Every hyperparameter with a range mutates
  tuning: each_hyperparameter_mutates_at_the_probability_up_and_down_alike
  tuning: a_hyperparameter_without_a_range_never_mutates
`mutation_prob` 0.1 for the experiment
  tuning: munet_has_one_mutation_probability_for_the_experiment
itself a hyperparameter with a range, mutated first
  tuning: the_paths_own_mu_mutates_first_and_rules_the_rest
own `mu`
  tuning: mu2net_clones_components_at_the_paths_own_mu
by one step up or down its ordered list, clamped at the ends
  tuning: a_step_moves_to_the_neighbour_and_clamps_at_the_ends
`adapter_dim` and `mu` mutate per child
  tuning: optimizer_layers_adapter_dim_and_mu_mutate_per_child
data hyperparameters per generation
  tuning: data_hyperparameters_mutate_per_generation
If adapters may mutate
  cloning: adapters_stay_unless_they_may_mutate
insert an adapter where there is none
  cloning: adapters_are_inserted_at_the_mutation_probability
removal optional, off by default
  cloning: adapters_are_removed_at_the_probability_only_where_asked
adapters above a lowered `num_layers` are dropped
  cloning: adapters_above_a_lowered_number_of_layers_are_dropped
  cloning: lowering_the_number_of_layers_drops_adapters_above
looked up by name in the parent, then its ancestors, nearest first
  cloning: components_are_looked_up_in_the_nearest_ancestor_first
A head is only taken from an ancestor of the same task
  cloning: a_head_comes_only_from_an_ancestor_of_the_same_task
sends the search on to older ancestors
  cloning: another_shape_sends_the_search_on_to_older_ancestors
is cloned (made trainable) if it is unlocked
  cloning: an_unlocked_component_is_always_cloned_trainable
or with the mutation probability
  cloning: locked_components_are_cloned_at_the_mutation_probability
if its name is in `force_finetune_components`
  cloning: forced_components_are_always_cloned
  cloning: which_components_are_forced_is_a_setting
otherwise it is shared, frozen
  cloning: a_locked_component_is_shared_frozen_unless_drawn_or_forced
is resampled from the root's (v2: always trainable)
  cloning: a_position_embedding_of_a_new_grid_is_resampled_from_the_root
(new head, new adapter, new block) is initialised afresh
  cloning: what_is_not_found_is_initialised_afresh
`num_validations_per_path_training` cycles
  training: a_cycle_is_the_bounded_train_split_over_the_batch_size
at most `num_validation_examples_max` examples
  train/trainer: every_example_is_counted_exactly_once
Loss: softmax cross-entropy
  train/trainer: a_child_equals_a_plain_keras_training_loop
clip by global norm 1.0
  train/optimizer: the_clip_scales_by_the_global_norm_and_never_up
accumulator in bfloat16) and optional Nesterov
  train/optimizer: steps_equal_keras_sgd_up_to_the_momentums_precision
`constant` uses lr/2
  train/optimizer: constant_uses_half_of_the_learning_rate
`cosine` warms up linearly from lr/100
  train/optimizer: cosine_warms_up_from_a_hundredth_and_decays_to_zero
`restarts` repeats that schedule in every cycle
  train/optimizer: restarts_repeats_the_schedule_in_every_cycle
After each cycle compute the score
  train/trainer: \
the_snapshot_is_of_the_best_cycle_and_scored_with_the_size_factor
If it beats the best so far (v1: >, v2: >=)
  train/trainer: \
an_equal_score_is_a_snapshot_only_where_ties_are_accepted
  iteration: only_mu2net_takes_a_snapshot_of_an_equal_score
(v2: and their momentum)
  training: only_mu2net_keeps_the_momentum
The best so far starts at the parent's score
  iteration: the_best_so_far_starts_at_the_parents_score_of_the_same_task
A child without a snapshot is discarded at once
  iteration: a_child_without_a_snapshot_is_discarded
v2 clones carry over the momentum of the cloned component
  train/trainer: momentum_is_carried_over_from_a_component
score = quality * base ** (accounted_parameters
  iteration: the_score_is_quality_times_the_size_penalty
base 1.0 is plain quality
  iteration: a_base_of_one_is_plain_quality
Size control experiments use base
  iteration: the_score_is_quality_times_the_size_penalty
its paths are never seeds for others
  search/properties: a_private_path_is_no_ancestor_and_no_source_of_another_task
Baselines, on the same budget
  search/baselines: a_baseline_has_the_cycles_of_all_children_in_one_generation
`finetune_all`
  search/baselines: a_baseline_trains_these_places_and_shares_the_rest
`adapters:d` in every layer
  search/baselines: adapters_stand_before_every_layer_and_are_trained
bounded compute
  search/properties: every_path_is_at_most_one_root_deep
## 3. Published experiment configurations
  tuning: a_config_has_the_published_values
  tuning: what_a_config_differs_in_is_published
Examples between validations at most 51,200
  tuning: the_defaults_are_the_published_ones
Auto-tune ranges
  tuning: the_auto_tune_tables_are_the_published_ones
num_layers range
  tuning: munet_takes_one_layer_up_to_all_of_the_root
"""
# Further tests of these files, which no rule of the method asks for.
_OTHER_TESTS = {
    "test_a_first_value_that_is_not_on_its_range_is_refused",
    "test_a_task_without_any_snapshot_is_refused",
    "test_every_path_is_at_most_as_deep_as_the_search_may_make_it",
    "test_the_size_that_counts_as_one_may_be_given",
}


def _rules():
    """Returns (words of the rule, name of the test file, test) of each row."""
    found, rule = [], ""
    for line in _TABLE.strip().splitlines():
        if not line.startswith("  "):
            rule = line
            continue
        name, test = line.strip().split(": ")
        if "/" not in name:
            name = f"search/fidelity_{name}"
        found.append((rule, name, f"test_{test}"))
    return found


def _tests_of(name):
    folder, _, stem = name.rpartition("/")
    file = _TESTS / folder / f"test_{stem}.py"
    tree = ast.parse(file.read_text("utf-8"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def _plain(text):
    return " ".join(text.split())


def _sections(shared_dir):
    """Returns the method's text by section number."""
    text = (shared_dir / "design" / "algorithm.md").read_text("utf-8")
    parts = re.split(r"^(?=## \d\.)", text, flags=re.MULTILINE)
    return {part[3]: part for part in parts if part.startswith("## ")}


def _sentences(section):
    """Returns the sentences and table rows, without headings and labels."""
    section = re.sub(r"^#+ .*$", "\n", section, flags=re.MULTILINE)
    section = re.sub(r"^\|( noun |---).*$", "", section, flags=re.MULTILINE)
    section = re.sub(r"^(\|.*)$", r"\n\1\n", section, flags=re.MULTILINE)
    found = [
        sentence
        for paragraph in re.split(r"\n\s*\n", section)
        for sentence in re.split(r"(?<=[.:]) +(?=[A-Z`])", _plain(paragraph))
    ]
    return [s for s in found if len(s) > 2 and not s.endswith(":")]


def test_every_rule_names_a_test_that_exists():
    for rule, name, test in _rules():
        assert test in _tests_of(name), (rule, name, test)


def test_every_fidelity_test_stands_in_the_table():
    listed = {(name, test) for _, name, test in _rules()}
    for path in sorted((_TESTS / "search").glob("test_fidelity_*.py")):
        name = f"search/{path.stem.removeprefix('test_')}"
        for test in _tests_of(name) - _OTHER_TESTS:
            assert (name, test) in listed


def test_every_rule_stands_in_the_method(shared_dir):
    method = _plain(" ".join(_sections(shared_dir).values()))
    for rule, _, _ in _rules():
        assert rule in method, rule


@pytest.mark.parametrize("number", ["1", "2"])
def test_every_sentence_of_the_method_has_a_rule(shared_dir, number):
    words = [rule for rule, _, _ in _rules()]
    missing = [
        sentence
        for sentence in _sentences(_sections(shared_dir)[number])
        if not any(rule in sentence for rule in words)
    ]
    assert missing == []
