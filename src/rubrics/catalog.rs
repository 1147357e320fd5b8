//! All rubrics of a folder, and the state that each is in.
//!
//! Built by `app` at start. Its rule: a rubric is active, or there is a reason that `doctor`, `/metrics` and the log show; one
//! broken file does not stop the others, but a folder without any usable rubric stops the start. The way not taken: a
//! rubric that silently never runs.

use super::error::RubricError;
use super::parse::rubric;
use crate::domain::rubric::Rubric;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a rubric judges or does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It judges.
    Active,
    /// Its panel has no configured judge.
    NoJudge(String),
    /// Its file cannot be used.
    Broken(RubricError),
}

impl State {
    /// A word for metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::NoJudge(_) => "no_judge",
            Self::Broken(_) => "broken",
        }
    }
}

impl State {
    /// Why the rubric does not judge; `None` when it does.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        match self {
            Self::Active => None,
            Self::NoJudge(why) => Some(why.clone()),
            Self::Broken(error) => Some(error.to_string()),
        }
    }
}

/// The rubrics.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    active: Vec<Arc<Rubric>>,
    states: BTreeMap<String, State>,
    /// The file that each rubric is from.
    files: BTreeMap<String, PathBuf>,
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
    /// It holds no usable rubric.
    #[error("no rubric in {dir} can be used{}", first.as_ref().map_or_else(|| ": there is no *.yaml file".to_owned(), |e| format!("; the first error: {e}")))]
    Empty {
        /// The folder.
        dir: PathBuf,
        /// The first thing that is wrong.
        first: Option<RubricError>,
    },
}

impl Catalog {
    /// Loads every `*.yaml` in `dir`. `judges` are the configured judges' names.
    ///
    /// # Errors
    /// When the folder cannot be read or holds nothing usable.
    pub fn load(dir: &Path, panels: &BTreeMap<String, Vec<String>>, judges: &[&str]) -> Result<Self, CatalogError> {
        let read = |source| CatalogError::Read { dir: dir.to_owned(), source };
        let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
            .map_err(read)?
            .filter_map(|entry| entry.ok().map(|e| e.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml"))
            .collect();
        files.sort();
        let mut sources = Vec::new();
        for path in files {
            let text = std::fs::read_to_string(&path).map_err(read)?;
            sources.push((path, text));
        }
        let catalog = Self::of(sources, panels, judges);
        if catalog.states.values().all(|state| matches!(state, State::Broken(_))) {
            let first =
                catalog.states.values().find_map(|s| if let State::Broken(e) = s { Some(e.clone()) } else { None });
            return Err(CatalogError::Empty { dir: dir.to_owned(), first });
        }
        Ok(catalog)
    }

    /// Makes a catalog of files' texts.
    #[must_use]
    pub fn of(sources: Vec<(PathBuf, String)>, panels: &BTreeMap<String, Vec<String>>, judges: &[&str]) -> Self {
        let mut catalog = Self::default();
        for (path, text) in sources {
            match rubric(&path, &text, panels) {
                Err(error) => {
                    let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
                    catalog.states.insert(name, State::Broken(error));
                }
                Ok(rubric) => catalog.add(&path, rubric, judges),
            }
        }
        catalog
    }

    fn add(&mut self, path: &Path, rubric: Rubric, judges: &[&str]) {
        if self.states.contains_key(&rubric.name) {
            let other = self.files.get(&rubric.name).map_or_else(String::new, |p| p.display().to_string());
            let problem = format!("{other} already has a rubric `{}`; names must differ", rubric.name);
            let error = RubricError::new(path.to_owned(), "", vec![super::error::Problem::at(0..0, problem)]);
            self.states.insert(format!("{} ({})", rubric.name, path.display()), State::Broken(error));
            return;
        }
        self.files.insert(rubric.name.clone(), path.to_owned());
        let unknown = rubric.panel.iter().find(|name| !judges.contains(&name.as_str()));
        let state = if rubric.prompt.is_some() && rubric.panel.is_empty() {
            State::NoJudge("no judge is configured; add [judges.NAME] or set OPENAI_API_KEY".to_owned())
        } else if let Some(name) = unknown {
            State::NoJudge(format!("its panel names the judge `{name}`, which is not configured; add [judges.{name}]"))
        } else {
            State::Active
        };
        if state == State::Active {
            self.active.push(Arc::new(rubric.clone()));
        }
        self.states.insert(rubric.name, state);
    }

    /// Rubrics that judge, by name.
    #[must_use]
    pub fn active(&self) -> &[Arc<Rubric>] {
        &self.active
    }

    /// The active rubric of that name and version.
    #[must_use]
    pub fn get(&self, name: &str, version: &str) -> Option<&Arc<Rubric>> {
        self.active.iter().find(|r| r.name == name && r.version == version)
    }

    /// Every rubric's state, by name.
    #[must_use]
    pub fn states(&self) -> &BTreeMap<String, State> {
        &self.states
    }

    /// Keeps only the named rubrics.
    pub fn keep(&mut self, names: &[String]) {
        self.active.retain(|r| names.contains(&r.name));
        self.states.retain(|name, _| names.contains(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_does_not_take_the_others_with_it() {
        let file = |name: &str, text: &str| (PathBuf::from(name), text.to_owned());
        let judged = "name: judged\npanel: default\nprompt: \"{{ answer }}\"\n";
        let sources = vec![
            file("a.yaml", "name: a\nchecks: [grounding]\n"),
            file("b.yaml", "name: b\nnonsense: 1\n"),
            file("c.yaml", judged),
            file("d.yaml", "name: a\nchecks: [grounding]\n"),
        ];
        let catalog = Catalog::of(sources, &BTreeMap::new(), &[]);
        assert_eq!(catalog.active().len(), 1);
        let words: Vec<&str> = catalog.states().values().map(State::as_str).collect();
        assert_eq!(words, ["active", "broken", "broken", "no_judge"]);
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
        assert!(catalog.states().values().all(|s| *s == State::Active), "{:?}", catalog.states());
        let names: Vec<&str> = catalog.active().iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["answer_relevance", "failure_to_answer", "faithfulness", "json_validity", "tone"]);
    }
}
