//! Files as they are read: what is taken, and every mistake with its place.

use super::*;

const GOOD: &str = "name: tone\ntitle: Tone\npanel: default\npass: 0.7\nprompt: |\n  Answer: {{ answer }}\n";

fn panels() -> BTreeMap<String, Vec<String>> {
    BTreeMap::from([("default".to_owned(), vec!["a".to_owned(), "b".to_owned()])])
}

fn parse(source: &str) -> Result<Rubric, RubricError> {
    rubric(Path::new("rubrics/x.yaml"), source, &panels())
}

#[test]
fn a_good_file_parses() {
    let rubric = parse(GOOD).expect("valid");
    assert_eq!((rubric.panel.len(), rubric.pass), (2, 0.7));
    assert!(rubric.version.starts_with("sha256:") && rubric.version.len() == 19);
}

#[test]
fn the_version_follows_the_meaning_not_the_form() {
    let version = |source: &str| parse(source).expect("valid").version;
    let commented = format!("# a comment\n{}", GOOD.replace("title: Tone", "title:   \"Another\""));
    assert_eq!(version(GOOD), version(&commented));
    assert_eq!(version(GOOD), version(&format!("{GOOD}feedback: true\n")), "who is heard changes no verdict");
    assert_ne!(version(GOOD), version(&GOOD.replace("0.7", "0.8")));
    assert_ne!(version(GOOD), version(&GOOD.replace("Answer:", "The answer:")));
}

