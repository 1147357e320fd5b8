//! The rules of the house, checked by reading the tree: one test a rule, each failing with a list of
//! `file:line: what, remedy`.
//!
//! Called by `cargo test`; needs only std and only reads. Its rule: every rule is a pure function from text to
//! problems, so that `tidy/samples.rs` can show that it fails on bad text. Reading files, Rust and SQL is in `tidy/`,
//! so that this page is the rules alone. The way not taken: parsing with `syn`; masking comments and strings and then
//! searching is enough here, and compiles in no time.

#[path = "tidy/rust.rs"]
mod rust;
#[path = "tidy/samples.rs"]
mod samples;
#[path = "tidy/sql.rs"]
mod sql;
#[path = "tidy/tree.rs"]
mod tree;

use rust::{Source, find_all, test_modules, without_tests, word_at};
use sql::{Statement, statements};
use std::collections::BTreeSet;
use tree::{Problem, each_rust_file, files_at_the_top, files_under, hold, read, rust_files};

/// Most lines of one Rust file that are neither blank nor comment.
const CODE_LINES_MAX: usize = 500;
/// Most lines of `src/main.rs`.
const MAIN_LINES_MAX: usize = 59;
/// Most lines of `ARCHITECTURE.md`.
const ARCHITECTURE_LINES_MAX: usize = 199;

/// Where Rust of ours is.
const RUST_ROOTS: &[&str] = &["src", "tests", "benches", "examples"];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helpers", "helper", "manager", "misc"];

/// What each layer holds: a file uses lower layers and its own folder, nothing else.
const LAYERS: &[&[&str]] = &[
    &["domain"],
    &["checks", "judge", "stats", "config"],
    &["runtime", "dialect", "llm", "store", "rubrics", "sinks", "sources"],
    &["app"],
    &["pipeline"],
    &["server", "cli"],
];

/// Uses within a layer that are right all the same: who, whom, why. `*` is every folder of the layer.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("*", "runtime", "spawning, crossing to rayon and building HTTP clients have one door each, and adapters need it"),
    ("cli", "server", "the commands `serve` and `demo` start it"),
];

/// These files put the layers together.
const OUTSIDE_LAYERS: &[&str] = &["src/lib.rs", "src/main.rs"];

/// Where text of ours may be found that must not name a path of somebody's machine.
const TEXT_ROOTS: &[&str] =
    &["src", "tests", "benches", "examples", "docs", "migrations", "rubrics", "scripts", "deploy", ".ci"];

/// Places of a machine, in two halves so that this file does not match itself.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp/ba", "sh_jobs")];

// ---- the rules, as tests ----

#[test]
fn rust_files_open_with_a_module_text() {
    hold(&each_rust_file(RUST_ROOTS, module_text));
}

#[test]
fn rust_files_are_short() {
    hold(&each_rust_file(RUST_ROOTS, code_length));
}

#[test]
fn names_say_something() {
    let paths: Vec<String> = TEXT_ROOTS.iter().flat_map(|root| files_under(root)).collect();
    let mut problems = path_names(&paths);
    problems.extend(each_rust_file(RUST_ROOTS, module_names));
    hold(&problems);
}

#[test]
fn layers_use_only_lower_layers() {
    hold(&each_rust_file(&["src"], layers));
}

#[test]
fn lower_layers_neither_wait_nor_talk() {
    hold(&each_rust_file(&["src"], purity));
}

#[test]
fn tests_do_not_sleep() {
    hold(&each_rust_file(&["tests"], sleeps));
}

#[test]
fn no_test_is_ignored() {
    hold(&each_rust_file(RUST_ROOTS, ignored_tests));
}

#[test]
fn nothing_is_left_to_do() {
    hold(&each_rust_file(RUST_ROOTS, unfinished));
}

#[test]
fn only_tests_unwrap() {
    let sources = rust_files(&["src"]);
    hold(&unwraps(&sources));
}

#[test]
fn migrations_are_numbered() {
    hold(&migration_numbers(&files_under("migrations")));
}

#[test]
fn tables_and_columns_are_commented() {
    let files: Vec<(String, String)> =
        files_under("migrations").into_iter().map(|path| (path.clone(), read(&path))).collect();
    hold(&sql_comments(&files));
}

#[test]
fn main_and_architecture_are_short() {
    let mut problems = line_count("src/main.rs", &read("src/main.rs"), MAIN_LINES_MAX);
    problems.extend(line_count("ARCHITECTURE.md", &read("ARCHITECTURE.md"), ARCHITECTURE_LINES_MAX));
    hold(&problems);
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    let mut paths: Vec<String> = TEXT_ROOTS.iter().flat_map(|root| files_under(root)).collect();
    paths.extend(files_at_the_top());
    let problems: Vec<Problem> = paths.iter().flat_map(|path| machine_paths(path, &read(path))).collect();
    hold(&problems);
}

// ---- the rules, as functions ----

fn module_text(source: &Source) -> Vec<Problem> {
    if source.text.starts_with("//!") {
        return Vec::new();
    }
    vec![source.problem(1, "does not open with `//!`", "say what it is for, who calls it and its rule")]
}

fn code_length(source: &Source) -> Vec<Problem> {
    let lines = source.code.lines().filter(|line| !line.trim().is_empty()).count();
    if lines <= CODE_LINES_MAX {
        return Vec::new();
    }
    let what = format!("{lines} code lines, at most {CODE_LINES_MAX} are allowed");
    vec![source.problem(1, what, "split it by what its parts are about")]
}

