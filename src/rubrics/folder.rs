//! The texts of a folder of rubrics, as they stood at one moment.
//!
//! Read by `catalog` and `pipeline::reload`. Its rule: two equal readings some time apart are a folder that nobody is writing
//! to; a file without an end of line may still be being written. The way not taken: acting on events of the file system,
//! which tell that something changes, not that it is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folder {
    /// Rubric files, by path.
    pub rubrics: BTreeMap<PathBuf, Arc<str>>,
    /// What prompts may include, by name.
    pub shared: BTreeMap<String, Arc<str>>,
}

impl Folder {
    /// Reads every `*.yaml` and `*.yml` of `dir`, and every file of `dir/shared`.
    ///
    /// # Errors
    /// When the folder or one of its files cannot be read.
    pub fn read(dir: &Path) -> std::io::Result<Self> {
        let is_rubric = |path: &Path| path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        let shared = dir.join(super::template::SHARED);
        let named = |path: &Path| path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let texts = if shared.is_dir() { files(&shared, |_| true)? } else { BTreeMap::new() };
        let shared = texts.into_iter().map(|(path, text)| (named(&path), text)).collect();
        Ok(Self { rubrics: files(dir, is_rubric)?, shared })
    }

    /// Whether a file may be in the middle of being written: the last line of a whole one ends.
    #[must_use]
    pub fn may_be_unfinished(&self) -> bool {
        self.rubrics.values().chain(self.shared.values()).any(|text| !text.ends_with('\n'))
    }
}

/// Hidden files (an editor's, and the folders behind a ConfigMap) are not ours.
fn files(dir: &Path, wanted: impl Fn(&Path) -> bool) -> std::io::Result<BTreeMap<PathBuf, Arc<str>>> {
    let mut texts = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if !hidden && wanted(&path) && path.is_file() {
            // What is not UTF-8 becomes characters that no key has; the parser then says where.
            let bytes = std::fs::read(&path)?;
            texts.insert(path, String::from_utf8_lossy(&bytes).as_ref().into());
        }
    }
    Ok(texts)
}
