//! All rubrics of a folder, and the state that each is in.
//!
//! Built by `app` at start and by `pipeline::reload` after a change. Its rule: a rubric is active, or there is a reason that
//! `doctor`, `/metrics`, the read API and the log show; a file that cannot be taken leaves the last good version judging, and
//! never touches the other rubrics. The way not taken: a rubric that silently never runs.

use super::error::{Problem, RubricError};
use super::folder::Folder;
use super::parse::{Parsed, Surroundings, Test, parse};
use crate::domain::rubric::Rubric;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What has become of a rubric's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It judges.
    Active,
    /// Its panel has no configured judge.
    NoJudge(String),
    /// It says `paused: true`.
    Paused,
    /// Its tests do not give what they must.
    FailingTests(String),
    /// It cannot be used.
    Unparsable(RubricError),
}

impl State {
    /// All words of [`State::as_str`].
    pub const WORDS: [&str; 5] = ["active", "no_judge", "paused", "failing_tests", "unparsable"];

    /// A word for metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::NoJudge(_) => "no_judge",
            Self::Paused => "paused",
            Self::FailingTests(_) => "failing_tests",
            Self::Unparsable(_) => "unparsable",
        }
    }

    /// Why the file does not judge; `None` when it does.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        match self {
            Self::Active => None,
            Self::NoJudge(why) | Self::FailingTests(why) => Some(why.clone()),
            Self::Paused => Some("it says `paused: true`".to_owned()),
            Self::Unparsable(error) => Some(error.to_string()),
        }
    }
}

/// One rubric.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What has become of its file.
    pub state: State,
    /// The version that judges: the file's, or the last good one while the file cannot be taken.
    pub judging: Option<Arc<Rubric>>,
    /// What the file says, if it can be read; judged by or not.
    pub readable: Option<Arc<Rubric>>,
    /// Its file.
    pub file: PathBuf,
    /// The file's tests.
    pub tests: Arc<[Test]>,
}

impl Entry {
    /// Why the file does not judge, and what judges in its place.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        let why = self.state.why()?;
        let instead = self.judging.as_ref().map(|r| format!("; {} still judges", r.version));
        Some(why + &instead.unwrap_or_default())
    }
}

/// The rubrics.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    active: Vec<Arc<Rubric>>,
    entries: BTreeMap<String, Entry>,
}

/// Why there are no rubrics.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The folder cannot be read.
    #[error("cannot read the rubrics in {dir}; set rubrics.dir to the folder with your *.yaml files")]
    Read {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It holds no rubric.
    #[error("no rubric in {dir} can be used: there is no *.yaml file")]
    Empty {
        /// The folder.
        dir: PathBuf,
    },
}

impl Catalog {
    /// Loads every `*.yaml` in `dir`. `judges` are the configured judges' names.
    ///
    /// # Errors
    /// When the folder cannot be read or holds no rubric. Rubrics that cannot be used are no error: their states say so.
    pub fn load(dir: &Path, panels: &BTreeMap<String, Vec<String>>, judges: &[&str]) -> Result<Self, CatalogError> {
        let folder = Folder::read(dir).map_err(|source| CatalogError::Read { dir: dir.to_owned(), source })?;
        if folder.rubrics.is_empty() {
            return Err(CatalogError::Empty { dir: dir.to_owned() });
        }
        Ok(Self::of(&folder, panels, judges))
    }

    /// Makes a catalog of files' texts.
    #[must_use]
    pub fn of(folder: &Folder, panels: &BTreeMap<String, Vec<String>>, judges: &[&str]) -> Self {
        let mut catalog = Self::default();
        for (path, text) in &folder.rubrics {
            match parse(path, text, Surroundings { panels, shared: &folder.shared }) {
                Err(error) => {
                    let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
                    let error = Entry::new(path, State::Unparsable(error));
                    catalog.entries.insert(catalog.free(name, path), error);
                }
                Ok(parsed) => catalog.add(path, parsed, judges),
            }
        }
        catalog.list();
        catalog
    }

    fn add(&mut self, path: &Path, parsed: Parsed, judges: &[&str]) {
        let Parsed { rubric, tests, paused, .. } = parsed;
        if let Some(other) = self.entries.get(&rubric.name) {
            if matches!(other.state, State::Unparsable(_)) {
                // A broken file had only its own name to be called by.
                let broken = self.entries.remove(&rubric.name).expect("it was just found");
                let name = self.free(format!("{} ({})", rubric.name, broken.file.display()), &broken.file);
                self.entries.insert(name, broken);
            } else {
                let text = format!("{} already has a rubric `{}`", other.file.display(), rubric.name);
                let at = rubric.source.find(&rubric.name).unwrap_or(0);
                let problem = Problem::at(at..at + rubric.name.len(), text).help("names must differ");
                let error = RubricError::new(path.to_owned(), &rubric.source, vec![problem]);
                let name = self.free(rubric.name, path);
                self.entries.insert(name, Entry::new(path, State::Unparsable(error)));
                return;
            }
        }
        let unknown = rubric.panel.iter().find(|name| !judges.contains(&name.as_str()));
        let state = if paused {
            State::Paused
        } else if rubric.prompt.is_some() && rubric.panel.is_empty() {
            State::NoJudge("no judge is configured; add [judges.NAME] or set OPENAI_API_KEY".to_owned())
        } else if let Some(name) = unknown {
            State::NoJudge(format!("its panel names the judge `{name}`, which is not configured; add [judges.{name}]"))
        } else {
            State::Active
        };
        let name = rubric.name.clone();
        let readable = Some(Arc::new(rubric));
        let judging = readable.clone().filter(|_| state == State::Active);
        self.entries.insert(name, Entry { judging, readable, tests, ..Entry::new(path, state) });
    }

