//! What must hold of the comparison: languages, scripts, code, short texts, orders.

use super::*;
use crate::domain::message::Message;
use crate::domain::trace::Trace;
use crate::domain::verdict::Finding;
use proptest::prelude::*;

fn run(question: &str, answer: &str) -> CheckResult {
    let mut trace = Trace::default();
    trace.view.input = vec![Message::text("user", question)];
    trace.view.output = vec![Message::text("assistant", answer)];
    check(&Subject::new(&trace))
}

const GERMAN: &str = "Wie lange kann ich ein Sofa nach der Lieferung zurückgeben?";
const ENGLISH: &str = "Sofas can be returned within thirty days after they have been delivered.";

#[test]
fn another_language_is_seen() {
    for (question, answer) in [
        (GERMAN, ENGLISH),
        ("How long do I have to return a sofa?", "Du hast dreißig Tage Zeit, das Sofa zurückzugeben."),
        ("Сколько времени у меня есть, чтобы вернуть диван?", ENGLISH),
        ("ソファの返品期限はいつですか？", "沙发可以在送达后三十天内退货。"),
        (
            "¿Cuánto tiempo tengo para devolver un sofá?",
            "Hai trenta giorni di tempo per restituire il divano dopo la consegna.",
        ),
    ] {
        let result = run(question, answer);
        assert_eq!(result.finding, Finding::Fail, "{question} / {answer}: {}", result.detail);
    }
    assert_eq!(run(GERMAN, ENGLISH).detail["finding"], "answer en, question de");
}

#[test]
fn the_same_language_passes_with_code_names_and_links_in_it() {
    for (question, answer) in [
        (GERMAN, "Sie können das Sofa innerhalb von dreißig Tagen zurückgeben."),
        (
            "How do I sort a list?",
            "Call `liste.trier()` like so:\n```\nla_liste_est_triée = trier(cette_liste_là)\n```\nIt sorts in place.",
        ),
        ("Как установить tokio?", "Добавьте tokio в Cargo.toml и запустите cargo build, это всё, что нужно."),
        ("返品の期限を教えてください", "返品は配達後三十日以内に可能です。"),
    ] {
        let result = run(question, answer);
        assert_eq!(result.finding, Finding::Pass, "{question} / {answer}: {}", result.detail);
    }
}

#[test]
fn orders_for_a_language_and_short_texts_say_nothing() {
    for (question, answer) in [
        ("Translate this to French: good morning, how are you today?", "Bonjour, comment allez-vous aujourd'hui ?"),
        ("Was heißt das auf Englisch, bitte, ich brauche es für meinen Brief?", ENGLISH),
        ("2+2?", "4"),
        (GERMAN, "OK"),
    ] {
        assert_eq!(run(question, answer).finding, Finding::NotApplicable, "{question}");
    }
}

proptest! {
    #[test]
    fn any_text_can_be_compared(question in "\\PC{0,200}", answer in "\\PC{0,200}") {
        let score = run(&question, &answer).score;
        prop_assert!(score.is_none_or(|s| (0.0..=1.0).contains(&s)));
    }
}
