//! How often panels are right: real votes of real judges, replayed through the worker's own rules.
//!
//! `make votes`. Its rule: rules, models, order and stopping are those of `judge` and `stats`, and verdicts come from `aggregate`, so
//! what is measured is what the worker does; whatever is learnt is learnt on other items than it is measured on. Five
//! folds, five shuffles, all seeded. A tie, and a panel that says nothing, count half. The data belong to their authors and
//! are not in this repository: they are read from `$ASSIZE_DATA`, else `../shared/data`, and without them nothing is
//! measured. The way not taken: simulated judges, which err independently, as real ones do not.

#[path = "votes/data.rs"]
mod data;

use assize::config::Ambient;
use assize::domain::job::Job;
use assize::domain::panel::PanelModel;
use assize::domain::rubric::{Ask, Better, Combine, Output, Rubric};
use assize::domain::verdict::{Evaluation, FINAL, Stopped, Vote};
use assize::judge::combine::combine;
use assize::judge::panel::{self, Known};
use assize::pipeline::aggregate::aggregate;
use assize::stats::stack;
use chrono::DateTime;
use data::{LEFT_OUT, Set};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

const FOLDS: usize = 5;
const SHUFFLES: u64 = 5;

/// Values of `stop_at` that are tried.
const STOPS: [f64; 3] = [0.80, 0.90, 0.95];

/// A small number of labels, and how often they are drawn.
const FEW: usize = 100;
const DRAWS: u64 = 40;

/// The least that `weighted` must reach on LLMBar: what a weighting of all 123 judges reached by cross-validation.
const LLMBAR_GOAL: f64 = 0.865;

fn main() {
    let ambient = Ambient::read();
    let folder = ambient.get("ASSIZE_DATA").unwrap_or("../shared/data");
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder).join("judge_votes.jsonl");
    let Some(sets) = data::read(&file) else {
        println!("votes: skipped, there is no {} (set ASSIZE_DATA to the folder that holds it)", file.display());
        println!("{}", json!({"bench": "votes", "skipped": true}));
        return;
    };
    let replays: Vec<Replay> = sets.iter().map(replay).collect();
    print_rules(&sets, &replays);
    print_turns(&replays);
    print_few(&replays);
    let goals = goals(&replays);
    println!();
    for goal in &goals {
        println!("{:<7} {}: {}", if goal.met { "met" } else { "MISSED" }, goal.what, goal.found);
    }
    println!("{}", as_json(&replays, &goals));
}

// ---- what is counted ----

/// How often one rule was right, item by item.
struct Tally {
    credit: Vec<f64>,
    calls: f64,
    seen: f64,
    /// Stopped as decided, though the others' votes would have turned the verdict.
    turned: u32,
}

impl Tally {
    fn of(items: usize) -> Self {
        Self { credit: vec![0.0; items], calls: 0.0, seen: 0.0, turned: 0 }
    }

    fn add(&mut self, item: usize, score: Option<f64>, truth: bool, calls: usize) {
        self.credit[item] += credit(score, truth);
        self.calls += calls as f64;
        self.seen += 1.0;
    }

    fn accuracy(&self) -> f64 {
        self.credit.iter().sum::<f64>() / self.seen
    }

    fn calls(&self) -> f64 {
        self.calls / self.seen
    }

    /// How much more often it is right than the other, with the standard error over items.
    fn above(&self, other: &Self) -> (f64, f64) {
        let (n, times) = (self.credit.len() as f64, self.seen / self.credit.len() as f64);
        let each: Vec<f64> = self.credit.iter().zip(&other.credit).map(|(a, b)| (a - b) / times).collect();
        let mean = each.iter().sum::<f64>() / n;
        let variance = each.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, (variance / n).sqrt())
    }
}

/// 1 for right, 0 for wrong, half for a tie and for no verdict.
fn credit(score: Option<f64>, truth: bool) -> f64 {
    match score {
        Some(score) if (score - 0.5).abs() > 1e-9 => f64::from(u8::from((score > 0.5) == truth)),
        _ => 0.5,
    }
}

