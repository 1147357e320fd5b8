//! Takes changed rubric files while the service runs.
//!
//! One loop a process, started by `pipeline::start`; woken by the file system, by SIGHUP, and from time to time. Its rule: what is
//! taken was read twice alike, parses, passes its tests where `rubrics.gate` says so, and is stored before anything is judged
//! by it; what is refused leaves the last good version judging and says why. A job finishes under its own version, so a
//! reload drops none. The way not taken: a restart, which is what peers need.

use super::{note, trial};
use crate::app::{App, Bench};
use crate::config::{Gate, GateJudge};
use crate::rubrics::catalog::Catalog;
use crate::rubrics::folder::Folder;
use crate::rubrics::watch::Watch;
use crate::runtime::cpu;
use crate::runtime::lifecycle::{Hangups, Lifecycle};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How often the folder is looked at without being woken: some file systems tell nothing.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a folder must stay as it is.
const SETTLE: Duration = Duration::from_millis(150);
/// The same, where a file's last line has no end: it may be half of one.
const SETTLE_UNFINISHED: Duration = Duration::from_secs(2);
/// How long until tests that no judge answered are tried again.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// Takes changes until stopped.
pub async fn run(app: Arc<App>, life: Lifecycle) {
    let dir = &app.bench.config.rubrics.dir;
    let mut hangups = Hangups::listen();
    let woken = Arc::new(Notify::new());
    let watch = Watch::new(dir, Arc::clone(&woken));
    if let Err(error) = &watch {
        tracing::warn!(%error, dir = %dir.display(), "the folder cannot be watched; it is looked at every 5 seconds");
    }
    let gate = OnceGate::default();
    let mut taken: Option<Folder> = None;
    let mut retry_at = None;
    loop {
        // Each turn looks first, so that a change between the start and the first event is not missed.
        if let Some(folder) = settled(&app, taken.as_ref()).await {
            match reload(&app, &folder, &gate, &life).await {
                Ok(later) => {
                    taken = Some(folder);
                    retry_at = later.then(|| tokio::time::Instant::now() + TRY_AGAIN);
                }
                Err(()) => taken = None,
            }
        }
        let again = retry_at.unwrap_or_else(|| tokio::time::Instant::now() + 1_000 * TRY_AGAIN);
        tokio::select! {
            () = woken.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = hangups.next() => {
                tracing::info!("SIGHUP: rubrics are read again");
                taken = None;
            }
            () = tokio::time::sleep_until(again) => taken = None,
            () = life.soft.cancelled() => return,
        }
    }
}

/// The folder, if it differs from what was taken and has stayed as it is for a while.
async fn settled(app: &Arc<App>, taken: Option<&Folder>) -> Option<Folder> {
    let mut last = read(app).await?;
    if taken == Some(&last) {
        return None;
    }
    let mut since = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(SETTLE).await;
        let now = read(app).await?;
        let needed = if now.may_be_unfinished() { SETTLE_UNFINISHED } else { SETTLE };
        if now != last {
            (last, since) = (now, tokio::time::Instant::now());
        } else if since.elapsed() >= needed {
            return (taken != Some(&now)).then_some(now);
        }
    }
}

/// The texts as they stand; `None`, and a line in the log, when they cannot be read, or are all gone.
async fn read(app: &Arc<App>) -> Option<Folder> {
    let dir = app.bench.config.rubrics.dir.clone();
    let said = dir.display().to_string();
    match cpu::run(move || Folder::read(&dir)).await {
        Ok(Ok(folder)) if !folder.rubrics.is_empty() => Some(folder),
        Ok(Ok(_)) => {
            tracing::warn!(dir = said, "the folder has no rubrics any more; the last good ones go on");
            None
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, dir = said, "the rubrics cannot be read; the last good ones go on");
            None
        }
        Err(_) => None,
    }
}

/// The bench of the gate's own judges, made when it is first needed.
type OnceGate = tokio::sync::OnceCell<Option<Bench>>;

/// Takes what can be taken. Tells whether tests wait for a judge.
async fn reload(app: &Arc<App>, folder: &Folder, gate: &OnceGate, life: &Lifecycle) -> Result<bool, ()> {
    let before = app.bench.rubrics.load_full();
    let (texts, about, last) = (folder.clone(), Arc::clone(app), Arc::clone(&before));
    let parse = move || {
        let config = &about.bench.config;
        let judges: Vec<&str> = config.judges.keys().map(String::as_str).collect();
        Catalog::of(&texts, &config.panels, &judges).after(&last)
    };
    let mut next = cpu::run(parse).await.map_err(|_| ())?;
    let changed = next.changed(&before);
    let mut later = false;
    if app.bench.config.rubrics.gate == Gate::Tests {
        for (rubric, tests) in changed.iter().filter(|(_, tests)| !tests.is_empty()) {
            let tried = tokio::select! {
                tried = try_out(app, (rubric, tests), gate, life) => tried,
                () = life.soft.cancelled() => return Err(()),
            };
            if let Some(why) = trial::failure(&tried) {
                later |= tried.iter().any(trial::Tried::wants_a_judge);
                next.refuse(&rubric.name, why, &before);
            }
        }
    }
    // Stored first: a job may be made for a version the moment it is taken.
    let active: Vec<_> = next.active().iter().map(AsRef::as_ref).collect();
    if let Err(error) = app.store.put_rubrics(&active, app.bench.clock.now()).await {
        note(app, &error, "new rubric versions could not be stored; they are taken later");
        return Err(());
    }
    app.bench.take_rubrics(next);
    Ok(later)
}

async fn try_out(
    app: &Arc<App>,
    (rubric, tests): (&Arc<crate::domain::rubric::Rubric>, &[crate::rubrics::parse::Test]),
    gate: &OnceGate,
    life: &Lifecycle,
) -> Vec<trial::Tried> {
    let config = &app.bench.config;
    if config.rubrics.gate_judge == GateJudge::Configured {
        return trial::run(&app.bench, rubric, tests, (1, trial::is_simulated(config))).await;
    }
    match gate.get_or_init(|| gate_bench(app, life)).await {
        Some(bench) => trial::run(bench, &trial::with_simulated_panel(rubric), tests, (1, true)).await,
        None => trial::run(&app.bench, rubric, tests, (1, trial::is_simulated(config))).await,
    }
}

/// A bench of the simulated judge.
async fn gate_bench(app: &Arc<App>, life: &Lifecycle) -> Option<Bench> {
    let mut config = app.bench.config.clone();
    trial::simulated(&mut config, life).await.ok()?;
    Bench::without_rubrics(config, Arc::clone(&app.bench.clock), None).ok()
}
