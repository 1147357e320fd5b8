//! Keys, tokens, passwords.
//!
//! Called by `find`. Its rule: what providers issue is known by its prefix, alphabet and length; anything else must stand
//! behind a word such as `password` and an equals sign or colon, and look like no word. The way not taken: entropy alone,
//! which takes hashes, ids and base64 images for secrets.

use super::spans::{Hit, after, before};
use crate::checks::lexicon::Lexicon;
use crate::domain::personal::Category;
use std::sync::LazyLock;

/// What a provider issues: prefix, further characters at least and at most, and which besides letters and digits.
struct Issued {
    kind: &'static str,
    prefix: &'static str,
    least: usize,
    most: usize,
    also: &'static [u8],
}

const fn issued(kind: &'static str, prefix: &'static str, least: usize, most: usize, also: &'static [u8]) -> Issued {
    Issued { kind, prefix, least, most, also }
}

/// Longer prefixes first where one begins another.
const ISSUED: &[Issued] = &[
    issued("aws_access_key", "AKIA", 16, 16, b""),
    issued("aws_access_key", "ASIA", 16, 16, b""),
    issued("github_token", "github_pat_", 22, 255, b"_"),
    issued("github_token", "ghp_", 36, 255, b""),
    issued("github_token", "gho_", 36, 255, b""),
    issued("github_token", "ghu_", 36, 255, b""),
    issued("github_token", "ghs_", 36, 255, b""),
    issued("github_token", "ghr_", 36, 255, b""),
    issued("gitlab_token", "glpat-", 20, 64, b"-_"),
    issued("anthropic_key", "sk-ant-", 20, 255, b"-_"),
    issued("openai_key", "sk-proj-", 20, 255, b"-_"),
    issued("openai_key", "sk-svcacct-", 20, 255, b"-_"),
    issued("api_key", "sk-", 20, 255, b"-_"),
    issued("stripe_key", "sk_live_", 10, 255, b""),
    issued("stripe_key", "sk_test_", 10, 255, b""),
    issued("stripe_key", "rk_live_", 10, 255, b""),
    issued("stripe_key", "whsec_", 20, 255, b"+/="),
    issued("slack_token", "xoxb-", 10, 255, b"-"),
    issued("slack_token", "xoxp-", 10, 255, b"-"),
    issued("slack_token", "xoxa-", 10, 255, b"-"),
    issued("slack_token", "xoxr-", 10, 255, b"-"),
    issued("slack_token", "xoxs-", 10, 255, b"-"),
    issued("slack_token", "xapp-", 10, 255, b"-"),
    issued("google_key", "AIza", 35, 35, b"-_"),
    issued("google_token", "ya29.", 20, 2048, b"-_"),
    issued("google_secret", "GOCSPX-", 20, 64, b"-_"),
    issued("npm_token", "npm_", 36, 36, b""),
    issued("huggingface_token", "hf_", 30, 64, b""),
    issued("sendgrid_key", "SG.", 60, 80, b"-_."),
    issued("shopify_token", "shpat_", 32, 32, b""),
    issued("digitalocean_token", "dop_v1_", 64, 64, b""),
    issued("pypi_token", "pypi-AgEI", 50, 255, b"-_"),
    issued("age_key", "AGE-SECRET-KEY-1", 50, 64, b""),
    issued("jwt", "eyJ", 20, 8192, b"-_."),
];

/// Names behind which a secret stands; lower case.
const NAMES: &[&str] = &[
    "password",
    "passwd",
    "passwort",
    "passphrase",
    "contraseña",
    "mot de passe",
    "senha",
    "wachtwoord",
    "パスワード",
    "密码",
    "비밀번호",
    "пароль",
    "pwd",
    "secret_key",
    "secret key",
    "client_secret",
    "secretaccesskey",
    "secret_access_key",
    "api_key",
    "api-key",
    "apikey",
    "api key",
    "access_token",
    "auth_token",
    "refresh_token",
    "private_key",
    "bearer",
    "authorization: basic",
    "secret",
    "token",
];

const BEGIN: &str = "-----BEGIN ";

static PLACES: LazyLock<Lexicon> = LazyLock::new(|| {
    let prefixes = ISSUED.iter().map(|one| one.prefix);
    let all: Vec<&str> = prefixes.chain(NAMES.iter().copied()).chain([BEGIN]).collect();
    Lexicon::new(&all)
});

/// Adds every secret of the text.
pub(super) fn find(text: &str, hits: &mut Vec<Hit>) {
    let mut from = 0;
    PLACES.find(text, |place| {
        if place.start < from {
            return;
        }
        let hit = match ISSUED.get(place.word) {
            Some(kind) => key(text, place.start, kind),
            None if place.word < ISSUED.len() + NAMES.len() => named(text, place.start, place.end),
            None => private_key(text, place.start),
        };
        if let Some(hit) = hit {
            from = hit.end;
            hits.push(hit);
        }
    });
}

fn secret(kind: &'static str, start: usize, end: usize) -> Hit {
    Hit { category: Category::Secret, kind, start, end }
}

