//! A Slack incoming webhook: one message a change, in Block Kit.
//!
//! Its rules are Slack's: a header of 150 characters, text of 3,000, `&`, `<` and `>` escaped, so that no label of a trace can
//! mention a channel or fake a link. Slack has no idempotency key; the delivery's id stands in the message.

use super::{ChannelError, Parts, send};
use crate::domain::alert::Severity;
use crate::domain::alert::incident::State;
use crate::domain::alert::notice::{Channel, Notice};
use crate::domain::alert::text;
use crate::domain::chat::BoxFuture;
use crate::domain::event::Delivery;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

const HEADER_CHARS_MAX: usize = 150;
const TEXT_CHARS_MAX: usize = 3_000;

#[derive(Debug)]
pub(super) struct Slack {
    http: reqwest::Client,
    url: SecretString,
}

impl Slack {
    pub fn new(parts: &Parts<'_>) -> Result<Self, ChannelError> {
        Ok(Self { http: parts.http.clone(), url: parts.address("")? })
    }
}

impl Channel for Slack {
    fn tell<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Delivery> {
        Box::pin(async move { send(self.http.post(self.url.expose_secret()).json(&message(notice)), "Slack").await })
    }
}

fn message(notice: &Notice) -> Value {
    let title = text::title(&notice.alert);
    let heading = text::heading(notice);
    let facts = text::facts(notice).into_iter();
    let facts: Vec<String> = facts.map(|(name, fact)| format!("*{name}:* {}", escape(&fact))).collect();
    let mark = match (notice.alert.state, notice.alert.severity) {
        (State::Resolved, _) => ":white_check_mark:",
        (_, Severity::Critical) => ":red_circle:",
        (_, Severity::Warning) => ":large_orange_circle:",
        (_, Severity::Info) => ":large_blue_circle:",
    };
    let what = format!("{mark} {}", escape(&title));
    let foot = format!("assize {} · {}", notice.alert.id, notice.id);
    let section =
        |text: String| json!({"type": "section", "text": {"type": "mrkdwn", "text": cut(&text, TEXT_CHARS_MAX)}});
    json!({
        // What notifications show.
        "text": cut(&escape(&format!("{heading}: {title}")), TEXT_CHARS_MAX),
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": cut(&heading, HEADER_CHARS_MAX), "emoji": false}},
            section(what),
            section(facts.join("\n")),
            {"type": "context", "elements": [{"type": "plain_text", "text": foot, "emoji": false}]},
        ],
    })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Cuts without leaving half of an escape behind.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let head: String = text.chars().take(most - 1).collect();
    let whole = match head.rfind('&') {
        Some(at) if !head[at..].contains(';') => &head[..at],
        _ => head.as_str(),
    };
    format!("{whole}…")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::incident::ChangeKind;
    use crate::domain::alert::notice::tests::notice;

    #[test]
    fn labels_can_neither_mention_nor_link_and_lengths_hold() {
        let mut notice = notice(ChangeKind::Opened);
        let lead = &mut notice.alert.findings[0].finding;
        lead.stream.insert("feature".to_owned(), "<!channel> & <https://evil.example|here>".to_owned());
        let example = lead.examples[0].clone();
        lead.runbook = Some("<&>".repeat(2_000));
        lead.examples = vec![example; 50];
        let message = message(&notice);
        let text = message.to_string();
        assert!(!text.contains("<!channel>") && !text.contains("<https"), "{text}");
        for block in message["blocks"].as_array().expect("blocks") {
            let length = block["text"]["text"].as_str().map_or(0, |t| t.chars().count());
            assert!(length <= TEXT_CHARS_MAX);
        }
    }

    #[test]
    fn cutting_leaves_no_half_escape() {
        assert_eq!(cut("abc&amp;d", 7), "abc…");
        assert_eq!(cut("a&amp;bcd", 8), "a&amp;b…");
    }
}
