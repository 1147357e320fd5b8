//! The row "quality": what the answers are worth.
//!
//! Its rule: levels are held against `.upper`, the end of the interval that must be bad before one is sure.

use super::super::query::{Expression, Query, STREAM};
use super::{Alarm, Graph, Method, Row, Rule, Topic, Unit, Watch, Watched, eval, pass_rate, security, shown};

pub(super) const FAITHFULNESS: Topic =
    Topic { key: "faithfulness", names: &["faithfulness", "groundedness"], check: None };
pub(super) const RETRIEVAL: Topic = Topic {
    key: "retrieval_relevance",
    names: &["retrieval_relevance", "context_relevance", "context_relevancy"],
    check: None,
};
pub(super) const JSON: Topic = Topic { key: "invalid_json", names: &["json_validity"], check: Some("json_validity") };

pub(super) fn watches(rubrics: &[Watched]) -> Vec<Watch> {
    let mut all = vec![alert(), regression()];
    all.extend(FAITHFULNESS.find(rubrics).map(|rubric| Watch {
        title: "Faithfulness below 0.75".to_owned(),
        means: "The mean score for being faithful to the retrieved context is surely below 0.75: even the upper end of its \
                interval is. Answers state what the documents do not say.",
        remedy: "Look at the worst traces (assize alerts, or the verdicts of this rubric). Compare prompt versions with \
                 assize report --by prompt_version; roll back the newest if it is the worst, else look at what retrieval \
                 returns.",
        ..mean_below(FAITHFULNESS.key, rubric, 0.75)
    }));
    all.extend(RETRIEVAL.find(rubrics).map(|rubric| Watch {
        title: "Retrieval relevance below 0.70".to_owned(),
        means: "The mean score for how well the retrieved documents fit the question is surely below 0.70.",
        remedy: "Look at index and embedding model: a new model, an index that was not built anew, a filter that leaves out \
                 too much. Answers will get worse after it.",
        ..mean_below(RETRIEVAL.key, rubric, 0.7)
    }));
    all.extend(JSON.find(rubrics).map(invalid_json));
    all.extend(rubrics.iter().filter(|r| !security::is_about(r)).map(|r| pass_rate(r, Row::Quality)));
    all
}

/// The mean score of a rubric, sure to be below a level.
fn mean_below(key: &str, rubric: &Watched, level: f64) -> Watch {
    let line = |metric| Expression::from(Query::new("avg", metric).only(eval(rubric)).by(STREAM));
    let series = |bound: &str| shown("assize_mean_score", rubric, bound);
    Watch {
        key: key.to_owned(),
        row: Row::Quality,
        title: String::new(),
        means: "",
        remedy: "",
        runbook: rubric.runbook.clone(),
        priority: 2,
        graph: Graph {
            title: format!("Mean score: {}", rubric.name),
            unit: Unit::Share,
            bars: false,
            lines: vec![("mean", line("llm.eval.mean_score")), ("at most", line("llm.eval.mean_score.upper"))],
            prometheus: vec![("mean", series("estimate")), ("at most", series("upper"))],
        },
        alarm: Some(Alarm {
            expression: line("llm.eval.mean_score.upper"),
            method: Method::Level("avg"),
            window: "last_15m",
            comparison: "<",
            critical: level,
            warning: None,
            recovery: Some(level + 0.02),
            no_data_minutes: None,
        }),
        rule: Some(Rule { expression: format!("{} < {level}", series("upper")), hold: "15m" }),
    }
}

