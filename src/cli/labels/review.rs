//! `assize labels review`: a plain form in the terminal.
//!
//! Its rule: every answer is saved at once, so it can be left and taken up at any time; the judges' votes are hidden unless
//! asked for; text of traces is cut to the terminal and shown without control characters, which could change what is seen.
//! The way not taken: single keys without Enter, which need a terminal and cannot be piped.

use super::super::table;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::label::{Said, Source};
use crate::domain::rubric::{Output, Rubric};
use crate::pipeline::label_queue::{self, Answer, Item};
use crate::store::Store;
use std::fmt::Write as _;
use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;

/// Lines shown of each text.
const LINES_MAX: usize = 12;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  assize labels review faithfulness --as ann")]
pub(super) struct Args {
    /// The rubric
    pub rubric: String,
    /// Who labels: a name or a hash
    #[arg(long = "as", value_name = "NAME", env = "USER")]
    labeller: String,
    /// Your word is an expert's, and wins over annotators'
    #[arg(long)]
    expert: bool,
    /// Show what the judges said (people tend to agree with what they have read)
    #[arg(long)]
    show_votes: bool,
}

/// What a person typed.
#[derive(Debug, PartialEq)]
enum Typed {
    Said(Said),
    Skip,
    Comment(String),
    Whole,
    Quit,
    Unclear(String),
}

pub(super) async fn run(args: &Args, store: &Store, rubric: &Rubric) -> anyhow::Result<ExitCode> {
    let mut lines = std::io::stdin().lock().lines();
    let (mut saved, mut skipped) = (0, 0);
    'items: while let Some(item) = label_queue::next(store, rubric, SystemClock.now()).await? {
        println!("{}", render(rubric, &item, args.show_votes, LINES_MAX));
        let mut comment = None;
        loop {
            print!("{} > ", keys(rubric));
            std::io::stdout().flush()?;
            let Some(line) = lines.next().transpose()? else { break 'items };
            let said = match typed(line.trim(), rubric) {
                Typed::Quit => break 'items,
                Typed::Whole => {
                    println!("{}", render(rubric, &item, args.show_votes, usize::MAX));
                    continue;
                }
                Typed::Comment(text) => {
                    comment = Some(text);
                    println!("noted; it is saved with your answer");
                    continue;
                }
                Typed::Unclear(why) => {
                    println!("{why}");
                    continue;
                }
                Typed::Said(said) => Some(said),
                Typed::Skip => None,
            };
            let skips = said.is_none();
            let source = if args.expert { Source::Expert } else { Source::Annotator };
            let answer = Answer { said, labeller: args.labeller.clone(), source, comment: comment.clone() };
            let place = (item.waiting.batch_id, item.waiting.trace_id.as_str());
            match label_queue::answer(store, rubric, place, answer, SystemClock.now()).await? {
                Ok(()) if skips => skipped += 1,
                Ok(()) => saved += 1,
                Err(why) => {
                    println!("{why}");
                    continue;
                }
            }
            println!("saved\n");
            continue 'items;
        }
    }
    let progress = store.label_progress(&rubric.name).await?;
    let left = progress.traces - progress.labelled - progress.skipped;
    println!("\n{saved} labelled and {skipped} skipped now; {left} wait in the queue of {}.", rubric.name);
    if progress.traces == 0 {
        println!("Nothing was drawn yet; `assize labels queue {} --n 50` does.", rubric.name);
    }
    Ok(ExitCode::SUCCESS)
}

fn keys(rubric: &Rubric) -> String {
    let own = match &rubric.output {
        Output::Boolean { .. } => String::new(),
        Output::Score { .. } | Output::Claims { .. } => ", a score 0 to 1".to_owned(),
        Output::Category { values } => format!(", {}", values.keys().cloned().collect::<Vec<_>>().join("|")),
    };
    format!("p pass, f fail{own}, s skip, c TEXT comment, w whole text, q quit")
}

fn typed(line: &str, rubric: &Rubric) -> Typed {
    if let Output::Category { values } = &rubric.output
        && values.contains_key(line)
    {
        return Typed::Said(Said::Word(line.to_owned()));
    }
    match line {
        "p" => Typed::Said(Said::Passed(true)),
        "f" => Typed::Said(Said::Passed(false)),
        "s" => Typed::Skip,
        "w" => Typed::Whole,
        "q" => Typed::Quit,
        _ => match (line.split_once(' '), line.parse()) {
            (Some(("c", text)), _) => Typed::Comment(text.trim().to_owned()),
            (_, Ok(score)) if matches!(rubric.output, Output::Score { .. } | Output::Claims { .. }) => {
                Typed::Said(Said::Score(score))
            }
            _ => Typed::Unclear("type one of the keys, then Enter".to_owned()),
        },
    }
}

fn render(rubric: &Rubric, item: &Item, votes: bool, lines: usize) -> String {
    let (trace, progress) = (&item.trace, item.progress);
    let done = progress.labelled + progress.skipped;
    let width = table::width();
    let mut out =
        format!("── {} · {} of {} · trace {}\n", rubric.name, done + 1, progress.traces, plain(&trace.trace_id));
    let mut part = |title: &str, text: &str| {
        write!(out, "{title}\n{}", cut(text, width, lines)).expect("a String can be written");
    };
    part("question", trace.question().unwrap_or("(none)"));
    part("answer", &trace.answer().unwrap_or_else(|| "(none)".to_owned()));
    for document in trace.context() {
        part("context", document.content.as_deref().unwrap_or_default());
    }
    if let Some(verdict) = item.verdict.as_ref().filter(|_| votes) {
        let mut text = format!("panel: {:.3}", verdict.score.unwrap_or_default());
        for vote in &verdict.votes {
            let score = vote.score.map_or_else(|| "no score".to_owned(), |s| format!("{s:.3}"));
            write!(text, "\n{}: {score} {}", vote.judge, vote.reason.as_deref().unwrap_or_default())
                .expect("a String can be written");
        }
        part("judges", &text);
    }
    out
}

/// Text without control characters: an escape sequence could hide or rewrite what is on the screen.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Text in lines of the terminal's width, as many as are wanted; says how many more there are.
fn cut(text: &str, width: usize, lines: usize) -> String {
    let width = width.saturating_sub(4).max(20);
    let mut rows: Vec<String> = Vec::new();
    for line in text.lines() {
        let line: Vec<char> = plain(&line.replace('\t', "    ")).chars().collect();
        let mut rest = &line[..];
        while rest.len() > width {
            let at = rest[..width].iter().rposition(|c| *c == ' ').filter(|at| *at > width / 2).unwrap_or(width);
            rows.push(rest[..at].iter().collect());
            rest = &rest[at..];
            rest = rest.strip_prefix(&[' ']).unwrap_or(rest);
        }
        rows.push(rest.iter().collect());
    }
    let more = rows.len().saturating_sub(lines);
    let mut out = String::new();
    for row in rows.iter().take(lines) {
        writeln!(out, "    {row}").expect("a String can be written");
    }
    if more > 0 {
        writeln!(out, "    … {more} more lines (w shows them)").expect("a String can be written");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_the_terminal_and_cannot_command_it() {
        let shown = cut("one two three four five six seven\n\u{1b}[2Jred\n3\n4", 24, 3);
        assert_eq!(
            shown,
            "    one two three four\n    five six seven\n    [2Jred\n    … 2 more lines (w shows them)\n"
        );
        assert!(cut(&"x".repeat(100), 24, 9).lines().all(|l| l.len() <= 24));
    }
}
