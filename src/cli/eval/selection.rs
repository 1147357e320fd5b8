//! Which rubrics a run judges by.
//!
//! Used by `eval`. Its rule: a rubric that somebody just broke stops the run, since green without it would be a lie. The way not
//! taken: judging by whatever can be read.

use crate::app::Bench;
use crate::config::Config;
use crate::config::nearest::nearest;
use crate::domain::clock::SystemClock;
use crate::domain::rubric::{CheckKind, CheckOptions, CheckSpec, Rubric};
use crate::rubrics::catalog::{Catalog, State};
use anyhow::bail;
use std::io::IsTerminal;
use std::sync::Arc;

/// The bench, and the rubrics that `--only` names; all that are active when it names none.
pub(super) fn select(only: &[String], config: Config) -> anyhow::Result<(Bench, Vec<Arc<Rubric>>)> {
    let (alone, named): (Vec<&String>, Vec<&String>) = only.iter().partition(|name| name.starts_with("check:"));
    let mut rubrics = Vec::new();
    for name in &alone {
        rubrics.push(Arc::new(check_rubric(name.trim_start_matches("check:"))?));
    }
    let only_checks = !alone.is_empty() && named.is_empty();
    let clock = Arc::new(SystemClock);
    let bench =
        if only_checks { Bench::without_rubrics(config, clock, None)? } else { Bench::build(config, clock, None)? };
    if !only_checks {
        let catalog = bench.rubrics.load();
        named_ones(&catalog, &named)?;
        let wanted = catalog.active().iter().filter(|r| named.is_empty() || named.contains(&&r.name));
        rubrics.extend(wanted.cloned());
    }
    if rubrics.is_empty() {
        bail!("no rubric is left to judge by");
    }
    Ok((bench, rubrics))
}

fn named_ones(catalog: &Catalog, named: &[&String]) -> anyhow::Result<()> {
    for (name, entry) in catalog.entries() {
        if let Some(why) = entry.why().filter(|_| named.is_empty() || named.contains(&name)) {
            if let State::Unparsable(error) = &entry.state {
                eprintln!("{}", error.render(std::io::stderr().is_terminal()));
                bail!("rubric {name} cannot be used: {why}");
            }
            eprintln!("rubric {name} does not judge: {why}");
        }
    }
    for name in named {
        known("--only", name, catalog.entries().keys().map(String::as_str))?;
    }
    Ok(())
}

/// Whether a name that an option gives is one of these.
pub(super) fn known<'a>(option: &str, name: &str, names: impl Iterator<Item = &'a str> + Clone) -> anyhow::Result<()> {
    if names.clone().any(|other| other == name) {
        return Ok(());
    }
    let hint = nearest(name, names.clone()).map_or_else(String::new, |best| format!(" (did you mean `{best}`?)"));
    bail!("{option}: there is no rubric `{name}`{hint}; there are {}", names.collect::<Vec<_>>().join(", "))
}

/// A rubric that is one deterministic check.
fn check_rubric(name: &str) -> anyhow::Result<Rubric> {
    let Some(kind) = CheckKind::parse(name) else {
        let known: Vec<&str> = CheckKind::ALL.iter().map(|k| k.as_str()).collect();
        bail!("there is no check `{name}`; there are {}", known.join(", "));
    };
    Ok(Rubric {
        name: format!("check:{name}"),
        version: concat!("assize ", env!("CARGO_PKG_VERSION")).to_owned(),
        sample: 1.0,
        checks: vec![CheckSpec { kind, fail_below: None, pass_above: None, options: CheckOptions::new() }],
        pass: 0.5,
        ..Rubric::default()
    })
}
