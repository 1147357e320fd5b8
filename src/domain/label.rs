//! A label: what a person said about one trace, by one rubric.
//!
//! Read from files and wires by `dialect::labels` as a [`Draft`], made a [`Label`] by [`resolve`], stored by `store::labels`. Its
//! rule: a label fits what its rubric asks for, or is refused with a remedy; the same label twice is one label; a later
//! one of the same person takes the earlier one's place, of different people all are kept and the higher source counts.
//! The way not taken: a label as one more vote, which would hide that it is what votes are measured against.

use super::ids::{ID_BYTES_MAX, label_id, trace_randomness};
use super::rubric::{Better, Output, Rubric};
use super::verdict::TraceLabels;
use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The longest comment, in bytes.
const COMMENT_BYTES_MAX: usize = 20_000;

/// Who labels, from the most to the least trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Somebody who knows the subject.
    Expert,
    /// Somebody who was asked to label.
    #[default]
    Annotator,
    /// A user of the application: thumbs, ratings, corrections.
    UserFeedback,
}

impl Source {
    /// All sources, the most trusted first.
    pub const ALL: [Self; 3] = [Self::Expert, Self::Annotator, Self::UserFeedback];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expert => "expert",
            Self::Annotator => "annotator",
            Self::UserFeedback => "user_feedback",
        }
    }

    /// The source of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == name)
    }

    /// 3, 2 or 1; of several labels of a trace the highest counts.
    #[must_use]
    pub fn rank(self) -> i16 {
        match self {
            Self::Expert => 3,
            Self::Annotator => 2,
            Self::UserFeedback => 1,
        }
    }
}

/// What a person said, before it is known what the rubric asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// It passes, or not.
    Passed(bool),
    /// From 0 to 1, 1 is good.
    Score(f64),
    /// On the rubric's own scale, as its judges answer: a number in its range, a boolean, a label.
    Raw(Value),
    /// A word: one of the rubric's labels, or pass, fail, yes, no.
    Word(String),
    /// Stars, from the worst to the best possible.
    Rating {
        /// Given.
        given: f64,
        /// Fewest that can be given.
        worst: f64,
        /// Most that can be given.
        best: f64,
    },
}

/// A label as it was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// The trace; absent where it is the one that the label came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The span.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// The rubric; absent: every rubric that takes feedback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rubric: Option<String>,
    /// The version that the labeller saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rubric_version: Option<String>,
    /// What was said.
    pub said: Said,
    /// Who labels.
    #[serde(default)]
    pub source: Source,
    /// Their name or hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labeller: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// When; absent: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_at: Option<DateTime<Utc>>,
    /// Probability with which the judged trace was chosen for labelling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw_probability: Option<f64>,
    /// The batch of the queue that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<Uuid>,
}

impl Draft {
    /// A draft with nothing but what was said, of an annotator.
    #[must_use]
    pub fn of(said: Said) -> Self {
        Self {
            trace_id: None,
            span_id: None,
            rubric: None,
            rubric_version: None,
            said,
            source: Source::default(),
            labeller: None,
            comment: None,
            made_at: None,
            draw_probability: None,
            batch_id: None,
        }
    }
}

/// What a label says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LabelValue {
    /// Whether it passes.
    Passed,
    /// A score from 0 to 1, 1 is good.
    Score {
        /// The score.
        score: f64,
    },
    /// One of the rubric's labels.
    Category {
        /// The label.
        category: String,
        /// Its score in the rubric.
        score: f64,
    },
}

/// A label that fits its rubric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// Hash of slot and content.
    pub id: Uuid,
    /// Hash of trace, span, rubric, source and labeller: one current label each.
    pub slot: Uuid,
    /// The trace.
    pub trace_id: String,
    /// The span, where it is about one.
    pub span_id: Option<String>,
    /// The rubric.
    pub rubric: String,
    /// The version that the labeller saw, where it is known.
    pub rubric_version: Option<String>,
    /// What was said.
    #[serde(flatten)]
    pub value: LabelValue,
    /// Whether it passes; for scores and categories by the rubric's pass mark.
    pub passed: bool,
    /// Who labels.
    pub source: Source,
    /// Their name or hash.
    pub labeller: Option<String>,
    /// Why; never leaves the database but for the forms.
    pub comment: Option<String>,
    /// When it was said.
    pub made_at: DateTime<Utc>,
    /// Whether `made_at` is the sender's; otherwise it is when we heard of it.
    #[serde(skip)]
    pub timed: bool,
    /// Probability with which the judged trace was chosen for labelling, as the sender says.
    #[serde(rename = "inclusion_probability")]
    pub draw_probability: Option<f64>,
    /// The batch of the queue that it answers.
    pub batch_id: Option<Uuid>,
}

