//! The chat-model seam: what a judge is asked, what it answers, how it fails.
//!
//! Asked by `pipeline::evaluate`, answered by `llm::client` or, in tests, by anything that implements [`ChatModel`]. Its
//! rule: an error says whether trying again can help; the loop does not guess. The way not taken: one error string.

use super::message::Usage;
use super::rung::{Parameter, Traits};
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How long to leave an endpoint alone that a person must repair.
const UNUSABLE_WAIT: Duration = Duration::from_secs(60);

/// A future that may cross threads, as a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One question to a model. Text and schema are shared, since a panel is asked the same in several forms.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// Role and text, in order.
    pub messages: Vec<(&'static str, Arc<str>)>,
    /// Name and JSON Schema that the answer must have.
    pub schema: Option<(&'static str, Arc<Value>)>,
    /// Upper bound of tokens to answer with.
    pub output_tokens_max: u32,
    /// Whether the probabilities of the answer's tokens are wanted.
    pub logprobs: bool,
    /// The form of structured output, and parameters to leave out.
    pub traits: Traits,
}

impl ChatRequest {
    /// Bytes of its messages.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.messages.iter().map(|(_, text)| text.len()).sum()
    }
}

/// One token of an answer, and what else could have stood there.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TokenChoice {
    /// The token.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
    /// The likeliest tokens at its place, itself included.
    pub top_logprobs: Vec<TokenChoice>,
}

/// A model's answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChatReply {
    /// The answer's text; empty when there was none.
    pub content: String,
    /// Text in which the model declined.
    pub refusal: Option<String>,
    /// Why it stopped.
    pub finish_reason: Option<String>,
    /// The model, as it names itself.
    pub model: String,
    /// Tokens used.
    pub usage: Usage,
    /// The answer's tokens with their probabilities, where they were asked for and given.
    pub logprobs: Vec<TokenChoice>,
}

/// Why a model gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// No answer within the judge's time limit.
    #[error("timeout: no reply within {0:?}")]
    Timeout(Duration),
    /// 429; wait at least this long when it says so.
    #[error("rate_limited: the endpoint answered 429")]
    RateLimited {
        /// From `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The connection failed or broke.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// 408 or 5xx.
    #[error("server_error: the endpoint answered {status}")]
    Server {
        /// The HTTP status.
        status: u16,
        /// From `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// 401, 402, 403, 404 or a spent quota: nothing is wrong with the request, somebody must repair the account.
    #[error("unusable: the endpoint answered {status}: {code}; check the judge's base_url, key, model and quota")]
    Unusable {
        /// The HTTP status.
        status: u16,
        /// The provider's error code or type.
        code: String,
    },
    /// 400 or 422 about one parameter: without it the request may succeed.
    #[error("refused_parameter: the endpoint answered {status} about {parameter:?}")]
    RefusedParameter {
        /// The HTTP status.
        status: u16,
        /// The parameter.
        parameter: Parameter,
    },
    /// The prompt does not fit the model's window.
    #[error("too_long: the endpoint says that the prompt does not fit its window")]
    TooLong,
    /// Any other status: asking again cannot help.
    #[error("rejected: the endpoint answered {status}: {code}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The provider's error code or type; never its message, which may quote the prompt.
        code: String,
        /// Whether it says nothing of what is wrong, so that it may be the form of structured output.
        vague: bool,
    },
    /// A 2xx whose body is not a chat completion.
    #[error("unreadable reply: {0}")]
    Unreadable(String),
}

impl ChatError {
    /// True when the same request may succeed later.
    #[must_use]
    pub fn can_pass(&self) -> bool {
        !matches!(self, Self::Rejected { .. } | Self::RefusedParameter { .. } | Self::TooLong)
    }

    /// True when trying counts for nothing: the endpoint was too busy, or a person must act first. The job's deadline bounds it.
    #[must_use]
    pub fn is_no_attempt(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unusable { .. })
    }

    /// True when the endpoint itself failed, whatever it was asked.
    #[must_use]
    pub fn is_endpoints(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Unreachable(_) | Self::Server { .. })
    }

    /// How long the endpoint asked us to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::Server { retry_after, .. } => *retry_after,
            Self::Unusable { .. } => Some(UNUSABLE_WAIT),
            _ => None,
        }
    }
}

/// Something that answers chat requests. One call is one request on the wire: retries are the caller's.
pub trait ChatModel: Debug + Send + Sync {
    /// Asks once.
    fn ask<'a>(&'a self, request: &'a ChatRequest) -> BoxFuture<'a, Result<ChatReply, ChatError>>;
}
