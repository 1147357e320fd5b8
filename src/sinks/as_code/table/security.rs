//! The row "security": attacks on the application, and what must not get out of it.
//!
//! Its rule: found attacks are counted, not averaged: one more attack among more traffic is one more attack.

use super::super::query::Query;
use super::{Alarm, Graph, Method, Row, Rule, Topic, Unit, Watch, Watched, eval, pass_rate, shown};

pub(super) const INJECTION: Topic =
    Topic { key: "injection", names: &["prompt_injection", "injection"], check: Some("prompt_injection") };

/// Rubrics that are shown in this row, by name or by check.
const ABOUT: [&str; 8] = [
    "prompt_injection",
    "injection",
    "personal_data",
    "sensitive_data",
    "pii",
    "toxicity",
    "jailbreak",
    "harmful_content",
];

pub(super) fn is_about(rubric: &Watched) -> bool {
    ABOUT.contains(&rubric.name.as_str()) || rubric.checks.iter().any(|check| ABOUT.contains(check))
}

pub(super) fn watches(rubrics: &[Watched]) -> Vec<Watch> {
    let mut all: Vec<Watch> = INJECTION.find(rubrics).map(injection).into_iter().collect();
    all.push(canary());
    all.extend(rubrics.iter().filter(|r| is_about(r)).map(|r| pass_rate(r, Row::Security)));
    all
}

fn injection(rubric: &Watched) -> Watch {
    let found = Query::counted("llm.eval.count").only(eval(rubric)).only("passed:false");
    let rate = |bound: &str| format!("1 - {}", shown("assize_pass_rate", rubric, bound));
    Watch {
        key: INJECTION.key.to_owned(),
        row: Row::Security,
        title: "Prompt injections".to_owned(),
        means: "More than five traces within 15 minutes carry an attempt to take the assistant over, in the user's words or \
                in a retrieved document. With sampling there are more than were seen.",
        remedy: "Look at the traces: one user or document, or many. Block the source; check what the tools were called \
                 with; look whether the answers obeyed.",
        runbook: rubric.runbook.clone(),
        priority: 1,
        graph: Graph {
            title: "Prompt injections found".to_owned(),
            unit: Unit::Count,
            bars: true,
            lines: vec![("found", found.clone().by(&["feature"]).into())],
            prometheus: vec![("share of traces", rate("estimate"))],
        },
        alarm: Some(Alarm {
            expression: found.by(&["env", "service", "feature"]).into(),
            method: Method::Level("sum"),
            window: "last_15m",
            comparison: ">",
            critical: 5.0,
            warning: Some(0.0),
            recovery: None,
            no_data_minutes: None,
        }),
        rule: Some(Rule { expression: format!("{} > 0.01", rate("upper")), hold: "15m" }),
    }
}

/// Judges that may have followed the text they judged; Prometheus only.
fn canary() -> Watch {
    let failures = "sum by (judge) (increase(assize_canary_failures_total[1h]))";
    Watch {
        key: "judge_canary".to_owned(),
        row: Row::Security,
        title: "Judges that did not repeat the canary".to_owned(),
        means: "A judge left out the canary of its instructions more than ten times in an hour, so it may have followed the \
                text that it judged. Such votes are no verdicts.",
        remedy: "Look at the traces with judge errors for text that speaks to a judge; a weak model that forgets the canary \
                 needs to be replaced.",
        runbook: None,
        priority: 3,
        graph: Graph {
            title: "Judges that may have been spoken to".to_owned(),
            unit: Unit::Count,
            bars: true,
            lines: vec![(
                "judge errors",
                Query::counted("llm.eval.count").only("outcome:judge_error").by(&["eval"]).into(),
            )],
            prometheus: vec![("{{judge}}", failures.to_owned())],
        },
        alarm: None,
        rule: Some(Rule { expression: format!("{failures} > 10"), hold: "0m" }),
    }
}
