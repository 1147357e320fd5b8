//! What is watched: the one table that monitors, dashboards, Terraform, Grafana and Prometheus rules are made from.
//!
//! A file a row of the dashboards. Its rules: limits on quality are held against the end of the interval, so that few verdicts
//! cannot page; a rubric that is not loaded has no monitor; what Datadog counts itself over all spans (`ml_obs`) is not counted
//! again from a sample. The way not taken: a limit for every rubric, which nobody has chosen.

mod cost;
mod health;
mod quality;
mod security;

use super::query::{Expression, Query};

/// A rubric, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// Its name, which is the tag `eval` and the label `rubric`.
    pub name: String,
    /// Its title, for people.
    pub title: String,
    /// The names of its checks.
    pub checks: Vec<&'static str>,
    /// Its `alert.runbook`.
    pub runbook: Option<String>,
}

/// A row of the dashboards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// What the answers are worth.
    Quality,
    /// What it costs.
    Cost,
    /// Whether application and judges work.
    Health,
    /// Attacks and what must not get out.
    Security,
}

impl Row {
    /// All, from top to bottom.
    pub const ALL: [Self; 4] = [Self::Quality, Self::Cost, Self::Health, Self::Security];

    /// Its heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Quality => "Quality",
            Self::Cost => "Cost",
            Self::Health => "Health",
            Self::Security => "Security",
        }
    }
}

/// What a graph counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A share or score, 0 to 1.
    Share,
    /// Things.
    Count,
    /// US dollars.
    Usd,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// What it shows.
    pub title: String,
    /// What it counts.
    pub unit: Unit,
    /// Whether it is bars, not lines.
    pub bars: bool,
    /// For Datadog: legends and queries; empty where Datadog does not have it.
    pub lines: Vec<(&'static str, Expression)>,
    /// For Prometheus: legends (in Grafana's form) and expressions; empty where Prometheus does not have it.
    pub prometheus: Vec<(&'static str, String)>,
}

/// How a value in a window is compared with the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The value itself: `avg`, `sum`, `percentile`.
    Level(&'static str),
    /// The value less what it was a day ago.
    Change(&'static str),
    /// The change in per cent.
    PercentChange(&'static str),
    /// The share of the last half hour that was above what is usual.
    Anomaly,
}

/// When Datadog alerts.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// What is looked at.
    pub expression: Expression,
    /// How.
    pub method: Method,
    /// The window, as in `last_10m`.
    pub window: &'static str,
    /// `<`, `>` or `>=`.
    pub comparison: &'static str,
    /// The limit.
    pub critical: f64,
    /// An earlier limit.
    pub warning: Option<f64>,
    /// Where it is over; without it, where it is no longer beyond the limit.
    pub recovery: Option<f64>,
    /// Minutes without data after which that is told.
    pub no_data_minutes: Option<u32>,
}

/// When Prometheus alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The condition.
    pub expression: String,
    /// How long it must hold, as in `10m`.
    pub hold: &'static str,
}

/// One thing that is watched.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    /// Its name for ever: monitors are found by it.
    pub key: String,
    /// Where it is shown.
    pub row: Row,
    /// Its name for people.
    pub title: String,
    /// What it means when it alerts.
    pub means: &'static str,
    /// What to do then.
    pub remedy: &'static str,
    /// A page on what to do.
    pub runbook: Option<String>,
    /// 1 is highest, 5 lowest.
    pub priority: u8,
    /// What is drawn.
    pub graph: Graph,
    /// When Datadog alerts; none = it is only drawn.
    pub alarm: Option<Alarm>,
    /// When Prometheus alerts.
    pub rule: Option<Rule>,
}

/// Everything that is watched where these rubrics are loaded, by row.
#[must_use]
pub fn watches(rubrics: &[Watched]) -> Vec<Watch> {
    let mut all = quality::watches(rubrics);
    all.extend(cost::watches());
    all.extend(health::watches());
    all.extend(security::watches(rubrics));
    all
}

/// What is not watched, and why.
#[must_use]
pub fn left_out(rubrics: &[Watched]) -> Vec<String> {
    let topics = [quality::FAITHFULNESS, quality::RETRIEVAL, quality::JSON, security::INJECTION];
    let absent = topics.iter().filter(|topic| topic.find(rubrics).is_none());
    absent.map(|t| format!("no monitor `{}`: no rubric named {} is loaded", t.key, t.names.join(" or "))).collect()
}

