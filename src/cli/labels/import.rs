//! `assize labels import`: labels from files.
//!
//! Its rule: a line that cannot be used is named with file, line and remedy, and the others are stored; importing a file again
//! changes nothing. The way not taken: stopping at the first bad line, which makes a long file a long evening.

use super::super::{BAD_INPUT, table};
use crate::dialect::labels;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::label::{Draft, Untimed};
use crate::pipeline::labels::{Book, Report, import};
use crate::store::Store;
use anyhow::Context as _;
use serde_json::{Map, Value, json};
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Refused lines shown at most.
const SHOWN_MAX: usize = 20;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  assize labels import labels.csv more.jsonl --dry-run\n\nColumns and fields: trace_id, rubric, and one of\n\
    passed, score, label, raw, thumb, rating, correction; optional: source (expert, annotator, user_feedback),\n\
    labeller, comment, made_at, rubric_version, span_id, inclusion_probability"
)]
pub(super) struct Args {
    /// Files; `-` reads from the standard input
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Say what would happen, and store nothing
    #[arg(long)]
    dry_run: bool,
}

/// What a file holds.
pub(super) struct File {
    name: String,
    drafts: Vec<(usize, Result<Draft, String>)>,
}

/// Reads files.
pub(super) fn read(files: &[PathBuf]) -> anyhow::Result<Vec<File>> {
    files
        .iter()
        .map(|path| {
            let name = path.display().to_string();
            let body = if name == "-" {
                let mut body = Vec::new();
                std::io::stdin().read_to_end(&mut body).context("cannot read the standard input")?;
                body
            } else {
                std::fs::read(path).with_context(|| format!("cannot read {name}"))?
            };
            let drafts = drafts(&name, &body);
            anyhow::ensure!(!drafts.is_empty(), "{name} holds no label");
            Ok(File { name, drafts })
        })
        .collect()
}

/// Labels of a file by line; told from the name and the first character whether it is CSV.
fn drafts(name: &str, body: &[u8]) -> Vec<(usize, Result<Draft, String>)> {
    // Spreadsheets put a mark before everything.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let is_json = matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
    if name.to_ascii_lowercase().ends_with(".csv") || !is_json {
        return from_csv(body);
    }
    labels::drafts(body, false)
}

/// A header with the names of fields, then a label a row; an empty cell is an absent field.
fn from_csv(body: &[u8]) -> Vec<(usize, Result<Draft, String>)> {
    // Spreadsheets of half of Europe write semicolons.
    let first = body.split(|b| *b == b'\n').next().unwrap_or_default();
    let count = |c: u8| first.split(|b| *b == c).count();
    let delimiter = [b',', b';', b'\t'].into_iter().max_by_key(|c| (count(*c), *c == b',')).unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).from_reader(body);
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(_) => return vec![(1, Err("the header is not text; save the table as CSV in UTF-8".to_owned()))],
    };
    if !header.iter().any(|name| matches!(name, "trace_id" | "traceId")) {
        let why = "the first line must name the columns, `trace_id` and `rubric` among them".to_owned();
        return vec![(1, Err(why))];
    }
    let mut found = Vec::new();
    for record in reader.records() {
        found.push(match record {
            Ok(record) => {
                let line = record.position().map_or(0, |p| usize::try_from(p.line()).unwrap_or(0));
                (line, labels::label(&row(&header, &record)))
            }
            Err(error) => {
                let line = error.position().map_or(0, |p| usize::try_from(p.line()).unwrap_or(0));
                let why = match error.kind() {
                    csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                        format!("{len} cells where the header has {expected_len}; put quotes around text with a comma")
                    }
                    _ => "not text in UTF-8; save the table as CSV in UTF-8".to_owned(),
                };
                (line, Err(why))
            }
        });
    }
    found
}

fn row(header: &csv::StringRecord, record: &csv::StringRecord) -> Value {
    let cells = header.iter().zip(record).filter(|(_, cell)| !cell.is_empty());
    let typed = |name: &str, cell: &str| match name {
        // Words stay words: what they mean depends on the rubric.
        "passed" | "pass" if cell.eq_ignore_ascii_case("true") || cell == "1" => Value::Bool(true),
        "passed" | "pass" if cell.eq_ignore_ascii_case("false") || cell == "0" => Value::Bool(false),
        "score"
        | "value"
        | "raw"
        | "rating"
        | "stars"
        | "thumb"
        | "thumbs"
        | "best"
        | "worst"
        | "inclusion_probability"
        | "label_probability" => {
            // A decimal comma can only be one where commas do not part the cells.
            let number = cell.replace(',', ".").parse::<f64>().ok().map(Value::from);
            let truth = cell.to_ascii_lowercase().parse::<bool>().ok().map(Value::from);
            number.or(truth).unwrap_or_else(|| cell.into())
        }
        _ => cell.into(),
    };
    Value::Object(cells.map(|(name, cell)| (name.to_owned(), typed(name, cell))).collect::<Map<_, _>>())
}

