//! The file of verdicts that a run writes line by line, and that a run that was cut off is continued from.
//!
//! Used by `eval`. Its rule: a line is in the file as soon as its verdict is made; a line is believed when rubric version, trace,
//! judges and program are those it was made with, which its fingerprint says; what judges failed at is asked again. In the
//! end the file has this run's verdicts and no others, in the order of the traces. The way not taken: a file of its own for
//! where a run stands, which is lost or goes stale beside the other.

use crate::config::Config;
use crate::domain::ids::short_hash;
use crate::domain::rubric::Rubric;
use crate::domain::trace::Trace;
use crate::domain::verdict::{Outcome, Verdict};
use crate::pipeline::runs;
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The field of a line that says what its verdict was made from.
const FINGERPRINT: &str = "fingerprint";

/// The field that says how many lines have the same fingerprint, where it is more than one.
const GROUP: &str = "fingerprint_lines";

/// What a verdict is made from, hashed: program, rubric, judges, trace.
pub(super) fn fingerprint(trace: &str, rubric: &Rubric, config: &Config) -> String {
    let judge = |name: &String| {
        let judge = config.judges.get(name)?;
        // Not its address: the simulated judge has another each time.
        Some(json!([
            name,
            judge.model,
            judge.temperature,
            judge.top_p,
            judge.seed,
            judge.reasoning_effort,
            judge.logprobs,
            judge.output_tokens_max,
            judge.weight,
        ]))
    };
    let judges: Vec<Option<Value>> = rubric.panel.iter().map(judge).collect();
    let judges = json!(judges).to_string();
    let parts = [env!("CARGO_PKG_VERSION"), rubric.name.as_str(), rubric.version.as_str(), judges.as_str(), trace];
    short_hash(&parts.map(str::as_bytes), 16)
}

/// What of a unit's traces goes into a fingerprint: all that can be judged.
pub(super) fn content(traces: &[&Trace]) -> String {
    let parts: Vec<String> = traces
        .iter()
        .flat_map(|trace| {
            let json = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
            [
                trace.trace_id.clone(),
                json(serde_json::to_string(&trace.view)),
                json(serde_json::to_string(&trace.spans)),
            ]
        })
        .collect();
    short_hash(&parts.iter().map(String::as_bytes).collect::<Vec<_>>(), 32)
}

/// The file; without a path nothing is written.
pub(super) struct Out {
    path: Option<PathBuf>,
    file: Option<File>,
    /// Whether it can be read again and replaced: a pipe cannot.
    whole: bool,
}

/// Verdicts that are there already, by fingerprint: one, or of a rubric about spans those of a trace's spans.
pub(super) type Done = HashMap<String, Vec<Verdict>>;

impl Out {
    /// Opens the file and reads what is there. `wanted` says whether a fingerprint belongs to this run; `fresh` forgets what is
    /// there.
    pub fn open(path: Option<&Path>, fresh: bool, wanted: &dyn Fn(&str) -> bool) -> anyhow::Result<(Self, Done)> {
        let Some(path) = path else { return Ok((Self { path: None, file: None, whole: false }, Done::new())) };
        let what = || format!("cannot write {}", path.display());
        let file = OpenOptions::new().append(true).create(true).open(path).with_context(what)?;
        let whole = file.metadata().with_context(what)?.is_file();
        let out = Self { path: Some(path.to_owned()), file: Some(file), whole };
        if !whole {
            return Ok((out, Done::new()));
        }
        out.lock()?;
        let text = if fresh { String::new() } else { std::fs::read_to_string(path).with_context(what)? };
        let (lines, wrong) = runs::read(&text);
        if let Some(why) = wrong.first() {
            bail!("{} is not a file of verdicts: {why}; give another --out, or --fresh to begin anew", path.display());
        }
        let known = |value: &Value| value[FINGERPRINT].as_str().filter(|f| wanted(f)).map(str::to_owned);
        let (mut done, mut foreign, mut sizes) = (Done::new(), 0, HashMap::new());
        for (verdict, value) in lines {
            match known(&value) {
                Some(_) if matches!(verdict.outcome, Outcome::JudgeError | Outcome::OverBudget) => {}
                Some(fingerprint) => {
                    sizes.insert(fingerprint.clone(), value[GROUP].as_u64().unwrap_or(1));
                    done.entry(fingerprint).or_default().push(verdict);
                }
                None => foreign += 1,
            }
        }
        // Of spans that belong together all must be there, or they are judged again.
        done.retain(|fingerprint, found| sizes.get(fingerprint) == Some(&(found.len() as u64)));
        let mut out = out;
        out.begin(&done, foreign)?;
        Ok((out, done))
    }