/// A monitor that needs a certain rubric.
struct Topic {
    key: &'static str,
    /// Names of rubrics; the first that is loaded is watched.
    names: &'static [&'static str],
    /// A rubric of another name whose only check this is will do.
    check: Option<&'static str>,
}

impl Topic {
    fn find<'a>(&self, rubrics: &'a [Watched]) -> Option<&'a Watched> {
        let named = self.names.iter().find_map(|name| rubrics.iter().find(|r| r.name == *name));
        named.or_else(|| rubrics.iter().find(|r| self.check.is_some_and(|check| r.checks == [check])))
    }
}

/// The tag of a rubric.
fn eval(rubric: &Watched) -> String {
    format!("eval:{}", rubric.name)
}

/// The gauge of a rubric in Prometheus; every process that watches shows the same.
fn shown(metric: &str, rubric: &Watched, bound: &str) -> String {
    format!("max({metric}{{rubric=\"{}\",bound=\"{bound}\"}})", rubric.name)
}

/// A rubric's pass rate with its interval, as a graph without an alarm.
fn pass_rate(rubric: &Watched, row: Row) -> Watch {
    let line = |metric| Expression::from(Query::new("avg", metric).only(eval(rubric)).by(&["prompt_version"]));
    let series = |bound: &str| shown("assize_pass_rate", rubric, bound);
    let title = if rubric.title.is_empty() { rubric.name.clone() } else { rubric.title.clone() };
    Watch {
        key: format!("pass_rate_{}", rubric.name),
        row,
        title: title.clone(),
        means: "Share of verdicts that passed, with its 95 % interval, corrected for sampling.",
        remedy: "",
        runbook: rubric.runbook.clone(),
        priority: 5,
        graph: Graph {
            title: format!("Passed: {title}"),
            unit: Unit::Share,
            bars: false,
            lines: vec![
                ("pass rate", line("llm.eval.pass_rate")),
                ("at least", line("llm.eval.pass_rate.lower")),
                ("at most", line("llm.eval.pass_rate.upper")),
            ],
            prometheus: vec![
                ("pass rate", series("estimate")),
                ("at least", series("lower")),
                ("at most", series("upper")),
            ],
        },
        alarm: None,
        rule: None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The rubrics that come along, and those that the other monitors need.
    pub(crate) fn loaded() -> Vec<Watched> {
        let rubric = |name: &str, title: &str, checks: &[&'static str]| Watched {
            name: name.to_owned(),
            title: title.to_owned(),
            checks: checks.to_vec(),
            runbook: None,
        };
        let mut all = vec![
            rubric("faithfulness", "Faithful to the retrieved context", &["grounding"]),
            rubric("context_relevance", "The retrieved documents fit the question", &[]),
            rubric("json_validity", "Valid JSON that fits the schema", &["json_validity"]),
            rubric("prompt_injection", "No prompt injection", &["prompt_injection"]),
        ];
        all[0].runbook = Some("https://runbooks.example/faithfulness".to_owned());
        all
    }

    #[test]
    fn keys_are_unique_and_every_row_has_something() {
        let watches = watches(&loaded());
        let keys: std::collections::BTreeSet<&str> = watches.iter().map(|w| w.key.as_str()).collect();
        assert_eq!(keys.len(), watches.len());
        for row in Row::ALL {
            assert!(watches.iter().any(|w| w.row == row && w.alarm.is_some()), "{row:?}");
        }
        assert!(watches.iter().all(|w| w.alarm.is_none() || !w.remedy.is_empty()), "every alarm says what to do");
    }

    #[test]
    fn a_rubric_that_is_not_loaded_is_not_watched_and_that_is_said() {
        let without = watches(&[]);
        assert!(without.iter().all(|w| w.key != "faithfulness" && w.key != "injection"));
        assert_eq!(left_out(&[]).len(), 4);
        assert!(left_out(&loaded()).is_empty());
        let other = Watched { name: "attacks".to_owned(), checks: vec!["prompt_injection"], ..Watched::default() };
        assert!(watches(&[other]).iter().any(|w| w.key == "injection"));
    }

    #[test]
    fn every_alarm_is_explained_in_the_documentation() {
        let text = include_str!("../../../../docs/datadog.md");
        for watch in watches(&loaded()).iter().filter(|w| w.alarm.is_some() || w.rule.is_some()) {
            assert!(text.contains(&format!("| `{}` |", watch.key)), "docs/datadog.md has no row for {}", watch.key);
        }
    }
}