    /// The name itself, or with its file where it is taken.
    fn free(&self, name: String, path: &Path) -> String {
        if self.entries.contains_key(&name) { format!("{name} ({})", path.display()) } else { name }
    }

    fn list(&mut self) {
        self.active = self.entries.values().filter_map(|e| e.judging.clone()).collect();
        self.active.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// This catalog in place of an older one: where a file cannot be used, what it judged by before goes on judging.
    #[must_use]
    pub fn after(mut self, previous: &Self) -> Self {
        let broken: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, e)| matches!(e.state, State::Unparsable(_)))
            .map(|(name, _)| name.clone())
            .collect();
        for key in broken {
            let Some(mut entry) = self.entries.remove(&key) else { continue };
            let before = previous.entries.iter().find(|(_, e)| e.file == entry.file);
            let name = before.map_or(&key, |(name, _)| name).clone();
            let name = if self.entries.contains_key(&name) { self.free(key, &entry.file) } else { name };
            entry.judging = before.and_then(|(_, e)| e.judging.clone()).filter(|r| r.name == name);
            self.entries.insert(name, entry);
        }
        self.list();
        self
    }

    /// The file of this rubric is not taken because its tests fail; what judged before goes on.
    pub fn refuse(&mut self, name: &str, why: String, previous: &Self) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.state = State::FailingTests(why);
            entry.judging = previous.entries.get(name).and_then(|e| e.judging.clone());
        }
        self.list();
    }

    /// Rubrics to be tested before they are taken: those that would judge by another version than what judges in `previous`, and
    /// those whose tests are others, or failed, there. Where a test stands in its file does not matter.
    #[must_use]
    pub fn changed(&self, previous: &Self) -> Vec<(Arc<Rubric>, Arc<[Test]>)> {
        let unlined = |tests: &[Test]| tests.iter().map(|t| Test { line: 0, ..t.clone() }).collect::<Vec<_>>();
        let new = |rubric: &Rubric, tests: &[Test]| {
            previous.get(&rubric.name, &rubric.version).is_none()
                || previous.entries.get(&rubric.name).is_some_and(|before| {
                    matches!(before.state, State::FailingTests(_)) || unlined(&before.tests) != unlined(tests)
                })
        };
        let active = self.entries.values().filter(|e| e.state == State::Active);
        let all = active.filter_map(|e| Some((e.judging.clone()?, Arc::clone(&e.tests))));
        all.filter(|(rubric, tests)| new(rubric, tests)).collect()
    }

    /// Rubrics that judge, by name.
    #[must_use]
    pub fn active(&self) -> &[Arc<Rubric>] {
        &self.active
    }

    /// Rubrics that judge, and those whose file can be read but nobody judges by: what people may label.
    pub fn known(&self) -> impl Iterator<Item = &Arc<Rubric>> {
        self.entries.values().filter_map(|e| e.judging.as_ref().or(e.readable.as_ref()))
    }

    /// The active rubric of that name and version.
    #[must_use]
    pub fn get(&self, name: &str, version: &str) -> Option<&Arc<Rubric>> {
        self.active.iter().find(|r| r.name == name && r.version == version)
    }

    /// Every rubric, by name.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// Keeps only the named rubrics.
    pub fn keep(&mut self, names: &[String]) {
        self.entries.retain(|name, _| names.contains(name));
        self.list();
    }
}

