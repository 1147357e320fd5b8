//! E-mail and IP addresses.
//!
//! Called by `find` at an `@`, a colon, or a number with dots. Its rule: looks are bounded, so a megabyte of `@` is as fast
//! as a megabyte of anything. The way not taken: one regular expression for RFC 5322, which also takes what nobody writes.

use super::spans::{Hit, after, before};
use crate::domain::personal::Category;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest local part and longest domain, in bytes (RFC 5321).
const LOCAL_MAX: usize = 64;
const DOMAIN_MAX: usize = 253;

/// Endings that look like a domain's and are a file's: `logo@2x.png`.
const FILES: &[&str] = &["png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "json", "html"];

/// The e-mail address around the `@` at `at`, where there is one.
pub(super) fn email(text: &str, at: usize) -> Option<Hit> {
    let low = at.saturating_sub(LOCAL_MAX * 2);
    let mut start = at;
    for (place, c) in text[text.ceil_char_boundary(low)..at].char_indices().rev() {
        if !(c.is_alphanumeric() || "._%+-'".contains(c)) {
            break;
        }
        start = text.ceil_char_boundary(low) + place;
    }
    let local = text[start..at].trim_start_matches(['.', '\'', '-', '%', '+']);
    start = at - local.len();
    let mut end = at + 1;
    for (place, c) in text[at + 1..].char_indices().take(DOMAIN_MAX) {
        if !(c.is_alphanumeric() || c == '.' || c == '-') {
            break;
        }
        end = at + 1 + place + c.len_utf8();
    }
    let domain = text[at + 1..end].trim_end_matches(['.', '-']);
    end = at + 1 + domain.len();
    let (name, top) = domain.rsplit_once('.')?;
    let good = !local.is_empty()
        && local.len() <= LOCAL_MAX
        && !local.ends_with('.')
        && !name.is_empty()
        && !name.starts_with(['.', '-'])
        && !domain.contains("..")
        && (2..=24).contains(&top.chars().count())
        && top.chars().all(char::is_alphabetic)
        && local != "git"
        && !FILES.contains(&top.to_ascii_lowercase().as_str());
    good.then_some(Hit { category: Category::Email, kind: "email", start, end })
}

/// The IPv4 address that `start..end` is, where it is one that says where somebody is.
pub(super) fn ipv4(text: &str, start: usize, end: usize) -> Option<Hit> {
    let address: Ipv4Addr = text[start..end].parse().ok()?;
    let [first, ..] = address.octets();
    let nobody = first == 0 || address.is_loopback() || address.is_broadcast();
    let version = matches!(before(text, start), Some('v' | 'V' | '.' | '-' | '_'))
        || ends_with_word(text[..start].trim_end(), "version");
    let hit = Hit { category: Category::Ip, kind: "ipv4", start, end };
    (!nobody && !version && !matches!(after(text, end), Some('-' | '_'))).then_some(hit)
}

/// Whether a text ends with a word, whatever its case.
fn ends_with_word(text: &str, word: &str) -> bool {
    let (text, word) = (text.as_bytes(), word.as_bytes());
    text.len() >= word.len() && text[text.len() - word.len()..].eq_ignore_ascii_case(word)
}

/// The IPv6 address around the colon at `at`, and where the run of its characters ends.
pub(super) fn ipv6(text: &str, at: usize) -> (Option<Hit>, usize) {
    const LONGEST: usize = 45;
    let bytes = text.as_bytes();
    let part = |b: u8| b.is_ascii_hexdigit() || b == b':' || b == b'.';
    let mut start = at;
    while start > 0 && at - start < LONGEST && part(bytes[start - 1]) {
        start -= 1;
    }
    let mut end = at + 1;
    while end < bytes.len() && end - at < LONGEST && part(bytes[end]) {
        end += 1;
    }
    let run = text[start..end].trim_end_matches('.');
    let run = if run.ends_with("::") { run } else { run.trim_end_matches(':') };
    let stop = start + run.len();
    let whole = before(text, start).is_none_or(|c| !c.is_alphanumeric())
        && after(text, stop).is_none_or(|c| !c.is_alphanumeric());
    let digits = run.bytes().filter(u8::is_ascii_hexdigit).count();
    // `a::b` is a path in many languages; an address has more to it.
    let found = whole
        && digits >= 6
        && run.bytes().filter(|b| *b == b':').count() >= 2
        && run.bytes().any(|b| b.is_ascii_digit())
        && run.parse::<Ipv6Addr>().is_ok();
    (found.then_some(Hit { category: Category::Ip, kind: "ipv6", start, end: stop }), end.max(at + 1))
}