/// What our own detectors have found.
fn alert() -> Watch {
    // Tags that every change of an alert has.
    const BY: &[&str] = &["severity", "kind"];
    let opened = Query::counted("llm.eval.alert").by(BY);
    Watch {
        key: "alert".to_owned(),
        row: Row::Quality,
        title: "Assize has opened an alert".to_owned(),
        means: "A detector of Assize has found a change with a stated chance of a false alarm.",
        remedy: "assize alerts list, then assize alerts show ID: what dropped, since when, by how much, the nearest deploys, \
                 the worst traces.",
        runbook: None,
        priority: 2,
        graph: Graph {
            title: "Changes of alerts".to_owned(),
            unit: Unit::Count,
            bars: true,
            lines: vec![("changes of alerts", Query::counted("llm.eval.alert").by(&["change", "severity"]).into())],
            prometheus: vec![("{{state}} {{severity}}", "max by (state, severity) (assize_alerts)".to_owned())],
        },
        alarm: Some(Alarm {
            expression: opened.only("change:opened").into(),
            method: Method::Level("sum"),
            window: "last_15m",
            comparison: ">",
            critical: 0.0,
            warning: None,
            recovery: None,
            no_data_minutes: None,
        }),
        rule: Some(Rule { expression: "max by (severity) (assize_alerts{state=\"open\"}) > 0".to_owned(), hold: "0m" }),
    }
}

/// Five points worse than a day ago, in the worst version: a new prompt version appears as a series of its own.
fn regression() -> Watch {
    const BY: &[&str] = &["eval", "env", "service", "feature"];
    let worst = |metric| Expression::from(Query::new("min", metric).by(BY));
    let upper = |when: &str| format!("max by (rubric) (assize_pass_rate{{bound=\"upper\"}}{when})");
    Watch {
        key: "regression".to_owned(),
        row: Row::Quality,
        title: "Evaluation regression of 5 points".to_owned(),
        means: "The pass rate of the worst prompt version is 5 points below what it was a day ago, both taken at the upper \
                end of their intervals, so that a version with few verdicts does not alert.",
        remedy: "assize report --by prompt_version --compare OLD,NEW shows the drop with its interval. Roll the prompt back \
                 if it is real.",
        runbook: None,
        priority: 2,
        graph: Graph {
            title: "Pass rate of the worst prompt version".to_owned(),
            unit: Unit::Share,
            bars: false,
            lines: vec![("worst version", worst("llm.eval.pass_rate")), ("at most", worst("llm.eval.pass_rate.upper"))],
            prometheus: vec![("{{rubric}}", "max by (rubric) (assize_pass_rate{bound=\"estimate\"})".to_owned())],
        },
        alarm: Some(Alarm {
            expression: worst("llm.eval.pass_rate.upper"),
            method: Method::Change("avg"),
            window: "last_1h",
            comparison: "<",
            critical: -0.05,
            warning: Some(-0.03),
            recovery: Some(-0.02),
            no_data_minutes: None,
        }),
        rule: Some(Rule { expression: format!("{} - {} < -0.05", upper(""), upper(" offset 1d")), hold: "1h" }),
    }
}

/// Two in a hundred for ten minutes.
fn invalid_json(rubric: &Watched) -> Watch {
    const BY: &[&str] = &["env", "service"];
    let count = || Query::counted("llm.eval.count").only(eval(rubric)).only("outcome:scored").by(BY);
    let share = Expression::share(count().only("passed:false"), count());
    let valid = shown("assize_pass_rate", rubric, "estimate");
    Watch {
        key: JSON.key.to_owned(),
        row: Row::Quality,
        title: "Invalid JSON above 2 %".to_owned(),
        means: "More than 2 % of the answers that had to be JSON were not, or did not fit their schema, for ten minutes.",
        remedy: "Look for a new model, a prompt without its schema, or answers cut off at the token limit (finish reason \
                 length). A provider's strict mode for JSON ends it.",
        runbook: rubric.runbook.clone(),
        priority: 2,
        graph: Graph {
            title: "Invalid JSON".to_owned(),
            unit: Unit::Share,
            bars: false,
            lines: vec![("invalid", share.clone())],
            prometheus: vec![("invalid", format!("1 - {valid}"))],
        },
        alarm: Some(Alarm {
            expression: share,
            method: Method::Level("sum"),
            window: "last_10m",
            comparison: ">",
            critical: 0.02,
            warning: Some(0.01),
            recovery: Some(0.01),
            no_data_minutes: None,
        }),
        rule: Some(Rule { expression: format!("1 - {valid} > 0.02"), hold: "10m" }),
    }
}