impl Entry {
    fn new(path: &Path, state: State) -> Self {
        Self { state, judging: None, readable: None, file: path.to_owned(), tests: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> Folder {
        let rubrics = files.iter().map(|(name, text)| (PathBuf::from(name), Arc::from(*text))).collect();
        Folder { rubrics, ..Folder::default() }
    }

    fn of(files: &[(&str, &str)]) -> Catalog {
        Catalog::of(&folder(files), &BTreeMap::new(), &[])
    }

    const GOOD: &str = "name: a\nchecks: [grounding]\n";

    #[test]
    fn a_broken_file_does_not_take_the_others_with_it() {
        let catalog = of(&[
            ("a.yaml", GOOD),
            ("b.yaml", "name: b\nnonsense: 1\n"),
            ("c.yaml", "name: judged\npanel: default\nprompt: \"{{ answer }}\"\n"),
            ("d.yaml", GOOD),
            ("e.yaml", "name: e\npaused: true\nchecks: [grounding]\n"),
        ]);
        assert_eq!(catalog.active().len(), 1);
        let words: Vec<&str> = catalog.entries().values().map(|e| e.state.as_str()).collect();
        assert_eq!(
            words,
            ["active", "unparsable", "unparsable", "paused", "no_judge"],
            "{:?}",
            catalog.entries().keys()
        );
    }

    #[test]
    fn the_last_good_version_goes_on_judging() {
        let first = of(&[("x.yaml", GOOD), ("y.yaml", "name: y\nchecks: [json_validity]\n")]);
        let version = first.active()[0].version.clone();
        let broken = of(&[("x.yaml", "name: [\n"), ("y.yaml", "name: y\nchecks: [grounding]\n")]).after(&first);
        let entry = &broken.entries()["a"];
        assert_eq!(
            (entry.state.as_str(), &entry.judging.as_ref().expect("the last good").version),
            ("unparsable", &version)
        );
        assert!(entry.why().expect("a reason").ends_with("still judges"), "{:?}", entry.why());
        assert_eq!(broken.active().len(), 2);
        let still = of(&[("x.yaml", "name: {\n"), ("y.yaml", GOOD)]).after(&broken);
        assert_eq!(still.entries().keys().collect::<Vec<_>>(), ["a", "x"], "another file took its name");
        let gone = of(&[("y.yaml", "name: y\nchecks: [grounding]\n")]).after(&broken);
        assert_eq!(gone.active().len(), 1, "a file that is removed stops judging");
        let healed = of(&[("x.yaml", GOOD)]).after(&broken);
        assert_eq!(healed.entries()["a"].state, State::Active);
    }

    #[test]
    fn a_version_whose_tests_fail_is_not_taken() {
        let first = of(&[("a.yaml", GOOD)]);
        let mut next = of(&[("a.yaml", "name: a\nchecks: [json_validity]\n")]).after(&first);
        assert_eq!(next.changed(&first).len(), 1);
        next.refuse("a", "1 of 2 tests fails".to_owned(), &first);
        assert_eq!(next.entries()["a"].state.as_str(), "failing_tests");
        assert_eq!(next.active()[0].version, first.active()[0].version);
        assert!(first.changed(&first).is_empty());
    }

    #[test]
    fn other_tests_of_the_same_version_are_tried_and_failing_ones_again_until_they_pass() {
        let with = |passed: bool, line: &str| {
            let tests = format!("tests:\n  - trace: {{output: x}}\n    expect: {{passed: {passed}}}\n");
            of(&[("a.yaml", &format!("{line}{GOOD}{tests}"))])
        };
        let first = with(true, "");
        assert!(with(true, "# a comment\n").after(&first).changed(&first).is_empty(), "only moved");
        let mut turned = with(false, "").after(&first);
        assert_eq!(turned.active()[0].version, first.active()[0].version, "tests are no part of the version");
        assert_eq!(turned.changed(&first).len(), 1);
        turned.refuse("a", "1 of 1 tests fails".to_owned(), &first);
        assert_eq!(turned.active().len(), 1, "what judged goes on");
        assert_eq!(
            with(false, "").after(&turned).changed(&turned).len(),
            1,
            "they are not taken for passed the next time"
        );
    }

    #[test]
    fn an_empty_folder_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = Catalog::load(dir.path(), &BTreeMap::new(), &[]).expect_err("nothing there");
        assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    }

    #[test]
    fn the_shipped_rubrics_are_valid() {
        let panels = BTreeMap::from([("default".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("rubrics");
        let catalog = Catalog::load(&dir, &panels, &["a", "b"]).expect("the folder is there");
        for (name, entry) in catalog.entries() {
            assert_eq!(entry.state, State::Active, "{name}: {:?}", entry.why());
        }
        assert!(catalog.active().len() >= 16, "{}", catalog.active().len());
    }

    /// Not a timed test: the ratio says whether loading grows with the number of files, and the bound is for a slow machine.
    #[test]
    fn five_hundred_files_load_as_fast_as_a_hundred_times_five() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("rubrics");
        let shelf = Folder::read(&dir).expect("the folder is there");
        let many = |n: usize| {
            let texts: Vec<&Arc<str>> = shelf.rubrics.values().collect();
            let copy = |i: usize| {
                let text = texts[i % texts.len()].replacen("\nname: ", &format!("\nname: r{i}_"), 1);
                (PathBuf::from(format!("rubrics/r{i}.yaml")), Arc::from(text))
            };
            Folder { rubrics: (0..n).map(copy).collect(), shared: shelf.shared.clone() }
        };
        let took = |n: usize| {
            let folder = many(n);
            let start = std::time::Instant::now();
            let catalog = Catalog::of(&folder, &BTreeMap::new(), &[]);
            assert_eq!(catalog.entries().len(), n);
            start.elapsed().as_secs_f64()
        };
        let (hundred, five_hundred) = (took(100), took(500));
        println!("100 files: {hundred:.3} s; 500 files: {five_hundred:.3} s; ratio {:.1}", five_hundred / hundred);
        assert!(five_hundred / hundred < 25.0, "more than five times the square: {hundred} {five_hundred}");
    }
}
