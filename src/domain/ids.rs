//! Identifiers that are computed, never drawn: the same input gives the same id on every machine.
//!
//! Called by `pipeline::enqueue` (job ids), `pipeline::sample` (randomness of a trace id), `judge::prompt` (nonces) and
//! the stores. Its rule: whatever must be idempotent is named by a hash of what it is about. The way not taken:
//! random ids with a unique index beside them, which need a read before each write.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Namespace of all our version-5 uuids.
const NAMESPACE: Uuid = Uuid::from_u128(0x6173_7369_7a65_4f70_8000_a551_2e00_0001);

/// The longest trace or span id we store, in bytes; longer ones are refused at the door with a clear message.
pub const ID_BYTES_MAX: usize = 200;

/// Id of the job, and of the verdict it ends in, that judges `trace_id` by one version of one rubric.
#[must_use]
pub fn job_id(trace_id: &str, rubric: &str, rubric_version: &str) -> Uuid {
    // The unit separator cannot occur in a rubric name, so the three parts cannot run into each other.
    let name = format!("{trace_id}\u{1f}{rubric}\u{1f}{rubric_version}");
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// Id of the job that takes the place of `job` when its trace is judged again for the `nth` time.
#[must_use]
pub fn again_id(job: Uuid, nth: u32) -> Uuid {
    // The unit separator keeps it apart from names of sinks.
    Uuid::new_v5(&job, format!("again\u{1f}{nth}").as_bytes())
}

/// Id of the outbox event that tells `sink` about the verdict `job`.
#[must_use]
pub fn event_id(job: Uuid, sink: &str) -> Uuid {
    Uuid::new_v5(&job, sink.as_bytes())
}

/// Id of what the parts name, within `of` or within all of ours: the slot of a label, a label in its slot.
#[must_use]
pub fn label_id(of: Option<Uuid>, parts: &[&str]) -> Uuid {
    let bytes: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    Uuid::new_v5(&of.unwrap_or(NAMESPACE), short_hash(&bytes, 64).as_bytes())
}

/// First `digits` hex digits of the SHA-256 of the parts, each preceded by its length.
#[must_use]
pub fn short_hash(parts: &[&[u8]], digits: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut text = hex::encode(hash.finalize());
    text.truncate(digits);
    text
}

/// The 56 random bits of a W3C trace id: its last 7 bytes, as OpenTelemetry defines them. `None` when the id is not
/// 32 hex digits.
#[must_use]
pub fn trace_randomness(trace_id: &str) -> Option<u64> {
    if trace_id.len() != 32 || !trace_id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(&trace_id[18..], 16).ok()
}

/// First 56 bits of a keyed hash of the whole id, for ids that are not random.
#[must_use]
pub fn hashed_randomness(key: &str, trace_id: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update((key.len() as u64).to_be_bytes());
    hash.update(key.as_bytes());
    hash.update(trace_id.as_bytes());
    let digest = hash.finalize();
    digest[..7].iter().fold(0, |acc, byte| (acc << 8) | u64::from(*byte))
}

/// Removes what Postgres text cannot hold (NUL); borrowed when there is nothing to remove.
#[must_use]
pub fn storable(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn randomness_is_the_last_seven_bytes() {
        let id = "5b8efff798038103d269b633813fc60c";
        assert_eq!(trace_randomness(id), Some(0x0069_b633_813f_c60c));
        assert_eq!(trace_randomness("order-17"), None);
        assert_eq!(trace_randomness("zz8efff798038103d269b633813fc60c"), None);
    }

    #[test]
    fn hashed_randomness_fits_56_bits_and_depends_on_the_key() {
        let (a, b) = (hashed_randomness("k1", "order-17"), hashed_randomness("k2", "order-17"));
        assert!(a < 1 << 56 && b < 1 << 56);
        assert_ne!(a, b);
    }

    #[test]
    fn job_ids_are_stable_and_do_not_run_together() {
        assert_eq!(job_id("t", "r", "v"), job_id("t", "r", "v"));
        assert_ne!(job_id("t", "rv", ""), job_id("t", "r", "v"));
    }
}
