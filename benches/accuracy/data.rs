//! The labelled data: where it lies, one JSON object a line.

use assize::config::Ambient;
use serde_json::Value;
use std::path::PathBuf;

/// The folder of the data.
pub struct Data {
    folder: PathBuf,
}

impl Data {
    /// `$ASSIZE_DATA`, else the usual place beside the repository.
    pub fn find() -> Self {
        let ambient = Ambient::read();
        let folder = ambient.get("ASSIZE_DATA").unwrap_or("../shared/data").to_owned();
        Self { folder: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder) }
    }

    /// The lines of a file as JSON.
    ///
    /// # Errors
    /// Why the family must be skipped: the file is not there.
    pub fn lines(&self, file: &str) -> Result<Vec<Value>, String> {
        let text = std::fs::read_to_string(self.folder.join(file))
            .map_err(|_| format!("there is no {file} (set ASSIZE_DATA to the folder that holds it)"))?;
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .enumerate()
            .map(|(n, line)| serde_json::from_str(line).map_err(|e| format!("{file}:{}: {e}", n + 1)))
            .collect()
    }
}

/// A text field; empty when it is not there.
pub fn text<'a>(line: &'a Value, key: &str) -> &'a str {
    line[key].as_str().unwrap_or_default()
}