#[test]
fn mistakes_name_place_and_remedy() {
    for (source, place, words) in [
        (GOOD.replace("pass:", "pas:"), (4, 1), "did you mean `pass`"),
        (GOOD.replace("0.7", "7"), (4, 7), "from 0 to 1"),
        (GOOD.replace("0.7", "\"0.7\""), (4, 7), "must be a number"),
        (GOOD.replace("{{ answer }}", "{{ anser }}"), (6, 14), "known are question"),
        (GOOD.replace("Answer: {{ answer }}", "A\n  {% if %}x"), (7, 9), "Jinja"),
        (GOOD.replace("default", "defautl"), (3, 8), "did you mean `default`"),
        (GOOD.replace("name: tone", "name: Tone!"), (1, 7), "beginning with a small letter"),
        (format!("{GOOD}checks: [groundin]\n"), (7, 10), "did you mean `grounding`"),
        (format!("{GOOD}checks:\n  - grounding: {{fail_below: 0.9, pass_above: 0.1}}\n"), (8, 5), "both could hold"),
        (format!("{GOOD}evaluates: sesion\n"), (7, 12), "did you mean `session`"),
        (GOOD.replace("{{ answer }}", "{{ conversation }}"), (6, 3), "with `evaluates: session` only"),
        (format!("{GOOD}applies_when: {{requires: [conversation]}}\n"), (7, 15), "only a session has"),
        (format!("{GOOD}spans_max: 5\n"), (7, 12), "does not judge them"),
        (format!("{GOOD}evaluates: session\napplies_when: {{span_kind: llm}}\n"), (8, 27), "a session has traces"),
        (format!("{GOOD}evaluates: span\nspans_max: 0\n"), (8, 12), "from 1 to 1000"),
        (format!("{GOOD}evaluates: span\nspans_max: 2.5\n"), (8, 12), "no whole number"),
        (format!("{GOOD}applies_when: {{span_kind: [llm, retreival]}}\n"), (7, 33), "did you mean `retrieval`"),
        (format!("{GOOD}tests:\n  - expect: {{passed: true}}\n"), (8, 5), "nothing to judge"),
        (format!("{GOOD}tests:\n  - session: [{{output: x}}]\n    expect: {{passed: true}}\n"), (8, 14), "no sessions"),
        (
            format!("{GOOD}tests:\n  - trace: {{output: x}}\n    expect: {{passed: true, span: a}}\n"),
            (9, 34),
            "judges no spans",
        ),
        ("name: x\n".to_owned(), (1, 1), "neither"),
        (format!("{GOOD}output: {{type: score, beter: lower}}\n"), (7, 23), "did you mean `better`"),
        (format!("{GOOD}output: {{type: scor}}\n"), (7, 16), "did you mean `score`"),
        (format!("{GOOD}output: {{type: score, range: [2, 1]}}\n"), (7, 30), "is empty"),
        (format!("{GOOD}combine: mediam\n"), (7, 10), "did you mean `median`"),
        (format!("{GOOD}applies_when: {{requires: [anwser]}}\n"), (7, 27), "did you mean `answer`"),
        (format!("{GOOD}tests:\n  - trace: {{output: x}}\n    expect: {{label: good}}\n"), (9, 21), "no labels"),
        (format!("{GOOD}pass: 0.2\n"), (7, 1), "second time"),
        ("name: [\n".to_owned(), (2, 1), "not YAML"),
    ] {
        let error = parse(&source).expect_err("invalid");
        let text = error.to_string();
        assert!(text.contains(words), "{text}");
        let (line, column) = place;
        assert!(text.starts_with(&format!("rubrics/x.yaml:{line}:{column}: ")), "{text}, not {place:?}");
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let source = "name: Tone!\npas: 1\nsample: 3\noutput: {type: category}\nchecks: [groundin, x: {}]\nprompt: \"{{ a }} {{ b }}\"\n";
    let error = parse(source).expect_err("invalid");
    assert_eq!(error.problems.len(), 8, "{}", error.render(false));
    assert!(error.to_string().ends_with("(and 7 more)"), "{error}");
}

#[test]
fn what_has_no_sense_is_told_beside_what_has_no_form() {
    let source = "name: x\npanel: default\nstop_at: 0.3\npas: 1\nprompt: \"{{ answer }}\"\nalert: {drop: 0, false_alarms: often}\n\
            examples:\n  - input: {anwser: x}\n    verdict: 0.5\n    raeson: y\n\
            tests:\n  - {trace: {outptu: x, tier: gold}, expect: {pased: true}}\n";
    let error = parse(source).expect_err("invalid");
    let told: Vec<String> = error.problems.iter().map(|p| error.line_of(p)).collect();
    for (place, word) in [
        ("3:10", "above 0.5"),
        ("4:1", "did you mean `pass`"),
        ("6:", "is no rate"),
        ("8:13", "did you mean `answer`"),
        ("10:5", "did you mean `reason`"),
        ("12:14", "did you mean `output`"),
        ("12:47", "did you mean `passed`"),
    ] {
        let there = format!("rubrics/x.yaml:{place}");
        assert!(told.iter().any(|t| t.starts_with(&there) && t.contains(word)), "{place} {word}: {told:#?}");
    }
    assert_eq!(told.len(), 7, "and nothing that follows from another mistake: {told:#?}");
}

#[test]
fn a_pass_mark_on_the_rubrics_own_scale_is_told_as_a_share() {
    let source = format!("{}output: {{type: score, range: [1, 5]}}\n", GOOD.replace("0.7", "4"));
    let text = parse(&source).expect_err("out of range").to_string();
    assert!(text.contains("4 of 1 to 5 is 0.75"), "{text}");
}

#[test]
fn shared_text_is_included_and_its_mistakes_are_told_in_its_own_file() {
    let source = GOOD.replace("Answer:", "{% include \"end.md\" %}");
    let with = |text: &str| {
        let shared = BTreeMap::from([("end.md".to_owned(), Arc::from(text))]);
        super::parse(Path::new("rubrics/x.yaml"), &source, Surroundings { panels: &panels(), shared: &shared })
    };
    let (one, other) = (with("Be strict.").expect("valid").rubric, with("Be kind.").expect("valid").rubric);
    assert_eq!(one.prompt.as_deref(), Some("Be strict. {{ answer }}\n"));
    assert_ne!(one.version, other.version, "what is included counts");
    let error = with("All good.\nIs {{ anser }} good?").expect_err("invalid").to_string();
    assert!(error.starts_with("rubrics/shared/end.md:2:7: "), "{error}");
    let missing = parse(&source).expect_err("nothing is there").to_string();
    assert!(missing.starts_with("rubrics/x.yaml:6:15: ") && missing.contains("rubrics/shared"), "{missing}");
}