impl Label {
    /// Whether the other says the same, whenever it was said.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let content = |l: &Self| (l.value.clone(), l.passed, l.rubric_version.clone(), l.comment.clone());
        content(self) == content(other) && self.draw_probability == other.draw_probability
    }
}

/// What a label without a time of its own means when it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untimed {
    /// It is said now: a form, the API.
    IsNow,
    /// It is the same one: a file that is imported again, a span that is delivered again.
    IsTheSame,
}

/// What became of a label that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is the first of its slot.
    Imported,
    /// It was there already.
    Unchanged,
    /// It took an earlier one's place.
    Replaced,
    /// A later one was there already; it is kept as superseded.
    Superseded,
}

/// A trace that is labelled and judged: what calibration works on.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledVerdict {
    /// The trace.
    pub trace_id: String,
    /// The verdict.
    pub verdict_id: Uuid,
    /// When it was made.
    pub judged_at: DateTime<Utc>,
    /// Version of the rubric that judged.
    pub rubric_version: String,
    /// The panel's score, 0 to 1.
    pub score: f64,
    /// Whether the verdict passes.
    pub passed: bool,
    /// `check` or `panel`.
    pub decided_by: Option<String>,
    /// The judges' votes, in the panel's order.
    pub votes: Vec<JudgeVote>,
    /// Probability with which trace and rubric were to be judged, of all traces received.
    pub inclusion_probability: f64,
    /// Probability with which this judged trace was to be labelled; absent where the label is no part of a probability sample.
    pub label_probability: Option<f64>,
    /// The label that counts: of the highest source, the newest.
    pub label: Label,
    /// Whether another label of the same rank says the opposite.
    pub conflicting: bool,
    /// Labels of the trace: the strata.
    pub trace: TraceLabels,
}

/// One judge's word in a labelled verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgeVote {
    /// The judge.
    pub judge: String,
    /// The model that answered.
    pub model: String,
    /// 0 to 1; absent when it failed or abstained.
    pub score: Option<f64>,
    /// Its label, of boolean and category rubrics.
    pub label: Option<String>,
}

/// Makes a draft the label of one rubric. `trace_id` is the trace that it came with, if any.
///
/// # Errors
/// What does not fit, and what to write instead.
pub fn resolve(
    draft: &Draft,
    trace_id: Option<&str>,
    rubric: &Rubric,
    (untimed, now): (Untimed, DateTime<Utc>),
) -> Result<Label, String> {
    let trace_id = draft.trace_id.as_deref().or(trace_id).filter(|id| !id.is_empty());
    let trace_id = trace_id.ok_or("`trace_id` is missing; say which trace the label is about")?;
    let short = |what: &str, text: &str| match text.len() {
        0..=ID_BYTES_MAX => Ok(storable(text)),
        _ => Err(format!("`{what}` is longer than {ID_BYTES_MAX} bytes")),
    };
    let optional = |what: &str, text: &Option<String>| {
        text.as_deref().filter(|t| !t.trim().is_empty()).map(|t| short(what, t)).transpose()
    };
    let trace_id = short("trace_id", trace_id)?;
    let trace_id = if trace_randomness(&trace_id).is_some() { trace_id.to_ascii_lowercase() } else { trace_id };
    if draft.draw_probability.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
        return Err(
            "`inclusion_probability` must be above 0 and at most 1; leave it out if the trace was not drawn".into()
        );
    }
    if draft.comment.as_ref().is_some_and(|c| c.len() > COMMENT_BYTES_MAX) {
        return Err(format!("`comment` is longer than {COMMENT_BYTES_MAX} bytes; shorten it"));
    }
    let (value, passed) = value(&draft.said, rubric)?;
    let made_at = draft.made_at.unwrap_or(now).trunc_subsecs(6);
    let stamp = (draft.made_at.is_some() || untimed == Untimed::IsNow).then_some(made_at);
    let mut label = Label {
        id: Uuid::nil(),
        slot: Uuid::nil(),
        trace_id,
        span_id: optional("span_id", &draft.span_id)?,
        rubric: rubric.name.clone(),
        rubric_version: optional("rubric_version", &draft.rubric_version)?,
        value,
        passed,
        source: draft.source,
        labeller: optional("labeller", &draft.labeller)?,
        comment: draft.comment.as_deref().filter(|c| !c.trim().is_empty()).map(storable),
        made_at,
        timed: draft.made_at.is_some(),
        draw_probability: draft.draw_probability,
        batch_id: draft.batch_id,
    };
    (label.slot, label.id) = ids(&label, stamp);
    Ok(label)
}

fn storable(text: &str) -> String {
    super::ids::storable(text).into_owned()
}