/// A set, replayed.
struct Replay {
    name: &'static str,
    items: usize,
    judges: usize,
    /// The best judge by all labels, which nobody has beforehand.
    best: Tally,
    strongest: Tally,
    majority: Tally,
    median: Tally,
    mean: Tally,
    weighted: Tally,
    turns: Vec<Tally>,
    /// Whether there were labels enough to learn from.
    taught: bool,
    few: Option<Few>,
}

/// With few labels: accuracy of the rule, of the judge that these labels show to be best, of the best by all labels.
struct Few {
    weighted: f64,
    picked: f64,
    best: f64,
}

impl Replay {
    /// The best of the rules that need no labels.
    fn unlabelled(&self) -> &Tally {
        let rules = [&self.majority, &self.median, &self.mean];
        rules.into_iter().max_by(|a, b| a.accuracy().total_cmp(&b.accuracy())).expect("there are three")
    }
}

// ---- the replay ----

/// What is learnt from the labels of some items.
struct Taught {
    /// Each judge's accuracy.
    accuracy: BTreeMap<String, f64>,
    model: Option<PanelModel>,
}

fn teach(set: &Set, items: &[usize]) -> Taught {
    let pick = |order: &[usize]| -> Vec<Vec<Option<bool>>> {
        items.iter().map(|i| order.iter().map(|j| set.votes[*i][*j]).collect()).collect()
    };
    let truth: Vec<bool> = items.iter().map(|i| set.truth[*i]).collect();
    let listed: Vec<usize> = (0..set.judges.len()).collect();
    let accuracy = |j: &usize| (set.judges[*j].clone(), accuracy(set, items, *j));
    let model = (items.len() >= stack::LABELS_MIN).then(|| {
        // Every call costs the same here: prices of these models are from many years.
        let order = stack::order(&pick(&listed), &truth, &vec![1.0; listed.len()]);
        PanelModel {
            judges: order.iter().map(|j| set.judges[*j].clone()).collect(),
            prefixes: stack::prefixes(&pick(&order), &truth),
            labels: u32::try_from(items.len()).expect("thousands of items at most"),
            ..PanelModel::default()
        }
    });
    Taught { accuracy: listed.iter().map(accuracy).collect(), model }
}

fn accuracy(set: &Set, items: &[usize], judge: usize) -> f64 {
    let right = |i: &usize| credit(set.votes[*i][judge].map(|vote| f64::from(u8::from(vote))), set.truth[*i]);
    items.iter().map(right).sum::<f64>() / items.len() as f64
}

/// The judge that is right most often on these items.
fn best_on(set: &Set, items: &[usize]) -> usize {
    let by_accuracy = |a: &usize, b: &usize| accuracy(set, items, *a).total_cmp(&accuracy(set, items, *b));
    // Of equals the one that is listed first.
    (0..set.judges.len()).rev().max_by(by_accuracy).expect("a panel has judges")
}

fn rubric(set: &Set, ask: Ask, stop_at: Option<f64>) -> Rubric {
    Rubric {
        name: set.name.to_owned(),
        version: "bench".to_owned(),
        sample: 1.0,
        panel: set.judges.clone(),
        combine: Combine::Weighted,
        ask,
        stop_at,
        output: Output::Boolean { better: Better::Higher },
        pass: 0.5,
        ..Rubric::default()
    }
}

/// An item's votes as the worker has them; a judge without a vote failed for good.
fn votes(set: &Set, item: usize) -> Vec<Vote> {
    let vote = |(judge, vote): (&String, &Option<bool>)| Vote {
        judge: judge.clone(),
        score: vote.map(|yes| f64::from(u8::from(yes))),
        error: vote.is_none().then(|| format!("{FINAL}no vote in the data")),
        ..Vote::default()
    };
    set.judges.iter().zip(&set.votes[item]).map(vote).collect()
}

