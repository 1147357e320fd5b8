//! What samplers before us said in the W3C tracestate, and which of a trace's bits may decide its draw.
//!
//! Called by `pipeline::sample`. Source: OpenTelemetry specification, trace/tracestate-probability-sampling (`th`, `rv`). Its
//! rule: bits by which somebody may have sampled before us are drawn by only where `th` says how they were used; otherwise a keyed
//! hash draws, which is independent of any sampler. The way not taken: the trace id's bits wherever they are flagged as random: a
//! head sampler of 0.1 % that leaves no `th` lets through only ids whose last bits are small, and we would keep none of them.

use crate::domain::ids::{hashed_randomness, trace_randomness};
use crate::domain::policy::Upstream;
use crate::domain::trace::Trace;
use crate::stats::thresholds::{parse, probability};

/// W3C trace flag: the right-most 7 bytes of the trace id are random.
const RANDOM_FLAG: u32 = 0x02;

/// A trace's draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Bits {
    /// 56 random bits.
    pub randomness: u64,
    /// Where they are from.
    pub source: &'static str,
    /// The sampler before us let through only `randomness` from here on; 0 = it did not look at these bits.
    pub from: u64,
    /// What it said.
    pub upstream: Option<Upstream>,
}

/// Which bits draw, and what the sampler before us said.
#[must_use]
pub fn bits(hash_key: &str, trace: &Trace) -> Bits {
    let state = trace.view.trace_state.as_deref();
    let field = |name: &str| state.and_then(|state| ot_field(state, name));
    let threshold = field("th:").and_then(parse);
    let explicit = field("rv:").and_then(random_value).map(|r| (r, "tracestate rv"));
    let flagged = trace.view.flags.is_some_and(|flags| flags & RANDOM_FLAG != 0);
    let of_id = || trace_randomness(&trace.trace_id).filter(|_| flagged && threshold.is_some());
    let known = explicit.or_else(|| of_id().map(|r| (r, "trace id")));
    // A trace that its own threshold should have left out was let through by something else, with no known probability.
    let contradicts = known.zip(threshold).is_some_and(|((r, _), th)| r < th);
    let hashed = || (hashed_randomness(hash_key, &trace.trace_id), "keyed hash");
    let (randomness, source) = known.filter(|_| !contradicts).unwrap_or_else(hashed);
    let drawn_by_hash = source == "keyed hash";
    let said = threshold.filter(|_| !contradicts).map(|th| Upstream {
        probability: probability(th),
        source: "tracestate th".to_owned(),
        kept: true,
    });
    Bits {
        randomness,
        source,
        from: threshold.filter(|_| !drawn_by_hash).unwrap_or(0),
        upstream: said.or_else(|| trace.view.upstream.clone()),
    }
}

/// `rv` of `ot=…;rv:6e6d1a75832a2f;…`: exactly 14 hex digits.
fn random_value(digits: &str) -> Option<u64> {
    let fits = digits.len() == 14 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// A field of the `ot` entry.
fn ot_field<'a>(trace_state: &'a str, name: &str) -> Option<&'a str> {
    let entry = trace_state.split(',').find_map(|entry| entry.trim().strip_prefix("ot="))?;
    entry.split(';').find_map(|field| field.trim().strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::thresholds::NEVER;

    fn trace(id: &str, flags: Option<u32>, state: &str) -> Trace {
        let mut trace = Trace { trace_id: id.to_owned(), ..Trace::default() };
        trace.view.flags = flags;
        trace.view.trace_state = Some(state.to_owned()).filter(|s| !s.is_empty());
        trace
    }

    const ID: &str = "5b8efff798038103d2ffffffffffffff";

    fn said(trace: &Trace) -> (&'static str, u64, Option<f64>) {
        let bits = bits("k", trace);
        (bits.source, bits.from, bits.upstream.map(|u| u.probability))
    }

    #[test]
    fn bits_are_drawn_by_where_it_is_known_how_they_were_used() {
        assert_eq!(said(&trace(ID, None, "")), ("keyed hash", 0, None));
        assert_eq!(said(&trace(ID, Some(3), "")), ("keyed hash", 0, None), "a sampler without th may have used them");
        assert_eq!(said(&trace(ID, Some(3), "ot=th:0")), ("trace id", 0, Some(1.0)));
        assert_eq!(said(&trace(ID, Some(3), "ot=th:8")), ("trace id", NEVER / 2, Some(0.5)));
        assert_eq!(bits("k", &trace(ID, Some(3), "ot=th:8")).randomness, NEVER - 1);
        assert_eq!(
            said(&trace(ID, Some(1), "ot=th:c")),
            ("keyed hash", 0, Some(0.25)),
            "the id is not flagged as random"
        );
        assert_eq!(said(&trace(ID, None, "dd=s:1, ot=rv:00000000000001")), ("tracestate rv", 0, None));
        assert_eq!(said(&trace(ID, None, "ot=th:c;rv:d0000000000000")), ("tracestate rv", NEVER / 4 * 3, Some(0.25)));
    }

    #[test]
    fn what_contradicts_itself_or_cannot_be_read_says_nothing() {
        assert_eq!(said(&trace(ID, None, "ot=th:c;rv:00000000000001")), ("keyed hash", 0, None));
        for state in ["ot=th:xyz", "ot=th:", "ot=rv:1", "ot=rv:+0000000000001", "ot=", "th:8", "vendor=ot=th:8"] {
            assert_eq!(said(&trace(ID, None, state)), ("keyed hash", 0, None), "{state}");
        }
    }

    #[test]
    fn what_the_dialect_says_counts_where_the_tracestate_says_nothing() {
        let mut one = trace(ID, Some(3), "");
        one.view.upstream = Some(Upstream { probability: 0.2, source: "datadog rule".to_owned(), kept: true });
        assert_eq!(said(&one), ("keyed hash", 0, Some(0.2)));
        one.view.trace_state = Some("ot=th:8".to_owned());
        assert_eq!(said(&one), ("trace id", NEVER / 2, Some(0.5)));
    }
}
