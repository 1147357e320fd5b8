//! Is the text well-formed Markdown, HTML, XML or SQL, and where is it not?
//!
//! Called by `format`. Its rule: XML without document type definitions (no entities that grow), SQL by sqlparser with its depth bound,
//! HTML by balanced tags with the end tags that may be left out, Markdown by what renderers show broken: open fences and ragged
//! tables. A text beyond the size bound is not checked, and that is said. The way not taken: an HTML5 parser, which accepts anything.

use serde::Deserialize;
use sqlparser::dialect::{
    AnsiDialect, BigQueryDialect, Dialect, DuckDbDialect, GenericDialect, MsSqlDialect, MySqlDialect,
    PostgreSqlDialect, SQLiteDialect, SnowflakeDialect,
};
use sqlparser::parser::Parser;
use std::ops::Range;

/// Texts above this are not parsed.
const BYTES_MAX: usize = 256 << 10;

/// Open HTML elements within each other.
const DEPTH_MAX: usize = 512;

/// The syntaxes that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Syntax {
    /// CommonMark with tables.
    Markdown,
    /// HTML or a fragment of it.
    Html,
    /// An XML document.
    Xml,
    /// One or more SQL statements.
    Sql,
}

impl Syntax {
    pub(super) fn finding(self) -> &'static str {
        match self {
            Self::Markdown => "invalid_markdown",
            Self::Html => "invalid_html",
            Self::Xml => "invalid_xml",
            Self::Sql => "invalid_sql",
        }
    }
}

/// Whose SQL it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SqlDialect {
    /// What most understand.
    #[default]
    Generic,
    /// The standard.
    Ansi,
    /// MySQL.
    Mysql,
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
    /// Microsoft SQL Server.
    Mssql,
    /// BigQuery.
    Bigquery,
    /// Snowflake.
    Snowflake,
    /// DuckDB.
    Duckdb,
}

/// Where the text breaks its syntax, in bytes; `None` when it does not.
///
/// # Errors
/// Why it was not checked.
pub(super) fn problem(syntax: Syntax, sql: SqlDialect, answer: &str) -> Result<Option<Range<usize>>, &'static str> {
    if answer.len() > BYTES_MAX {
        return Err("the text is too large for its syntax to be checked");
    }
    let body = if syntax == Syntax::Markdown { 0..answer.len() } else { unfenced(answer) };
    let text = &answer[body.clone()];
    let found = match syntax {
        Syntax::Markdown => markdown(text),
        Syntax::Html => html(text),
        Syntax::Xml => xml(text),
        Syntax::Sql => is_no_sql(text, sql).then_some(0..text.len()),
    };
    Ok(found.map(|at| body.start + at.start..body.start + at.end))
}

/// What is inside a code block that is all there is: chat models wrap code so.
fn unfenced(answer: &str) -> Range<usize> {
    let start = answer.len() - answer.trim_start().len();
    let end = answer.trim_end().len();
    let whole = start..end.max(start);
    let Some(inner) = answer[whole.clone()].strip_prefix("```").and_then(|rest| rest.strip_suffix("```")) else {
        return whole;
    };
    let Some(line) = inner.find('\n') else { return whole };
    let from = start + "```".len() + line + 1;
    from..start + "```".len() + inner.len()
}

fn is_no_sql(text: &str, dialect: SqlDialect) -> bool {
    let dialect: &dyn Dialect = match dialect {
        SqlDialect::Generic => &GenericDialect {},
        SqlDialect::Ansi => &AnsiDialect {},
        SqlDialect::Mysql => &MySqlDialect {},
        SqlDialect::Postgres => &PostgreSqlDialect {},
        SqlDialect::Sqlite => &SQLiteDialect {},
        SqlDialect::Mssql => &MsSqlDialect {},
        SqlDialect::Bigquery => &BigQueryDialect {},
        SqlDialect::Snowflake => &SnowflakeDialect {},
        SqlDialect::Duckdb => &DuckDbDialect {},
    };
    Parser::parse_sql(dialect, text).map_or(true, |statements| statements.is_empty())
}

