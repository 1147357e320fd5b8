//! L1: the configuration, one file a section, loaded once and checked before anything starts.
//!
//! Called by `cli`; everything else gets the finished [`Config`]. Its rule: defaults < file < environment, an unknown key is an
//! error that names the nearest known one, and every bound in the program stands here with its unit. The way not
//! taken: reading the environment where a value is needed; `clippy.toml` bans it.

mod alerts;
mod ambient;
mod budgets;
mod canaries;
mod database;
mod datadog;
mod ingest;
mod judges;
pub mod nearest;
mod redaction;
mod rubric_names;
mod sampling;
mod server;
mod sources;
mod template;
mod watch;
mod work;

pub use alerts::{Alerts, Channel, ChannelKind, QuietHours, Route, Secrets};
pub use ambient::Ambient;
pub use budgets::{Budget, Per};
pub use database::Database;
pub use datadog::{Datadog, DatadogMode};
pub use ingest::{Assembly, Ingest, Sessions};
pub use judges::{Judge, Price};
pub use redaction::Redaction;
pub use sampling::{Sampling, SessionDraw, UpstreamUse};
pub use server::{GrpcListen, Scope, Server, TlsFiles, Token};
pub use sources::{Format, FormatRule, HeaderField, Sasl, Source, SourceKind, SourceSecrets, subject_fits};
pub use watch::{Rule, Watch};
pub use work::{Export, Retention, Work};

use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The whole configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where we listen, and who may come in.
    pub server: Server,
    /// The database.
    pub database: Database,
    /// Limits at the door.
    pub ingest: Ingest,
    /// Brokers that traces are taken from.
    pub sources: Vec<Source>,
    /// What is taken out of traces before they are stored.
    pub redaction: Redaction,
    /// When a trace is whole.
    pub assembly: Assembly,
    /// When a session is judged.
    pub sessions: Sessions,
    /// Which traces are kept.
    pub sampling: Sampling,
    /// Where the rubric files are.
    pub rubrics: Rubrics,
    /// The judges, by name.
    pub judges: BTreeMap<String, Judge>,
    /// Panels: name to names of judges, in the order in which they are asked.
    pub panels: BTreeMap<String, Vec<String>>,
    /// What judging may cost.
    pub budgets: Vec<Budget>,
    /// The worker loop.
    pub work: Work,
    /// The outbox.
    pub export: Export,
    /// Datadog.
    pub datadog: Datadog,
    /// How streams of verdicts are watched.
    pub watch: Watch,
    /// Who is told when quality drops, and how.
    pub alerts: Alerts,
    /// How long things are kept.
    pub retention: Retention,
    /// Logging.
    pub log: Log,
}

/// Where the rubric files are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rubrics {
    /// Folder of `*.yaml` files, one a rubric.
    pub dir: PathBuf,
    /// What a changed file must do before the running service judges by it.
    pub gate: Gate,
    /// Who judges its tests.
    pub gate_judge: GateJudge,
}

/// What a changed rubric file must do to be taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// It must parse.
    Parse,
    /// And its tests must pass.
    #[default]
    Tests,
}

/// Who judges a changed rubric's tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateJudge {
    /// The rubric's own panel.
    #[default]
    Configured,
    /// The simulated judge, which costs nothing and knows little.
    Sim,
}

impl Default for Rubrics {
    fn default() -> Self {
        Self { dir: PathBuf::from("rubrics"), gate: Gate::default(), gate_judge: GateJudge::default() }
    }
}

/// Logging.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// One JSON object a line instead of text.
    pub json: bool,
}

