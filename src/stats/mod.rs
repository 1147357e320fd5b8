//! L1: numbers only: estimates from samples with known inclusion probabilities, what votes are worth, and detectors.
//!
//! | question | file |
//! |---|---|
//! | who is sampled, with what probability | `thresholds`; which to label next: `choice` |
//! | what is the judged rate, and what changed | `survey` (the default), `hajek`, `proportions` |
//! | what would people say | `active` (labels asked for by doubt), `ppi` (a plain sample of labels), `rogan_gladen` (a golden set) |
//! | how good are judges, and is a run better than another | `accuracy`, `paired`, `bootstrap`, `alpha`, `kappa`, `correlation`; how many labels more: `labels_needed` |
//! | what are votes worth together | `stack` (with labels), `dawid_skene` (without) |
//! | is it worse than before | `stream` (one stream's state), on `kernel`; how small a drop shows: `planner`; has a judge moved: `drift` |
//! | which of many tests | `many`; was sampling as configured: `sample_ratio`; intervals at any look: `anytime` |
//!
//! Called by `pipeline` and `cli`. Its rule: each formula names its source and passes a vector made by another
//! implementation; bad input is a `refusal`, never NaN. The way not taken: one `statistics` file.

pub mod accuracy;
pub mod active;
pub mod alpha;
pub mod anytime;
mod beta;
pub mod bootstrap;
pub mod choice;
pub mod correlation;
pub mod dawid_skene;
pub mod drift;
pub mod estimate;
pub mod hajek;
pub mod invalid;
pub mod kappa;
pub mod kernel;
pub mod labels_needed;
pub mod many;
pub mod paired;
pub mod planner;
pub mod ppi;
pub mod proportions;
pub mod refusal;
pub mod rogan_gladen;
pub mod sample_ratio;
pub mod stack;
pub mod stream;
pub mod survey;
pub mod thresholds;
#[cfg(test)]
pub(crate) mod vectors;
