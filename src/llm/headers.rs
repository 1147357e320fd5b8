//! What a reply's headers say about limits and waiting.
//!
//! Called by `client`. Its rule: a limit is believed to be a minute's unless its own reset time says otherwise (Groq and small
//! OpenAI accounts advertise a day's requests under the same name). The way not taken: one provider's names only.

use super::pacer::Limits;
use reqwest::header::HeaderMap;
use std::time::Duration;

/// A limit whose window is longer than this is not a minute's.
const WINDOW_MAX: f64 = 120.0;

/// Limits a minute, where the headers advertise any.
#[must_use]
pub(super) fn limits(headers: &HeaderMap) -> Limits {
    Limits { requests: limit(headers, "requests"), tokens: limit(headers, "tokens") }
}

fn limit(headers: &HeaderMap, what: &str) -> Option<f64> {
    let number = |name: String| text(headers, &name).and_then(|t| t.parse::<f64>().ok());
    let own = number(format!("x-ratelimit-limit-{what}"));
    let limit = own.or_else(|| number(format!("anthropic-ratelimit-{what}-limit"))).filter(|l| *l >= 1.0)?;
    let remaining = number(format!("x-ratelimit-remaining-{what}"));
    let reset = text(headers, &format!("x-ratelimit-reset-{what}")).and_then(span);
    match (remaining, reset) {
        (Some(remaining), Some(reset)) if remaining < limit => {
            // What was used comes back in `reset`, so the whole limit comes back in this time.
            let window = reset * limit / (limit - remaining);
            (window <= WINDOW_MAX).then_some(limit)
        }
        _ => Some(limit),
    }
}

/// `Retry-After-Ms`, or `Retry-After` in seconds.
#[must_use]
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    if let Some(ms) = text(headers, "retry-after-ms").and_then(|t| t.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(ms / 1000.0).ok();
    }
    let asked = text(headers, "retry-after")?;
    let seconds = asked.parse::<f64>().ok().or_else(|| {
        let at = chrono::DateTime::parse_from_rfc2822(asked).ok()?;
        let now = chrono::DateTime::parse_from_rfc2822(text(headers, "date")?).ok()?;
        Some((at - now).as_seconds_f64())
    });
    Duration::try_from_secs_f64(seconds?).ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim)
}

/// `120ms`, `6s`, `1m30.5s`, `1h2m`, or plain seconds, in seconds.
fn span(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Some(seconds);
    }
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let (scale, length) = if unit.starts_with("ms") {
            (0.001, 2)
        } else {
            (
                match unit.as_bytes().first()? {
                    b's' => 1.0,
                    b'm' => 60.0,
                    b'h' => 3_600.0,
                    b'd' => 86_400.0,
                    _ => return None,
                },
                1,
            )
        };
        total += number * scale;
        rest = &unit[length..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (reqwest::header::HeaderName::from_static(k), v.parse().expect("valid"))).collect()
    }

    #[test]
    fn retry_after_is_read_in_its_forms() {
        assert_eq!(retry_after(&headers(&[("retry-after", "2")])), Some(Duration::from_secs(2)));
        let both = headers(&[("retry-after", "2"), ("retry-after-ms", "1500")]);
        assert_eq!(retry_after(&both), Some(Duration::from_millis(1500)));
        assert_eq!(retry_after(&headers(&[("retry-after-ms", "-1")])), None);
        let date = [("retry-after", "Sat, 21 Nov 2026 10:00:30 GMT"), ("date", "Sat, 21 Nov 2026 10:00:00 GMT")];
        assert_eq!(retry_after(&headers(&date)), Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_minutes_limit_is_told_from_a_days() {
        let openai = [
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-reset-requests", "120ms"),
            ("x-ratelimit-limit-tokens", "200000"),
            ("x-ratelimit-remaining-tokens", "199000"),
            ("x-ratelimit-reset-tokens", "300ms"),
        ];
        assert_eq!(limits(&headers(&openai)), Limits { requests: Some(500.0), tokens: Some(200_000.0) });
        let groq = [
            ("x-ratelimit-limit-requests", "14400"),
            ("x-ratelimit-remaining-requests", "14399"),
            ("x-ratelimit-reset-requests", "6s"),
        ];
        assert_eq!(limits(&headers(&groq)), Limits::default(), "14,400 a day");
        let anthropic = [("anthropic-ratelimit-requests-limit", "50")];
        assert_eq!(limits(&headers(&anthropic)).requests, Some(50.0));
        assert_eq!(limits(&headers(&[("x-ratelimit-limit-requests", "0")])), Limits::default());
    }

    #[test]
    fn times_are_read() {
        assert_eq!(span("1m30.5s"), Some(90.5));
        assert_eq!(span("120ms"), Some(0.12));
        assert_eq!(span("1h2m"), Some(3_720.0));
        assert_eq!(span("7"), Some(7.0));
        assert_eq!(span("soon"), None);
    }
}