    /// Nobody else may write the file meanwhile.
    fn lock(&self) -> anyhow::Result<()> {
        let (Some(file), Some(path)) = (&self.file, &self.path) else { return Ok(()) };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => bail!("{} is being written by another run", path.display()),
            // Some file systems know no locks.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        }
    }

    /// Leaves only what is believed in the file; what else was there is kept beside it.
    fn begin(&mut self, done: &Done, foreign: usize) -> anyhow::Result<()> {
        if let Some(path) = self.path.as_ref().filter(|_| foreign > 0) {
            let beside = path.with_added_extension("old");
            std::fs::copy(path, &beside).with_context(|| format!("cannot write {}", beside.display()))?;
            let (name, beside) = (path.display(), beside.display());
            eprintln!(
                "note: {foreign} verdict(s) in {name} are not of these traces, rubrics and judges; they are now in {beside}"
            );
        }
        if !done.is_empty() {
            let there: usize = done.values().map(Vec::len).sum();
            eprintln!("note: {there} verdict(s) are there already and are not judged again (--fresh would)");
        }
        self.replace(&mut done.iter().map(|(fingerprint, verdicts)| (verdicts.as_slice(), fingerprint.as_str())))
    }

    /// Adds lines that belong together.
    pub fn add(&mut self, verdicts: &[Verdict], fingerprint: &str) -> anyhow::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let text = lines(verdicts, fingerprint);
        // One write, so that a reader sees whole lines as far as the system lets it.
        file.write_all(text.as_bytes()).context("cannot write a verdict to --out")
    }

    /// Puts the lines into this order.
    pub fn finish(mut self, ordered: &mut dyn Iterator<Item = (&[Verdict], &str)>) -> anyhow::Result<()> {
        self.replace(ordered)
    }

    /// Replaces the file as a whole: whoever kills us leaves the old one or the new one.
    fn replace(&mut self, groups: &mut dyn Iterator<Item = (&[Verdict], &str)>) -> anyhow::Result<()> {
        let Some(path) = self.path.clone().filter(|_| self.whole) else { return Ok(()) };
        // Behind a link stands the file that is meant.
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        let fresh = path.with_added_extension("new");
        let write = || -> std::io::Result<File> {
            let mut to = std::io::BufWriter::new(File::create(&fresh)?);
            for (verdicts, fingerprint) in groups {
                to.write_all(lines(verdicts, fingerprint).as_bytes())?;
            }
            to.flush()?;
            std::fs::rename(&fresh, &path)?;
            OpenOptions::new().append(true).open(&path)
        };
        self.file = Some(write().with_context(|| format!("cannot write {}", path.display()))?);
        self.lock()
    }
}

