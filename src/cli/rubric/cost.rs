//! What a rubric's judging costs, by the size of its tests' questions and the judges' prices.

use crate::config::Config;
use crate::domain::rubric::{Output, Rubric};
use crate::domain::trace::Trace;
use crate::judge::prompt::{self, Marks, Template};
use crate::llm::{judges, tokens};
use crate::pipeline::trial;
use crate::rubrics::parse::Test;
use serde::Serialize;

/// Tokens that a judge's reply is taken to have: a reason of two sentences and the verdict.
const REPLY_TOKENS: f64 = 80.0;

/// For a thousand units that no check decides.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Cost {
    /// Tokens of a question, the mean of the tests'.
    pub question_tokens: f64,
    /// Judges that are asked.
    pub judges: usize,
    /// US dollars; absent when a price is unknown.
    pub usd: Option<f64>,
}

/// `None` where no judge is asked, no test can be rendered, or the number of requests depends on the answer (claims).
pub(super) fn of(rubric: &Rubric, tests: &[Test], config: &Config) -> Option<Cost> {
    if rubric.panel.is_empty() || matches!(rubric.output, Output::Claims { .. }) {
        return None;
    }
    let template = Template::new(rubric).ok()?;
    let marks = Marks { nonce: "0".repeat(16), canary: "0".repeat(10) };
    let asked: Vec<String> = tests.iter().flat_map(|test| questions(rubric, test, (&template, &marks))).collect();
    let model = rubric.panel.first().and_then(|name| config.judges.get(name)).map_or("", |judge| judge.model.as_str());
    let sum: usize = asked.iter().map(|text| tokens::count(model, text)).sum();
    let question_tokens = if asked.is_empty() { return None } else { sum as f64 / asked.len() as f64 };
    let each = rubric.panel.iter().map(|name| {
        let judge = config.judges.get(name)?;
        let price = judge.price.or_else(|| judges::list_price(&judge.model))?;
        Some((question_tokens * price.input_usd_per_million + REPLY_TOKENS * price.output_usd_per_million) / 1e6)
    });
    let usd = each.sum::<Option<f64>>().map(|one| one * 1_000.0);
    Some(Cost { question_tokens, judges: rubric.panel.len(), usd })
}

/// The messages to a judge about a test, for each unit that it has.
fn questions(rubric: &Rubric, test: &Test, (template, marks): (&Template, &Marks)) -> Vec<String> {
    let asked = |seen: Trace| {
        let request = prompt::request(template, rubric, &prompt::inputs(&seen), marks, usize::MAX).ok()?;
        Some(request.messages.iter().map(|(_, text)| text.as_ref()).collect::<Vec<_>>().join("\n"))
    };
    trial::seen(rubric, test).unwrap_or_default().into_iter().filter_map(asked).collect()
}