/// The verdict's score, by the worker's own last step.
fn verdict(rubric: &Rubric, votes: Vec<Vote>, stopped: Option<Stopped>, known: &Known) -> Option<f64> {
    let job = Job {
        id: uuid::Uuid::nil(),
        trace_id: String::new(),
        unit: assize::domain::unit::Unit::Trace,
        replay: false,
        canary: false,
        rubric: rubric.name.as_str().into(),
        rubric_version: rubric.version.as_str().into(),
        inclusion_probability: 1.0,
        attempts: 1,
        votes: Vec::new(),
        enqueued_at: DateTime::UNIX_EPOCH,
        deadline_at: DateTime::UNIX_EPOCH,
    };
    let evaluation = Evaluation { votes, stopped, ..Evaluation::default() };
    aggregate(rubric, evaluation, &job, Default::default(), (known, DateTime::UNIX_EPOCH)).score
}

/// Asks one after another, as `pipeline::evaluate` does.
fn in_turn(rubric: &Rubric, all: &[Vote], known: &Known) -> (Vec<Vote>, Option<Stopped>) {
    let mut asked: Vec<Vote> = Vec::new();
    for seat in panel::order(&rubric.panel, known.model, |_| None) {
        let stopped = panel::stopped(rubric, &asked, known);
        if stopped.is_some() {
            return (asked, stopped);
        }
        let answer = all.iter().filter(|vote| vote.judge == seat).cloned().collect();
        asked = panel::merge(&rubric.panel, asked, answer);
    }
    let stopped = panel::stopped(rubric, &asked, known);
    (asked, stopped)
}

fn replay(set: &Set) -> Replay {
    let items = set.truth.len();
    let everything: Vec<usize> = (0..items).collect();
    let tally = || Tally::of(items);
    let mut replay = Replay {
        name: set.name,
        items,
        judges: set.judges.len(),
        best: tally(),
        strongest: tally(),
        majority: tally(),
        median: tally(),
        mean: tally(),
        weighted: tally(),
        turns: STOPS.iter().map(|_| tally()).collect(),
        taught: true,
        few: (items >= FEW + stack::LABELS_MIN).then(|| few(set)),
    };
    let best = best_on(set, &everything);
    for shuffle in 0..SHUFFLES {
        let mut order = everything.clone();
        order.shuffle(&mut StdRng::seed_from_u64(shuffle));
        for fold in 0..FOLDS {
            let train: Vec<usize> =
                order.iter().enumerate().filter(|(n, _)| n % FOLDS != fold).map(|(_, i)| *i).collect();
            let taught = teach(set, &train);
            replay.taught &= taught.model.is_some();
            for item in order.iter().skip(fold).step_by(FOLDS) {
                replay.best.add(*item, set.votes[*item][best].map(|yes| f64::from(u8::from(yes))), set.truth[*item], 1);
                replay.judge(set, *item, &taught);
            }
        }
    }
    replay
}

impl Replay {
    /// Judges one item by every rule.
    fn judge(&mut self, set: &Set, item: usize, taught: &Taught) {
        let (all, truth, calls) = (votes(set, item), set.truth[item], self.judges);
        let ranked = Known { weights: &taught.accuracy, model: None };
        let by = |rule: Combine| combine(rule, &ranked.weighted(rule, &all), 0.5).map(|combined| combined.score);
        self.strongest.add(item, by(Combine::Strongest), truth, 1);
        self.majority.add(item, by(Combine::Majority), truth, calls);
        self.median.add(item, by(Combine::Median), truth, calls);
        self.mean.add(item, by(Combine::Mean), truth, calls);
        let unweighted = BTreeMap::new();
        let known = Known { weights: &unweighted, model: taught.model.as_ref() };
        let whole = verdict(&rubric(set, Ask::Together, None), all.clone(), None, &known);
        self.weighted.add(item, whole, truth, calls);
        for (tally, stop_at) in self.turns.iter_mut().zip(STOPS) {
            let rubric = rubric(set, Ask::InTurn, Some(stop_at));
            let (asked, stopped) = in_turn(&rubric, &all, &known);
            let calls = asked.len();
            let score = verdict(&rubric, asked, stopped, &known);
            let passes = |score: Option<f64>| score.map(|s| s >= 0.5);
            if matches!(stopped, Some(Stopped::Decided { .. })) && passes(score) != passes(whole) {
                tally.turned += 1;
            }
            tally.add(item, score, truth, calls);
        }
    }
}

