//! The structured-output ladder: the forms in which a judge can be made to answer, best first, and what is known of an endpoint.
//!
//! Used by `judge` (what to say in the prompt, how to read the reply), `llm` (what to send) and `store` (to remember it). Its
//! rule: a rung is left for good reason only (the endpoint refused it, or its replies could not be read), the reason is
//! remembered a day, and the rung that was used stands in the vote. The way not taken: demanding JSON schema of everybody,
//! which fails off OpenAI's own models.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A form of structured output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// `response_format: json_schema`, which the endpoint enforces.
    #[default]
    JsonSchema,
    /// A forced call of a tool whose parameters are the schema.
    Tool,
    /// `response_format: json_object`: JSON, but any.
    JsonObject,
    /// Nothing but the instructions in the prompt; JSON is looked for in the text.
    JsonText,
    /// A last line `VERDICT: …`, for models that cannot write JSON.
    LabelText,
}

impl Rung {
    /// Its name in votes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JsonSchema => "json_schema",
            Self::Tool => "tool",
            Self::JsonObject => "json_object",
            Self::JsonText => "json_text",
            Self::LabelText => "label_text",
        }
    }

    /// The next one down; `None` at the bottom.
    #[must_use]
    pub fn below(self) -> Option<Self> {
        match self {
            Self::JsonSchema => Some(Self::Tool),
            Self::Tool => Some(Self::JsonObject),
            Self::JsonObject => Some(Self::JsonText),
            Self::JsonText => Some(Self::LabelText),
            Self::LabelText => None,
        }
    }
}

/// A parameter that some endpoints or models refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parameter {
    /// Sampling temperature.
    Temperature,
    /// The old name of the limit of tokens to answer with.
    MaxTokens,
    /// The new name of it.
    MaxCompletionTokens,
    /// `response_format` in the form that was sent.
    ResponseFormat,
    /// `tools` or `tool_choice`.
    Tools,
    /// Nucleus sampling.
    TopP,
    /// Seed of the sampling.
    Seed,
    /// `logprobs` or `top_logprobs`.
    Logprobs,
    /// How long a reasoning model may think.
    ReasoningEffort,
}

impl Parameter {
    /// The parameter that a provider's error names: by its `param` field, else by a word of its message. The message itself
    /// is not kept.
    #[must_use]
    pub fn named_in(param: Option<&str>, message: &str) -> Option<Self> {
        // A message may mention a parameter for other reasons, or quote the prompt; only these words say that it is refused.
        const REFUSALS: [&str; 9] = [
            "support",
            "unrecognized",
            "unknown",
            "unexpected",
            "not allowed",
            "not permitted",
            "not available",
            "requires",
            "extra inputs",
        ];
        const WORDS: [(&str, Parameter); 14] = [
            ("top_p", Parameter::TopP),
            ("seed", Parameter::Seed),
            ("logprobs", Parameter::Logprobs),
            ("reasoning_effort", Parameter::ReasoningEffort),
            ("max_completion_tokens", Parameter::MaxCompletionTokens),
            ("max_tokens", Parameter::MaxTokens),
            ("temperature", Parameter::Temperature),
            ("response_format", Parameter::ResponseFormat),
            ("json_schema", Parameter::ResponseFormat),
            ("json_object", Parameter::ResponseFormat),
            ("structured output", Parameter::ResponseFormat),
            ("guided", Parameter::ResponseFormat),
            ("tool", Parameter::Tools),
            ("function call", Parameter::Tools),
        ];
        let look = |text: &str| {
            let text = text.to_lowercase();
            // The earliest word counts: "'max_tokens' is not supported, use 'max_completion_tokens'" is about the first.
            let found = WORDS.iter().filter_map(|(word, parameter)| Some((text.find(word)?, *parameter)));
            found.min_by_key(|(at, _)| *at).map(|(_, parameter)| parameter)
        };
        let lower = message.to_lowercase();
        let refused = REFUSALS.iter().any(|word| lower.contains(word)) && !lower.contains("context");
        param.and_then(look).or_else(|| look(message).filter(|_| refused))
    }
}

/// What is known of an endpoint and model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traits {
    /// The rung to begin with.
    pub rung: Rung,
    /// Parameters that are left out.
    pub refused: BTreeSet<Parameter>,
    /// Tokens that an answer needs at least, where it was cut off by a smaller limit because the model thinks first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens_min: Option<u32>,
    /// When the latest of it was learnt; absent when nothing was.
    pub learnt_at: Option<DateTime<Utc>>,
}

/// How long something learnt is believed.
const BELIEVED_FOR: TimeDelta = TimeDelta::hours(24);

impl Traits {
    /// What holds at `now`: after a day everything is tried from the top again, since endpoints are updated.
    #[must_use]
    pub fn at(&self, now: DateTime<Utc>) -> Self {
        let fresh = self.learnt_at.is_some_and(|at| now - at < BELIEVED_FOR);
        if fresh { self.clone() } else { Self::default() }
    }

    /// What these and `later` say together, where several requests have learnt at the same time: all that was refused, the
    /// lower rung, the greater need.
    #[must_use]
    pub fn merged(&self, later: &Self) -> Self {
        let Some(now) = later.learnt_at else { return self.clone() };
        let known = self.at(now);
        Self {
            rung: known.rung.max(later.rung),
            refused: known.refused.union(&later.refused).copied().collect(),
            output_tokens_min: known.output_tokens_min.max(later.output_tokens_min),
            learnt_at: known.learnt_at.max(later.learnt_at),
        }
    }

