//! The row "cost": tokens and money, of the application and of judging it.
//!
//! Its rule: limits are set by what was usual, since nobody but the reader knows what may be spent; a fixed limit is a budget, and
//! budgets are in the configuration.

use super::super::query::{Expression, Query};
use super::{Alarm, Graph, Method, Row, Rule, Unit, Watch};

/// Twice what it was.
const DOUBLED_PERCENT: f64 = 100.0;

pub(super) fn watches() -> Vec<Watch> {
    vec![token_spend(), cost_anomaly(), judge_tokens()]
}

fn doubled(expression: impl Into<Expression>) -> Alarm {
    Alarm {
        expression: expression.into(),
        method: Method::PercentChange("sum"),
        window: "last_1h",
        comparison: ">",
        critical: DOUBLED_PERCENT,
        warning: Some(DOUBLED_PERCENT / 2.0),
        recovery: None,
        no_data_minutes: None,
    }
}

fn token_spend() -> Watch {
    let tokens = Query::new("sum", "ml_obs.span.llm.total.tokens").by(&["ml_app", "env"]);
    Watch {
        key: "token_spend".to_owned(),
        row: Row::Cost,
        title: "Token spend of the application has doubled".to_owned(),
        means: "The application used more than twice the tokens of the same hour a day ago.",
        remedy: "Tell traffic from tokens a call: a longer prompt, more retrieved documents, a loop of an agent, a retry \
                 that never stops.",
        runbook: None,
        priority: 3,
        graph: Graph {
            title: "Tokens of the application".to_owned(),
            unit: Unit::Count,
            bars: true,
            lines: vec![("tokens", Query { count: true, ..tokens.clone() }.into())],
            prometheus: Vec::new(),
        },
        alarm: Some(doubled(Query { count: true, ..tokens })),
        rule: None,
    }
}

fn cost_anomaly() -> Watch {
    let cost = Query { count: true, ..Query::new("sum", "llm.eval.cost_usd") };
    let spent = |when: &str| format!("sum(increase(assize_judge_cost_usd_total[1h]{when}))");
    let (now, before) = (spent(""), spent(" offset 1d"));
    Watch {
        key: "cost_anomaly".to_owned(),
        row: Row::Cost,
        title: "Cost of judging is unusual".to_owned(),
        means: "Judging costs more than what was usual in the last hours.",
        remedy: "assize report --since 2h shows which rubric. Look for a dearer judge, longer traces, or more of them; \
                 [[budgets]] in the configuration put an end to it by sampling less.",
        runbook: None,
        priority: 3,
        graph: Graph {
            title: "Cost of judging".to_owned(),
            unit: Unit::Usd,
            bars: true,
            lines: vec![("US dollars", Query { by: &["eval"], ..cost.clone() }.into())],
            prometheus: vec![(
                "{{judge}}",
                "sum by (judge) (increase(assize_judge_cost_usd_total[$__rate_interval]))".to_owned(),
            )],
        },
        alarm: Some(Alarm {
            expression: Query { by: &["env"], ..cost }.into(),
            method: Method::Anomaly,
            window: "last_4h",
            comparison: ">=",
            critical: 0.8,
            warning: None,
            recovery: Some(0.0),
            no_data_minutes: None,
        }),
        rule: Some(Rule { expression: format!("{now} > 2 * {before} and {now} > 0.1"), hold: "30m" }),
    }
}

fn judge_tokens() -> Watch {
    let tokens = Query::counted("llm.eval.judge.tokens");
    Watch {
        key: "judge_tokens".to_owned(),
        row: Row::Cost,
        title: "Tokens of a judge have doubled".to_owned(),
        means: "A judge used more than twice the tokens of the same hour a day ago.",
        remedy: "assize report --since 2h shows which rubric asks it. Look for more traces, longer contexts, a rubric that \
                 asks more judges, or a cache that no longer answers.",
        runbook: None,
        priority: 4,
        graph: Graph {
            title: "Tokens of judges".to_owned(),
            unit: Unit::Count,
            bars: true,
            lines: vec![("tokens", Query { by: &["judge"], ..tokens.clone() }.into())],
            prometheus: vec![("{{budget}} {{period}}", "max by (budget, period) (assize_budget_part)".to_owned())],
        },
        alarm: Some(doubled(Query { by: &["judge", "env"], ..tokens })),
        rule: Some(Rule { expression: "max by (budget, period) (assize_budget_part) > 0.9".to_owned(), hold: "5m" }),
    }
}
