//! Reading SQL of our own style: which tables and columns a statement makes, and which it comments on.

use super::rust::{is_word, word_at};

/// A statement without comments and with empty strings, and the line on which it starts.
#[derive(Debug)]
pub struct Statement {
    text: String,
    line: usize,
}

/// The statements of a file.
pub fn statements(sql: &str) -> Vec<Statement> {
    let masked = mask_sql(sql);
    let mut found = Vec::new();
    let mut at = 0;
    for part in masked.split(';') {
        let start = at + part.len() - part.trim_start().len();
        found.push(Statement { text: part.trim().to_owned(), line: masked[..start].matches('\n').count() + 1 });
        at += part.len() + 1;
    }
    found
}

fn mask_sql(sql: &str) -> String {
    let (mut out, mut rest) = (String::new(), sql);
    while let Some(c) = rest.chars().next() {
        let end_of = |close: &str, skip: usize| rest[skip..].find(close).map_or(rest.len(), |p| skip + p + close.len());
        let taken = match c {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '\'' => end_of("'", 1),
            '$' if rest.starts_with("$$") => end_of("$$", 2),
            _ => 0,
        };
        if taken == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..taken].chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = &rest[taken..];
        }
    }
    out
}

impl Statement {
    /// `TABLE name` or `COLUMN table.name`, when this is a comment on one.
    pub fn commented(&self) -> Option<String> {
        let words: Vec<&str> = self.text.split_whitespace().collect();
        match words.as_slice() {
            ["COMMENT", "ON", kind @ ("TABLE" | "COLUMN"), name, "IS"] => Some(format!("{kind} {name}")),
            _ => None,
        }
    }

    /// The tables and columns that this statement makes: kind, name, line.
    pub fn defines(&self) -> Vec<(&'static str, String, usize)> {
        let head = self.text.split('(').next().unwrap_or_default();
        let words: Vec<&str> =
            head.split_whitespace().filter(|w| !["IF", "NOT", "EXISTS", "ONLY"].contains(w)).collect();
        match words.as_slice() {
            ["CREATE", "TABLE", table, ..] | ["CREATE", _, "TABLE", table, ..] => {
                let body = &self.text[head.len()..];
                let columns = if words.contains(&"PARTITION") { Vec::new() } else { self.columns(body, table) };
                [("TABLE", (*table).to_owned(), self.line)].into_iter().chain(columns).collect()
            }
            ["ALTER", "TABLE", table, ..] => {
                let added = self.text.split("ADD COLUMN ").skip(1);
                let names = added.map(|rest| word_at(rest.strip_prefix("IF NOT EXISTS ").unwrap_or(rest), 0));
                names.map(|column| ("COLUMN", format!("{table}.{column}"), self.line)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The columns in `(name type, …, CHECK (…))`.
    fn columns(&self, body: &str, table: &str) -> Vec<(&'static str, String, usize)> {
        let constraint = ["PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "CONSTRAINT", "EXCLUDE", "LIKE"];
        let before = &self.text[..self.text.len() - body.len()];
        let (mut found, mut depth, mut awaited) = (Vec::new(), 0, false);
        for (offset, c) in body.char_indices() {
            match c {
                '(' => (depth, awaited) = (depth + 1, depth == 0),
                ')' if depth == 1 => break,
                ')' => depth -= 1,
                ',' if depth == 1 => awaited = true,
                _ if awaited && is_word(c) => {
                    awaited = false;
                    let name = word_at(body, offset);
                    let line = self.line + before.matches('\n').count() + body[..offset].matches('\n').count();
                    if !constraint.contains(&name) {
                        found.push(("COLUMN", format!("{table}.{name}"), line));
                    }
                }
                _ => {}
            }
        }
        found
    }
}