fn xml(text: &str) -> Option<Range<usize>> {
    let options = roxmltree::ParsingOptions { allow_dtd: false, nodes_limit: 100_000, ..Default::default() };
    let error = roxmltree::Document::parse_with_options(text, options).err()?;
    let place = error.pos();
    let line = text.split_inclusive('\n').take(place.row.saturating_sub(1) as usize).map(str::len).sum::<usize>();
    let column = text[line.min(text.len())..].char_indices().nth(place.col.saturating_sub(1) as usize);
    let at = column.map_or(text.len(), |(at, _)| line + at);
    Some(at..text.len().min(at + 1))
}

fn markdown(text: &str) -> Option<Range<usize>> {
    let mut fence: Option<(char, usize, usize)> = None;
    let mut table: Option<usize> = None;
    let (mut at, mut last) = (0, "");
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let body = line.trim();
        let mark = body.chars().next().filter(|c| matches!(c, '`' | '~')).unwrap_or(' ');
        let length = body.chars().take_while(|c| *c == mark).count();
        match fence {
            Some((open, wide, _)) if mark == open && length >= wide && body.chars().all(|c| c == open) => fence = None,
            Some(_) => {}
            None if mark != ' ' && length >= 3 => fence = Some((mark, length, start)),
            None => {
                let rule = body.contains('|') && body.contains('-') && body.chars().all(|c| "|-: ".contains(c));
                match table {
                    _ if rule && last.contains('|') => {
                        if cells(last) != cells(body) {
                            return Some(start..at);
                        }
                        table = Some(cells(body));
                    }
                    // Renderers drop what is too much; what is too little they fill up.
                    Some(width) if body.contains('|') && cells(body) > width => return Some(start..at),
                    Some(_) if !body.contains('|') => table = None,
                    _ => {}
                }
                last = body;
            }
        }
    }
    fence.map(|(_, _, start)| start..text.len())
}

fn cells(row: &str) -> usize {
    let inner = row.strip_prefix('|').unwrap_or(row);
    let inner = inner.strip_suffix('|').filter(|rest| !rest.ends_with('\\')).unwrap_or(inner);
    inner.replace("\\|", "").split('|').count()
}

const VOID: &[&str] = &[
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
    "!doctype",
];

/// Elements whose end tag may be left out.
const ENDLESS: &[&str] = &[
    "li", "p", "td", "tr", "th", "dt", "dd", "option", "thead", "tbody", "tfoot", "html", "body", "head", "colgroup",
    "rt", "rp", "optgroup",
];

fn html(text: &str) -> Option<Range<usize>> {
    let mut open: Vec<(String, usize)> = Vec::new();
    let (mut at, mut tags) = (0, 0);
    while let Some(start) = text[at..].find('<').map(|n| at + n) {
        let rest = &text[start..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            let Some(end) = comment.find("-->") else { return Some(start..text.len()) };
            at = start + "<!--".len() + end + "-->".len();
            continue;
        }
        let closes = rest.starts_with("</");
        let name: String = rest[if closes { 2 } else { 1 }..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '!' | ':'))
            .map(|c| c.to_ascii_lowercase())
            .collect();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '!') {
            // A bare `<` in prose, as browsers read it.
            at = start + 1;
            continue;
        }
        let Some(end) = tag_end(rest).map(|n| start + n) else { return Some(start..text.len()) };
        tags += 1;
        at = end;
        if closes {
            let Some(place) = open.iter().rposition(|(n, _)| *n == name) else { return Some(start..end) };
            if let Some((_, begun)) = open[place + 1..].iter().find(|(n, _)| !ENDLESS.contains(&n.as_str())) {
                return Some(*begun..(*begun + 1).min(text.len()));
            }
            open.truncate(place);
        } else if !VOID.contains(&name.as_str()) && !text[start..end].ends_with("/>") {
            if open.len() >= DEPTH_MAX {
                return Some(start..end);
            }
            if matches!(name.as_str(), "script" | "style" | "textarea" | "title") {
                let close = format!("</{name}");
                let raw = text[end..].to_ascii_lowercase().find(&close);
                let Some(raw) = raw else { return Some(start..end) };
                at = end + raw;
            }
            open.push((name, start));
        }
    }
    if tags == 0 {
        return Some(0..text.len());
    }
    open.iter().find(|(name, _)| !ENDLESS.contains(&name.as_str())).map(|(_, start)| *start..start + 1)
}

/// One past the `>` that ends a tag, outside of quoted values.
fn tag_end(tag: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in tag.char_indices() {
        match (quote, c) {
            (None, '>') => return Some(at + 1),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    None
}
