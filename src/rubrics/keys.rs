//! The keys of a rubric file: one table that the parser, the JSON Schema and the key table of `rubrics/README.md` are made of.
//!
//! Used by `parse` and `schema`. Its rule: a key that is not here does not exist, and what is said about one here is what
//! people read. The way not taken: a schema kept beside the parser, which goes stale.

use crate::domain::rubric::{CheckKind, Variable};
use crate::domain::span::SpanKind;
use crate::domain::trace::NATIVE_FIELDS;
use std::fmt::Write;

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// A number within bounds, the ends included.
    Number(f64, f64),
    Flag,
    Word(&'static [&'static str]),
    /// A variable's name.
    Variable,
    List(&'static Kind),
    /// Any names, each with this.
    Map(&'static Kind),
    /// The same, where one that is nearly one of these is a slip of the pen.
    Names(fn() -> Vec<&'static str>, &'static Kind),
    /// A number a time, as `1 per month`.
    Rate,
    Section(&'static [Key]),
    /// The keys depend on the word under the first key.
    Tagged(&'static [(&'static str, &'static [Key])]),
    /// `[low, high]`.
    Pair,
    /// The first of these that has the form of the value.
    OneOf(&'static [Kind]),
    /// A check's name, or a mapping of names to their limits and options.
    Check,
    /// A rubric's name.
    Name,
    Any,
}

/// A key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// As people write it; empty for a key that must be there.
    pub default: &'static str,
    pub help: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { name, kind, default, help }
}

const UNIT: Kind = Kind::Number(0.0, 1.0);
const GLOBS: Kind = Kind::OneOf(&[Kind::Text, Kind::List(&Kind::Text)]);
const KINDS: Kind = Kind::OneOf(&[Kind::Word(&SpanKind::NAMES), Kind::List(&Kind::Word(&SpanKind::NAMES))]);
const VERDICT: Kind = Kind::OneOf(&[Kind::Flag, Kind::Number(f64::MIN, f64::MAX), Kind::Text]);
const BETTER: Key = key("better", Kind::Word(&["higher", "lower"]), "higher", "which end is good");

/// The keys of a file.
pub(super) const FILE: &[Key] = &[
    key(
        "name",
        Kind::Name,
        "",
        "letters, digits and `_`, beginning with a small letter, at most 100; also the label in Datadog. Names must differ between files",
    ),
    key("title", Kind::Text, "empty", "for people"),
    key(
        "evaluates",
        Kind::Word(&["trace", "span", "session"]),
        "trace",
        "what one verdict is about: each trace, each span of it that fits, or each session once it is quiet. [More](../docs/rubrics.md#what-one-verdict-is-about)",
    ),
    key(
        "spans_max",
        Kind::Number(1.0, 1_000.0),
        "50",
        "spans of one trace that are judged at most; of more so many are drawn by a hash, and a verdict `sampled_out` says so",
    ),
    key("paused", Kind::Flag, "false", "keep the file, judge nothing by it; `doctor` and `/metrics` say so"),
    key("applies_when", Kind::Section(APPLIES), "everything", "which traces it is about"),
    key("sample", UNIT, "1.0", "share of the kept traces that it judges; the others are `sampled_out`"),
    key(
        "checks",
        Kind::List(&Kind::Check),
        "none",
        "names, or names with limits: `- grounding: {fail_below: 0.2, pass_above: 0.95}`",
    ),
    key(
        "panel",
        Kind::OneOf(&[Kind::Text, Kind::List(&Kind::Text)]),
        "none",
        "a panel of the configuration (`default`), or a list of judges' names; goes with `prompt`",
    ),
    key(
        "combine",
        Kind::Word(&["mean", "median", "majority", "weighted", "strongest"]),
        "mean",
        "how votes become one score, see below",
    ),
    key(
        "ask",
        Kind::Word(&["together", "in_turn"]),
        "together",
        "`together`: all judges at the same time; `in_turn`: one after another until the verdict cannot change any more, or is sure",
    ),
    key(
        "stop_at",
        UNIT,
        "none",
        "how sure the votes must be, by human labels, to ask no further: above 0.5, at most 1; makes `ask` `in_turn`. [What that means](../docs/judging.md#panels)",
    ),
    key(
        "swap_positions",
        Kind::Flag,
        "false",
        "every second judge sees documents, offered tools and labels in the opposite order; not for claims",
    ),
    key("feedback", Kind::Flag, "false", "users' thumbs and ratings that name no rubric are labels of this one"),
    key(
        "batch_hours",
        Kind::Number(0.0, 24.0),
        "none",
        "the judging is not urgent: a provider's batch may take so many hours (above 0, at most 24); for judges with `batch = true`, not for claims. [More](../docs/judging.md#the-batch-tier)",
    ),
    key("output", Kind::Tagged(OUTPUTS), "score 0 to 1", "what the judges answer, see below"),
    key(
        "abstain",
        Kind::Flag,
        "false",
        "a judge may say that it cannot tell: it counts neither for nor against, and when all do the verdict is `not_applicable`; not for claims",
    ),
    key("pass", UNIT, "0.5", "the score, between 0 and 1, from which on it passes"),
    key("prompt", Kind::Text, "none", "what the judges are asked; goes with `panel`"),
    key(
        "examples",
        Kind::List(&Kind::Section(EXAMPLE)),
        "none",
        "shown to the judges: `input` (name to text), `verdict` (number, boolean or label), `reason`",
    ),
    key(
        "tests",
        Kind::List(&Kind::Section(TEST)),
        "none",
        "traces with the verdict that the rubric must give, see below",
    ),
    key(
        "alert",
        Kind::Section(ALERT),
        "none",
        "when a drop is worth an alert: `by`, `drop`, `false_alarms`, `runbook`",
    ),
];

/// `applies_when`.
const APPLIES: &[Key] = &[
    key(
        "requires",
        Kind::List(&Kind::Variable),
        "none",
        "inputs that must be there, else `not_applicable`: any variable below but `claims`, `input` (the question), `output` (the answer)",
    ),
    key(
        "service",
        GLOBS,
        "any",
        "a glob or a list of globs (`*`, `?`); a trace that does not fit is `filtered`, one without the label too",
    ),
    key("environment", GLOBS, "any", "the same"),
    key("feature", GLOBS, "any", "the same"),
    key("model", GLOBS, "any", "the same"),
    key("prompt", GLOBS, "any", "the same, for the prompt's name"),
    key("prompt_version", GLOBS, "any", "the same"),
    key("tenant", GLOBS, "any", "the same"),
    key("status", Kind::Word(&["ok", "error"]), "any", "how the trace ended"),
    key("latency_ms_over", Kind::Number(0.0, 1e15), "any", "only traces that took longer"),
    key("tags", Kind::Map(&GLOBS), "any", "tag to glob or list of globs"),
    key(
        "span_kind",
        KINDS,
        "any",
        "a kind or a list of kinds: with `evaluates: span` the spans that are judged (without it all but `other` and `evaluator`), else one such span must be there",
    ),
    key("span_name", GLOBS, "any", "the same, for the span's name; both must fit the same span"),
];

/// `output`, by `type`.
const OUTPUTS: &[(&str, &[Key])] = &[
    ("score", &[key("range", Kind::Pair, "[0, 1]", "lowest and highest"), BETTER]),
    ("boolean", &[BETTER]),
    ("category", &[key("values", Kind::Map(&UNIT), "", "label to score, two or more")]),
    (
        "claims",
        &[key(
            "against",
            Kind::Word(&["unsupported", "contradicted"]),
            "unsupported",
            "which claims count against the answer",
        )],
    ),
];

const EXAMPLE: &[Key] = &[
    key("input", Kind::Names(prompt_names, &Kind::Text), "", "name to text"),
    key("verdict", VERDICT, "", "a number, true or false, or a label"),
    key("reason", Kind::Text, "empty", "why"),
];

/// A test.
const TEST: &[Key] = &[
    key("name", Kind::Text, "its number", "what it shows"),
    key(
        "trace",
        Kind::Names(trace_names, &Kind::Any),
        "none",
        "a trace in [native JSON](../docs/ingest.md#native-json); `trace_id` may be left out. This or `session` must be there",
    ),
    key(
        "session",
        Kind::List(&Kind::Names(trace_names, &Kind::Any)),
        "none",
        "with `evaluates: session`: the traces of a session, the oldest first; a `trace` there is a session of one",
    ),
    key("expect", Kind::Section(EXPECT), "", "the verdict that it must get; at least one key"),
    key(
        "simulated",
        Kind::Flag,
        "true",
        "`false`: it takes a judge that understands what is said, so `--judge sim` leaves it out and says so",
    ),
];

const EXPECT: &[Key] = &[
    key("passed", Kind::Flag, "any", "whether it passes"),
    key("label", Kind::Text, "any", "the label"),
    key("score", Kind::Pair, "any", "lowest and highest score, on 0 to 1"),
    key(
        "outcome",
        Kind::Word(&["scored", "not_applicable", "filtered", "sampled_out", "judge_error", "too_large"]),
        "scored",
        "how it ends",
    ),
    key("span", Kind::Text, "the only one", "with `evaluates: span`: the `span_id` of the span that it is about"),
];

const ALERT: &[Key] = &[
    key(
        "by",
        Kind::List(&Kind::Word(&[
            "feature",
            "prompt_version",
            "model",
            "tenant",
            "environment",
            "service",
            "service_version",
        ])),
        "[prompt_version, model, service_version]",
        "versions that are tested as they come; any other label splits what is watched further",
    ),
    key("drop", UNIT, "none", "the drop that one wants to be told of; half of it is tolerated"),
    key("false_alarms", Kind::Rate, "none", "how many are bearable, as in `1 per month`"),
    key("runbook", Kind::Text, "none", "a link for whoever is called"),
];

/// What every check takes; what else one takes, `checks::check_options` knows.
pub(super) const LIMITS: &[Key] = &[
    key("fail_below", UNIT, "none", "below this score the rubric fails and no judge is asked"),
    key("pass_above", UNIT, "none", "above this score the rubric passes and no judge is asked"),
];

/// Whether a key of a check is one that every check takes.
pub(super) fn is_limit(name: &str) -> bool {
    LIMITS.iter().any(|key| key.name == name)
}

/// Whether a text can be a rubric's name, which is also its label in Datadog.
///
/// # Errors
/// What it must be.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= 100 {
        return Ok(());
    }
    Err("use up to 100 letters, digits and _, beginning with a small letter".to_owned())
}

/// Names that a prompt may use, and so an example's inputs.
fn prompt_names() -> Vec<&'static str> {
    Variable::IN_PROMPTS.iter().map(|v| v.as_str()).collect()
}

