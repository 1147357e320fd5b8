//! The rubrics that a command is about: files, folders, names, or stored versions.

use super::super::database::Database;
use crate::config::Config;
use crate::domain::rubric::Rubric;
use crate::rubrics::error::RubricError;
use crate::rubrics::folder::Folder;
use crate::rubrics::parse::{Parsed, Surroundings, parse};
use crate::store::StoreError;
use anyhow::{Context as _, bail};
use std::path::{Path, PathBuf};

/// A file, read.
pub(in crate::cli) struct Source {
    pub path: PathBuf,
    pub read: Result<Parsed, RubricError>,
}

/// Reads files and folders; a plain name is a rubric of the configured folder; nothing is all of that folder.
pub(in crate::cli) fn read(given: &[String], config: &Config) -> anyhow::Result<Vec<Source>> {
    let dir = config.rubrics.dir.display().to_string();
    let given: Vec<&str> = if given.is_empty() { vec![&dir] } else { given.iter().map(String::as_str).collect() };
    let mut found = Vec::new();
    for one in given {
        let path = Path::new(one);
        if path.is_dir() {
            let folder = folder(path)?;
            if folder.rubrics.is_empty() {
                bail!("there is no *.yaml file in {one}");
            }
            found.extend(folder.rubrics.iter().map(|(path, text)| source(path, text, &folder, config)));
        } else if path.is_file() {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {one}"))?;
            let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            found.push(source(path, &text, &folder(beside)?, config));
        } else {
            found.push(named(one, config)?);
        }
    }
    Ok(found)
}

fn folder(dir: &Path) -> anyhow::Result<Folder> {
    Folder::read(dir).with_context(|| format!("cannot read the rubrics in {}", dir.display()))
}

fn source(path: &Path, text: &str, folder: &Folder, config: &Config) -> Source {
    let around = Surroundings { panels: &config.panels, shared: &folder.shared };
    Source { path: path.to_owned(), read: parse(path, text, around) }
}

fn named(name: &str, config: &Config) -> anyhow::Result<Source> {
    let dir = &config.rubrics.dir;
    let folder = folder(dir)?;
    let all: Vec<Source> = folder.rubrics.iter().map(|(path, text)| source(path, text, &folder, config)).collect();
    let is_it = |s: &Source| match &s.read {
        Ok(parsed) => parsed.rubric.name == name,
        Err(_) => s.path.file_stem().is_some_and(|stem| stem == name),
    };
    let names: Vec<String> = all.iter().filter_map(|s| Some(s.read.as_ref().ok()?.rubric.name.clone())).collect();
    match all.into_iter().find(is_it) {
        Some(found) => Ok(found),
        None => {
            let best = crate::config::nearest::nearest(name, names.iter().map(String::as_str));
            let hint = best.map_or_else(String::new, |best| format!("; did you mean `{best}`?"));
            bail!("there is no file `{name}` and no rubric of that name in {}{hint}", dir.display())
        }
    }
}

/// Those that can be used; an error that shows every mistake of the others.
pub(in crate::cli) fn usable(sources: Vec<Source>) -> anyhow::Result<Vec<(PathBuf, Parsed)>> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for source in sources {
        match source.read {
            Ok(parsed) => good.push((source.path, parsed)),
            Err(error) => bad.push(error),
        }
    }
    match bad.first() {
        None => Ok(good),
        Some(first) => {
            for error in &bad {
                eprintln!("{}\n", error.render(is_terminal()));
            }
            bail!("{first}")
        }
    }
}

/// Whether people read the errors.
pub(super) fn is_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal()
}

/// One rubric: a file, a name, or `NAME@VERSION` from the database.
pub(super) async fn one(given: &str, config: &Config) -> anyhow::Result<(String, Rubric)> {
    let mut all = several(given, config).await?;
    if all.len() > 1 {
        bail!("{given} has {} rubrics; name one of them", all.len());
    }
    Ok(all.swap_remove(0))
}

/// The rubrics of a folder, or one as in [`one`]; each with what it is called. Never none.
pub(super) async fn several(given: &str, config: &Config) -> anyhow::Result<Vec<(String, Rubric)>> {
    if let Some((name, version)) = given.split_once('@').filter(|_| !Path::new(given).exists()) {
        return Ok(vec![stored(name, version, config).await?]);
    }
    let read = usable(read(&[given.to_owned()], config)?)?;
    Ok(read.into_iter().map(|(path, parsed)| (path.display().to_string(), parsed.rubric)).collect())
}

/// Versions that are named where one is not found.
const VERSIONS_TOLD: i64 = 10;

/// A version that the service has loaded, from the configured database or the private one.
async fn stored(name: &str, version: &str, config: &Config) -> anyhow::Result<(String, Rubric)> {
    let version = if version.starts_with("sha256:") { version.to_owned() } else { format!("sha256:{version}") };
    let Some(database) = Database::existing(config).await? else {
        bail!(
            "{name}@{version} is a stored version, and there is no database: set DATABASE_URL, or stand where `serve` keeps its private one ({})",
            config.database.private_dir.display()
        );
    };
    let found = async {
        Ok::<_, StoreError>((
            database.store.rubric_version(name, &version).await?,
            database.store.rubric_versions(name, VERSIONS_TOLD).await?,
        ))
    }
    .await;
    database.close().await;
    let (rubric, known) = found?;
    let known: Vec<String> = known.into_iter().map(|(v, at)| format!("{v} ({})", at.format("%F"))).collect();
    let others =
        if known.is_empty() { "no version of it is".to_owned() } else { format!("stored are {}", known.join(", ")) };
    let rubric = rubric.with_context(|| format!("{name} {version} is not stored; {others}"))?;
    Ok((format!("{name} {version}"), rubric))
}