fn lines(verdicts: &[Verdict], fingerprint: &str) -> String {
    let one = |verdict: &Verdict| {
        let mut value = verdict.line();
        value[FINGERPRINT] = json!(fingerprint);
        if verdicts.len() > 1 {
            value[GROUP] = json!(verdicts.len());
        }
        format!("{value}\n")
    };
    verdicts.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(trace: &str, outcome: &str) -> Verdict {
        let score = (outcome == "scored").then_some(1.0);
        Verdict::of_line(&json!({"trace_id": trace, "rubric": "r", "outcome": outcome, "score": score}))
            .expect("a verdict")
    }

    fn written(path: &Path) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(path).expect("it is there");
        let (read, wrong) = runs::read(&text);
        assert!(wrong.is_empty() && text.lines().count() == read.len(), "{text}");
        let of =
            |(v, value): (Verdict, Value)| (v.trace_id, value[FINGERPRINT].as_str().unwrap_or_default().to_owned());
        read.into_iter().map(of).collect()
    }

    #[test]
    fn a_run_that_was_cut_off_goes_on_and_what_is_not_of_it_is_kept_beside() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("out.jsonl");
        let wanted = |f: &str| ["a", "b", "c"].contains(&f);
        let (mut out, done) = Out::open(Some(&path), false, &wanted).expect("it can be written");
        assert!(done.is_empty());
        out.add(&[verdict("1", "scored")], "a").expect("it can be written");
        out.add(&[verdict("2", "judge_error")], "b").expect("it can be written");
        out.add(&[verdict("9", "scored")], "z").expect("it can be written");
        out.file.as_mut().expect("a file").write_all(b"{\"trace_id\": \"3\", \"rub").expect("half a line");
        assert!(Out::open(Some(&path), false, &wanted).is_err(), "two runs at the same time");
        drop(out);
        let (mut out, done) = Out::open(Some(&path), false, &wanted).expect("it goes on");
        assert_eq!(done.keys().collect::<Vec<_>>(), ["a"], "what a judge failed at is asked again");
        assert_eq!(written(&path).len(), 1);
        let beside = std::fs::read_to_string(path.with_added_extension("old")).expect("kept");
        assert!(beside.contains("\"9\""));
        let (two, one) = ([verdict("2", "scored")], [verdict("1", "scored")]);
        out.add(&two, "b").expect("it can be written");
        out.finish(&mut [(&one[..], "a"), (&two[..], "b")].into_iter()).expect("it can be ordered");
        assert_eq!(written(&path), [("1".to_owned(), "a".to_owned()), ("2".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn verdicts_that_belong_together_are_believed_together() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("out.jsonl");
        let (mut out, _) = Out::open(Some(&path), false, &|_| true).expect("it can be written");
        let three: Vec<Verdict> = (1..=3).map(|n| verdict(&n.to_string(), "scored")).collect();
        out.add(&three, "a").expect("it can be written");
        out.add(&three[..2], "b").expect("it can be written");
        drop(out);
        let text = std::fs::read_to_string(&path).expect("it is there");
        let (_, done) = Out::open(Some(&path), false, &|_| true).expect("it goes on");
        assert_eq!((done["a"].len(), done["b"].len()), (3, 2));
        let cut: String = text.split_inclusive('\n').take(4).collect();
        std::fs::write(&path, cut).expect("it can be written");
        let (_, done) = Out::open(Some(&path), false, &|_| true).expect("it goes on");
        assert_eq!(done.keys().collect::<Vec<_>>(), ["a"], "half of the other is not believed");
    }

    #[test]
    fn somebody_elses_file_is_not_written_over() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("notes.txt");
        std::fs::write(&path, "my notes\n").expect("it can be written");
        let why = Out::open(Some(&path), false, &|_| true).map(drop).expect_err("these are no verdicts").to_string();
        assert!(why.contains("line 1") && why.contains("--fresh"), "{why}");
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "my notes\n");
    }

    #[test]
    fn a_fingerprint_follows_what_can_change_a_verdict() {
        let mut config = Config::default();
        let judge = crate::config::Judge { model: "m".to_owned(), ..Default::default() };
        config.judges.insert("a".to_owned(), judge);
        let rubric = Rubric { panel: vec!["a".to_owned()], ..Rubric::default() };
        let first = fingerprint("t", &rubric, &config);
        config.judges.get_mut("a").expect("it is there").base_url = Some("http://127.0.0.1:1/v1".to_owned());
        assert_eq!(first, fingerprint("t", &rubric, &config));
        assert_ne!(first, fingerprint("u", &rubric, &config));
        assert_ne!(first, fingerprint("t", &Rubric { version: "other".to_owned(), ..rubric.clone() }, &config));
        config.judges.get_mut("a").expect("it is there").model = "n".to_owned();
        assert_ne!(first, fingerprint("t", &rubric, &config));
    }
}
