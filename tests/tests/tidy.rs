//! The house is kept: borders, doors, shape and prose of this repository.

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use portcullis::proxy::Limit;
use portcullis_policy::DenialCode;
use portcullis_tests::process;
use portcullis_tests::scratch::repository;
use portcullis_tests::tidy::{Tree, assert_tidy, borders, doors, limits, prose, shape};

fn house() -> &'static Tree {
    static HOUSE: OnceLock<Tree> = OnceLock::new();
    HOUSE.get_or_init(|| Tree::read(repository()))
}

#[test]
fn packages_depend_on_what_they_may() {
    assert_tidy(borders::packages(house()));
}

#[test]
fn only_the_gateway_waits() {
    assert_tidy(borders::waiting(house()));
}

#[test]
fn rooms_of_the_gateway_look_downwards_only() {
    assert_tidy(borders::rooms(house()));
}

#[test]
fn each_dependency_comes_in_by_its_door() {
    assert_tidy(doors::entered(house()));
}

#[test]
fn no_door_is_disused() {
    assert_tidy(doors::disused(house()));
}

#[test]
fn nothing_banned_and_nothing_double_is_built() {
    let mut tree = Command::new(env!("CARGO"));
    tree.args([
        "tree",
        "--workspace",
        "--locked",
        "--offline",
        "--edges",
        "normal,build,dev",
    ]);
    tree.args(["--prefix", "none", "--format", "{p}"])
        .current_dir(repository());
    assert_tidy(doors::built(
        process::run(&tree, Duration::from_secs(120)).ok(),
    ));
}

#[test]
fn the_top_level_is_what_it_should_be() {
    assert_tidy(shape::top(house()));
}

#[test]
fn no_file_lies_too_deep() {
    assert_tidy(shape::depth(house()));
}

#[test]
fn no_file_is_too_long() {
    assert_tidy(shape::length(house(), shape::LONGER));
}

#[test]
fn nothing_tells_of_the_machine_it_was_written_on() {
    assert_tidy(prose::foreign(house()));
}

#[test]
fn every_link_leads_somewhere() {
    assert_tidy(prose::links(house()));
}

#[test]
fn every_page_of_the_manual_is_listed() {
    assert_tidy(prose::unlisted(house()));
}

/// The tests of the drivers keep the manual's tables true; here they keep the README's.
#[test]
fn the_readme_shows_the_drivers_as_the_manual_does() {
    let root = portcullis_tests::scratch::repository();
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let (readme, manual) = (read("README.md"), read("gateway/manual/drivers.md"));
    let mut rows = manual
        .split("\n\n")
        .filter(|part| part.starts_with("| driver |"));
    assert!(rows.clone().next().is_some());
    assert!(rows.all(|table| readme.contains(table.trim_end())));
}

#[test]
fn the_manual_explains_every_denial() {
    let codes = DenialCode::ALL
        .iter()
        .map(|code| code.as_str().to_owned())
        .collect();
    assert_tidy(prose::unexplained(
        house(),
        &codes,
        "gateway/manual/denials.md",
    ));
}

#[test]
fn the_manual_explains_every_key_of_a_policy_file() {
    assert_tidy(prose::unexplained(
        house(),
        &prose::policy_keys(house()),
        "gateway/manual/policy.md",
    ));
}

#[test]
fn the_manual_explains_every_key_of_a_node_file() {
    assert_tidy(prose::unexplained(
        house(),
        &prose::node_keys(house()),
        "gateway/manual/node.md",
    ));
}

#[test]
fn the_manual_explains_every_kind_of_audit_event() {
    let kinds = portcullis_audit::kinds::ALL.map(str::to_owned).into();
    assert_tidy(prose::unexplained(
        house(),
        &kinds,
        "gateway/manual/node.md",
    ));
}

#[test]
fn the_manual_explains_every_metric() {
    assert_tidy(prose::unexplained(
        house(),
        &prose::metric_names(house()),
        "gateway/manual/node.md",
    ));
}

#[test]
fn every_limit_that_is_named_is_shown() {
    assert_tidy(limits::unshown(house()));
}

#[test]
fn the_manual_explains_every_limit_that_turns_somebody_away() {
    let names = Limit::ALL.map(|limit| limit.name().to_owned()).into();
    assert_tidy(prose::unexplained(
        house(),
        &names,
        "gateway/manual/limits.md",
    ));
}
