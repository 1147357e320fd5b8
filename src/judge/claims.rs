//! An answer as claims: what a judge is asked to split it, what it is asked of each claim, and what the replies mean.
//!
//! Called by `pipeline::evaluate` for rubrics with `output: {type: claims}`. Its rule: verdicts match the claims one to one by
//! id; a claim counts as supported only with a quotation that really stands in the context; "not in the context" is said
//! only after all of the context was read. The way not taken: one number for the whole answer, which cannot say what is wrong.

use super::prompt::{self, Marks, PromptError, Template};
use super::reply;
use crate::domain::chat::ChatRequest;
use crate::domain::rubric::{Against, Rubric, Variable};
use crate::domain::rung::{Rung, Traits};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Claims of one answer at most; more is no answer that people read.
const CLAIMS_MAX: usize = 100;

/// What the context says about a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It says so.
    Supported,
    /// It says otherwise.
    Contradicted,
    /// It says nothing of it.
    NotInContext,
}

/// One claim and what was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// `c1`, `c2`, …
    pub id: String,
    /// The claim.
    pub text: String,
    /// What was found.
    pub finding: Finding,
    /// The judge's quotation, found in the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
    /// Why a claim that the judge called supported is not counted as such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
    /// Chunks of the context that were read for it.
    pub chunks_read: usize,
}

impl Claim {
    /// A claim that nothing is known of yet; the first has number 1.
    #[must_use]
    pub fn new(number: usize, text: String) -> Self {
        let id = format!("c{number}");
        Self { id, text, finding: Finding::NotInContext, quote: None, doubt: None, chunks_read: 0 }
    }
}

/// What one reply says about one claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Place among the claims that were asked about.
    pub at: usize,
    /// What was found.
    pub finding: Finding,
    /// The quotation.
    pub quote: Option<String>,
    /// Why it is not counted as supported.
    pub doubt: Option<String>,
}

/// The question that splits the answer.
#[must_use]
pub fn split_request(
    rubric: &Rubric,
    inputs: &BTreeMap<Variable, String>,
    marks: &Marks,
    traits: &Traits,
) -> ChatRequest {
    let form = form(marks, traits.rung, "\"claims\": a list of strings, empty if there are none");
    let system = format!(
        "{}List every factual claim that the answer makes, each as one short sentence that can be understood by itself. \
         Leave out greetings, offers of help, questions, and what only repeats the question.\n{form}",
        prompt::preamble(rubric, &marks.nonce)
    );
    let mut user = String::new();
    for variable in [Variable::Question, Variable::Answer] {
        if let Some(text) = inputs.get(&variable) {
            user.push_str(&prompt::fenced(variable, &marks.nonce, text));
            user.push('\n');
        }
    }
    let schema = json!({
        "type": "object",
        "properties": {"canary": {"type": "string"}, "claims": {"type": "array", "items": {"type": "string"}}},
        "required": ["canary", "claims"],
        "additionalProperties": false,
    });
    request(system, user, schema, traits)
}

/// The claims in a reply to [`split_request`].
///
/// # Errors
/// What is wrong with it.
pub fn read_split(text: &str, rung: Rung, canary: &str) -> Result<Vec<String>, String> {
    let object = reply::object(text, &["claims"], rung)?;
    reply::check_canary(&object, canary)?;
    let list = object.get("claims").and_then(Value::as_array).ok_or("`claims` is not a list")?;
    let claims: Option<Vec<String>> = list.iter().map(|c| c.as_str().map(|t| t.trim().to_owned())).collect();
    let claims = claims.ok_or("`claims` holds something that is no text")?;
    if claims.len() > CLAIMS_MAX {
        return Err(format!("there are more than {CLAIMS_MAX} claims; join those that belong together"));
    }
    Ok(claims.into_iter().filter(|c| !c.is_empty()).collect())
}