fn path_names(paths: &[String]) -> Vec<Problem> {
    let empty = |part: &str| EMPTY_NAMES.contains(&part.split('.').next().unwrap_or_default());
    let bad = paths.iter().filter_map(|path| Some((path, path.split('/').find(|part| empty(part))?)));
    bad.map(|(path, part)| Problem::new(path, 1, format!("`{part}` says nothing"), "name it after what it is about"))
        .collect()
}

fn module_names(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    for at in find_all(&source.code, "mod ") {
        let name = word_at(&source.code, at + "mod ".len());
        if EMPTY_NAMES.contains(&name) {
            let what = format!("module `{name}` says nothing");
            problems.push(source.problem(source.line_of(at), what, "name it after what it is about"));
        }
    }
    problems
}

fn layers(source: &Source) -> Vec<Problem> {
    if OUTSIDE_LAYERS.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let from = source.folder();
    let Some(from_layer) = layer_of(from) else {
        return vec![source.problem(1, format!("`{from}` is in no layer"), "add it to LAYERS in tests/tidy.rs")];
    };
    let mut problems = Vec::new();
    for (to, line) in source.uses() {
        let Some(to_layer) = layer_of(to) else {
            problems.push(source.problem(line, format!("`crate::{to}` is in no layer"), "use it by its layer's path"));
            continue;
        };
        let excepted = EXCEPTIONS.iter().any(|(who, whom, _)| *whom == to && [from, "*"].contains(who));
        let below = to_layer < from_layer || (to_layer == from_layer && excepted);
        if from != to && !below {
            let what = format!("`{from}` (L{from_layer}) uses `{to}` (L{to_layer}), which is not below it");
            problems.push(source.problem(line, what, "move the shared part down, or the call up"));
        }
    }
    problems
}

fn layer_of(folder: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&folder))
}

fn purity(source: &Source) -> Vec<Problem> {
    if layer_of(source.folder()).is_none_or(|layer| layer > 1) {
        return Vec::new();
    }
    source.mentions(
        &["async fn", "tokio::", "sqlx::", "reqwest::"],
        "in a layer that only computes",
        "do it in L2 and hand the result down",
    )
}

fn sleeps(source: &Source) -> Vec<Problem> {
    if source.path.starts_with("tests/it/support/") {
        return Vec::new();
    }
    source.mentions(
        &["sleep(", "sleep_until("],
        "in a test",
        "wait for a signal, move the clock, or use what tests/it/support has",
    )
}

fn ignored_tests(source: &Source) -> Vec<Problem> {
    source.mentions(&["#[ignore"], "hides a failure", "repair the test or remove it")
}

fn unfinished(source: &Source) -> Vec<Problem> {
    source.mentions(&["todo!", "unimplemented!"], "is unfinished work", "finish it, or return an error")
}

fn unwraps(sources: &[Source]) -> Vec<Problem> {
    let test_only: Vec<String> = sources.iter().flat_map(test_modules).collect();
    let shipped = sources.iter().filter(|source| !test_only.iter().any(|module| source.is_in_module(module)));
    let shipped = shipped.map(|source| Source { code: without_tests(&source.code), ..source.clone() });
    shipped
        .flat_map(|source| {
            source.mentions(&[".unwrap()"], "says nothing when it fails", "use `?` or `expect(\"why it holds\")`")
        })
        .collect()
}

fn migration_numbers(paths: &[String]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, expected) in paths.iter().zip(1..) {
        let name = path.rsplit('/').next().unwrap_or_default().strip_suffix(".sql").unwrap_or_default();
        let (number, subject) = name.split_once('_').unwrap_or_default();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if number.len() != 4 || number.parse() != Ok(expected) || subject.is_empty() || !subject.chars().all(plain) {
            let remedy = format!("name it {expected:04}_subject.sql (lower case), so that numbers follow each other");
            problems.push(Problem::new(path, 1, "is not the next migration", remedy));
        }
    }
    problems
}

/// The comment may stand in a later migration than its table, since a merged one never changes.
fn sql_comments(files: &[(String, String)]) -> Vec<Problem> {
    let statements: Vec<(&str, Statement)> =
        files.iter().flat_map(|(path, text)| statements(text).into_iter().map(move |s| (path.as_str(), s))).collect();
    let commented: BTreeSet<String> = statements.iter().filter_map(|(_, s)| s.commented()).collect();
    let mut problems = Vec::new();
    for (path, statement) in &statements {
        for (kind, name, line) in statement.defines() {
            if !commented.contains(&format!("{kind} {name}")) {
                let what = format!("{} {name} has no comment", kind.to_lowercase());
                problems.push(Problem::new(path, line, what, format!("add COMMENT ON {kind} {name} IS '…'")));
            }
        }
    }
    problems
}

fn line_count(path: &str, text: &str, lines_max: usize) -> Vec<Problem> {
    let lines = text.lines().count();
    if lines == 0 {
        return vec![Problem::new(path, 1, "is missing or empty", "write it")];
    }
    if lines <= lines_max {
        return Vec::new();
    }
    vec![Problem::new(path, lines_max + 1, format!("{lines} lines, at most {lines_max} are allowed"), "shorten it")]
}

fn machine_paths(path: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        for needle in MACHINE_PATHS.iter().filter(|needle| line.contains(**needle)) {
            let what = format!("`{needle}` is a place of one machine");
            problems.push(Problem::new(path, number, what, "use a path within the repository"));
        }
    }
    problems
}
