//! Properties of reading and writing rubrics, over all their fields. Tests only.

use super::changes::changes;
use super::parse::{Surroundings, parse, version};
use super::print::print;
use crate::domain::policy::{Matcher, Patterns};
use crate::domain::rubric::{
    Against, AlertRule, AppliesWhen, Ask, Better, CheckKind, CheckOptions, CheckSpec, Combine, Example, Output, Rubric,
    Variable,
};
use crate::domain::span::Status;
use crate::domain::unit::{Evaluates, SpanMatcher};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

fn globs() -> impl Strategy<Value = Patterns> {
    vec("[a-zé*? 0-9:#'\"-]{1,8}", 0..3).prop_map(Patterns)
}

fn unit() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), Just(0.5), 0.0..=1.0]
}

fn better() -> impl Strategy<Value = Better> {
    prop_oneof![Just(Better::Higher), Just(Better::Lower)]
}

fn output() -> impl Strategy<Value = Output> {
    let labels = btree_map("[a-z][a-z_ ]{0,8}[a-z]|no|true|1", unit(), 2..4);
    prop_oneof![
        (-5.0..5.0, 0.1..9.0, better())
            .prop_map(|(low, more, better)| Output::Score { range: (low, low + more), better }),
        better().prop_map(|better| Output::Boolean { better }),
        labels.prop_map(|values| Output::Category { values }),
        prop_oneof![Just(Against::Unsupported), Just(Against::Contradicted)]
            .prop_map(|against| Output::Claims { against }),
    ]
}

fn applies() -> impl Strategy<Value = AppliesWhen> {
    let labels = (globs(), globs(), globs(), globs(), globs(), globs(), globs());
    let status = prop_oneof![Just(None), Just(Some(Status::Ok)), Just(Some(Status::Error))];
    let rest = (status, prop::option::of(0i64..100_000), btree_map("[a-z.]{1,6}", globs(), 0..3));
    let requires = prop::sample::subsequence(vec![Variable::Question, Variable::Context, Variable::Output], 0..3);
    let kinds = prop::sample::subsequence(vec!["llm", "tool", "other"], 0..3);
    let kinds = kinds.prop_map(|names| Patterns(names.into_iter().map(str::to_owned).collect()));
    (requires, labels, rest, (kinds, globs())).prop_map(
        |(requires, l, (status, latency_ms_over, tags), (kinds, names))| {
            let (service, environment, feature, model, prompt, prompt_version, tenant) = l;
            let labels = Matcher {
                service,
                environment,
                feature,
                model,
                prompt,
                prompt_version,
                tenant,
                status,
                latency_ms_over,
                tags,
            };
            let spans = SpanMatcher { kind: kinds, name: names };
            AppliesWhen { requires, labels, spans }
        },
    )
}

/// A check that needs options gets some.
fn options(kind: CheckKind) -> CheckOptions {
    let given = if kind == CheckKind::Format { json!({"contains": ["x"]}) } else { json!({}) };
    given.as_object().cloned().unwrap_or_default()
}

fn checks() -> impl Strategy<Value = Vec<CheckSpec>> {
    let limits = (prop::option::of(0.0..=0.5), prop::option::of(0.5..=1.0));
    let one = (prop::sample::select(CheckKind::ALL.to_vec()), limits);
    vec(
        one.prop_map(|(kind, (fail_below, pass_above))| CheckSpec {
            kind,
            fail_below,
            pass_above,
            options: options(kind),
        }),
        0..3,
    )
}

fn verdict(output: &Output) -> Value {
    match output {
        Output::Score { range, .. } => json!(range.0),
        Output::Boolean { .. } => json!(true),
        Output::Category { values } => json!(values.keys().next()),
        Output::Claims { .. } => Value::Null,
    }
}

/// Any rubric that could come from a file.
fn rubric() -> impl Strategy<Value = Rubric> {
    let texts = ("[a-z][a-zA-Z0-9_]{0,20}", "[ -~é]{0,20}", "[ -~é\\n]{0,80}", "[ -~é\\n:#]{0,30}");
    let asking = (
        prop::sample::select(vec![
            Combine::Mean,
            Combine::Median,
            Combine::Majority,
            Combine::Weighted,
            Combine::Strongest,
        ]),
        prop::sample::select(vec![Ask::Together, Ask::InTurn]),
        prop::option::of(0.51..=1.0),
        any::<bool>(),
        prop::option::of(0.1..=24.0),
        any::<bool>(),
    );
    let judged = (vec("[a-z0-9._-]{1,8}", 1..4), output(), vec("[ -~\\n]{1,20}", 0..2), prop::bool::weighted(0.8));
    (texts, applies(), (unit(), unit()), checks(), asking, judged).prop_map(
        |(
            (name, title, prompt, shown),
            applies_when,
            (sample, pass),
            checks,
            a,
            (panel, output, reasons, has_panel),
        )| {
            let (combine, ask, stop_at, swap, batch_hours, abstain) = a;
            let claims = matches!(output, Output::Claims { .. });
            let has_panel = has_panel || checks.is_empty() || claims;
            // Braces would be a template's.
            let said = prompt.replace(['{', '}'], "(");
            let prompt = if claims {
                format!("{said}{{{{ claims }}}} {{{{ context }}}}")
            } else {
                format!("{said}{{{{ answer }}}}")
            };
            let input = BTreeMap::from([("answer".to_owned(), shown)]);
            let example = |reason: String| Example { input: input.clone(), verdict: verdict(&output), reason };
            let mut made = Rubric {
                name,
                title,
                version: String::new(),
                evaluates: if swap { Evaluates::Span } else { Evaluates::Trace },
                spans_max: swap.then_some(7),
                applies_when,
                sample,
                checks,
                panel: if has_panel { panel } else { Vec::new() },
                combine,
                ask: if stop_at.is_some() { Ask::InTurn } else { ask },
                stop_at,
                swap_positions: swap && !claims,
                batch_hours: batch_hours.filter(|_| !claims),
                abstain: abstain && !claims,
                feedback: swap,
                alert: AlertRule { drop: batch_hours.map(|hours| hours / 100.0), ..AlertRule::default() },
                pass,
                prompt: has_panel.then_some(prompt),
                examples: if claims { Vec::new() } else { reasons.into_iter().map(example).collect() },
                output,
                source: String::new(),
            };
            made.version = version(&made);
            made
        },
    )
}