/// The question about some claims and one chunk of the context.
///
/// # Errors
/// When the rubric's prompt lacks an input.
pub fn verdict_request(
    template: &Template,
    (rubric, inputs): (&Rubric, &BTreeMap<Variable, String>),
    (claims, chunk): (&[&Claim], &str),
    marks: &Marks,
    traits: &Traits,
) -> Result<ChatRequest, PromptError> {
    let listed = claims.iter().map(|c| format!("{}: {}", c.id, c.text)).collect::<Vec<_>>().join("\n");
    let mut inputs = inputs.clone();
    inputs.insert(Variable::Context, chunk.to_owned());
    inputs.insert(Variable::Claims, listed);
    let question = template.render(rubric, &inputs, &marks.nonce)?;
    let form = form(
        marks,
        traits.rung,
        "\"verdicts\": a list with one object for each claim: {\"id\": the claim's id, \"verdict\": \"supported\", \
         \"contradicted\" or \"not_in_context\", \"quote\": the words of the context that show it, copied exactly, or \"\"}",
    );
    let system = format!(
        "{}Say of each claim whether the context supports it, contradicts it, or says nothing of it. Use nothing but the \
         context.\n{form}",
        prompt::preamble(rubric, &marks.nonce)
    );
    let verdict = json!({
        "type": "object",
        "properties": {
            "id": {"type": "string", "enum": claims.iter().map(|c| c.id.as_str()).collect::<Vec<_>>()},
            "verdict": {"type": "string", "enum": ["supported", "contradicted", "not_in_context"]},
            "quote": {"type": "string"},
        },
        "required": ["id", "verdict", "quote"],
        "additionalProperties": false,
    });
    let schema = json!({
        "type": "object",
        "properties": {"canary": {"type": "string"}, "verdicts": {"type": "array", "items": verdict}},
        "required": ["canary", "verdicts"],
        "additionalProperties": false,
    });
    Ok(request(system, question, schema, traits))
}

/// The findings in a reply to [`verdict_request`], one for each claim.
///
/// # Errors
/// What is wrong with it: ids that do not match one to one, unknown words.
pub fn read_verdicts(
    text: &str,
    rung: Rung,
    canary: &str,
    claims: &[&Claim],
    chunk: &str,
) -> Result<Vec<Found>, String> {
    let object = reply::object(text, &["verdicts"], rung)?;
    reply::check_canary(&object, canary)?;
    let list = object.get("verdicts").and_then(Value::as_array).ok_or("`verdicts` is not a list")?;
    let plain_chunk = plain(chunk);
    let mut found: Vec<Option<Found>> = vec![None; claims.len()];
    for item in list {
        let id = item.get("id").and_then(Value::as_str).ok_or("a verdict has no `id`")?;
        let at = claims.iter().position(|c| c.id == id).ok_or("a verdict is about a claim that was not asked")?;
        let word = item.get("verdict").cloned().unwrap_or_default();
        let finding: Finding = serde_json::from_value(word)
            .map_err(|_| format!("the verdict of {id} is none of supported, contradicted, not_in_context"))?;
        let quote = item.get("quote").and_then(Value::as_str).map(str::trim).filter(|q| !q.is_empty());
        let doubt = match quote {
            None => Some("no quotation was given"),
            Some(q) if weight(q) < QUOTE_MIN.min(plain_chunk.len()) => {
                Some("its quotation is too short to show anything")
            }
            Some(q) => (!is_in(q, &plain_chunk)).then_some("its quotation is not in the context"),
        };
        let stands = doubt.is_none();
        let (finding, doubt) = match (finding, doubt) {
            (Finding::Supported, Some(why)) => (Finding::NotInContext, Some(why.to_owned())),
            (finding, _) => (finding, None),
        };
        let kept = Found { at, finding, quote: quote.filter(|_| stands).map(str::to_owned), doubt };
        if found[at].replace(kept).is_some() {
            return Err(format!("there are two verdicts about {id}"));
        }
    }
    let missing = claims.iter().zip(&found).find(|(_, f)| f.is_none());
    match missing {
        Some((claim, _)) => Err(format!("there is no verdict about {}", claim.id)),
        None => Ok(found.into_iter().flatten().collect()),
    }
}

/// Share of the claims that are good; `None` without claims.
#[must_use]
pub fn score(claims: &[Claim], against: Against) -> Option<f64> {
    let bad = |claim: &&Claim| match against {
        Against::Unsupported => claim.finding != Finding::Supported,
        Against::Contradicted => claim.finding == Finding::Contradicted,
    };
    let count = claims.iter().filter(bad).count();
    (!claims.is_empty()).then(|| 1.0 - count as f64 / claims.len() as f64)
}

/// What the claims say together, for the verdict's explanation.
#[must_use]
pub fn reason(claims: &[Claim]) -> String {
    let count = |finding| claims.iter().filter(|c| c.finding == finding).count();
    let mut text = format!(
        "{} claims: {} supported, {} contradicted, {} not in the context",
        claims.len(),
        count(Finding::Supported),
        count(Finding::Contradicted),
        count(Finding::NotInContext)
    );
    for claim in claims.iter().filter(|c| c.finding != Finding::Supported).take(3) {
        text.push_str("; ");
        text.push_str(&claim.text);
    }
    text
}

fn form(marks: &Marks, rung: Rung, wanted: &str) -> String {
    let canary = format!("\"canary\": \"{}\" exactly", marks.canary);
    match rung {
        Rung::Tool => format!("Call the tool `verdict` with {canary}, and {wanted}."),
        _ => format!("Reply with one JSON object and nothing else: {{{canary}, {wanted}}}."),
    }
}