fn ids(label: &Label, stamp: Option<DateTime<Utc>>) -> (Uuid, Uuid) {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    let (span, labeller) = (part(&label.span_id), part(&label.labeller));
    let slot = label_id(None, &[&label.trace_id, &span, &label.rubric, label.source.as_str(), &labeller]);
    let said = serde_json::to_string(&(&label.value, label.passed, label.draw_probability)).unwrap_or_default();
    let stamp = stamp.map_or_else(String::new, |at| at.timestamp_micros().to_string());
    let id = label_id(Some(slot), &[&said, &part(&label.rubric_version), &part(&label.comment), &stamp]);
    (slot, id)
}

/// The value in the rubric's terms, and whether it passes.
fn value(said: &Said, rubric: &Rubric) -> Result<(LabelValue, bool), String> {
    let score = |score: f64| (LabelValue::Score { score }, score >= rubric.pass);
    let name = &rubric.name;
    match (said, &rubric.output) {
        (Said::Passed(passed), _) => Ok((LabelValue::Passed, *passed)),
        (Said::Score(s), _) if !(0.0..=1.0).contains(s) => Err(format!(
            "the score {s} is not from 0 to 1; a score on the rubric's own scale goes into `raw`, stars into `rating`"
        )),
        (Said::Score(s), Output::Score { .. } | Output::Claims { .. }) => Ok(score(*s)),
        (Said::Score(s), Output::Boolean { .. } | Output::Category { .. }) if s * (1.0 - s) == 0.0 => {
            Ok((LabelValue::Passed, *s > 0.5))
        }
        (Said::Score(_), Output::Boolean { .. }) => {
            Err(format!("`{name}` asks for yes or no; write `passed`: true or false"))
        }
        (Said::Score(_), Output::Category { values }) => {
            Err(format!("`{name}` asks for one of its labels; write `label`: {}", one_of(values.keys())))
        }
        (Said::Raw(raw), output) => from_raw(raw, output, rubric),
        (Said::Word(word), Output::Category { values }) => match values.get_key_value(word.trim()) {
            Some((category, s)) => {
                Ok((LabelValue::Category { category: category.clone(), score: *s }, *s >= rubric.pass))
            }
            None => match pass_or_fail(word) {
                Some(passed) => Ok((LabelValue::Passed, passed)),
                None => Err(format!("`{name}` has no such label; there are {}", one_of(values.keys()))),
            },
        },
        (Said::Word(word), _) => match pass_or_fail(word) {
            Some(passed) => Ok((LabelValue::Passed, passed)),
            None => Err(format!("`{name}` has no labels of its own; write pass or fail, or a `score` from 0 to 1")),
        },
        (Said::Rating { given, worst, best }, output) => {
            let unit = (given - worst) / (best - worst);
            if worst.partial_cmp(best) != Some(std::cmp::Ordering::Less) || !(0.0..=1.0).contains(&unit) {
                return Err(format!(
                    "the rating {given} is not from {worst} to {best}; give `best` and `worst` with it"
                ));
            }
            match output {
                Output::Score { .. } | Output::Claims { .. } => Ok(score(unit)),
                _ if (unit - 0.5).abs() < 1e-9 => Err(format!("the middle rating {given} says neither pass nor fail")),
                _ => Ok((LabelValue::Passed, unit > 0.5)),
            }
        }
    }
}

fn from_raw(raw: &Value, output: &Output, rubric: &Rubric) -> Result<(LabelValue, bool), String> {
    let flip = |unit: f64, better: Better| if better == Better::Higher { unit } else { 1.0 - unit };
    match (raw, output) {
        (Value::Number(n), Output::Score { range: (low, high), better }) => {
            let n = n.as_f64().unwrap_or(f64::NAN);
            if !(*low..=*high).contains(&n) {
                return Err(format!("`raw` {n} is not in the range of `{}`, {low} to {high}", rubric.name));
            }
            value(&Said::Score(flip((n - low) / (high - low), *better)), rubric)
        }
        (Value::Number(n), Output::Claims { .. }) => value(&Said::Score(n.as_f64().unwrap_or(f64::NAN)), rubric),
        (Value::Bool(yes), Output::Boolean { better }) => Ok((LabelValue::Passed, *yes == (*better == Better::Higher))),
        (Value::String(word), Output::Category { .. }) => value(&Said::Word(word.clone()), rubric),
        _ => Err(format!("`raw` is not what the judges of `{}` answer; see its `output`", rubric.name)),
    }
}

/// Words for pass and fail that people write into tables.
fn pass_or_fail(word: &str) -> Option<bool> {
    match word.trim().to_ascii_lowercase().replace(['-', ' '], "_").as_str() {
        "pass" | "passed" | "p" | "yes" | "y" | "true" | "good" | "ok" | "up" | "thumbs_up" | "thumb_up"
        | "positive" | "correct" | "👍" => Some(true),
        "fail" | "failed" | "f" | "no" | "n" | "false" | "bad" | "down" | "thumbs_down" | "thumb_down" | "negative"
        | "incorrect" | "👎" => Some(false),
        _ => None,
    }
}