fn key(text: &str, start: usize, kind: &Issued) -> Option<Hit> {
    let bytes = text.as_bytes();
    if before(text, start).is_some_and(|c| c.is_alphanumeric() || c == '_') || !text[start..].starts_with(kind.prefix) {
        return None;
    }
    let body = &bytes[start + kind.prefix.len()..];
    let part = |b: &u8| b.is_ascii_alphanumeric() || kind.also.contains(b);
    let length = body.iter().take(kind.most + 1).take_while(|b| part(b)).count();
    let token = &body[..length.min(kind.most)];
    let digits = token.iter().filter(|b| b.is_ascii_digit()).count();
    let good = match kind.kind {
        // Three parts, the second a JSON object too.
        "jwt" => token.split(|b| *b == b'.').count() == 3,
        "aws_access_key" => token.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()),
        // `sk-` begins names of CSS classes too.
        "api_key" => digits >= 2 && token.split(|b| *b == b'-').count() <= 4,
        _ => true,
    };
    let fits = length >= kind.least && length <= kind.most && good;
    fits.then(|| secret(kind.kind, start, start + kind.prefix.len() + length))
}

/// From `-----BEGIN … PRIVATE KEY-----` to its end; a key whose end is cut off goes to the end of the text.
fn private_key(text: &str, start: usize) -> Option<Hit> {
    let label = &text[start + BEGIN.len()..text.floor_char_boundary(start + BEGIN.len() + 40)];
    let (name, _) = label.split_once("-----")?;
    if !name.ends_with("PRIVATE KEY") && !name.ends_with("PRIVATE KEY BLOCK") {
        return None;
    }
    let rest = &text[start..];
    let end = rest.find("-----END ").map_or(text.len(), |at| {
        let tail = start + at + "-----END ".len();
        text[tail..].find("-----").map_or(text.len(), |more| tail + more + 5)
    });
    Some(secret("private_key", start, end))
}

/// The password of `scheme://user:password@host`.
pub(super) fn in_url(text: &str, start: usize) -> Option<Hit> {
    const LONGEST: usize = 200;
    let rest = &text[start..text.floor_char_boundary(start + LONGEST)];
    let stop = rest.find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '<' | '>' | '?' | '#'));
    let (login, _) = rest[..stop.unwrap_or(rest.len())].rsplit_once('@')?;
    let (user, password) = login.split_once(':')?;
    let start = start + user.len() + 1;
    (!password.is_empty() && !is_placeholder(password)).then(|| secret("url_password", start, start + password.len()))
}

/// The value behind a name that ends at `end`: `password=…`, `"api_key": "…"`, `password is "…"`.
fn named(text: &str, start: usize, end: usize) -> Option<Hit> {
    const LONGEST: usize = 256;
    let name = &text[start..end];
    let bearer = name.eq_ignore_ascii_case("bearer") || name.to_ascii_lowercase().starts_with("authorization");
    if before(text, start).is_some_and(char::is_alphabetic) || after(text, end).is_some_and(char::is_alphabetic) {
        return None;
    }
    let rest = &text[end..text.floor_char_boundary(end + LONGEST)];
    let mut value = rest.trim_start_matches(['"', '\'', '`', ' ', '*']);
    let mut told = bearer && value.len() < rest.len();
    for sign in ["=>", ":=", "==", "=", ":", "："] {
        if let Some(behind) = value.strip_prefix(sign) {
            (value, told) = (behind, true);
            break;
        }
    }
    let mut spoken = false;
    for word in ["is:", "is ", "ist ", "est ", "es ", "は", "是"] {
        if let (false, Some(behind)) = (told, value.strip_prefix(word)) {
            (value, told, spoken) = (behind, true, true);
        }
    }
    if !told {
        return None;
    }
    let trimmed = value.trim_start_matches([' ', '\t', '*']);
    let quote = trimmed.chars().next().filter(|c| matches!(c, '"' | '\'' | '`' | '“' | '「'));
    let inner = quote.map_or(trimmed, |q| &trimmed[q.len_utf8()..]);
    let stop = inner.find(|c: char| match quote {
        Some('“') => c == '”',
        Some('「') => c == '」',
        Some(q) => c == q,
        None => c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | ';' | '<' | '>' | ')' | '}' | '&' | '」'),
    });
    let value = inner[..stop.unwrap_or(inner.len())].trim_end_matches(['.', '!', '?']);
    // `inner` is the tail of `rest`.
    let at = end + rest.len() - inner.len();
    (is_secret(value, spoken, quote.is_some())).then(|| secret("named_secret", at, at + value.len()))
}

/// Whether a value behind a name is one: long enough, no placeholder, and, unless it is quoted in code, no plain word.
fn is_secret(value: &str, spoken: bool, quoted: bool) -> bool {
    let length = value.chars().count();
    let kinds = [
        value.chars().any(char::is_lowercase),
        value.chars().any(char::is_uppercase),
        value.chars().any(|c| c.is_ascii_digit()),
        value.chars().any(|c| !c.is_alphanumeric() && !matches!(c, '.' | '-' | '_' | ' ' | '[' | ']' | '(')),
    ];
    let kinds = kinds.iter().filter(|k| **k).count();
    let wordlike = kinds < 2 || (kinds == 2 && !value.chars().any(|c| c.is_ascii_digit()));
    let enough = if quoted && !spoken { length >= 6 } else { length >= 6 && !wordlike };
    (6..=200).contains(&length) && enough && !value.contains(' ') && !is_placeholder(value)
}

fn is_placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let first = value.chars().next();
    value.chars().all(|c| Some(c) == first)
        || matches!(first, Some('<' | '$' | '{' | '%' | '[' | '('))
        || value.contains("***")
        || value.contains('…')
        || value.ends_with("()")
        || ["your", "example", "placeholder", "changeme", "redacted", "xxxx", "process.env", "os.environ", "getenv"]
            .iter()
            .any(|word| lower.contains(word))
        || matches!(lower.as_str(), "none" | "null" | "true" | "false" | "undefined" | "string" | "required")
}
