//! What is wrong with a rubric file, as a good compiler says it: file, line, column, the line itself, and what to do.
//!
//! Made by `parse` and `lint`, shown by `cli`, the log, `doctor` and the read API. Its rule: all problems of a file at once; in one
//! line (`Display`) for logs, with the text around it (`render`) for people. The way not taken: a message without its place.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Probably not what was meant; `rubric check` fails.
    Warning,
    /// The file cannot be used.
    Error,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Bytes of the text.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The included file that it is in, and its text, where it is not in the rubric's own.
    pub other: Option<(PathBuf, Arc<str>)>,
}

impl Problem {
    /// An error at a place.
    pub(super) fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, span, message: message.into(), help: None, other: None }
    }

    /// A warning at a place.
    pub(super) fn warning(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::at(span, message) }
    }

    /// Something good to know at a place.
    pub(super) fn note(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::at(span, message) }
    }

    /// With what to do.
    #[must_use]
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// A place for people: line and column from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// Where a byte of a text stands.
#[must_use]
pub fn place(text: &str, byte: usize) -> Place {
    let before = text.get(..byte.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Place { line, column }
}

/// Everything that is wrong with a rubric file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RubricError {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: Arc<str>,
    /// What is wrong, by place.
    pub problems: Vec<Problem>,
}

impl RubricError {
    /// Problems of a text, in the order of their places.
    pub(super) fn new(path: PathBuf, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|p| (p.other.is_some(), p.span.start));
        Self { path, text: text.into(), problems }
    }

    /// The line of the first problem.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.problems.first().map(|p| self.place(p).line)
    }

    /// Where a problem is.
    #[must_use]
    pub fn place(&self, problem: &Problem) -> Place {
        place(problem.other.as_ref().map_or(&self.text, |(_, text)| text), problem.span.start)
    }

    /// One problem in one line.
    #[must_use]
    pub fn line_of(&self, problem: &Problem) -> String {
        let path = problem.other.as_ref().map_or(&self.path, |(path, _)| path);
        let Place { line, column } = self.place(problem);
        let help = problem.help.as_ref().map_or_else(String::new, |help| format!("; {help}"));
        format!("{}:{line}:{column}: {}{help}", path.display(), problem.message)
    }

    /// Each problem with the lines that it is about; in colour for a terminal.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
        let all: Vec<String> = self.problems.iter().map(|problem| self.one(problem, &renderer)).collect();
        all.join("\n\n")
    }

    fn one(&self, problem: &Problem, renderer: &Renderer) -> String {
        let (path, text) = problem.other.as_ref().map_or((&self.path, &self.text), |(path, text)| (path, text));
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let shown = path.display().to_string();
        let place = Snippet::source(text.as_ref())
            .path(&shown)
            .annotation(AnnotationKind::Primary.span(first_line(text, &problem.span)));
        let mut report: Group<'_> = level.primary_title(problem.message.as_str()).element(place);
        if let Some(help) = &problem.help {
            report = report.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[report])
    }
}

/// The part of a range on its first line, at least one character where there is one.
fn first_line(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = span.start.min(text.len());
    let rest = text.get(start..).unwrap_or_default();
    let line = rest.split('\n').next().unwrap_or_default().trim_end().len();
    let end = span.end.clamp(start, text.len()).min(start + line);
    if end > start {
        return start..end;
    }
    start..start + rest.chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8)
}

impl std::fmt::Display for RubricError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(first) = self.problems.first() else { return write!(f, "{}", self.path.display()) };
        f.write_str(&self.line_of(first))?;
        match self.problems.len() {
            0 | 1 => Ok(()),
            2 => f.write_str(" (and one more)"),
            n => write!(f, " (and {} more)", n - 1),
        }
    }
}

impl std::error::Error for RubricError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_line_and_the_remedy() {
        let text = "name: x\npas: 1\n";
        let problem = Problem::at(8..11, "there is no key `pas`").help("did you mean `pass`?");
        let error = RubricError::new(PathBuf::from("rubrics/x.yaml"), text, vec![problem]);
        assert_eq!(error.to_string(), "rubrics/x.yaml:2:1: there is no key `pas`; did you mean `pass`?");
        insta::assert_snapshot!(error.render(false), @r"
        error: there is no key `pas`
         --> rubrics/x.yaml:2:1
          |
        2 | pas: 1
          | ^^^
          |
          = help: did you mean `pass`?
        ");
    }

    proptest::proptest! {
        #[test]
        fn any_place_can_be_shown(text in "[a-zé\\n ]{0,40}", a in 0usize..60, b in 0usize..60) {
            let on = |at: usize| (0..=at.min(text.len())).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
            let span = on(a.min(b))..on(a.max(b));
            let error = RubricError::new(PathBuf::from("x"), &text, vec![Problem::at(span, "wrong")]);
            proptest::prop_assert!(error.render(false).contains("wrong") && error.to_string().contains("wrong"));
        }
    }
}