/// The fields of native JSON.
fn trace_names() -> Vec<&'static str> {
    NATIVE_FIELDS.to_vec()
}

/// Names of all checks.
pub(super) fn check_names() -> Vec<&'static str> {
    CheckKind::ALL.iter().map(|kind| kind.as_str()).collect()
}

/// Names that `requires` takes.
pub(super) fn variable_names() -> Vec<&'static str> {
    let own = Variable::IN_PROMPTS.iter().filter(|v| **v != Variable::Claims);
    own.chain(&[Variable::Input, Variable::Output]).map(|v| v.as_str()).collect()
}

/// The table of keys in `rubrics/README.md`.
#[must_use]
pub fn key_table() -> String {
    let mut table = String::from("| key | default | meaning |\n|---|---|---|\n");
    let mut rows = |prefix: &str, keys: &[Key]| {
        for key in keys {
            let default = if key.default.is_empty() { "a must" } else { key.default };
            writeln!(table, "| `{prefix}{}` | {default} | {} |", key.name, key.help).expect("a String can be written");
        }
    };
    for key in FILE {
        match key.kind {
            Kind::Section(keys) if key.name == "applies_when" => rows("applies_when.", keys),
            _ => rows("", &[*key]),
        }
    }
    rows("tests[].", TEST);
    rows("tests[].expect.", EXPECT);
    table
}

/// The table of variables in `rubrics/README.md`.
#[must_use]
pub fn variable_table() -> String {
    let mut table = String::from("| variable | is |\n|---|---|\n");
    for variable in Variable::IN_PROMPTS {
        writeln!(table, "| `{variable}` | {} |", variable.meaning()).expect("a String can be written");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands between two marks of the README.
    fn part<'a>(text: &'a str, name: &str) -> &'a str {
        let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
        text.split_once(&open).and_then(|(_, rest)| rest.split_once(&close)).map_or("", |(part, _)| part)
    }

    #[test]
    fn the_readme_has_these_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/rubrics/README.md");
        let text = std::fs::read_to_string(path).expect("rubrics/README.md is there");
        for (name, table) in [("keys", key_table()), ("variables", variable_table())] {
            assert_eq!(part(&text, name), table, "put this between the marks `{name}`:\n{table}");
        }
    }
}
