//! How many tokens a text has.
//!
//! Called by `pipeline::evaluate` before a call. Its rule: bytes bound the tokens from above (a byte-level vocabulary never has
//! more), so a text is counted only when that bound does not settle it; for models whose vocabulary we do not have, a
//! margin is added. The way not taken: counting every prompt, which costs more than the whole call.

use tiktoken_rs::CoreBPE;

/// Added for models whose vocabulary is not OpenAI's.
const MARGIN: f64 = 1.2;

/// Text that is counted in one piece; the encoder's time grows faster than its input on text without spaces.
const PIECE: usize = 16 * 1024;

/// The vocabulary of a model and whether it is really that model's.
fn vocabulary(model: &str) -> (&'static CoreBPE, bool) {
    let name = model.rsplit('/').next().unwrap_or(model);
    if name.starts_with("gpt-4-") || name == "gpt-4" || name.starts_with("gpt-3.5") {
        return (tiktoken_rs::cl100k_base_singleton(), true);
    }
    let openai = ["gpt-4o", "gpt-4.", "gpt-5", "o1", "o3", "o4", "chatgpt", "gpt-oss"];
    (tiktoken_rs::o200k_base_singleton(), openai.iter().any(|prefix| name.starts_with(prefix)))
}

/// About how many tokens the text has for the model: exact for OpenAI's, a fifth more than theirs for others.
#[must_use]
pub fn count(model: &str, text: &str) -> usize {
    let (vocabulary, exact) = vocabulary(model);
    let mut tokens = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(PIECE);
        while !rest.is_char_boundary(end) {
            end += 1;
        }
        tokens += vocabulary.encode_ordinary(&rest[..end]).len();
        rest = &rest[end..];
    }
    if exact { tokens } else { with_margin(tokens) }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count times 1.2")]
fn with_margin(tokens: usize) -> usize {
    (tokens as f64 * MARGIN).ceil() as usize
}

/// Whether texts of so many bytes may exceed `window` tokens; if not, nobody needs to count.
#[must_use]
pub fn may_exceed(bytes: usize, window: usize) -> bool {
    bytes > window
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_vocabularies_are_exact_and_others_have_a_margin() {
        let text = "Sofas can be returned within 30 days of delivery.";
        assert_eq!(count("gpt-4o-mini", text), 13);
        assert_eq!(count("openai/gpt-4o-mini", text), 13);
        assert_eq!(count("llama-3.1-70b", text), 16, "a fifth more");
        assert_eq!(count("gpt-4o", ""), 0);
    }

    #[test]
    fn long_text_without_spaces_is_counted_in_bounded_time_and_bytes_bound_it() {
        let text = "日本語のとても長い文章".repeat(10_000);
        let tokens = count("gpt-4o", &text);
        assert!(tokens > 10_000 && tokens < text.len());
        assert!(!may_exceed(1_000, 1_000) && may_exceed(1_001, 1_000));
    }
}
