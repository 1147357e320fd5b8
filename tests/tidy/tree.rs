//! The files of the checkout, and what is wrong with them.

use super::rust::Source;
use std::fmt;
use std::path::Path;

/// Something untidy, where it is, and what to do about it.
#[derive(Debug)]
pub struct Problem {
    path: String,
    pub line: usize,
    what: String,
    remedy: String,
}

impl Problem {
    pub fn new(path: &str, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}, {}", self.path, self.line, self.what, self.remedy)
    }
}

/// Fails with the list, unless it is empty.
#[track_caller]
pub fn hold(problems: &[Problem]) {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert!(lines.is_empty(), "{} untidy place(s):\n{}\n", lines.len(), lines.join("\n"));
}

/// What a rule finds in the Rust files below these folders.
pub fn each_rust_file(roots: &[&str], rule: fn(&Source) -> Vec<Problem>) -> Vec<Problem> {
    rust_files(roots).iter().flat_map(rule).collect()
}

/// The Rust files below these folders.
pub fn rust_files(roots: &[&str]) -> Vec<Source> {
    let paths = roots.iter().flat_map(|root| files_under(root)).filter(|path| is_rust(path));
    let sources: Vec<Source> = paths.map(|path| Source::new(&path, &read(&path))).collect();
    assert!(!sources.is_empty(), "no Rust files under {roots:?}: is this the right folder?");
    sources
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file; empty when it is not there or not text.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// All files below a folder, as sorted paths from the root with `/`; none if there is no such folder.
pub fn files_under(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (path, is_folder) in entries(folder) {
        if is_folder { found.extend(files_under(&path)) } else { found.push(path) }
    }
    found
}

/// The files at the top that are ours: not those that start with a dot, and not the lock file.
pub fn files_at_the_top() -> Vec<String> {
    let files = entries("").into_iter().filter(|(_, is_folder)| !is_folder).map(|(path, _)| path);
    files.filter(|path| !path.starts_with('.') && path != "Cargo.lock").collect()
}

fn entries(folder: &str) -> Vec<(String, bool)> {
    let listed = std::fs::read_dir(root().join(folder)).into_iter().flatten();
    let mut all: Vec<(String, bool)> = listed
        .map(|entry| {
            let entry = entry.expect("a folder of the checkout can be listed");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            (path, entry.path().is_dir())
        })
        .collect();
    all.sort();
    all
}