fn request(system: String, user: String, schema: Value, traits: &Traits) -> ChatRequest {
    ChatRequest {
        messages: vec![("system", system.into()), ("user", user.into())],
        schema: Some(("verdict", Arc::new(schema))),
        output_tokens_max: 0,
        logprobs: false,
        traits: traits.clone(),
    }
}

/// Letters that a quotation has at least: "the" or "in" stand in every text.
const QUOTE_MIN: usize = 6;

/// Letters and digits, those of scripts that write a word in one or two of them counted three times.
fn weight(quote: &str) -> usize {
    quote.chars().filter(|c| c.is_alphanumeric()).map(|c| if c.len_utf8() > 2 { 3 } else { 1 }).sum()
}

/// Whether a quotation stands in a text: letters and digits in the same order, whatever spaces, case and signs are between;
/// an ellipsis may leave something out.
fn is_in(quote: &str, plain_text: &str) -> bool {
    let mut rest = plain_text;
    let parts: Vec<String> =
        quote.split("...").flat_map(|q| q.split('\u{2026}')).map(plain).filter(|p| !p.is_empty()).collect();
    !parts.is_empty()
        && parts.iter().all(|part| match rest.find(part.as_str()) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(id: &str, finding: Finding) -> Claim {
        Claim { id: id.to_owned(), text: format!("claim {id}"), finding, quote: None, doubt: None, chunks_read: 1 }
    }

    fn read(text: &str) -> Result<Vec<Found>, String> {
        let claims = [claim("c1", Finding::NotInContext), claim("c2", Finding::NotInContext)];
        let chunk = "[doc] Sofas can be returned within 30\u{a0}days of delivery. The sofa must be unused.";
        read_verdicts(text, Rung::JsonSchema, "c0ffee", &claims.each_ref(), chunk)
    }

    #[test]
    fn verdicts_match_the_claims_one_to_one() {
        let both = r#"{"canary":"c0ffee","verdicts":[
            {"id":"c2","verdict":"contradicted","quote":"must be unused"},
            {"id":"c1","verdict":"supported","quote":"Within 30 days … sofa must be unused"}]}"#;
        let found = read(both).expect("valid");
        assert_eq!((found[0].finding, found[1].finding), (Finding::Supported, Finding::Contradicted));
        for (text, word) in [
            (both.replace("c2", "c1"), "two verdicts"),
            (both.replace("\"c2\"", "\"c9\""), "not asked"),
            (both.replace("supported", "likely"), "none of"),
            (both.replace("c0ffee", "000000"), "canary"),
            (r#"{"canary":"c0ffee","verdicts":[]}"#.to_owned(), "no verdict about c1"),
        ] {
            let why = read(&text).expect_err("invalid");
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn support_needs_a_quotation_that_stands_in_the_context() {
        for quote in ["within 60 days", "", "days", "unused … returned within"] {
            let text = json!({"canary": "c0ffee", "verdicts": [
                {"id": "c1", "verdict": "supported", "quote": quote},
                {"id": "c2", "verdict": "not_in_context", "quote": ""}]});
            let found = read(&text.to_string()).expect("valid");
            assert_eq!(found[0].finding, Finding::NotInContext, "{quote}");
            assert!(found[0].doubt.is_some() && found[1].doubt.is_none());
        }
    }

    #[test]
    fn the_score_counts_what_the_rubric_holds_against_the_answer() {
        let claims = [
            claim("c1", Finding::Supported),
            claim("c2", Finding::NotInContext),
            claim("c3", Finding::Contradicted),
            claim("c4", Finding::Supported),
        ];
        assert_eq!(score(&claims, Against::Unsupported), Some(0.5));
        assert_eq!(score(&claims, Against::Contradicted), Some(0.75));
        assert_eq!(score(&[], Against::Unsupported), None);
        assert!(reason(&claims).starts_with("4 claims: 2 supported, 1 contradicted"), "{}", reason(&claims));
    }

    #[test]
    fn a_split_is_a_list_of_texts() {
        let ok = read_split(r#"{"canary":"c0ffee","claims":["a"," ","b"]}"#, Rung::JsonSchema, "c0ffee");
        assert_eq!(ok.expect("valid"), ["a", "b"]);
        assert!(read_split(r#"{"canary":"c0ffee","claims":[1]}"#, Rung::JsonSchema, "c0ffee").is_err());
        let many = json!({"canary": "c0ffee", "claims": vec!["x"; 101]}).to_string();
        assert!(read_split(&many, Rung::JsonSchema, "c0ffee").is_err());
    }
}
