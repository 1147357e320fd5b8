//! A Datadog metric query, and several of them in a formula, as monitors and dashboards write them.
//!
//! Used by the table and by the outputs. Its rule: a query is data, so that a monitor and a graph of the same thing cannot
//! differ; template variables are added only for tags that the metric has, since a filter on an absent tag shows nothing.

use std::fmt::Write;

/// The tags of a stream of verdicts, as the corrected gauges have them.
pub const STREAM: &[&str] = &["env", "service", "feature", "prompt_version"];

/// The template variables of the dashboards.
pub const VARIABLES: &[&str] = &["env", "service", "feature", "prompt_version", "model"];

/// One query of one metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// How series are put together: `avg`, `sum`, `min`, `max`, `p95`.
    pub aggregate: &'static str,
    /// The metric.
    pub metric: &'static str,
    /// Tags that it is narrowed to, as `key:value` or `!key:value`.
    pub only: Vec<String>,
    /// Tags that it is told apart by.
    pub by: &'static [&'static str],
    /// Whether it is counted, not averaged, over time.
    pub count: bool,
}

impl Query {
    /// A query of everything that the metric has.
    #[must_use]
    pub fn new(aggregate: &'static str, metric: &'static str) -> Self {
        Self { aggregate, metric, only: Vec::new(), by: &[], count: false }
    }

    /// The sum of a count.
    #[must_use]
    pub fn counted(metric: &'static str) -> Self {
        Self { count: true, ..Self::new("sum", metric) }
    }

    /// Narrowed to a tag.
    #[must_use]
    pub fn only(mut self, tag: impl Into<String>) -> Self {
        self.only.push(tag.into());
        self
    }

    /// Told apart by tags.
    #[must_use]
    pub fn by(mut self, tags: &'static [&'static str]) -> Self {
        self.by = tags;
        self
    }

    /// As a monitor writes it.
    #[must_use]
    pub fn in_monitor(&self) -> String {
        self.render(&self.only)
    }

    /// As a dashboard writes it, with the template variables that the metric can be narrowed by.
    #[must_use]
    pub fn in_dashboard(&self) -> String {
        let variables = tags_of(self.metric).iter().filter(|tag| VARIABLES.contains(tag)).map(|tag| format!("${tag}"));
        let only: Vec<String> = self.only.iter().cloned().chain(variables).collect();
        self.render(&only)
    }

    fn render(&self, only: &[String]) -> String {
        let only = if only.is_empty() { "*".to_owned() } else { only.join(",") };
        let mut out = format!("{}:{}{{{only}}}", self.aggregate, self.metric);
        if !self.by.is_empty() {
            write!(out, " by {{{}}}", self.by.join(",")).expect("a String can be written");
        }
        out + if self.count { ".as_count()" } else { "" }
    }
}

/// The tags that a metric has; see `docs/metrics.md` for ours and Datadog's page on its own metrics for `ml_obs`.
fn tags_of(metric: &str) -> &'static [&'static str] {
    const GAUGES: [&str; 2] = ["llm.eval.pass_rate", "llm.eval.mean_score"];
    if GAUGES.iter().any(|gauge| metric.starts_with(gauge)) {
        STREAM
    } else if metric.starts_with("llm.eval.") {
        VARIABLES
    } else {
        &["env", "service"]
    }
}

/// Queries in a formula, which calls them `a`, `b`, ….
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    /// The queries.
    pub queries: Vec<Query>,
    /// The formula.
    pub formula: &'static str,
}

impl From<Query> for Expression {
    fn from(query: Query) -> Self {
        Self { queries: vec![query], formula: "a" }
    }
}

impl Expression {
    /// The part of `whole` that `part` is; 0 where there is a whole and no part.
    #[must_use]
    pub fn share(part: Query, whole: Query) -> Self {
        Self { queries: vec![part, whole], formula: "default_zero(a) / b" }
    }

    /// The name of the n-th query.
    #[must_use]
    pub fn name(n: usize) -> char {
        ('a'..='z').nth(n).unwrap_or('z')
    }

    /// As a monitor writes it: the queries in their places.
    #[must_use]
    pub fn in_monitor(&self) -> String {
        let letters: Vec<char> = self.formula.chars().collect();
        let inside = |at: Option<&char>| at.is_some_and(|c| c.is_alphanumeric() || *c == '_');
        let mut out = String::new();
        for (i, c) in letters.iter().enumerate() {
            let alone = !inside(i.checked_sub(1).and_then(|j| letters.get(j))) && !inside(letters.get(i + 1));
            let query = (0..self.queries.len()).find(|n| alone && Self::name(*n) == *c);
            match query {
                Some(n) => out.push_str(&self.queries[n].in_monitor()),
                None => out.push(*c),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_put_into_the_formula_and_nowhere_else() {
        let part = Query::counted("llm.eval.count").only("passed:false").by(&["env"]);
        let share = Expression::share(part, Query::counted("llm.eval.count").by(&["env"]));
        assert_eq!(
            share.in_monitor(),
            "default_zero(sum:llm.eval.count{passed:false} by {env}.as_count()) / sum:llm.eval.count{*} by {env}.as_count()"
        );
    }

    #[test]
    fn a_dashboard_narrows_by_tags_that_the_metric_has() {
        let gauge = Query::new("avg", "llm.eval.pass_rate.upper").only("eval:tone");
        assert_eq!(
            gauge.in_dashboard(),
            "avg:llm.eval.pass_rate.upper{eval:tone,$env,$service,$feature,$prompt_version}"
        );
        let score = Query::new("avg", "llm.eval.score").in_dashboard();
        assert!(score.contains("$model"), "{score}");
        assert_eq!(Query::new("sum", "ml_obs.span").in_dashboard(), "sum:ml_obs.span{$env,$service}");
    }
}