fn one_of<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn rubric(output: &Value, pass: f64) -> Rubric {
        serde_json::from_value(json!({
            "name": "r", "title": "", "version": "v", "applies_when": {"requires": [], "labels": {}}, "sample": 1.0,
            "checks": [], "panel": [], "combine": "mean", "output": output, "pass": pass, "prompt": null,
            "examples": [], "source": "",
        }))
        .expect("a rubric")
    }

    fn label(draft: &Draft, rubric: &Rubric) -> Result<Label, String> {
        resolve(draft, Some("t"), rubric, (Untimed::IsTheSame, DateTime::UNIX_EPOCH))
    }

    fn said(said: Said, rubric: &Rubric) -> Result<(LabelValue, bool), String> {
        label(&Draft::of(said), rubric).map(|l| (l.value, l.passed))
    }

    #[test]
    fn a_value_fits_its_rubric_or_says_what_would() {
        let score = rubric(&json!({"type": "score", "range": [1.0, 5.0]}), 0.8);
        assert_eq!(said(Said::Score(0.75), &score), Ok((LabelValue::Score { score: 0.75 }, false)));
        assert_eq!(said(Said::Raw(json!(5)), &score), Ok((LabelValue::Score { score: 1.0 }, true)));
        assert_eq!(said(Said::Passed(true), &score), Ok((LabelValue::Passed, true)));
        assert!(said(Said::Score(4.0), &score).expect_err("out of range").contains("`raw`"));
        assert!(said(Said::Raw(json!(6)), &score).expect_err("out of range").contains("1 to 5"));
        assert!(said(Said::Word("rude".into()), &score).expect_err("no labels").contains("pass or fail"));
        let lower = rubric(&json!({"type": "boolean", "better": "lower"}), 0.5);
        assert_eq!(said(Said::Raw(json!(true)), &lower), Ok((LabelValue::Passed, false)));
        assert_eq!(said(Said::Word("Pass".into()), &lower), Ok((LabelValue::Passed, true)));
        assert!(said(Said::Score(0.5), &lower).expect_err("neither").contains("`passed`"));
        let tone = rubric(&json!({"type": "category", "values": BTreeMap::from([("kind", 1.0), ("rude", 0.0)])}), 0.5);
        let kind = LabelValue::Category { category: "kind".into(), score: 1.0 };
        assert_eq!(said(Said::Word("kind".into()), &tone), Ok((kind, true)));
        assert!(said(Said::Word("odd".into()), &tone).expect_err("unknown").contains("`kind`, `rude`"));
        assert!(said(Said::Score(0.9), &tone).expect_err("not a label").contains("`label`"));
    }

    #[test]
    fn a_rating_is_a_score_or_a_side() {
        let stars = |given| Said::Rating { given, worst: 1.0, best: 5.0 };
        let score = rubric(&json!({"type": "score"}), 0.5);
        assert_eq!(said(stars(4.0), &score), Ok((LabelValue::Score { score: 0.75 }, true)));
        let boolean = rubric(&json!({"type": "boolean"}), 0.5);
        assert_eq!(said(stars(2.0), &boolean), Ok((LabelValue::Passed, false)));
        assert!(said(stars(3.0), &boolean).is_err(), "the middle is no side");
        assert!(said(stars(9.0), &boolean).expect_err("beyond").contains("`best`"));
        assert!(said(Said::Rating { given: 1.0, worst: 1.0, best: 1.0 }, &score).is_err());
    }

    #[test]
    fn the_same_label_has_the_same_id_and_a_change_of_mind_the_same_slot() {
        let score = rubric(&json!({"type": "score"}), 0.5);
        let of = |draft: &Draft| label(draft, &score).expect("it fits");
        let yes = Draft { labeller: Some("ann".into()), ..Draft::of(Said::Passed(true)) };
        let no = Draft { said: Said::Passed(false), ..yes.clone() };
        let (a, b) = (of(&yes), of(&no));
        assert_eq!((a.slot, a.id), (of(&yes).slot, of(&yes).id));
        assert!(a.slot == b.slot && a.id != b.id);
        for other in [
            Draft { labeller: Some("bob".into()), ..yes.clone() },
            Draft { source: Source::Expert, ..yes.clone() },
            Draft { trace_id: Some("u".into()), ..yes.clone() },
        ] {
            assert_ne!(of(&other).slot, a.slot, "{other:?}");
        }
        assert!(label(&Draft { draw_probability: Some(0.0), ..yes }, &score).is_err());
    }
}