/// The same with few labels: learnt on these, measured on the rest.
fn few(set: &Set) -> Few {
    let mut order: Vec<usize> = (0..set.truth.len()).collect();
    let best = best_on(set, &order);
    let mut few = Few { weighted: 0.0, picked: 0.0, best: 0.0 };
    let rubric = rubric(set, Ask::Together, None);
    let unweighted = BTreeMap::new();
    for draw in 0..DRAWS {
        order.sort_unstable();
        order.shuffle(&mut StdRng::seed_from_u64(1_000 + draw));
        let (train, test) = order.split_at(FEW);
        let taught = teach(set, train);
        let known = Known { weights: &unweighted, model: taught.model.as_ref() };
        let right = |i: &usize| credit(verdict(&rubric, votes(set, *i), None, &known), set.truth[*i]);
        few.weighted += test.iter().map(right).sum::<f64>() / test.len() as f64 / DRAWS as f64;
        few.picked += accuracy(set, test, best_on(set, train)) / DRAWS as f64;
        few.best += accuracy(set, test, best) / DRAWS as f64;
    }
    few
}

// ---- goals ----

struct Goal {
    what: &'static str,
    found: String,
    met: bool,
}

fn goals(replays: &[Replay]) -> Vec<Goal> {
    let named = |name: &str| replays.iter().find(|r| r.name == name).expect("the set is replayed");
    let llmbar = named("llmbar").weighted.accuracy();
    let mut goals = vec![Goal {
        what: "weighted on LLMBar is right at least .865 of the time",
        found: format!("{llmbar:.3}"),
        met: llmbar >= LLMBAR_GOAL,
    }];
    for replay in replays {
        let (above, error) = replay.weighted.above(replay.unlabelled());
        let within = if above < 0.0 && above > -2.0 * error { ", within the error" } else { "" };
        goals.push(Goal {
            what: "weighted is never below the best rule without labels",
            found: format!("{} {above:+.3} ± {error:.3}{within}", replay.name),
            met: above >= 0.0,
        });
    }
    goals.extend(["llmbar", "xstest_refusal"].map(|name| cheap(named(name))));
    for (replay, few) in replays.iter().filter_map(|r| Some((r, r.few.as_ref()?))) {
        let above = few.weighted - few.best;
        goals.push(Goal {
            what: "with 100 labels weighted is at most a point below its best judge",
            found: format!(
                "{} {above:+.3}; against the judge that these labels show to be best {:+.3}",
                replay.name,
                few.weighted - few.picked
            ),
            met: above >= -0.01,
        });
    }
    let turned: u32 = replays.iter().flat_map(|r| &r.turns).map(|t| t.turned).sum();
    goals.push(Goal {
        what: "no verdict that was called decided would have been turned by the other votes",
        found: format!("{turned} turned"),
        met: turned == 0,
    });
    goals
}

/// Whether asking in turn is as good as asking all, for half of the calls: by .90, else by the best of the others.
fn cheap(replay: &Replay) -> Goal {
    let below = |tally: &Tally| replay.weighted.accuracy() - tally.accuracy();
    let share = |tally: &Tally| tally.calls() / replay.judges as f64;
    // Half to a tenth of a per cent: where one of two judges fails for good, the other is asked instead.
    let holds = |tally: &Tally| below(tally) <= 0.01 && share(tally) < 0.5005;
    let usual = (STOPS[1], &replay.turns[1]);
    let others = STOPS.into_iter().zip(&replay.turns);
    let (stop_at, tally) = std::iter::once(usual).chain(others).find(|(_, tally)| holds(tally)).unwrap_or(usual);
    Goal {
        what: "asked in turn: within a point of asking all, for half of the calls",
        found: format!(
            "{} stop_at {stop_at:.2}: {:+.3} for {:.1} % of the calls",
            replay.name,
            -below(tally),
            100.0 * share(tally)
        ),
        met: holds(tally),
    }
}

// ---- what is printed ----

