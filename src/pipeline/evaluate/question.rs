//! What a panel is asked about one trace, made once for all its judges.
//!
//! Made by `evaluate`. Its rule: text is rendered and hashed once and shared, whatever form each judge needs it in.

use crate::app::Bench;
use crate::domain::chat::ChatRequest;
use crate::domain::ids::short_hash;
use crate::domain::rubric::{Output, Rubric, Variable};
use crate::domain::rung::Traits;
use crate::domain::trace::Trace;
use crate::domain::verdict::{Outcome, TraceLabels, Vote};
use crate::judge::claims;
use crate::judge::prompt::{self, Marks, PromptError, Template};
use crate::llm::judges::JudgeHandle;
use crate::pipeline::enqueue::labels;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A question.
#[derive(Debug)]
pub(super) struct Question {
    pub rubric: Arc<Rubric>,
    pub template: Arc<Template>,
    /// Only for claims, which are asked about in several prompts.
    pub inputs: BTreeMap<Variable, String>,
    pub marks: Marks,
    /// The retrieved documents, for judging claims piece by piece.
    pub documents: Vec<String>,
    /// The trace's labels, which say whose budget pays.
    pub labels: TraceLabels,
    /// In its first form; for claims, the split comes first and this is empty.
    plain: ChatRequest,
    /// The same with lists in the opposite order, for every second judge.
    swapped: Option<ChatRequest>,
    /// What each seat has come to so far, for an attempt that is cut off.
    progress: Mutex<BTreeMap<String, Vote>>,
}

impl Question {
    /// Keeps how far a vote is: what it has cost, and which claims are settled.
    pub fn note(&self, vote: &Vote) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).insert(vote.judge.clone(), vote.clone());
    }

    /// How far the vote of a seat was when the attempt was cut off.
    pub fn cut_off(&self, seat: &str, why: &str) -> Vote {
        let known = self.progress.lock().unwrap_or_else(PoisonError::into_inner).remove(seat);
        let vote = known.unwrap_or_else(|| Vote { judge: seat.to_owned(), attempts: 1, ..Vote::default() });
        Vote { error: Some(why.to_owned()), score: None, ..vote }
    }

    /// Makes the question, or says why there is none.
    pub fn new(bench: &Bench, rubric: &Arc<Rubric>, trace: &Trace) -> Result<Self, (Outcome, String)> {
        let refused = |error: PromptError| {
            let outcome = match error {
                PromptError::Missing(_) => Outcome::NotApplicable,
                PromptError::TooLarge { .. } => Outcome::TooLarge,
                PromptError::Template { .. } => Outcome::JudgeError,
            };
            (outcome, error.to_string())
        };
        let template = bench.templates.of(rubric).map_err(refused)?;
        let claims = matches!(rubric.output, Output::Claims { .. });
        let inputs = template.inputs(trace, false);
        let marks = prompt::marks(rubric, &inputs, &bench.config.sampling.hash_key);
        let most = bench.config.work.input_bytes_max;
        let plain = if claims {
            need(&inputs, &[Variable::Answer, Variable::Context]).map_err(refused)?;
            let bytes = inputs.values().map(String::len).sum();
            if bytes > most {
                return Err(refused(PromptError::TooLarge { bytes, max: most }));
            }
            empty()
        } else {
            prompt::request(&template, rubric, &inputs, &marks, most).map_err(refused)?
        };
        let swapped = (rubric.swap_positions && !claims)
            .then(|| prompt::request(&template, rubric, &template.inputs(trace, true), &marks, most))
            .transpose()
            .map_err(refused)?;
        let documents = if claims { prompt::documents(trace) } else { Vec::new() };
        let labels = labels(&trace.view);
        let inputs = if claims { inputs } else { BTreeMap::new() };
        let progress = Mutex::default();
        let rubric = Arc::clone(rubric);
        Ok(Self { rubric, template, inputs, marks, documents, labels, plain, swapped, progress })
    }

    /// Whether the judge in this seat sees lists in the opposite order.
    fn is_swapped(&self, seat: &str) -> bool {
        self.rubric.swap_positions && self.rubric.panel.iter().position(|name| name == seat).is_some_and(|n| n % 2 == 1)
    }

    /// The request to the judge in this seat, in the form that its endpoint takes.
    pub fn request(&self, seat: &str, traits: &Traits) -> ChatRequest {
        let swapped = self.is_swapped(seat);
        let plain = self.swapped.as_ref().filter(|_| swapped).unwrap_or(&self.plain);
        prompt::on_rung(plain, &self.rubric, &self.marks, traits, swapped)
    }

    /// Hash of the exact question to a judge: endpoint, model, parameters, and the messages in their first form.
    pub fn cache_key(&self, seat: &str, judge: &JudgeHandle) -> String {
        let mut parameters = judge.parameters();
        parameters["output"] = json!(self.rubric.output);
        let question = if matches!(self.rubric.output, Output::Claims { .. }) {
            // The marks are a hash of the rubric's version and of every input.
            format!("{}{}", self.marks.nonce, self.marks.canary)
        } else {
            prompt::hash(&self.request(seat, &Traits::default()))
        };
        short_hash(&[parameters.to_string().as_bytes(), question.as_bytes()], 40)
    }
}

/// What one judge of a panel would be asked first.
#[derive(Debug)]
pub struct Preview {
    /// The judge, by its seat.
    pub judge: String,
    /// Stands in every fence.
    pub nonce: String,
    /// Role and text.
    pub messages: Vec<(&'static str, Arc<str>)>,
}

/// What each judge of a rubric's panel would be asked first about a trace: for claims, to split the answer.
///
/// # Errors
/// The outcome, and why there is no question.
pub fn preview(bench: &Bench, rubric: &Arc<Rubric>, trace: &Trace) -> Result<Vec<Preview>, (Outcome, String)> {
    let question = Question::new(bench, rubric, trace)?;
    let now = bench.clock.now();
    let one = |seat: &String| {
        let traits = bench.judges.get(seat).map_or_else(Traits::default, |judge| judge.traits(now));
        let request = if matches!(rubric.output, Output::Claims { .. }) {
            claims::split_request(rubric, &question.inputs, &question.marks, &traits)
        } else {
            question.request(seat, &traits)
        };
        Preview { judge: seat.clone(), nonce: question.marks.nonce.clone(), messages: request.messages }
    };
    Ok(rubric.panel.iter().map(one).collect())
}

fn need(inputs: &BTreeMap<Variable, String>, wanted: &[Variable]) -> Result<(), PromptError> {
    match wanted.iter().find(|v| !inputs.contains_key(v)) {
        Some(variable) => Err(PromptError::Missing(variable.as_str())),
        None => Ok(()),
    }
}

fn empty() -> ChatRequest {
    ChatRequest { messages: Vec::new(), schema: None, output_tokens_max: 0, logprobs: false, traits: Traits::default() }
}