    /// Learns that a parameter is refused. False when there is nothing left to change, so that asking again cannot help.
    pub fn refuse(&mut self, parameter: Parameter, now: DateTime<Utc>) -> bool {
        let changed = match parameter {
            Parameter::ResponseFormat if matches!(self.rung, Rung::JsonSchema | Rung::JsonObject) => {
                self.step_down(now)
            }
            Parameter::Tools if self.rung == Rung::Tool => self.step_down(now),
            Parameter::ResponseFormat | Parameter::Tools => false,
            // A gateway may rename the new name back to the old one: then neither may be sent.
            Parameter::MaxTokens | Parameter::MaxCompletionTokens => {
                self.refused.insert(parameter)
                    || self.refused.insert(Parameter::MaxTokens)
                    || self.refused.insert(Parameter::MaxCompletionTokens)
            }
            other => self.refused.insert(other),
        };
        if changed {
            self.learnt_at = Some(now);
        }
        changed
    }

    /// Learns that an answer needs more tokens than `limit`, within the model's `window`. False when there is no more to give.
    pub fn need_more(&mut self, limit: u32, window: usize, now: DateTime<Utc>) -> bool {
        let most = u32::try_from(window / 2).unwrap_or(u32::MAX).min(32_768);
        let more = limit.saturating_mul(4).min(most);
        if more <= limit {
            return false;
        }
        self.output_tokens_min = Some(more);
        self.learnt_at = Some(now);
        true
    }

    /// Goes down a rung. False at the bottom.
    pub fn step_down(&mut self, now: DateTime<Utc>) -> bool {
        match self.rung.below() {
            Some(below) => {
                self.rung = below;
                self.learnt_at = Some(now);
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_is_found_in_what_providers_really_say() {
        for (param, message, expected) in [
            (Some("temperature"), "", Some(Parameter::Temperature)),
            (
                None,
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
                Some(Parameter::MaxTokens),
            ),
            (
                None,
                "Unsupported value: 'temperature' does not support 0 with this model.",
                Some(Parameter::Temperature),
            ),
            (None, "response_format type json_schema is not supported", Some(Parameter::ResponseFormat)),
            (None, "\"auto\" tool choice requires --enable-auto-tool-choice", Some(Parameter::Tools)),
            (Some("logprobs"), "", Some(Parameter::Logprobs)),
            (None, "`top_p` must be < 1.0: not supported", Some(Parameter::TopP)),
            (None, "Unrecognized request argument supplied: seed", Some(Parameter::Seed)),
            (None, "Unsupported parameter: 'reasoning_effort'", Some(Parameter::ReasoningEffort)),
            (None, "Invalid value for input", None),
            (None, "input length and `max_tokens` exceed context limit", None),
            (None, "the user asked about a tool", None),
        ] {
            assert_eq!(Parameter::named_in(param, message), expected, "{message}");
        }
    }

    #[test]
    fn a_refused_form_steps_down_and_a_refused_parameter_is_left_out_once() {
        let now = DateTime::UNIX_EPOCH;
        let mut traits = Traits::default();
        assert!(traits.refuse(Parameter::ResponseFormat, now));
        assert_eq!(traits.rung, Rung::Tool);
        assert!(!traits.refuse(Parameter::ResponseFormat, now), "it was not sent on this rung");
        assert!(traits.refuse(Parameter::Tools, now));
        assert!(traits.refuse(Parameter::ResponseFormat, now));
        assert_eq!(traits.rung, Rung::JsonText);
        assert!(traits.refuse(Parameter::Temperature, now));
        assert!(!traits.refuse(Parameter::Temperature, now), "refusing what was left out cannot help");
    }

    #[test]
    fn a_gateway_that_renames_the_limit_ends_with_none() {
        let mut traits = Traits::default();
        assert!(traits.refuse(Parameter::MaxTokens, DateTime::UNIX_EPOCH));
        assert!(traits.refuse(Parameter::MaxTokens, DateTime::UNIX_EPOCH), "the new name was sent, the old one blamed");
        assert!(traits.refused.contains(&Parameter::MaxCompletionTokens));
        assert!(!traits.refuse(Parameter::MaxTokens, DateTime::UNIX_EPOCH));
    }

    #[test]
    fn a_model_that_thinks_first_is_given_room_within_its_window() {
        let mut traits = Traits::default();
        assert!(traits.need_more(1_024, 128_000, DateTime::UNIX_EPOCH));
        assert_eq!(traits.output_tokens_min, Some(4_096));
        assert!(!traits.need_more(32_768, 128_000, DateTime::UNIX_EPOCH));
        assert!(!traits.need_more(1_024, 2_048, DateTime::UNIX_EPOCH));
    }

    #[test]
    fn what_was_learnt_is_believed_for_a_day() {
        let mut traits = Traits::default();
        traits.step_down(DateTime::UNIX_EPOCH);
        assert_eq!(traits.at(DateTime::UNIX_EPOCH + TimeDelta::hours(23)).rung, Rung::Tool);
        assert_eq!(traits.at(DateTime::UNIX_EPOCH + TimeDelta::hours(25)).rung, Rung::JsonSchema);
    }
}