fn print_rules(sets: &[Set], replays: &[Replay]) {
    println!(
        "Accuracy; strongest and weighted learnt on other folds, `best judge` chosen with all labels (an oracle)\n"
    );
    println!(
        "{:<22}{:>6}{:>7}{:>11}{:>10}{:>9}{:>7}{:>6}{:>9}  passes",
        "set", "items", "judges", "best judge", "strongest", "majority", "median", "mean", "weighted"
    );
    for (set, replay) in sets.iter().zip(replays) {
        let mark = if replay.taught { ' ' } else { '*' };
        println!(
            "{:<22}{:>6}{:>7}{:>11.3}{:>10.3}{:>9.3}{:>7.3}{:>6.3}{:>8.3}{mark}  {}",
            replay.name,
            replay.items,
            replay.judges,
            replay.best.accuracy(),
            replay.strongest.accuracy(),
            replay.majority.accuracy(),
            replay.median.accuracy(),
            replay.mean.accuracy(),
            replay.weighted.accuracy(),
            set.passes
        );
    }
    println!(
        "* fewer than {} labels in the other folds: nothing is learnt, every judge counts the same",
        stack::LABELS_MIN
    );
    for (name, why) in LEFT_OUT {
        println!("  left out: {name}: {why}");
    }
}

fn print_turns(replays: &[Replay]) {
    println!("\nAsked in turn, the order learnt on the other folds: accuracy, calls an item, share of all calls\n");
    print!("{:<22}{:>14}", "set", "all");
    for stop_at in STOPS {
        print!("{:>24}", format!("stop_at {stop_at:.2}"));
    }
    println!();
    for replay in replays {
        let (accuracy, mark) = (replay.weighted.accuracy(), if replay.taught { ' ' } else { '*' });
        print!("{:<22}{:>14}", replay.name, format!("{accuracy:.3}{mark}{:5.2}", replay.weighted.calls()));
        for tally in &replay.turns {
            let share = 100.0 * tally.calls() / replay.judges as f64;
            print!("{:>24}", format!("{:.3} {:5.2} {share:5.1} %", tally.accuracy(), tally.calls()));
        }
        println!();
    }
}

fn print_few(replays: &[Replay]) {
    println!("\nWith {FEW} labels, {DRAWS} draws: accuracy on the other items\n");
    println!("{:<22}{:>10}{:>14}{:>22}", "set", "weighted", "best judge", "best by these labels");
    for (replay, few) in replays.iter().filter_map(|r| Some((r, r.few.as_ref()?))) {
        println!("{:<22}{:>10.3}{:>14.3}{:>22.3}", replay.name, few.weighted, few.best, few.picked);
    }
}

fn as_json(replays: &[Replay], goals: &[Goal]) -> Value {
    let round = |x: f64| (x * 1e4).round() / 1e4;
    let set = |r: &Replay| {
        let turns: Vec<Value> = STOPS
            .iter()
            .zip(&r.turns)
            .map(|(stop_at, t)| {
                json!({"stop_at": stop_at, "accuracy": round(t.accuracy()), "calls": round(t.calls()),
                    "share": round(t.calls() / r.judges as f64), "turned": t.turned})
            })
            .collect();
        let few = r.few.as_ref().map(|f| {
            json!({"labels": FEW, "weighted": round(f.weighted), "picked": round(f.picked), "best_judge": round(f.best)})
        });
        json!({"set": r.name, "items": r.items, "judges": r.judges, "best_judge": round(r.best.accuracy()),
            "strongest": round(r.strongest.accuracy()), "majority": round(r.majority.accuracy()),
            "median": round(r.median.accuracy()), "mean": round(r.mean.accuracy()),
            "weighted": round(r.weighted.accuracy()), "taught": r.taught, "in_turn": turns, "few": few})
    };
    let goals: Vec<Value> = goals.iter().map(|g| json!({"goal": g.what, "found": g.found, "met": g.met})).collect();
    let sets: Vec<Value> = replays.iter().map(set).collect();
    json!({"bench": "votes", "folds": FOLDS, "shuffles": SHUFFLES, "sets": sets, "goals": goals})
}
