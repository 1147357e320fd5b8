//! L1: numbers only: estimates from samples with known inclusion probabilities, what votes are worth, and detectors.
//!
//! Called by `pipeline` (report, calibrate, watch) and the benches. Its rule: each formula names its source and passes a vector
//! made by another implementation.

pub mod accuracy;
pub mod active;
pub mod alpha;
pub mod anytime;
pub mod choice;
pub mod correlation;
pub mod dawid_skene;
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
