//! Hostile and odd checkpoints, recipes and outputs, each made on the spot and given to the program itself.
//!
//! Whatever the case: no panic and no signal, within its time and memory, nothing but the output written, no raw control
//! character on the screen; and a refusal says where, leaves no output, and ends with 1 or 2.

mod command;
mod config_and_side_files;
mod fuzz;
mod header;
mod index;
mod output;
mod recipe;
mod recipe_meaning;
mod values;

use crate::support::judge::judge_all;

#[test]
fn headers_that_lie_are_refused_or_read_safely() {
    judge_all(header::HEADERS);
}

#[test]
fn odd_tensor_names_are_handled_safely() {
    judge_all(header::NAMES);
}

#[test]
fn odd_values_and_dtypes_are_handled_safely() {
    judge_all(values::CASES);
}

#[test]
fn odd_indexes_and_shards_are_handled_safely() {
    judge_all(index::CASES);
}

#[test]
fn damaged_configs_and_odd_side_files_are_handled_safely() {
    judge_all(config_and_side_files::CASES);
}

#[test]
fn odd_places_of_the_output_are_handled_safely() {
    judge_all(output::CASES);
}

#[test]
fn damaged_recipes_are_handled_safely() {
    judge_all(recipe::CASES);
}

#[test]
fn well_formed_recipes_of_odd_meaning_are_handled_safely() {
    judge_all(recipe_meaning::CASES);
}

#[test]
fn recipes_that_do_not_fit_the_checkpoint_are_handled_safely() {
    judge_all(recipe::PLANNED);
}

#[test]
fn every_command_handles_odd_names_safely() {
    judge_all(command::CASES);
}
