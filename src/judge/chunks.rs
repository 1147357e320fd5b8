//! A context that does not fit a judge's window, in pieces, and which pieces matter to a claim.
//!
//! Called by `pipeline::evaluate`. Its rule: every byte of the context is in a chunk, neighbours overlap so that no sentence
//! is lost at a cut, and the order is BM25's (Robertson and Zaragoza 2009, k1 = 1.2, b = 0.75). The way not taken: reading
//! only the best chunks, after which "not in the context" would be a guess.

use crate::domain::words::terms;
use std::collections::HashMap;

/// Bytes that neighbouring pieces of one document share.
const OVERLAP: usize = 200;

/// Packs documents into chunks of at most `bytes_max` bytes; a longer document is cut at paragraphs, sentences or spaces.
#[must_use]
pub fn pack(documents: &[String], bytes_max: usize) -> Vec<String> {
    let bytes_max = bytes_max.max(4 * OVERLAP);
    let mut chunks: Vec<String> = Vec::new();
    for piece in documents.iter().flat_map(|document| pieces(document, bytes_max)) {
        match chunks.last_mut().filter(|last| last.len() + 2 + piece.len() <= bytes_max) {
            Some(last) => {
                last.push_str("\n\n");
                last.push_str(piece);
            }
            None => chunks.push(piece.to_owned()),
        }
    }
    chunks
}

fn pieces(text: &str, bytes_max: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > bytes_max {
        let end = cut(rest, bytes_max);
        pieces.push(&rest[..end]);
        let mut next = end - OVERLAP.min(end / 2);
        while !rest.is_char_boundary(next) {
            next += 1;
        }
        rest = &rest[next..];
    }
    pieces.push(rest);
    pieces
}

/// Where to cut: the last paragraph, sentence or space in the second half, else the last whole character.
fn cut(text: &str, bytes_max: usize) -> usize {
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let half = end / 2;
    let found = ["\n\n", ". ", "\u{3002}", "\n", " "];
    found
        .iter()
        .find_map(|mark| text[..end].rfind(mark).map(|at| at + mark.len()).filter(|at| *at > half))
        .unwrap_or(end)
}

/// The chunks in the order in which they matter to each of the claims, the best first.
#[must_use]
pub fn rank(claims: &[&str], chunks: &[String]) -> Vec<Vec<usize>> {
    let counted: Vec<HashMap<String, f64>> = chunks
        .iter()
        .map(|chunk| {
            let mut counts = HashMap::new();
            for term in terms(chunk) {
                *counts.entry(term).or_insert(0.0) += 1.0;
            }
            counts
        })
        .collect();
    let lengths: Vec<f64> = counted.iter().map(|counts| counts.values().sum::<f64>()).collect();
    let mean = (lengths.iter().sum::<f64>() / lengths.len().max(1) as f64).max(1.0);
    let n = chunks.len() as f64;
    claims
        .iter()
        .map(|claim| {
            let asked = terms(claim);
            let score = |i: usize| -> f64 {
                asked
                    .iter()
                    .map(|term| {
                        let with = counted.iter().filter(|c| c.contains_key(term)).count() as f64;
                        let idf = ((n - with + 0.5) / (with + 0.5)).ln_1p();
                        let tf = counted[i].get(term).copied().unwrap_or(0.0);
                        idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * lengths[i] / mean))
                    })
                    .sum()
            };
            let mut order: Vec<(usize, f64)> = (0..chunks.len()).map(|i| (i, score(i))).collect();
            order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            order.into_iter().map(|(i, _)| i).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chunk_that_speaks_of_a_claim_comes_first() {
        let chunks = ["Delivery takes three weeks.", "Sofas can be returned within 30 days.", "We sell lamps."]
            .map(str::to_owned);
        assert_eq!(rank(&["You can return a sofa for 30 days.", "Lamps are sold."], &chunks)[0][0], 1);
        assert_eq!(rank(&["Lamps are sold here, lamps."], &chunks)[0][0], 2);
        assert_eq!(rank(&["x"], &chunks)[0].len(), 3, "all of it is covered");
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost_and_no_chunk_is_too_large(
            documents in proptest::collection::vec("[a-zé。. \n]{0,3000}", 0..5), max in 800_usize..2_000,
        ) {
            let chunks = pack(&documents, max);
            proptest::prop_assert!(chunks.iter().all(|c| c.len() <= max));
            for document in &documents {
                // Every window of the overlap's size stands whole in some chunk.
                let chars: Vec<(usize, char)> = document.char_indices().collect();
                for start in chars.iter().step_by(97) {
                    let mut end = (start.0 + OVERLAP / 2).min(document.len());
                    while !document.is_char_boundary(end) { end += 1; }
                    let window = &document[start.0..end];
                    proptest::prop_assert!(chunks.iter().any(|c| c.contains(window)));
                }
            }
        }
    }
}
