//! The row "health": whether the application answers and the judges judge.
//!
//! Its rule: a judge's failure is no verdict, so it is watched beside quality, never in it.

use super::super::query::{Expression, Query};
use super::{Alarm, Graph, Method, Row, Rule, Unit, Watch};

const APP: &[&str] = &["ml_app", "env"];

pub(super) fn watches() -> Vec<Watch> {
    vec![latency(), error_rate(), judge_error(), judge_latency(), nothing_judged(), watch_lag()]
}

fn above(expression: impl Into<Expression>, method: &'static str, window: &'static str, critical: f64) -> Alarm {
    Alarm {
        expression: expression.into(),
        method: Method::Level(method),
        window,
        comparison: ">",
        critical,
        warning: Some(critical / 2.0),
        recovery: None,
        no_data_minutes: None,
    }
}

fn latency() -> Watch {
    let p95 = Query::new("p95", "ml_obs.span.duration").only("span_kind:llm").by(APP);
    Watch {
        key: "latency_p95".to_owned(),
        row: Row::Health,
        title: "Latency of the application's models, p95 above 10 s".to_owned(),
        means: "One call in twenty of the application's models took longer than 10 seconds.",
        remedy: "Look at the provider's status, the length of prompts and answers, and rate limits.",
        runbook: None,
        priority: 3,
        graph: Graph {
            title: "Latency of the application's models".to_owned(),
            unit: Unit::Seconds,
            bars: false,
            lines: vec![("p95", p95.clone().into())],
            prometheus: Vec::new(),
        },
        alarm: Some(above(p95, "percentile", "last_15m", 10.0)),
        rule: None,
    }
}

fn error_rate() -> Watch {
    let spans = |metric| Query::counted(metric).only("span_kind:llm").by(APP);
    let share = Expression::share(spans("ml_obs.span.error"), spans("ml_obs.span"));
    Watch {
        key: "error_rate".to_owned(),
        row: Row::Health,
        title: "Error rate of the application's models above 5 %".to_owned(),
        means: "More than 5 % of the calls of the application's models ended with an error.",
        remedy: "Look at the provider's status, keys and limits.",
        runbook: None,
        priority: 2,
        graph: Graph {
            title: "Errors of the application's models".to_owned(),
            unit: Unit::Share,
            bars: false,
            lines: vec![("errors", share.clone())],
            prometheus: Vec::new(),
        },
        alarm: Some(above(share, "sum", "last_15m", 0.05)),
        rule: None,
    }
}

fn judge_error() -> Watch {
    const BY: &[&str] = &["eval", "env"];
    // What was never to be judged is no part of the whole.
    let judged = || {
        let none = ["!outcome:filtered", "!outcome:sampled_out", "!outcome:not_applicable"];
        none.into_iter().fold(Query::counted("llm.eval.count").by(BY), Query::only)
    };
    let failed = Query::counted("llm.eval.count").only("outcome:judge_error").by(BY);
    let share = Expression::share(failed, judged());
    let ended = |outcomes: &str| format!("sum by (rubric) (increase(assize_verdicts_total{{outcome{outcomes}}}[15m]))");
    let part =
        format!("{} / {}", ended("=\"judge_error\""), ended("=~\"scored|judge_error|expired|over_budget|too_large\""));
    Watch {
        key: "judge_error".to_owned(),
        row: Row::Health,
        title: "Judges fail".to_owned(),
        means: "More than 5 % of what was to be judged ended without a verdict, because the judges failed. Rates of quality \
                are still right, but from less.",
        remedy: "assize doctor asks each judge. Look for a key without credit, a limit, or a model that is gone.",
        runbook: None,
        priority: 2,
        graph: Graph {
            title: "Judge errors".to_owned(),
            unit: Unit::Share,
            bars: false,
            lines: vec![("judge errors", share.clone())],
            prometheus: vec![("{{rubric}}", part.clone())],
        },
        alarm: Some(above(share, "sum", "last_15m", 0.05)),
        rule: Some(Rule { expression: format!("{part} > 0.05"), hold: "5m" }),
    }
}

fn judge_latency() -> Watch {
    let p95 = Query::new("p95", "llm.eval.judge.latency_ms").by(&["judge", "env"]);
    let quantile = "histogram_quantile(0.95, sum by (le, judge) (rate(assize_judge_seconds_bucket[15m])))";
    Watch {
        key: "judge_latency".to_owned(),
        row: Row::Health,
        title: "Judge latency, p95 above 20 s".to_owned(),
        means: "One vote in twenty of a judge took longer than 20 seconds; verdicts come late, and lease and deadline near.",
        remedy: "Look at the provider's status and at judges.NAME limits; take a faster model, or batch_hours for rubrics \
                 that may wait.",
        runbook: None,
        priority: 3,
        graph: Graph {
            title: "Latency of judges".to_owned(),
            unit: Unit::Milliseconds,
            bars: false,
            lines: vec![("p95", p95.clone().into())],
            prometheus: vec![("{{judge}}, ms", format!("1000 * {quantile}"))],
        },
        alarm: Some(above(p95, "percentile", "last_15m", 20_000.0)),
        rule: Some(Rule { expression: format!("{quantile} > 20"), hold: "5m" }),
    }
}

fn nothing_judged() -> Watch {
    let count = |by| Query::counted("llm.eval.count").by(by);
    Watch {
        key: "nothing_judged".to_owned(),
        row: Row::Health,
        title: "Nothing is judged".to_owned(),
        means: "No verdict came for an hour. Silence is not quality: no other monitor can alert now.",
        remedy: "assize queue stats shows what waits, assize doctor what is wrong: no traces, a paused queue, a spent \
                 budget, workers that are gone, or an agent that does not listen.",
        runbook: None,
        priority: 2,
        graph: Graph {
            title: "Verdicts by outcome".to_owned(),
            unit: Unit::Count,
            bars: true,
            lines: vec![("verdicts", count(&["outcome"]).into())],
            prometheus: vec![(
                "{{outcome}}",
                "sum by (outcome) (increase(assize_verdicts_total[$__rate_interval]))".to_owned(),
            )],
        },
        alarm: Some(Alarm {
            expression: count(&[]).into(),
            method: Method::Level("sum"),
            window: "last_1h",
            comparison: "<",
            critical: 1.0,
            warning: None,
            recovery: None,
            no_data_minutes: Some(60),
        }),
        rule: Some(Rule {
            expression: "sum(increase(assize_verdicts_total{outcome=\"scored\"}[1h])) < 1 or \
                         absent(assize_verdicts_total{outcome=\"scored\"})"
                .to_owned(),
            hold: "10m",
        }),
    }
}

/// Only Prometheus knows: what Datadog is told comes from verdicts and alerts, and a watch that stands still sends neither.
fn watch_lag() -> Watch {
    let lag = "max(assize_waiting{kind=\"oldest_unwatched_verdict_seconds\"})";
    Watch {
        key: "watch_lag".to_owned(),
        row: Row::Health,
        title: "Verdicts are not watched".to_owned(),
        means: "The oldest verdict that the watch has not counted is older than ten minutes: a drop would not be told.",
        remedy: "See that a process with the role watch runs (assize doctor), and its log for errors of the database.",
        runbook: None,
        priority: 2,
        graph: Graph {
            title: "Age of the oldest verdict not watched".to_owned(),
            unit: Unit::Seconds,
            bars: false,
            lines: Vec::new(),
            prometheus: vec![("age", lag.to_owned())],
        },
        alarm: None,
        rule: Some(Rule { expression: format!("{lag} > 600"), hold: "5m" }),
    }
}