fn read(text: &str) -> Rubric {
    let (panels, shared) = (BTreeMap::new(), BTreeMap::new());
    let read = parse(Path::new("x.yaml"), text, Surroundings { panels: &panels, shared: &shared });
    let rubric = read.unwrap_or_else(|e| panic!("{}\n{text}", e.render(false))).rubric;
    Rubric { source: String::new(), ..rubric }
}

/// The same file in another form: other order of keys, comments, flow style.
fn reformed(text: &str) -> String {
    let value: Value = yaml_serde::from_str(text).expect("YAML");
    let map = value.as_object().expect("a mapping");
    // JSON is YAML in flow style, and serde_json sorts the keys.
    let lines: Vec<String> = map.iter().rev().map(|(key, value)| format!("{key}:   {value}   # a comment\n")).collect();
    format!("# another comment\n\n{}", lines.join("\n"))
}

/// One thing changed that can change a verdict.
fn mutations(rubric: &Rubric) -> Vec<Rubric> {
    let base = || rubric.clone();
    let globs = |text: &str| Patterns(vec![text.to_owned()]);
    let labels = |change: &dyn Fn(&mut Matcher)| {
        let mut made = base();
        change(&mut made.applies_when.labels);
        made
    };
    let check = CheckSpec {
        kind: CheckKind::Grounding,
        fail_below: Some(0.123),
        pass_above: None,
        options: CheckOptions::new(),
    };
    vec![
        Rubric { name: format!("{}x", rubric.name), ..base() },
        Rubric { evaluates: Evaluates::Session, ..base() },
        Rubric {
            applies_when: AppliesWhen {
                spans: SpanMatcher { name: globs("~"), ..rubric.applies_when.spans.clone() },
                ..rubric.applies_when.clone()
            },
            ..base()
        },
        Rubric { pass: (rubric.pass - 0.3).abs(), ..base() },
        Rubric { checks: [rubric.checks.clone(), vec![check]].concat(), ..base() },
        Rubric { panel: [rubric.panel.clone(), vec!["one-more".to_owned()]].concat(), ..base() },
        Rubric { combine: if rubric.combine == Combine::Mean { Combine::Median } else { Combine::Mean }, ..base() },
        Rubric { ask: if rubric.ask == Ask::Together { Ask::InTurn } else { Ask::Together }, ..base() },
        Rubric { stop_at: rubric.stop_at.map_or(Some(0.9), |s| Some(s * 0.99)), ..base() },
        Rubric { swap_positions: !rubric.swap_positions, ..base() },
        Rubric { batch_hours: rubric.batch_hours.map_or(Some(2.0), |h| Some(h / 2.0)), ..base() },
        Rubric { abstain: !rubric.abstain, ..base() },
        Rubric { prompt: Some(format!("{} ", rubric.prompt.clone().unwrap_or_default())), ..base() },
        Rubric { output: Output::Score { range: (-99.0, 99.0), better: Better::Lower }, ..base() },
        Rubric {
            examples: vec![Example { input: BTreeMap::new(), verdict: json!(0.123), reason: String::new() }],
            ..base()
        },
        Rubric {
            applies_when: AppliesWhen { requires: vec![Variable::Schema], ..rubric.applies_when.clone() },
            ..base()
        },
        labels(&|m| m.service = globs("~")),
        labels(&|m| m.environment = globs("~")),
        labels(&|m| m.feature = globs("~")),
        labels(&|m| m.model = globs("~")),
        labels(&|m| m.prompt = globs("~")),
        labels(&|m| m.prompt_version = globs("~")),
        labels(&|m| m.tenant = globs("~")),
        labels(&|m| m.status = if m.status.is_some() { None } else { Some(Status::Error) }),
        labels(&|m| m.latency_ms_over = Some(m.latency_ms_over.unwrap_or(0) + 1)),
        labels(&|m| drop(m.tags.insert("tier".to_owned(), globs("~")))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_printed_is_read_back_the_same(rubric in rubric()) {
        let read = read(&print(&rubric));
        prop_assert_eq!(&read, &rubric, "{}", print(&rubric));
        prop_assert!(changes(&rubric, &read).is_empty());
    }

    #[test]
    fn the_version_is_that_of_the_meaning(rubric in rubric()) {
        let printed = print(&rubric);
        prop_assert_eq!(&read(&reformed(&printed)).version, &rubric.version, "{}", reformed(&printed));
        let free = Rubric { title: "Another".to_owned(), sample: 0.25, source: "x".to_owned(), ..rubric.clone() };
        prop_assert_eq!(version(&free), rubric.version.clone(), "neither changes a verdict");
        for (n, other) in mutations(&rubric).into_iter().enumerate() {
            prop_assert_ne!(version(&other), rubric.version.clone(), "mutation {} is not seen", n);
            prop_assert!(changes(&rubric, &other).iter().any(|c| c.verdicts), "mutation {} is not told", n);
        }
    }
}
