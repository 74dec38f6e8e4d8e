//! Hostile and odd checkpoints, recipes and outputs, each made on the spot and given to the program itself.
//!
//! Whatever the case: no panic and no signal, within its time and memory, nothing but the output written, no raw control
//! character on the screen; and a refusal says where, leaves no output, and ends with 1 or 2.

mod command;
mod container;
mod folder;
mod fuzz;
mod index;
mod meaning;
mod output;
mod recipe;
mod values;

use crate::support::judge::judge_all;

#[test]
fn headers_that_lie() {
    judge_all(container::HEADERS);
}

#[test]
fn names_of_tensors() {
    judge_all(container::NAMES);
}

#[test]
fn values_and_dtypes() {
    judge_all(values::CASES);
}

#[test]
fn indexes_and_shards() {
    judge_all(index::CASES);
}

#[test]
fn config_and_side_files() {
    judge_all(folder::CASES);
}

#[test]
fn places_of_the_output() {
    judge_all(output::CASES);
}

#[test]
fn recipes_by_themselves() {
    judge_all(recipe::CASES);
}

#[test]
fn recipes_that_say_what_cannot_be() {
    judge_all(meaning::CASES);
}

#[test]
fn recipes_for_a_checkpoint() {
    judge_all(recipe::PLANNED);
}

#[test]
fn commands_on_odd_names() {
    judge_all(command::CASES);
}
