//! What verdicts are told apart by in reports, streams and alerts, besides rubric and version.
//!
//! Used by `store::report`, `pipeline::report` and `pipeline::watch`. Its rule: a dimension is a label that every verdict carries,
//! never free text. The way not taken: any tag of a trace, whose number of values nobody bounds.

use super::verdict::TraceLabels;
use serde::{Deserialize, Serialize};

/// What verdicts can be told apart by, besides rubric and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// The application's feature.
    Feature,
    /// The prompt's version.
    PromptVersion,
    /// The model that answered.
    Model,
    /// The tenant.
    Tenant,
    /// The environment.
    Environment,
    /// The service.
    Service,
    /// The service's version.
    ServiceVersion,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Feature,
        Self::PromptVersion,
        Self::Model,
        Self::Tenant,
        Self::Environment,
        Self::Service,
        Self::ServiceVersion,
    ];

    /// Its name on the command line, in the API and in rubrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Feature => "feature",
            Self::PromptVersion => "prompt_version",
            Self::Model => "model",
            Self::Tenant => "tenant",
            Self::Environment => "environment",
            Self::Service => "service",
            Self::ServiceVersion => "service_version",
        }
    }

    /// The dimension of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.as_str() == name)
    }

    /// Its value in a trace's labels.
    #[must_use]
    pub fn of(self, labels: &TraceLabels) -> Option<&str> {
        match self {
            Self::Feature => labels.feature.as_deref(),
            Self::PromptVersion => labels.prompt_version.as_deref(),
            Self::Model => labels.model.as_deref(),
            Self::Tenant => labels.tenant.as_deref(),
            Self::Environment => labels.environment.as_deref(),
            Self::Service => labels.service.as_deref(),
            Self::ServiceVersion => labels.service_version.as_deref(),
        }
    }
}