pub(super) async fn run(
    args: &Args,
    files: Vec<File>,
    as_json: bool,
    (store, book): (&Store, &Book),
) -> anyhow::Result<ExitCode> {
    let now = SystemClock.now();
    let mut total = Report::default();
    let mut refused = Vec::new();
    for file in files {
        let report = import(store, book, file.drafts, (Untimed::IsTheSame, now), args.dry_run).await?;
        total.imported += report.imported;
        total.unchanged += report.unchanged;
        total.replaced += report.replaced;
        total.superseded += report.superseded;
        refused.extend(report.refused.into_iter().map(|(line, why)| (file.name.clone(), line, why)));
    }
    if as_json {
        let errors: Vec<Value> =
            refused.iter().map(|(file, line, why)| json!({"file": file, "line": line, "error": why})).collect();
        let report = json!({"imported": total.imported, "unchanged": total.unchanged, "replaced": total.replaced,
            "superseded": total.superseded, "refused": refused.len(), "errors": errors, "dry_run": args.dry_run});
        println!("{report}");
    } else {
        for (file, line, why) in refused.iter().take(SHOWN_MAX) {
            eprintln!("{file}:{line}: {why}");
        }
        if refused.len() > SHOWN_MAX {
            eprintln!("… and {} more; --json lists them all", refused.len() - SHOWN_MAX);
        }
        let rows = [
            ("imported", total.imported),
            ("unchanged", total.unchanged),
            ("replaced an earlier one", total.replaced),
            ("older than what is there, kept", total.superseded),
            ("refused", refused.len()),
        ];
        let header = if args.dry_run { "labels (nothing was stored)" } else { "labels" };
        let rows = rows.into_iter().map(|(what, n)| vec![what.to_owned(), n.to_string()]).collect();
        println!("{}", table::render(&[header, ""], rows));
    }
    Ok(if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::label::Said;

    #[test]
    fn a_table_is_read_by_its_header_with_quotes_and_lines() {
        let text = "trace_id,rubric,passed,comment\nt1,r,pass,\"no, \"\"really\"\"\nnot\"\nt2,r,0,\nt3,r\nt4,r,,\n";
        let found = drafts("x.csv", text.as_bytes());
        let (lines, read): (Vec<usize>, Vec<_>) = found.into_iter().unzip();
        assert_eq!(lines, [2, 4, 5, 6]);
        let first = read[0].as_ref().expect("a label");
        assert_eq!(
            (first.said.clone(), first.comment.as_deref()),
            (Said::Word("pass".into()), Some("no, \"really\"\nnot"))
        );
        assert_eq!(read[1].as_ref().map(|d| d.said.clone()), Ok(Said::Passed(false)));
        assert!(read[2].as_ref().expect_err("two cells").contains("2 cells where the header has 4"));
        assert!(read[3].as_ref().expect_err("no value").contains("nothing is said"));
    }

    proptest::proptest! {
        #[test]
        fn any_table_has_an_outcome_for_each_row(head in "trace_id[,;\t]?", body in "(\\PC|[,;\"\n\t0-9.]|score|rubric|true){0,80}") {
            for (line, _) in drafts("x.csv", format!("{head}{body}").as_bytes()) {
                proptest::prop_assert!(line >= 1 && line <= body.len() + 2, "{}", line);
            }
        }

        #[test]
        fn bytes_that_are_no_text_are_refused_and_nothing_panics(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            drop(drafts("x", &body));
        }
    }

    #[test]
    fn semicolons_and_decimal_commas_are_read() {
        let found = drafts("-", "\u{feff}trace_id;rubric;score\nt;r;0,75\n".as_bytes());
        assert_eq!(found[0].1.as_ref().map(|d| d.said.clone()), Ok(Said::Score(0.75)));
        assert!(drafts("x.csv", b"a,b\n1,2\n")[0].1.as_ref().expect_err("no header").contains("`trace_id`"));
    }

    #[test]
    fn traces_with_labels_are_labels() {
        let line = json!({"trace_id": "t", "output": "x", "label": {"rubric": "r", "passed": true}});
        let bare = json!({"trace_id": "u", "output": "x"});
        let found = drafts("x.jsonl", format!("{line}\n{bare}\nnonsense\n").as_bytes());
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].1.as_ref().map(|d| d.trace_id.clone()), Ok(Some("t".into())));
        assert!(found[1].0 == 3 && found[1].1.is_err());
    }
}