/// Why the configuration cannot be used: the place and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("cannot read the configuration file {path}; name another with --config, or leave it out")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key is unknown or a value has the wrong type.
    #[error("{0}")]
    Parse(String),
    /// A value makes no sense.
    #[error("{key}: {problem}")]
    Invalid {
        /// The key, as `section.key`.
        key: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl ConfigError {
    fn invalid(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { key: key.into(), problem: problem.into() }
    }
}

impl Config {
    /// Loads defaults, then `file` if given, then `ASSIZE__SECTION__KEY` variables, then the well-known variables
    /// ([`Ambient`]), and checks the result.
    ///
    /// # Errors
    /// When the file cannot be read, a key is unknown, or a value is out of range.
    pub fn load(file: Option<&Path>, ambient: &Ambient) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(path) = file {
            let text =
                std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            // Parsed once by toml itself: its errors know their line, which figment's do not.
            let _: Self = toml::from_str(&text).map_err(|e| ConfigError::Parse(place_of(path, &text, &e)))?;
            figment = figment.merge(Toml::string(&text));
        }
        figment = figment.merge(Env::prefixed("ASSIZE__").split("__"));
        let mut config: Self = figment.extract().map_err(|e| {
            let places: Vec<String> = e.into_iter().map(|one| nearest::explain(&one.to_string())).collect();
            ConfigError::Parse(places.join("; "))
        })?;
        config.apply(ambient);
        config.check()?;
        Ok(config)
    }

    fn apply(&mut self, ambient: &Ambient) {
        self.database.apply(ambient);
        self.datadog.apply(ambient);
        self.alerts.apply(ambient);
        sources::apply(&mut self.sources, ambient);
        judges::apply(&mut self.judges, &mut self.panels, ambient);
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// The first value that makes no sense, with its key.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.server.check()?;
        self.database.check()?;
        self.ingest.check()?;
        sources::check(&self.sources)?;
        self.redaction.check()?;
        self.assembly.check()?;
        self.sessions.check()?;
        self.sampling.check()?;
        self.work.check(&self.judges)?;
        budgets::check(&self.budgets)?;
        self.export.check()?;
        self.datadog.check()?;
        self.alerts.check()?;
        self.watch.check()?;
        self.retention.check(self.judged_seconds_max(), self.told_seconds_max())?;
        judges::check(&self.judges, &self.panels)
    }

    /// How long after a trace was decided on something may still read it, in seconds.
    #[must_use]
    pub fn judged_seconds_max(&self) -> u64 {
        let later = (self.assembly.reopen_ms / 1_000).max(self.sessions.cap_seconds);
        self.work.job_seconds_max.saturating_add(later)
    }

    /// How long after a verdict was made it may still be sent or counted, in seconds.
    fn told_seconds_max(&self) -> u64 {
        self.export.event_seconds_max.max(u64::from(self.export.gauge_hours) * 3_600)
    }

    /// The configuration as TOML with every secret left out.
    #[must_use]
    pub fn redacted(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_else(|e| format!("# cannot be shown: {e}\n"))
    }
}

/// File, line and message; not the line's text, which may be a misspelt key with a secret behind it.
fn place_of(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let line = line.map_or_else(String::new, |line| format!(", line {line}"));
    format!("{}{line}: {}", path.display(), nearest::explain(error.message()))
}

fn at_least_one(key: &str, value: u64) -> Result<(), ConfigError> {
    if value == 0 { Err(ConfigError::invalid(key, "must be at least 1")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let path = dir.path().join("assize.toml");
        std::fs::write(&path, text).expect("the file can be written");
        Config::load(Some(&path), &Ambient::default())
    }

    #[test]
    fn the_default_configuration_is_valid() {
        load("").expect("defaults are valid");
    }

    #[test]
    fn an_unknown_key_names_line_and_nearest_key() {
        let error = load("[server]\nlissten = \"127.0.0.1:1\"\n").expect_err("unknown key").to_string();
        assert!(error.contains("line 2") && error.contains("did you mean `listen`"), "{error}");
    }

    #[test]
    fn a_word_that_is_none_of_those_allowed_is_told_with_them() {
        let error = load("[[budgets]]\nname = \"a\"\nper = \"user\"\nusd_per_day = 1.0\n").expect_err("unknown word");
        let error = error.to_string();
        for word in ["line 3", "`user`", "`all`", "`rubric`", "`feature`", "`tenant`"] {
            assert!(error.contains(word), "{word}: {error}");
        }
        let error = load("[[budgets]]\nname = \"a\"\nper = \"tenantt\"\n").expect_err("unknown word").to_string();
        assert!(error.contains("did you mean `tenant`"), "{error}");
    }

    #[test]
    fn a_rate_out_of_range_names_the_key() {
        let error = load("[sampling]\ndefault_rate = 1.5\n").expect_err("out of range").to_string();
        assert!(error.contains("sampling.default_rate"), "{error}");
    }

    #[test]
    fn a_panel_of_unknown_judges_names_the_nearest() {
        let text =
            "[judges.main]\nmodel = \"m\"\nbase_url = \"http://127.0.0.1:1/v1\"\n[panels]\ndefault = [\"mian\"]\n";
        let error = load(text).expect_err("unknown judge").to_string();
        assert!(error.contains("panels.default") && error.contains("main"), "{error}");
    }

    #[test]
    fn an_unknown_category_of_redaction_names_the_nearest() {
        let error = load("[redaction]\nemial = \"mask\"\n").expect_err("unknown category").to_string();
        assert!(error.contains("line 2") && error.contains("did you mean `email`"), "{error}");
        let error = load("[redaction]\nemail = \"masc\"\n").expect_err("unknown action").to_string();
        assert!(error.contains("did you mean `mask`"), "{error}");
    }

    #[test]
    fn the_example_file_is_the_default() {
        let text = include_str!("../../assize.example.toml");
        let config: Config = toml::from_str(text).expect("the example parses");
        config.check().expect("the example is valid");
    }
}
